"""Telling a database that is away from one that is at work: who waited too long for a lock may try again."""

from django.db import Error

# PostgreSQL's: lock not available, deadlock detected, serialization failure.
_BUSY_STATES = frozenset({"55P03", "40P01", "40001"})

AWAY = "The database is unavailable."
BUSY = "Another change takes long, and this one waited for it in vain; nothing was changed. Try again."


def is_busy(error: BaseException) -> bool:
    """Whether it is a lock that was waited for in vain, and not the database that is away."""
    if not isinstance(error, Error):
        return False
    state = getattr(error.__cause__, "sqlstate", None)
    return state in _BUSY_STATES or "is locked" in str(error)


def in_words(error: BaseException) -> tuple[str, str]:
    """(what to answer, Retry-After in seconds)."""
    return (BUSY, "1") if is_busy(error) else (AWAY, "5")
