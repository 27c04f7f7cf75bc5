"""System checks of the installation."""

from typing import Any

from django.conf import settings
from django.core.checks import CheckMessage, Warning, register

from dockmesh import env


@register()
def unknown_variables(**_: Any) -> list[CheckMessage]:
    """A variable that dockmesh doesn't know is most likely a typing error."""
    return [
        Warning(
            f"{name} is no setting of dockmesh.",
            hint="See the README, Settings, for the names.",
            id="dockmesh.W001",
        )
        for name in env.unknown_names()
    ]


@register()
def public_metrics(**_: Any) -> list[CheckMessage]:
    """Say loudly that /metrics is public."""
    if settings.DOCKMESH_METRICS_AUTH:
        return []
    return [
        Warning(
            "/metrics is public: DOCKMESH_METRICS_AUTH is off.",
            hint="Do this only where the server can't be reached from untrusted networks.",
            id="dockmesh.W002",
        )
    ]


@register()
def any_host(**_: Any) -> list[CheckMessage]:
    """Say that the guard against DNS rebinding is off."""
    if "*" not in settings.ALLOWED_HOSTS:
        return []
    return [
        Warning(
            "Any name reaches this server: DOCKMESH_ALLOWED_HOSTS holds *.",
            hint="List the names; addresses need no listing. With * a page on the internet can reach the server"
            " by a visitor's browser (DNS rebinding).",
            id="dockmesh.W003",
        )
    ]
