"""Reading the audit log."""

from dockmesh.audit.actions import Action
from dockmesh.audit.models import AuditCount


def action_counts() -> list[tuple[str, int]]:
    """(action, entries ever written), every known action, sorted; one query."""
    counts = dict.fromkeys((action.value for action in Action), 0)
    counts.update(AuditCount.objects.values_list("action", "count"))
    return sorted(counts.items())
