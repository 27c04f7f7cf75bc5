"""The alerts room."""

from django.apps import AppConfig


class AlertsConfig(AppConfig):
    """Alert rules and alerts."""

    name = "dockmesh.alerts"
    label = "alerts"
