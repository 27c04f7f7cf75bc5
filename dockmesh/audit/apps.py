"""The audit room."""

from django.apps import AppConfig


class AuditConfig(AppConfig):
    """What happened, in a chain that shows tampering."""

    name = "dockmesh.audit"
    label = "audit"
