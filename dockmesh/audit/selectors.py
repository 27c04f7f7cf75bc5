"""Reading the audit log."""

import datetime
from dataclasses import dataclass

from dockmesh.audit.actions import Action
from dockmesh.audit.models import AuditCount, AuditEntry


def action_counts() -> list[tuple[str, int]]:
    """(action, entries ever written), every known action, sorted; one query."""
    counts = dict.fromkeys((action.value for action in Action), 0)
    counts.update(AuditCount.objects.values_list("action", "count"))
    return sorted(counts.items())


@dataclass(frozen=True)
class Recent:
    """One entry of the log, for lists."""

    sequence: int
    at: datetime.datetime
    actor_kind: str
    actor_name: str
    action: str
    target_kind: str
    target_name: str


def recent_entries(*, most: int) -> list[Recent]:
    """The newest entries, newest first; one query."""
    rows = AuditEntry.objects.order_by("-sequence").values_list(
        "sequence", "at", "actor_kind", "actor_name", "action", "target_kind", "target_name"
    )
    return [Recent(*row) for row in rows[:most]]
