"""Writing the audit log, and pruning it."""

import datetime
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from django.conf import settings
from django.db import models, transaction

from dockmesh.audit.actions import Action
from dockmesh.audit.chain import CHECKPOINT, GENESIS, HEAD, MAX_BYTES, clean, entry_hash, sign, storable
from dockmesh.audit.models import AuditCheckpoint, AuditCount, AuditEntry, AuditHead
from dockmesh.core import clock

PRUNE_BATCH = 10_000


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
    Raises `TransactionManagementError` outside of a transaction. `changes` must hold no secret.
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
    now = clock.now()
    # Whole milliseconds: all that Django's JSON of a dump keeps, and the hash is over it.
    at = now.replace(microsecond=now.microsecond // 1000 * 1000)
    sequence = head.sequence + 1
    kept: dict[str, Any] = storable(changes or {})
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
    if not AuditCount.objects.filter(action=action.value).update(count=models.F("count") + 1):
        AuditCount.objects.create(action=action.value, count=1)


def record_alone(**entry: Any) -> None:
    """`record` in a transaction of its own, for what changes nothing else (a sign-in, a refusal)."""
    with transaction.atomic():
        record(**entry)


def prune(*, before: datetime.datetime, batch_size: int = PRUNE_BATCH) -> int:
    """Remove the entries at the old end that are older than `before`; returns how many.

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
        prune(before=clock.now() - datetime.timedelta(days=settings.DOCKMESH_AUDIT_RETENTION_DAYS))


@transaction.atomic
def _prune_batch(before: datetime.datetime, size: int) -> int:
    """Up to `size` entries from the old end; it stops at the first entry that is young enough."""
    _locked_head()
    rows = AuditEntry.objects.order_by("sequence").values_list("sequence", "at", "entry_hash")[:size]
    last, count = None, 0
    for row in rows:
        if row[1] >= before:
            break
        last, count = row, count + 1
    if last is None:
        return 0
    sequence, _, digest = last
    # Under the head's lock, and without loading the rows: nothing refers to an entry.
    entries = AuditEntry.objects.filter(sequence__lte=sequence)
    entries._raw_delete(entries.db)
    AuditCheckpoint.objects.update_or_create(
        pk=1,
        defaults={
            "sequence": sequence,
            "entry_hash": digest,
            "signature": sign(CHECKPOINT, sequence, digest),
            "pruned_at": clock.now(),
        },
    )
    return count


def _locked_head() -> AuditHead:
    """The head, locked until the transaction ends; made where this is the first entry of all."""
    head = AuditHead.objects.select_for_update().filter(pk=1).first()
    if head is None:
        AuditHead.objects.bulk_create([AuditHead(pk=1, entry_hash=GENESIS)], ignore_conflicts=True)
        head = AuditHead.objects.select_for_update().get(pk=1)
    return head
