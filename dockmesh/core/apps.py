"""The core room."""

from django.apps import AppConfig


class CoreConfig(AppConfig):
    """What every room needs; no models."""

    name = "dockmesh.core"
    label = "core"

    def ready(self) -> None:
        """Register the system checks."""
        from dockmesh.core import checks  # noqa: F401  (registers on import)
