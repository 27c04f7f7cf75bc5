"""Checks the whole chain: an edit, a cut at either end or in the middle, a fork, a chain made anew."""

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from django.db import transaction
from django.db.models import Sum

from dockmesh.audit.chain import CHECKPOINT, GENESIS, HEAD, entry_hash, is_signed
from dockmesh.audit.known import Place
from dockmesh.audit.models import AuditCheckpoint, AuditCount, AuditEntry, AuditHead

CHUNK = 5_000
TEXTS = (
    "actor_kind",
    "actor_id",
    "actor_name",
    "action",
    "target_kind",
    "target_id",
    "target_name",
    "address",
)
COLUMNS = ("sequence", "at", *TEXTS, "changes", "previous_hash", "entry_hash")


class Broken(Exception):
    """The first thing that does not hold: at which entry, and what."""

    def __init__(self, sequence: int, what: str) -> None:
        super().__init__(f"entry {sequence}: {what}")
        self.sequence = sequence
        self.what = what


@dataclass(frozen=True)
class Verdict:
    """Which entries were checked; `first` is the oldest that is left, `last` the newest."""

    first: int
    last: int
    checkpoints: int = 0


def verify(checkpoint_lines: Iterable[str] = (), *, known: Place | None = None) -> Verdict:
    """Walk from the signed checkpoint (or the beginning) to the signed head; raises `Broken`.

    `checkpoint_lines` are what the checkpoint sink received: each place named there must be in the chain with
    the same hash, unless retention has pruned it; and so must `known`. Entries may be added and pruned meanwhile.
    """
    lines = list(checkpoint_lines)
    sent = _read_checkpoints(lines)
    wanted = {*sent, *([known.sequence] if known else [])}
    start = start_of_chain()
    place = start
    seen: dict[int, str] = {start.sequence: start.digest}
    while True:
        head, counted = _head()
        for row in _entries(place.sequence, head.sequence):
            if row[0] != place.sequence + 1 and start_of_chain() != start:
                # Retention overtook this walk.
                return verify(lines, known=known)
            check_entry(row, place)
            place = Place(row[0], row[-1])
            if row[0] in wanted:
                seen[row[0]] = row[-1]
        if place.sequence != head.sequence:
            if start_of_chain() != start:
                return verify(lines, known=known)
            raise Broken(place.sequence + 1, "is missing, and whatever followed it.")
        _check_head(head, place)
        if not AuditEntry.objects.filter(sequence__gt=head.sequence).exists():
            break
        if _head()[0].sequence == head.sequence:
            raise Broken(head.sequence + 1, "stands beyond the head of the chain.")
    if counted != head.sequence:
        raise Broken(head.sequence, f"the counts by action say that there were {counted} entries.")
    if known is not None and (fault := _fault_of_known(known, place.sequence, seen.get(known.sequence))):
        raise Broken(known.sequence, fault)
    checked = _check_against(sent, seen, place.sequence)
    return Verdict(start.sequence + 1, place.sequence, checked)


def start_of_chain() -> Place:
    """The last entry that was pruned, or the beginning; raises `Broken` where it isn't signed."""
    checkpoint = AuditCheckpoint.objects.first()
    if checkpoint is None:
        return Place(0, GENESIS)
    if not is_signed(CHECKPOINT, checkpoint.sequence, checkpoint.entry_hash, checkpoint.signature):
        raise Broken(
            checkpoint.sequence,
            "the checkpoint of retention is not signed with this server's secret key:"
            " it was changed, or the key was.",
        )
    return Place(checkpoint.sequence, checkpoint.entry_hash)


def head_fault(head: AuditHead, newest: tuple[Any, ...] | None, known: Place | None) -> str:
    """Why nothing may be appended to this head; empty where it is the one that this server knows, or follows it.

    `newest` are the `COLUMNS` of the newest entry. It and `known` were read before the head, or under its lock.
    """
    if newest is not None and newest[0] > head.sequence:
        return f"entry {newest[0]} stands beyond the head of the chain, which is at {head.sequence}"
    is_known = known == Place(head.sequence, head.entry_hash)
    if known is not None and not is_known:
        found = head.entry_hash if known.sequence == head.sequence else _digest_at(known)
        if fault := _fault_of_known(known, head.sequence, found):
            return f"entry {known.sequence} {fault.rstrip('.')}"
        if found is None:
            return f"entry {known.sequence} is missing"
    if not head.sequence:
        return ""
    if not is_known and not is_signed(HEAD, head.sequence, head.entry_hash, head.signature):
        return f"the head of the chain, at {head.sequence}, is not signed with this server's secret key"
    row = newest if newest is not None and newest[0] == head.sequence else _row_at(head.sequence)
    if row is None:
        is_pruned = AuditCheckpoint.objects.filter(
            sequence=head.sequence, entry_hash=head.entry_hash
        ).exists()
        return "" if is_pruned else f"entry {head.sequence}, the newest, is missing"
    if row[-1] != head.entry_hash or not _is_whole(row):
        return f"entry {head.sequence}, the newest, was edited"
    return ""


