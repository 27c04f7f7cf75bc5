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
RefusalObserver = Callable[[str, str, int], None]

_observers: list[Observer] = []
_refusal_observers: list[RefusalObserver] = []


def register(observer: Observer) -> None:
    """Call `observer` with the path and its answers, from any thread, for all that are given from now on."""
    _observers.append(observer)


def note(path: str, answers: Sequence[Answered]) -> None:
    """These requests of `path` have been answered."""
    for observer in _observers:
        observer(path, answers)


def register_refused(observer: RefusalObserver) -> None:
    """Call `observer` with method, path and status of each request that the server refuses because it can't be read."""
    _refusal_observers.append(observer)


def note_refused(method: str, path: str, status: int) -> None:
    """This request has been refused; method and path are empty where they could not be read."""
    for observer in _refusal_observers:
        observer(method, path, status)
