"""Who wants to know of requests that are answered without Django's handler, and so without its middleware."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Answered:
    """A POST request that was answered with 200."""

    scheme: str
    received_bytes: int
    sent_bytes: int
    seconds: float


Observer = Callable[[str, Sequence[Answered]], None]

_observers: list[Observer] = []


def register(observer: Observer) -> None:
    """Call `observer` with the path and its answers, from any thread, for all that are given from now on."""
    _observers.append(observer)


def note(path: str, answers: Sequence[Answered]) -> None:
    """These requests of `path` have been answered."""
    for observer in _observers:
        observer(path, answers)
