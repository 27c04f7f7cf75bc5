"""Writing the audit log, and pruning it.

Nothing is written to a chain that somebody else has changed, nor is it pruned: both would sign what was done to it. What
people ask for is refused then; what merely happens goes on, and is told in the server's log instead.
"""

import datetime
import json
import logging
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from django.conf import settings
from django.db import models, transaction

from dockmesh.audit import known, verification
from dockmesh.audit.actions import BY_ITSELF, TOLD_ONLY, Action
from dockmesh.audit.chain import (
    CHECKPOINT,
    GENESIS,
    HEAD,
    MAX_BYTES,
    clean,
    entry_hash,
    is_signed,
    sign,
    storable,
)
from dockmesh.audit.known import Place
from dockmesh.audit.models import AuditCheckpoint, AuditCount, AuditEntry, AuditHead, AuditTrouble
from dockmesh.audit.verification import Broken
from dockmesh.core import clock, schedule
from dockmesh.core.errors import DomainError

logger = logging.getLogger(__name__)

PRUNE_BATCH = 2_000
# How far the clocks that wrote two entries after one another may differ.
CLOCK_DRIFT = datetime.timedelta(hours=2)


class ChainChanged(DomainError):
    """The audit log was changed by somebody else than this server: nothing that it would tell of is done."""

    status = 503
    title = "The audit log was changed"

    def __init__(self, fault: str) -> None:
        super().__init__(
            f"The audit log was changed behind the server's back: {fault}. So nothing is changed until somebody has"
            " looked into it: see docs/audit.md, `manage.py verifyaudit` and `manage.py acceptaudit`."
        )
        self.fault = fault


@dataclass(frozen=True)
class Actor:
    """Who did it. `kind` is `user`, `token`, `agent` or `system`; `address` is the client's, if any."""

    kind: str
    id: str
    name: str
    address: str = ""


SYSTEM = Actor("system", "", "dockmesh")


def record(
    *,
    actor: Actor,
    action: Action,
    target_kind: str = "",
    target_id: str | int = "",
    target_name: str = "",
    changes: Mapping[str, Any] | None = None,
) -> None:
    """Append one entry and count it, in the caller's transaction.

    Call it last in that transaction: it locks the chain's head, which all writers share.
    Raises `TransactionManagementError` outside of a transaction, and `ChainChanged` where the chain is not as this server
    knows it; what only tells what happened is then written to the server's log. `changes` must hold no secret.
    """
    if not transaction.get_connection().in_atomic_block:
        raise transaction.TransactionManagementError("an audit entry belongs into its mutation's transaction")
    head = _locked_head()
    texts = {
        "actor_kind": clean(actor.kind, 16),
        "actor_id": clean(actor.id, 64),
        "actor_name": clean(actor.name, 255),
        "action": action.value,
        "target_kind": clean(target_kind, 32),
        "target_id": clean(str(target_id), 64),
        "target_name": clean(target_name, MAX_BYTES),
        "address": clean(actor.address, 64),
    }
    kept: dict[str, Any] = storable(changes or {})
    if fault := verification.head_fault(head, verification.newest_entry(), known.read()):
        if action not in TOLD_ONLY and not (action in BY_ITSELF and actor.kind == SYSTEM.kind):
            logger.error("refused %s, since the audit log was changed: %s", action.value, fault)
            raise ChainChanged(fault)
        logger.error(
            "not in the audit log, which was changed (%s): %s", fault, json.dumps({**texts, "changes": kept})
        )
        return
    _append(head, texts, kept)


