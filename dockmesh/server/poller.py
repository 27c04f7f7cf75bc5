"""epoll in the place of waitress's own loop.

That one asks every connection at every turn whether it wants to read or write, so with a thousand agents
connected each request costs more than a millisecond. This one asks only those that had something happen.
"""

import contextlib
import select
import threading
from collections import deque
from collections.abc import Callable
from typing import Any

from waitress import wasyncore

_READ = select.EPOLLIN | select.EPOLLPRI


class Poller:
    """Hands events to waitress's dispatchers, those of `dispatchers` (by file descriptor).

    `pull_trigger` ends the wait of `turn`. `settle` is called with a dispatcher before it is asked what it waits for. All methods but `is_own_thread`, `wake`, `look_at` and `forget` belong to the thread that
    calls `turn`.
    """

    def __init__(
        self,
        dispatchers: dict[int, Any],
        pull_trigger: Callable[[], None],
        settle: Callable[[Any], None] = lambda dispatcher: None,
    ) -> None:
        self._dispatchers = dispatchers
        self._pull_trigger = pull_trigger
        self._settle = settle
        self._is_awake = False  # or will be: there is no need to pull the trigger again
        self._to_look_at: deque[Any] = deque()
        self._thread = 0
        self._epoll = select.epoll()
        self._armed: dict[int, int] = {}  # what epoll waits for on each

    def turn(self, seconds: float) -> None:
        """Wait for events, `seconds` at most, and hand them on."""
        self._thread = threading.get_ident()
        self._is_awake = False  # before looking: whoever has something new from now on wakes us
        while self._to_look_at:
            self.update(self._to_look_at.popleft())
        for descriptor, events in self._epoll.poll(seconds):
            dispatcher = self._dispatchers.get(descriptor)
            if dispatcher is not None:
                self._armed[descriptor] = 0
                wasyncore.readwrite(dispatcher, events)
                self.update(dispatcher)

    def update(self, dispatcher: Any) -> None:
        """Ask what the dispatcher waits for now. An event that was handed out is armed again here."""
        self._settle(dispatcher)
        descriptor = dispatcher._fileno
        if descriptor is None:
            return
        events = _READ if dispatcher.readable() else 0
        if dispatcher.writable() and not dispatcher.accepting:  # a listening socket has nothing to write
            events |= select.EPOLLOUT
        before = self._armed.get(descriptor)
        if before is None:
            self._epoll.register(descriptor, events | select.EPOLLONESHOT)
        elif events != before:
            self._epoll.modify(descriptor, events | select.EPOLLONESHOT)
        self._armed[descriptor] = events

    def update_all(self) -> None:
        """The same for all of them."""
        for dispatcher in list(self._dispatchers.values()):
            self.update(dispatcher)

    def is_own_thread(self) -> bool:
        """Whether it is the thread that calls `turn` which asks."""
        return threading.get_ident() == self._thread

    def wake(self) -> None:
        """Let `turn` come back soon."""
        if not self._is_awake:
            self._is_awake = True
            self._pull_trigger()

    def look_at(self, channel: Any) -> None:
        """Another thread has changed what the channel waits for."""
        self._to_look_at.append(channel)
        self.wake()

    def forget(self, descriptor: int) -> None:
        """To be called before the descriptor is closed."""
        if self._armed.pop(descriptor, None) is not None:
            with contextlib.suppress(OSError):
                self._epoll.unregister(descriptor)

    def close(self) -> None:
        """End it."""
        self._epoll.close()
