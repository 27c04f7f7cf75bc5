"""Backups in Django admin: to look at; they are changed on their own pages and by the API."""

from django.contrib import admin

from dockmesh.backups.models import BackupJob, BackupRun
from dockmesh.core.admin import ReadOnlyAdmin


@admin.register(BackupJob)
class BackupJobAdmin(ReadOnlyAdmin):
    """Jobs."""

    list_display = ("name", "host", "source_kind", "schedule", "is_enabled", "last_status", "last_success_at")
    list_filter = ("source_kind", "is_enabled", "last_status")
    list_select_related = ("host",)
    search_fields = ("name",)


@admin.register(BackupRun)
class BackupRunAdmin(ReadOnlyAdmin):
    """Runs."""

    list_display = ("id", "job_name", "host_name", "kind", "status", "cause", "requested_at")
    list_filter = ("kind", "status", "cause")
    search_fields = ("job_name", "host_name")
