"""Reading alerts, for other rooms."""

import datetime
from dataclasses import dataclass

from dockmesh.alerts.models import Alert, AlertRule
from dockmesh.core.compiled import CompiledQuery


@dataclass(frozen=True)
class FiringAlert:
    """An alert that fires now, as the overview shows it."""

    id: int
    rule: str
    severity: str
    subject: str
    cause: str
    fired_at: datetime.datetime | None


_fired_counts = CompiledQuery(
    lambda: AlertRule.objects.order_by("name").values_list("severity", "name", "fired_count")
)


def fired_counts() -> list[tuple[str, str, int]]:
    """(severity, rule, transitions to firing) of every rule, by rule; one query."""
    return [(severity, name, count) for severity, name, count in _fired_counts.rows()]


def firing_alerts(*, most: int = 20) -> list[FiringAlert]:
    """The newest alerts that fire now, at most `most`; one query."""
    rows = Alert.objects.filter(status=Alert.Status.FIRING).order_by("-fired_at", "-id")
    return [
        FiringAlert(*row)
        for row in rows.values_list("id", "rule__name", "severity", "subject", "cause", "fired_at")[:most]
    ]
