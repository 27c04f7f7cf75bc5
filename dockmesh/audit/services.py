"""Writing the audit log."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from django.db import models, transaction

from dockmesh.audit.actions import Action
from dockmesh.audit.chain import GENESIS, entry_hash
from dockmesh.audit.models import AuditCount, AuditEntry, AuditHead
from dockmesh.core import clock


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
    head = AuditHead.objects.select_for_update().filter(pk=1).first()
    if head is None:
        AuditHead.objects.bulk_create([AuditHead(pk=1, entry_hash=GENESIS)], ignore_conflicts=True)
        head = AuditHead.objects.select_for_update().get(pk=1)
    texts = {
        "actor_kind": actor.kind,
        "actor_id": actor.id,
        "actor_name": actor.name[:255],
        "action": action.value,
        "target_kind": target_kind,
        "target_id": str(target_id),
        "target_name": target_name[:255],
        "address": actor.address[:64],
    }
    at = clock.now()
    sequence = head.sequence + 1
    digest = entry_hash(
        sequence=sequence,
        at=at,
        fields=texts.values(),
        changes=changes or {},
        previous_hash=head.entry_hash,
    )
    AuditEntry.objects.bulk_create(
        [
            AuditEntry(
                sequence=sequence,
                at=at,
                **texts,
                changes=dict(changes or {}),
                previous_hash=head.entry_hash,
                entry_hash=digest,
            )
        ]
    )
    AuditHead.objects.filter(pk=1).update(sequence=sequence, entry_hash=digest)
    if not AuditCount.objects.filter(action=action.value).update(count=models.F("count") + 1):
        AuditCount.objects.create(action=action.value, count=1)


def record_alone(**entry: Any) -> None:
    """`record` in a transaction of its own, for what changes nothing else (a sign-in, a refusal)."""
    with transaction.atomic():
        record(**entry)
