"""The metrics room."""

from django.apps import AppConfig


class MetricsConfig(AppConfig):
    """The exposition at /metrics."""

    name = "metrics"
