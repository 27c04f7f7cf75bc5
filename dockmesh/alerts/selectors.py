"""Reading alerts, for other rooms."""

from dockmesh.alerts.models import AlertRule


def fired_counts() -> list[tuple[str, str, int]]:
    """(severity, rule, transitions to firing) of every rule, by rule; one query."""
    return list(AlertRule.objects.order_by("name").values_list("severity", "name", "fired_count"))
