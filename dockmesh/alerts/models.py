"""Alert rules and what they fired."""

from django.db import models


class AlertRule(models.Model):
    """When to alert. `fired_count` rises in the transaction in which an alert fires."""

    class Severity(models.TextChoices):
        """How bad it is."""

        INFO = "info"
        WARNING = "warning"
        CRITICAL = "critical"

    name = models.CharField(max_length=200, unique=True)
    severity = models.CharField(max_length=16, choices=Severity.choices, default=Severity.WARNING)
    is_enabled = models.BooleanField(default=True)
    fired_count = models.BigIntegerField(default=0, editable=False)
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        ordering = ("name",)

    def __str__(self) -> str:
        return self.name
