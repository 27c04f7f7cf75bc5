"""The backups room."""

from django.apps import AppConfig


class BackupsConfig(AppConfig):
    """Backup jobs and their runs."""

    name = "dockmesh.backups"
    label = "backups"

    def ready(self) -> None:
        """Take the agents' reports, start what is due, and look after what nobody will report."""
        from dockmesh.backups import reports, services
        from dockmesh.backups.models import BackupRun
        from dockmesh.core import schedule
        from dockmesh.fleet import commands

        for kind in BackupRun.Kind.values:
            commands.register_result_handler(
                kind,
                on_result=reports.take_result,
                on_timeout=reports.take_timeout,
                on_progress=reports.take_progress,
                prepare=reports.prepare,
            )
        schedule.register(name="backups.start_due", every_seconds=5, run=services.start_due)
        schedule.register(name="backups.schedules", every_seconds=60, run=services.look_at_schedules)
        schedule.register(name="backups.make_dumps", every_seconds=2, run=reports.make_dumps)
        schedule.register(name="backups.close_lost", every_seconds=15, run=reports.close_lost)
        schedule.register(name="backups.sweep_dumps", every_seconds=15, run=reports.sweep_dumps)