def _append(head: AuditHead, texts: Mapping[str, str], kept: dict[str, Any]) -> None:
    now = clock.now()
    # Whole milliseconds: all that Django's JSON of a dump keeps, and the hash is over it.
    at = now.replace(microsecond=now.microsecond // 1000 * 1000)
    sequence = head.sequence + 1
    digest = entry_hash(
        sequence=sequence, at=at, fields=texts.values(), changes=kept, previous_hash=head.entry_hash
    )
    AuditEntry.objects.bulk_create(
        [
            AuditEntry(
                sequence=sequence,
                at=at,
                **texts,
                changes=kept,
                previous_hash=head.entry_hash,
                entry_hash=digest,
            )
        ]
    )
    AuditHead.objects.filter(pk=1).update(
        sequence=sequence, entry_hash=digest, signature=sign(HEAD, sequence, digest)
    )
    _count(texts["action"], 1)
    transaction.on_commit(lambda: known.remember(Place(sequence, digest, at)))


def _count(action: str, more: int) -> None:
    if not AuditCount.objects.filter(action=action).update(count=models.F("count") + more):
        AuditCount.objects.create(action=action, count=more)


def record_alone(**entry: Any) -> None:
    """`record` in a transaction of its own, for what changes nothing else (a sign-in, a refusal)."""
    with transaction.atomic():
        record(**entry)


@transaction.atomic
def accept(*, reason: str) -> str:
    """Go on from the chain as it is found, by an entry that says so; returns what was wrong with it, or nothing.

    A chain that merely ends too early, as in a database that was restored, goes on after its last entry. One that does
    not hold begins anew behind all that there is: what stands there stays to be read, and retention prunes it by its age.
    """
    head = _locked_head()
    before, found = known.read(), head.sequence
    newest = verification.newest_entry()
    wrong = verification.head_fault(head, newest, before)
    try:
        verification.verify()
    except Broken as broken:
        wrong = str(broken)
        head = _begin_anew(head, newest[0] if newest else 0)
    texts = {
        **dict.fromkeys(verification.TEXTS, ""),
        "actor_kind": SYSTEM.kind,
        "actor_name": SYSTEM.name,
        "action": Action.AUDIT_ACCEPTED.value,
    }
    changes = {"known": before.sequence if before else None, "found": found, "wrong": wrong, "reason": reason}
    _append(head, texts, storable(changes))
    AuditTrouble.objects.all().delete()
    after = AuditHead.objects.get(pk=1)
    transaction.on_commit(lambda: known.replace(Place(after.sequence, after.entry_hash)))
    return wrong


@transaction.atomic
def sign_anew() -> None:
    """Sign with the secret key what one of its fallbacks has signed; a signature that does not count stays as it is."""
    head = _locked_head()
    if is_signed(HEAD, head.sequence, head.entry_hash, head.signature):
        AuditHead.objects.filter(pk=1).update(signature=sign(HEAD, head.sequence, head.entry_hash))
    start = AuditCheckpoint.objects.first()
    if start is not None and is_signed(CHECKPOINT, start.sequence, start.entry_hash, start.signature):
        signature = sign(CHECKPOINT, start.sequence, start.entry_hash)
        AuditCheckpoint.objects.filter(pk=1).update(signature=signature)


def _begin_anew(head: AuditHead, newest: int) -> AuditHead:
    """Sign a beginning behind every entry that there is or was, so that no number is used twice."""
    pruned = AuditCheckpoint.objects.values_list("sequence", flat=True).first() or 0
    counted = verification.counted_entries()
    sequence = max(head.sequence, newest, pruned, counted)
    _checkpoint(Place(sequence, head.entry_hash), None)
    AuditHead.objects.filter(pk=1).update(sequence=sequence, signature=sign(HEAD, sequence, head.entry_hash))
    if counted < sequence:
        # Somebody lowered the counts; by which action is gone with them.
        _count(Action.AUDIT_ACCEPTED.value, sequence - counted)
    return AuditHead.objects.get(pk=1)


def accept_restored(*, last_alive: datetime.datetime | None) -> None:
    """Accept a database that was restored as a whole: it is older than what the data folder knows, and its chain holds.

    `last_alive` is the newest moment at which, as the database has it, a server listened. Where that is later than the entry
    which is gone, the audit log alone was put back, and nothing is accepted. Only for a server that starts.
    """
    place = known.read()
    if place is None or place.at is None or last_alive is None or last_alive >= place.at:
        return
    head = AuditHead.objects.filter(pk=1).first() or AuditHead(entry_hash=GENESIS)
    if not verification.head_fault(head, verification.newest_entry(), place):
        return
    try:
        verification.verify()
    except Broken:
        return
    logger.warning(
        "the database is of %s and has no audit entry %s of %s: it was restored; the audit log goes on after entry %s",
        last_alive,
        place.sequence,
        place.at,
        head.sequence,
    )
    accept(reason="the server was started with a database that had been restored to an earlier state")


def begin_with_new_database() -> None:
    """A database in which nothing ever happened is no changed one, though the data folder knows another: say so, go on.

    Only for a server that starts, and has found nobody in it who could sign in.
    """
    place = known.read()
    if place is not None and not AuditEntry.objects.exists() and not AuditCount.objects.exists():
        logger.warning(
            "the database is new, though the data folder knows of %s audit entries: their log begins anew",
            place.sequence,
        )
        known.forget()


def prune(*, before: datetime.datetime, batch_size: int = PRUNE_BATCH) -> int:
    """Remove the entries at the old end that are older than `before`; returns how many.

    Only what holds from the last checkpoint on is removed; raises `Broken` or `ChainChanged` where something doesn't.
    The last removed one's place and hash go into the signed checkpoint, from which the chain is verified
    thereafter. Each batch is a transaction, so that writers never wait long. The counts stay.
    """
    removed = 0
    while count := _prune_batch(before, batch_size):
        removed += count
    if removed:
        record_alone(
            actor=SYSTEM,
            action=Action.AUDIT_PRUNED,
            changes={"entries": removed, "before": before.isoformat()},
        )
    return removed


def prune_by_retention() -> None:
    """The scheduler's job: remove what is older than DOCKMESH_AUDIT_RETENTION_DAYS; 0 keeps everything."""
    if settings.DOCKMESH_AUDIT_RETENTION_DAYS:
        try:
            prune(before=clock.now() - datetime.timedelta(days=settings.DOCKMESH_AUDIT_RETENTION_DAYS))
        except (Broken, ChainChanged) as error:
            _note_trouble(error)
            raise schedule.Failed from None


def watch() -> None:
    """The scheduler's job: walk the whole chain, and note what is wrong with it for the overview and the alerts."""
    try:
        verification.verify(known=known.read())
    except Broken as broken:
        _note_trouble(broken)
        raise schedule.Failed from None
    AuditTrouble.objects.all().delete()


def _note_trouble(error: Broken | ChainChanged) -> None:
    what = error.fault if isinstance(error, ChainChanged) else str(error)
    logger.error("the audit log was changed: %s; nothing of it is pruned. See docs/audit.md", what)
    AuditTrouble.objects.update_or_create(pk=1, defaults={"what": what[:500], "found_at": clock.now()})


@transaction.atomic
def _prune_batch(before: datetime.datetime, size: int) -> int:
    """Up to `size` entries from the old end; it stops at the first entry that is young enough.

    An entry that is dated before the one that it follows, by more than clocks differ, says nothing of its age: it goes
    with the next one that is old.
    """
    head = _locked_head()
    if fault := verification.head_fault(head, verification.newest_entry(), known.read()):
        raise ChainChanged(fault)
    start = verification.start_of_chain()
    latest = AuditCheckpoint.objects.values_list("at", flat=True).first()
    rows = AuditEntry.objects.order_by("sequence").values_list(*verification.COLUMNS)[:size]
    place, old, count = start, None, 0
    for number, row in enumerate(rows, 1):
        if row[0] > start.sequence:  # else it lies before an accepted beginning
            verification.check_entry(row, place)
            place = Place(row[0], row[-1])
        at = row[1]
        if latest is not None and at < latest - CLOCK_DRIFT:
            continue
        if at >= before:
            break
        latest, old, count = at, row, number
    if old is None:
        return 0
    # Under the head's lock, and without loading the rows: nothing refers to an entry.
    entries = AuditEntry.objects.filter(sequence__lte=old[0])
    entries._raw_delete(entries.db)
    if old[0] > start.sequence:
        _checkpoint(Place(old[0], old[-1]), old[1])
    return count


def _checkpoint(place: Place, at: datetime.datetime | None) -> None:
    AuditCheckpoint.objects.update_or_create(
        pk=1,
        defaults={
            "sequence": place.sequence,
            "entry_hash": place.digest,
            "signature": sign(CHECKPOINT, place.sequence, place.digest),
            "pruned_at": clock.now(),
            "at": at,
        },
    )


def _locked_head() -> AuditHead:
    """The head, locked until the transaction ends; made where this is the first entry of all."""
    head = AuditHead.objects.select_for_update().filter(pk=1).first()
    if head is None:
        AuditHead.objects.bulk_create([AuditHead(pk=1, entry_hash=GENESIS)], ignore_conflicts=True)
        head = AuditHead.objects.select_for_update().get(pk=1)
    return head
