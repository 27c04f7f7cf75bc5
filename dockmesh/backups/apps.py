"""The backups room."""

from django.apps import AppConfig


class BackupsConfig(AppConfig):
    """Backup jobs and their runs."""

    name = "dockmesh.backups"
    label = "backups"
