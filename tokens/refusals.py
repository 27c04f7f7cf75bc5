"""What was refused, in the audit log, bounded: a flood of refusals must not become a flood of entries.

Each actor has one entry a minute for each reason; what it tried again within that minute is counted and
written with the next entry (`repeated`). Over all actors at most `MAX_A_MINUTE` entries a minute are written
by a process; the rest goes into one entry of the system, as a number.
"""

import logging
import threading
import time
from dataclasses import dataclass, field

from django.db import DatabaseError

from dockmesh.audit import services as audit
from dockmesh.audit.actions import Action
from tokens.principals import Principal

logger = logging.getLogger(__name__)

WINDOW_SECONDS = 60.0
MAX_A_MINUTE = 60
MAX_REMEMBERED = 1000

Key = tuple[str, str, str]


@dataclass
class _Minute:
    """What was noted in the present minute, and what was only counted."""

    began: float = 0.0
    written: set[Key] = field(default_factory=set)
    repeated: dict[Key, int] = field(default_factory=dict)
    left_out: int = 0


_lock = threading.Lock()
_minute = _Minute()


def note(principal: Principal, *, why: str, path: str = "") -> None:
    """Record that the principal was refused: `why` is the lacking permission or the reason.

    Never raises: a refusal stays a refusal when it can't be written.
    """
    key = (principal.kind, principal.id or principal.address, why)
    is_new, repeated, left_out = _count(key)
    if not is_new:
        return
    changes: dict[str, object] = {"refused": why}
    if path:
        changes["path"] = path[:200]
    if repeated:
        changes["repeated"] = repeated
    try:
        if left_out:
            audit.record_alone(
                actor=audit.SYSTEM, action=Action.PERMISSION_REFUSED, changes={"left_out": left_out}
            )
        audit.record_alone(
            actor=principal.actor,
            action=Action.PERMISSION_REFUSED,
            target_kind="permission",
            target_name=why,
            changes=changes,
        )
    except DatabaseError:
        logger.warning("a refusal of %s could not be written to the audit log", why, exc_info=True)


def note_visitor(address: str, *, why: str, path: str = "") -> None:
    """Record that somebody was refused of whom no more is known than the address."""
    note(Principal("user", "", "nobody", frozenset(), address), why=why, path=path)


def forget() -> None:
    """Start afresh; for the tests."""
    global _minute
    with _lock:
        _minute = _Minute()


def _count(key: Key) -> tuple[bool, int, int]:
    """(whether to write an entry, how often this was repeated before, how many entries were left out)."""
    global _minute
    now = time.monotonic()
    with _lock:
        left_out = 0
        if not _minute.began or now - _minute.began >= WINDOW_SECONDS:
            left_out = _minute.left_out
            newest = list(_minute.repeated.items())[-MAX_REMEMBERED:]
            _minute = _Minute(began=now, repeated=dict(newest))
        if key in _minute.written:
            _minute.repeated[key] = _minute.repeated.get(key, 0) + 1
            return False, 0, 0
        if len(_minute.written) >= MAX_A_MINUTE:
            _minute.left_out += 1
            return False, 0, 0
        _minute.written.add(key)
        return True, _minute.repeated.pop(key, 0), left_out
