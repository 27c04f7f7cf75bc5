"""Periodic jobs: each room registers its own in `AppConfig.ready()`, the scheduler process runs them."""

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True)
class PeriodicJob:
    """`run` is called about every `every_seconds`, by one process of the whole installation at a time."""

    name: str
    every_seconds: float
    run: Callable[[], None]


_jobs: dict[str, PeriodicJob] = {}


def register(*, name: str, every_seconds: float, run: Callable[[], None]) -> None:
    """Add a job; a name that is there already is replaced."""
    _jobs[name] = PeriodicJob(name, every_seconds, run)


def jobs() -> list[PeriodicJob]:
    """All registered jobs in the order of their names."""
    return [_jobs[name] for name in sorted(_jobs)]
