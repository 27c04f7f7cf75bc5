"""The web room."""

from django.apps import AppConfig

from dockmesh.core import schedule

DAY_SECONDS = 24 * 3600


def sweep_sessions() -> None:
    """Removes sessions that have ended."""
    from django.contrib.sessions.backends.db import SessionStore

    SessionStore.clear_expired()


def sweep_throttles() -> None:
    """Removes the memory of bad sign-ins that no longer counts."""
    from dockmesh.web import signins

    signins.sweep()


class WebConfig(AppConfig):
    """Base template, styles, overview, sign-in and set-up."""

    name = "dockmesh.web"
    label = "web"

    def ready(self) -> None:
        """Registers the daily sweeps."""
        schedule.register(name="web-sessions", every_seconds=DAY_SECONDS, run=sweep_sessions)
        schedule.register(name="web-throttles", every_seconds=3600, run=sweep_throttles)
