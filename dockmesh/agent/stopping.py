"""The wish to stop, and whatever else should wake the main loop."""

from __future__ import annotations

import signal
import threading
from types import FrameType


class Stopping:
    """Wakes the main loop for a reason (`wake`) or for good (`stop`)."""

    def __init__(self) -> None:
        self._stop = threading.Event()
        self._wake = threading.Event()

    @property
    def is_set(self) -> bool:
        return self._stop.is_set()

    def stop(self) -> None:
        self._stop.set()
        self._wake.set()

    def wake(self) -> None:
        self._wake.set()

    def wait(self, seconds: float) -> bool:
        """Wait for a stop. True if it came."""
        return self._stop.wait(max(seconds, 0.0))

    def wait_awake(self, seconds: float) -> bool:
        """Wait to be woken or stopped. True if that came, once for any number of wakes."""
        woken = self._wake.wait(max(seconds, 0.0))
        self._wake.clear()
        return woken

    def on_signals(self) -> None:
        """Stop at SIGTERM and SIGINT."""

        def handle(_number: int, _frame: FrameType | None) -> None:
            # A handler runs in the middle of the main thread, which may hold the events' own locks.
            threading.Thread(target=self.stop, daemon=True).start()

        signal.signal(signal.SIGTERM, handle)
        signal.signal(signal.SIGINT, handle)
