"""The fleet room."""

from django.apps import AppConfig


class FleetConfig(AppConfig):
    """Hosts, stacks and containers, and the agents' protocol."""

    name = "dockmesh.fleet"
    label = "fleet"
