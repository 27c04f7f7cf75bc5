"""Checks the whole chain: an edit, a cut at either end or in the middle, a fork, a chain made anew."""

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from django.db import transaction
from django.db.models import Sum

from dockmesh.audit.chain import CHECKPOINT, GENESIS, HEAD, entry_hash, is_signed
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


@dataclass
class _Place:
    sequence: int
    digest: str


def verify(checkpoint_lines: Iterable[str] = ()) -> Verdict:
    """Walk from the signed checkpoint (or the beginning) to the signed head; raises `Broken`.

    `checkpoint_lines` are what the checkpoint sink received: each place named there must be in the chain with
    the same hash, unless retention has pruned it. Entries may be added and pruned meanwhile.
    """
    lines = list(checkpoint_lines)
    wanted = _read_checkpoints(lines)
    start = _start()
    place = _Place(start.sequence, start.digest)
    seen: dict[int, str] = {start.sequence: start.digest}
    while True:
        head, counted = _head()
        for row in _entries(place.sequence, head.sequence):
            if row[0] != place.sequence + 1 and _start() != start:
                # Retention overtook this walk.
                return verify(lines)
            _check(row, place)
            place = _Place(row[0], row[-1])
            if row[0] in wanted:
                seen[row[0]] = row[-1]
        if place.sequence != head.sequence:
            if _start() != start:
                return verify(lines)
            raise Broken(place.sequence + 1, "is missing, and whatever followed it.")
        _check_head(head, place)
        if not AuditEntry.objects.filter(sequence__gt=head.sequence).exists():
            break
        if _head()[0].sequence == head.sequence:
            raise Broken(head.sequence + 1, "stands beyond the head of the chain.")
    if counted != head.sequence:
        raise Broken(head.sequence, f"the counts by action say that there were {counted} entries.")
    checked = _check_against(wanted, seen, start.sequence, place.sequence)
    return Verdict(start.sequence + 1, place.sequence, checked)


def _start() -> _Place:
    checkpoint = AuditCheckpoint.objects.first()
    if checkpoint is None:
        return _Place(0, GENESIS)
    if not is_signed(CHECKPOINT, checkpoint.sequence, checkpoint.entry_hash, checkpoint.signature):
        raise Broken(
            checkpoint.sequence,
            "the checkpoint of retention is not signed with this server's secret key:"
            " it was changed, or the key was.",
        )
    return _Place(checkpoint.sequence, checkpoint.entry_hash)


@transaction.atomic
def _head() -> tuple[AuditHead, int]:
    """The head, and how many entries the counts by action say there ever were; both of one moment."""
    head = AuditHead.objects.select_for_update().filter(pk=1).first()
    counted = AuditCount.objects.aggregate(total=Sum("count"))["total"] or 0
    return head or AuditHead(sequence=0, entry_hash=GENESIS), counted


def _check_head(head: AuditHead, place: _Place) -> None:
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


def _check(row: tuple[Any, ...], place: _Place) -> None:
    sequence, at, *fields, changes, previous_hash, digest = row
    if sequence != place.sequence + 1:
        raise Broken(place.sequence + 1, "is missing.")
    if previous_hash != place.digest:
        raise Broken(sequence, f"does not follow entry {place.sequence}.")
    if not isinstance(changes, dict) or digest != entry_hash(
        sequence=sequence, at=at, fields=fields, changes=changes, previous_hash=previous_hash
    ):
        raise Broken(sequence, "was edited: its hash does not match what it says.")


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


def _check_against(wanted: dict[int, str], seen: dict[int, str], start: int, last: int) -> int:
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
