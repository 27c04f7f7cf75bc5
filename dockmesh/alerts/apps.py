"""The alerts room."""

from django.apps import AppConfig

from dockmesh.core import encrypted, schedule

EVALUATE_EVERY_SECONDS = 15
DELIVER_EVERY_SECONDS = 0.5
PUSH_EVERY_SECONDS = 15


class AlertsConfig(AppConfig):
    """Alert rules and alerts."""

    name = "dockmesh.alerts"
    label = "alerts"

    def ready(self) -> None:
        """Evaluation, notification and the look at the audit log are periodic jobs of their own."""
        from dockmesh.alerts import deliveries, receivers, services

        encrypted.register("alerts.Channel", "encrypted_url", purpose=receivers.URL_PURPOSE)
        schedule.register(name="alerts.evaluate", every_seconds=EVALUATE_EVERY_SECONDS, run=services.evaluate)
        schedule.register(
            name="alerts.audit", every_seconds=EVALUATE_EVERY_SECONDS, run=services.watch_audit_log
        )
        schedule.register(
            name="alerts.deliver", every_seconds=DELIVER_EVERY_SECONDS, run=deliveries.start_deliveries
        )
        schedule.register(
            name="alerts.alertmanager", every_seconds=PUSH_EVERY_SECONDS, run=deliveries.start_pushes
        )
