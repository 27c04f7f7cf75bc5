"""Alerts in Django admin: to look at; they are changed on their own pages and by the API."""

from django.contrib import admin

from dockmesh.alerts.models import Alert, AlertRule, Channel
from dockmesh.core.admin import ReadOnlyAdmin


@admin.register(AlertRule)
class AlertRuleAdmin(ReadOnlyAdmin):
    """Rules."""

    list_display = ("name", "kind", "severity", "is_enabled", "fired_count")
    list_filter = ("kind", "severity", "is_enabled")
    search_fields = ("name",)


@admin.register(Alert)
class AlertAdmin(ReadOnlyAdmin):
    """Alerts."""

    list_display = ("subject", "rule", "severity", "status", "fired_at", "resolved_at")
    list_filter = ("status", "severity")
    list_select_related = ("rule",)


@admin.register(Channel)
class ChannelAdmin(ReadOnlyAdmin):
    """Channels, without their addresses."""

    list_display = ("name", "kind", "minimum_severity", "is_enabled", "last_success_at")
    exclude = ("encrypted_url",)
