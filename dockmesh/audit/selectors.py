"""Reading the audit log."""

import datetime
import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from django.db.models import Q, QuerySet

from dockmesh.audit import known, verification
from dockmesh.audit.actions import Action
from dockmesh.audit.models import AuditCheckpoint, AuditCount, AuditEntry, AuditHead, AuditTrouble
from dockmesh.core.compiled import CompiledQuery
from dockmesh.core.datetimes import utc_text

# How far the server's clock may have been set back or forth between two entries.
CLOCK_SLACK = datetime.timedelta(days=1)

ACTION_COUNTS = CompiledQuery(lambda: AuditCount.objects.values_list("action", "count"))


def action_counts() -> list[tuple[str, int]]:
    """(action, entries ever written), every known action, sorted; one query."""
    counts = dict.fromkeys((action.value for action in Action), 0)
    counts.update(ACTION_COUNTS.rows())
    return sorted(counts.items())


HEAD = CompiledQuery(lambda: AuditHead.objects.values_list("sequence"))


def head_sequence() -> int:
    """The sequence of the newest entry, 0 before the first; one query."""
    rows = HEAD.rows()
    return int(rows[0][0]) if rows else 0


def trouble() -> str:
    """What was done to the chain behind the server's back, as its head and the last walk tell; empty where nothing.

    While it isn't, nothing is pruned; and nothing is appended either where it is the head that is wrong.
    """
    fault = ""
    for _ in range(2):  # whoever appends or prunes at this very moment does it once
        newest, place = verification.newest_entry(), known.read()
        head = AuditHead.objects.filter(pk=1).first() or AuditHead(entry_hash="")
        fault = verification.head_fault(head, newest, place)
        if not fault:
            break
    return fault or AuditTrouble.objects.values_list("what", flat=True).first() or ""


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


@dataclass(frozen=True)
class EntryPage:
    """Entries, newest first. `older` and `newer` are the places to go on from; None where nothing is."""

    entries: list[AuditEntry]
    older: int | None
    newer: int | None


# A time becomes a place in the chain too, found by its index: walking the chain in its order then stops there instead
# of going through millions of entries. The clock may have been set in between, hence the slack.


def is_since(moment: datetime.datetime) -> Q:
    """Written at that time or later."""
    before = AuditEntry.objects.filter(at__lt=_shifted(moment, -CLOCK_SLACK))
    first = before.order_by("-at").values_list("sequence", flat=True).first()
    return Q(at__gte=moment) & (Q() if first is None else Q(sequence__gte=first))


def is_until(moment: datetime.datetime) -> Q:
    """Written before that time."""
    after = AuditEntry.objects.filter(at__gte=_shifted(moment, CLOCK_SLACK))
    last = after.order_by("at").values_list("sequence", flat=True).first()
    return Q(at__lt=moment) & (Q() if last is None else Q(sequence__lte=last))


def entry_page(
    rows: QuerySet[AuditEntry], *, size: int, before: int | None = None, after: int | None = None
) -> EntryPage:
    """A page by its place in the chain, never by counting: as fast at the five-millionth entry as at the first.

    `before` gives the entries just older than that place, `after` those just newer.
    """
    if after is not None:
        found = list(rows.filter(sequence__gt=after).order_by("sequence")[: size + 1])
        has_newer = len(found) > size
        entries = list(reversed(found[:size]))
        has_older = True
    else:
        if before is not None:
            rows = rows.filter(sequence__lt=before)
        entries = list(rows.order_by("-sequence")[: size + 1])
        has_older = len(entries) > size
        entries = entries[:size]
        has_newer = before is not None
    if not entries:
        return EntryPage([], None, None)
    return EntryPage(
        entries,
        older=entries[-1].sequence if has_older else None,
        newer=entries[0].sequence if has_newer else None,
    )


def numbered_page(
    rows: QuerySet[AuditEntry], *, size: int, number: int, is_narrowed: bool
) -> tuple[list[AuditEntry], bool]:
    """The page with this number, the newest entries being on page 1, and whether there is another after it.

    Of all entries it is found by its place, since the chain has no gaps; where `rows` are narrowed by filters, the
    entries before it are gone through, so walking by `entry_page` is faster.
    """
    skipped = (number - 1) * size
    rows = rows.order_by("-sequence")
    if not is_narrowed:
        head = AuditHead.objects.values_list("sequence", flat=True).first() or 0
        rows, skipped = rows.filter(sequence__lte=head - skipped), 0
    found = list(rows[skipped : skipped + size + 1])
    return found[:size], len(found) > size


def entry_count() -> int:
    """How many entries there are, without counting them."""
    head = AuditHead.objects.values_list("sequence", flat=True).first() or 0
    return head - (AuditCheckpoint.objects.values_list("sequence", flat=True).first() or 0)


def entry(sequence: int) -> AuditEntry | None:
    """One entry."""
    return AuditEntry.objects.filter(pk=sequence).first()


def json_lines(rows: QuerySet[AuditEntry], *, chunk: int = 2_000) -> Iterator[str]:
    """The entries as JSON, one a line, oldest first; a chunk at a time, so that it may be long."""
    after = 0
    while found := list(rows.filter(sequence__gt=after).order_by("sequence")[:chunk]):
        yield "".join(f"{json.dumps(as_json(entry), separators=(',', ':'))}\n" for entry in found)
        after = found[-1].sequence


def as_json(entry: AuditEntry) -> dict[str, Any]:
    """An entry as the API and the export show it."""
    return {
        "id": entry.sequence,
        "at": utc_text(entry.at),
        "actor": {"kind": entry.actor_kind, "id": entry.actor_id, "name": entry.actor_name},
        "action": entry.action,
        "target": {"kind": entry.target_kind, "id": entry.target_id, "name": entry.target_name},
        "address": entry.address,
        "changes": entry.changes,
        "previous_hash": entry.previous_hash,
        "entry_hash": entry.entry_hash,
    }


def _shifted(moment: datetime.datetime, by: datetime.timedelta) -> datetime.datetime:
    try:
        return moment + by
    except OverflowError:
        return moment
