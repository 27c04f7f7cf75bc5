"""Backup jobs and their runs."""

from django.db import models

from dockmesh.fleet.models import Host


class BackupJob(models.Model):
    """What to back up, on which host; its last results are kept for /metrics."""

    name = models.CharField(max_length=200, unique=True)
    host = models.ForeignKey(Host, on_delete=models.CASCADE, related_name="backup_jobs")
    is_enabled = models.BooleanField(default=True)
    created_at = models.DateTimeField(auto_now_add=True)
    last_success_at = models.DateTimeField(null=True)
    last_duration_seconds = models.FloatField(null=True)

    class Meta:
        ordering = ("name",)

    def __str__(self) -> str:
        return self.name
