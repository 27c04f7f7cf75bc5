"""Deploys in Django admin: to look at; they are asked for on their own pages and by the API."""

from django.contrib import admin

from dockmesh.core.admin import ReadOnlyAdmin
from dockmesh.deploys.models import Deploy, StackFiles


@admin.register(StackFiles)
class StackFilesAdmin(ReadOnlyAdmin):
    """What dockmesh holds of managed stacks, without their env files."""

    list_display = ("stack", "timeout_seconds", "updated_at")
    list_select_related = ("stack",)
    exclude = ("encrypted_env_file",)


@admin.register(Deploy)
class DeployAdmin(ReadOnlyAdmin):
    """Deploys."""

    list_display = ("id", "stack_name", "host_name", "operation", "status", "requested_by", "requested_at")
    list_filter = ("status", "operation")
    search_fields = ("stack_name", "host_name")
    exclude = ("encrypted_env_file",)
