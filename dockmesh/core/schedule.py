"""Periodic jobs: each room registers its own in `AppConfig.ready()`, the scheduler process runs them."""

import logging
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TypeVar

from django.db import DatabaseError, InterfaceError, OperationalError, connection

logger = logging.getLogger(__name__)

T = TypeVar("T")


@dataclass(frozen=True)
class PeriodicJob:
    """`run` is called about every `every_seconds`, by the process that holds the scheduler's lease.

    That is one at a time for as long as no run outlives the lease (a process that was frozen, a database that hung):
    then the next holder may run it beside. So a job claims its items by what it writes, not by being alone.
    """

    name: str
    every_seconds: float
    run: Callable[[], None]


class Failed(Exception):
    """A job that ran, with `count` faults in it that have been logged already."""

    def __init__(self, count: int = 1) -> None:
        super().__init__(f"{count} faults, logged before")
        self.count = count


_jobs: dict[str, PeriodicJob] = {}


def register(*, name: str, every_seconds: float, run: Callable[[], None]) -> None:
    """Add a job; a name that is there already is replaced."""
    _jobs[name] = PeriodicJob(name, every_seconds, run)


def jobs() -> list[PeriodicJob]:
    """All registered jobs in the order of their names."""
    return [_jobs[name] for name in sorted(_jobs)]


def one_by_one(items: Iterable[T], do: Callable[[T], object], *, what: str) -> None:
    """Do it to each item, which is a transaction of its own: one that fails stops none of the others.

    Each fault is logged with its traceback, `what` and the item; then `Failed` is raised at the end. A database that
    is away fails all alike, so that is raised at once.
    """
    failed = 0
    for item in items:
        try:
            do(item)
        except Exception as error:
            if is_database_away(error):
                raise
            logger.exception("%s %s failed; the others go on", what, item)
            failed += 1
    if failed:
        raise Failed(failed)


def is_database_away(error: Exception) -> bool:
    """Whether it is the database that is away, and not this one statement that it refuses."""
    if not isinstance(error, OperationalError | InterfaceError):
        return False
    try:
        connection.ensure_connection()
        return not connection.is_usable()
    except DatabaseError:
        return True
