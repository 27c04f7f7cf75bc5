"""What runs when a process of the server starts and before it ends.

Rooms register in `AppConfig.ready()`. Threads must be started here and not on import: the server forks
its processes after everything was imported, and a thread does not survive that.
"""

import logging
import signal
import threading
from collections.abc import Callable

logger = logging.getLogger(__name__)

_at_start: list[Callable[[], None]] = []
_at_stop: list[Callable[[], None]] = []


def register_start(run: Callable[[], None]) -> None:
    """Call `run` in each web process before its first request."""
    _at_start.append(run)


def register_stop(run: Callable[[], None]) -> None:
    """Call `run` in each web process after its last request, to write down what is only in memory."""
    _at_stop.append(run)


def start() -> None:
    """Run what was registered; an error ends the start."""
    for run in _at_start:
        run()


def stop() -> None:
    """Run what was registered, the last first; an error is logged and the others still run."""
    for run in reversed(_at_stop):
        try:
            run()
        except Exception:
            logger.exception("stopping failed in %s", getattr(run, "__qualname__", run))


def stop_at(numbers: tuple[signal.Signals, ...], run: Callable[[], None]) -> None:
    """Call `run` at each of these signals, in a thread of its own.

    A handler runs in the middle of the main thread, which may hold the very lock that `run` needs: that of an event
    that it waits for, or, at a second signal, that of the first one's `run`.
    """
    for number in numbers:
        signal.signal(number, lambda *_: threading.Thread(target=run, daemon=True).start())
