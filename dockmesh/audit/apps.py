"""The audit room."""

from django.apps import AppConfig

from dockmesh.core import schedule

PRUNE_EVERY_SECONDS = 3600
CHECKPOINT_EVERY_SECONDS = 60
WATCH_EVERY_SECONDS = 24 * 3600


class AuditConfig(AppConfig):
    """What happened, in a chain that shows tampering."""

    name = "dockmesh.audit"
    label = "audit"

    def ready(self) -> None:
        """Registers retention, the sending of checkpoints and the daily walk."""
        from dockmesh.audit import services, sink

        schedule.register(
            name="audit.prune", every_seconds=PRUNE_EVERY_SECONDS, run=services.prune_by_retention
        )
        schedule.register(name="audit.checkpoint", every_seconds=CHECKPOINT_EVERY_SECONDS, run=sink.send)
        schedule.register(name="audit.watch", every_seconds=WATCH_EVERY_SECONDS, run=services.watch)