def newest_entry() -> tuple[Any, ...] | None:
    """The `COLUMNS` of the newest entry there is."""
    return AuditEntry.objects.order_by("-sequence").values_list(*COLUMNS).first()


def counted_entries() -> int:
    """How many entries the counts by action say there ever were."""
    return AuditCount.objects.aggregate(total=Sum("count"))["total"] or 0


def _row_at(sequence: int) -> tuple[Any, ...] | None:
    return AuditEntry.objects.filter(pk=sequence).values_list(*COLUMNS).first()


def _digest_at(known: Place) -> str | None:
    """The hash that the chain has at a place now; of what retention has pruned, the one that is known."""
    row = _row_at(known.sequence)
    if row is not None:
        return str(row[-1])
    try:
        start = start_of_chain()
    except Broken:
        return None
    if known.sequence == start.sequence:
        return start.digest
    return known.digest if known.sequence < start.sequence else None


def _fault_of_known(known: Place, last: int, digest: str | None) -> str:
    """What is wrong with the place that this server knows; `digest` is the chain's there, None where it was pruned."""
    if known.sequence > last:
        return f"is known to this server, but the chain ends at {last}: entries are gone."
    if digest is not None and digest != known.digest:
        return "is another one than this server knows."
    return ""


@transaction.atomic
def _head() -> tuple[AuditHead, int]:
    """The head, and how many entries the counts by action say there ever were; both of one moment."""
    head = AuditHead.objects.select_for_update().filter(pk=1).first()
    return head or AuditHead(sequence=0, entry_hash=GENESIS), counted_entries()


def _check_head(head: AuditHead, place: Place) -> None:
    if head.entry_hash != place.digest:
        raise Broken(head.sequence, "is not the one that the head of the chain names.")
    if head.sequence and not is_signed(HEAD, head.sequence, head.entry_hash, head.signature):
        raise Broken(
            head.sequence,
            "the head of the chain is not signed with this server's secret key:"
            " the chain was made anew, or the key was changed.",
        )


def _entries(after: int, up_to: int) -> Iterator[tuple[Any, ...]]:
    """All entries in that range in their order, a chunk at a time."""
    while True:
        rows = list(
            AuditEntry.objects.filter(sequence__gt=after, sequence__lte=up_to)
            .order_by("sequence")
            .values_list(*COLUMNS)[:CHUNK]
        )
        yield from rows
        if len(rows) < CHUNK:
            return
        after = rows[-1][0]


def check_entry(row: tuple[Any, ...], place: Place) -> None:
    """Whether these `COLUMNS` are the entry that follows the place; raises `Broken`."""
    sequence, previous_hash = row[0], row[-2]
    if sequence != place.sequence + 1:
        raise Broken(place.sequence + 1, "is missing.")
    if previous_hash != place.digest:
        raise Broken(sequence, f"does not follow entry {place.sequence}.")
    if not _is_whole(row):
        raise Broken(sequence, "was edited: its hash does not match what it says.")


def _is_whole(row: tuple[Any, ...]) -> bool:
    sequence, at, *fields, changes, previous_hash, digest = row
    return isinstance(changes, dict) and digest == entry_hash(
        sequence=sequence, at=at, fields=fields, changes=changes, previous_hash=previous_hash
    )


def _read_checkpoints(lines: Iterable[str]) -> dict[int, str]:
    """Sequence → hash of every genuine line."""
    wanted = {}
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            found = json.loads(line)
            sequence, digest, signature = found["sequence"], found["entry_hash"], found["signature"]
        except (ValueError, TypeError, KeyError):
            raise Broken(0, f"line {number} of the checkpoints is none.") from None
        if not isinstance(sequence, int) or not is_signed(HEAD, sequence, str(digest), str(signature)):
            raise Broken(0, f"line {number} of the checkpoints is not signed with this server's secret key.")
        wanted[sequence] = str(digest)
    return wanted


def _check_against(wanted: dict[int, str], seen: dict[int, str], last: int) -> int:
    """How many of the checkpoints were compared."""
    checked = 0
    for sequence, digest in sorted(wanted.items()):
        if sequence > last:
            raise Broken(sequence, f"was there when a checkpoint was sent; now the chain ends at {last}.")
        if sequence in seen:
            checked += 1
            if seen[sequence] != digest:
                raise Broken(sequence, "is another one than when a checkpoint was sent.")
    return checked
