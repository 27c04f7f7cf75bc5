"""The deploys room."""

from django.apps import AppConfig


class DeploysConfig(AppConfig):
    """Deploys of stacks."""

    name = "dockmesh.deploys"
    label = "deploys"
