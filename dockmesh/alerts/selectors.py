"""Reading alerts."""

import datetime
from collections.abc import Sequence
from dataclasses import dataclass

from django.db.models import Count, Q, QuerySet

from dockmesh.alerts.models import Alert, AlertRule, Channel
from dockmesh.core.compiled import CompiledQuery, Statement


@dataclass(frozen=True)
class FiringAlert:
    """An alert that fires now, as the overview shows it."""

    id: int
    rule: str
    severity: str
    subject: str
    cause: str
    fired_at: datetime.datetime | None
    active_since: datetime.datetime
    rule_id: int
    key: str
    host_id: int | None
    host_name: str
    stack_name: str


@dataclass(frozen=True)
class RuleSample:
    """What /metrics shows of a rule: how often it fired, and how many of its alerts are open now."""

    name: str
    severity: str
    fired: int
    pending: int
    firing: int


def rules_with_firing() -> QuerySet[AlertRule]:
    """Rules by name, with the number of their alerts that fire."""
    firing = Count("alerts", filter=Q(alerts__status=Alert.Status.FIRING))
    return AlertRule.objects.annotate(firing=firing).order_by("name")


# The alerts that are resolved are many: only the index by status finds the others.
RULES = CompiledQuery(
    lambda: Statement(
        """
SELECT r.name, r.severity, r.fired_count, coalesce(a.pending, 0), coalesce(a.firing, 0)
  FROM alerts_alertrule r
  LEFT JOIN (
       SELECT rule_id, sum(CASE WHEN status = 'pending' THEN 1 ELSE 0 END) AS pending,
              sum(CASE WHEN status = 'firing' THEN 1 ELSE 0 END) AS firing
         FROM alerts_alert WHERE status IN ('pending', 'firing') GROUP BY rule_id
       ) a ON a.rule_id = r.id
 ORDER BY r.name
""",
        columns=5,
    )
)


def rule_samples() -> list[RuleSample]:
    """Every rule, by name; one query."""
    return [RuleSample(*row) for row in RULES.rows()]


CHANNELS = CompiledQuery(
    lambda: Channel.objects.order_by("name").values_list(
        "name", "sent_count", "failed_count", "dropped_count"
    )
)


def channel_samples() -> list[tuple[str, int, int, int]]:
    """(channel, messages sent, attempts that failed, messages dropped) of every channel, by name; one query."""
    return [(name, sent, failed, dropped) for name, sent, failed, dropped in CHANNELS.rows()]


def firing_alerts(*, most: int = 20) -> list[FiringAlert]:
    """The newest alerts that fire now, at most `most`; one query."""
    rows = Alert.objects.filter(status=Alert.Status.FIRING).order_by("-fired_at", "-id")
    return [
        FiringAlert(*row)
        for row in rows.values_list(
            "id",
            "rule__name",
            "severity",
            "subject",
            "cause",
            "fired_at",
            "active_since",
            "rule_id",
            "key",
            "host_id",
            "host_name",
            "stack_name",
        )[:most]
    ]


def times_fired(alerts: Sequence[FiringAlert], *, since: datetime.datetime) -> dict[tuple[int, str], int]:
    """By rule and key, how often each of these fired since then; one query."""
    rules, keys = {alert.rule_id for alert in alerts}, {alert.key for alert in alerts}
    rows = Alert.objects.filter(rule__in=rules, key__in=keys, fired_at__gte=since).order_by()
    return {
        (rule, key): count for rule, key, count in rows.values_list("rule_id", "key").annotate(Count("id"))
    }
