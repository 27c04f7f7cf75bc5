"""The fleet room."""

from django.apps import AppConfig

from dockmesh.core import schedule

# A command's end by timeout need not be known to the second.
EXPIRE_EVERY_SECONDS = 10.0


class FleetConfig(AppConfig):
    """Hosts, stacks and containers, and the agents' protocol."""

    name = "dockmesh.fleet"
    label = "fleet"

    def ready(self) -> None:
        """Register the scheduler's job."""
        from dockmesh.fleet import commands

        schedule.register(
            name="expire commands", every_seconds=EXPIRE_EVERY_SECONDS, run=commands.expire_overdue
        )
