"""Requests that wait for something to happen, parked without a thread of their own.

An agent keeps one such request open, so that the server can reach it at once. What is parked is the connection, with
its request: one thread holds all of them, asks a few times a second for whom there is something, and hands those
requests to the workers, where the WSGI application answers them as it would have done at once. It answers itself only
those whose time is up, and an older one of the same client: with nothing. Whatever it does not admit goes to the
workers as well: there is the one place that says what is wrong with a request.
"""

import logging
import threading
import time
from collections.abc import Callable, Collection, Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from waitress.utilities import build_http_date

from dockmesh.server import accesslog
from dockmesh.server.batch import Posted, posted

logger = logging.getLogger(__name__)

PARKED_SECONDS = 25.0  # proxies give up after 30 s, the most impatient ones
LOOK_SECONDS = 0.2
ADMITTED_AT_ONCE = 64
MOST_BODY_BYTES = 4 * 1024
# While the database is away, the log tells of it this often.
COMPLAINT_SECONDS = 60.0


@dataclass(frozen=True)
class Application:
    """What the parking asks; each in its thread, each may fail."""

    admit: Callable[[Sequence[Posted]], Sequence[Hashable | None]]
    """From requests to whom each is for, in the same order; None for one that the workers are to answer."""
    ready: Callable[[], Collection[Hashable]]
    """For whom there is something now, whether parked or not."""
    note: Callable[[Sequence[Posted], int], None]
    """These were answered with nothing, in so many bytes."""


@dataclass(slots=True)
class _Parked:
    channel: Any
    request: Posted
    until: float


class Parking:
    """Parks POST requests of `path` for `seconds` at most; `nothing` is the body of the answer then."""

    def __init__(
        self,
        path: str,
        application: Application,
        headers: Mapping[str, str],
        *,
        nothing: bytes,
        seconds: float = PARKED_SECONDS,
    ) -> None:
        self.path = path
        self._application = application
        self._nothing = nothing
        self._seconds = seconds
        lines = "".join(f"{name}: {value}\r\n" for name, value in sorted(headers.items()))
        self._head = (
            f"HTTP/1.1 200 OK\r\n{lines}Content-Type: application/json\r\nContent-Length: {len(nothing)}\r\n"
        )
        self._leave: Callable[[Any], None] = lambda channel: None
        self._log: Callable[[str], None] = lambda line: None
        self._arrived: list[Any] = []
        # By whom they are for, the oldest first.
        self._parked: dict[Hashable, _Parked] = {}
        self._changed = threading.Condition()
        self._is_draining = self._is_ending = False
        self._next_look = self._next_complaint = 0.0
        self._thread = threading.Thread(target=self._run, name="parking", daemon=True)

    def start(self, *, leave: Callable[[Any], None], log: Callable[[str], None]) -> None:
        """Begin. `leave` takes a channel whose request is for the workers, `log` a line for each answer."""
        self._leave, self._log = leave, log
        self._thread.start()

    def takes(self, request: Any) -> bool:
        """Whether a request that waitress has read belongs here."""
        return bool(
            not request.error
            and request.path == self.path
            and request.command == "POST"
            and not (request.query or request.chunked)
            and request.content_length <= MOST_BODY_BYTES
        )

    def add(self, channel: Any) -> None:
        """Park a channel whose first request is one that belongs here."""
        with self._changed:
            self._arrived.append(channel)
            self._changed.notify()

    def drain(self) -> None:
        """Let everybody go: the server is about to stop, and another one answers the next request."""
        with self._changed:
            self._is_draining = True
            self._changed.notify()

    def stop(self, seconds: float) -> None:
        """Let everybody go, and end."""
        with self._changed:
            self._is_draining = self._is_ending = True
            self._changed.notify()
        self._thread.join(seconds)

    def _run(self) -> None:
        while True:
            with self._changed:
                if not self._arrived and not self._is_ending:
                    # What is parked when draining begins is let go in the turn after the wake.
                    self._changed.wait(LOOK_SECONDS if self._parked else None)
                arrived, self._arrived = self._arrived, []
                is_draining, is_ending = self._is_draining, self._is_ending
            try:
                self._turn(arrived, is_draining)
            except Exception:
                # Whatever it was, the thread goes on: without it nobody would be answered any more.
                logger.exception("The parking of %s failed", self.path)
            if is_ending:
                return

    def _turn(self, arrived: Sequence[Any], is_draining: bool) -> None:
        for start in range(0, len(arrived), ADMITTED_AT_ONCE):
            self._admit(arrived[start : start + ADMITTED_AT_ONCE])
        now = time.monotonic()
        if self._parked and now >= self._next_look:
            self._next_look = now + LOOK_SECONDS
            for key in self._ready(now):
                self._wake(self._parked.pop(key, None))
        ended = []
        for key, parked in self._parked.items():
            if parked.until > now and not is_draining:
                break
            ended.append(key)
        self._answer_nothing([self._parked.pop(key) for key in ended])

    def _admit(self, channels: Sequence[Any]) -> None:
        requests = [posted(channel) for channel in channels]
        try:
            keys = self._application.admit(requests)
        except Exception:
            logger.exception("The parking of %s can't admit; its requests go to the workers.", self.path)
            keys = [None] * len(channels)
        until = time.monotonic() + self._seconds
        older = []
        for channel, request, key in zip(channels, requests, keys, strict=True):
            if key is None:
                self._leave(channel)
                continue
            before = self._parked.pop(key, None)
            if before is not None:
                older.append(before)
            self._parked[key] = _Parked(channel, request, until)
        self._answer_nothing(older)

    def _ready(self, now: float) -> Collection[Hashable]:
        try:
            return self._application.ready()
        except Exception as error:
            if now >= self._next_complaint:
                self._next_complaint = now + COMPLAINT_SECONDS
                logger.warning("Nobody knows for whom of %s there is something: %s", self.path, error)
            return ()

    def _wake(self, parked: _Parked | None) -> None:
        """Have the workers answer it, unless the client has hung up: then what there is stays for its next request."""
        if parked is None:
            return
        if parked.channel.has_hung_up():
            parked.channel.cancel()
        else:
            self._leave(parked.channel)

    def _answer_nothing(self, ended: Sequence[_Parked]) -> None:
        if not ended:
            return
        date = build_http_date(time.time())
        try:
            self._application.note([each.request for each in ended], len(self._nothing))
        except Exception:
            logger.exception("The answers of %s could not be counted", self.path)
        now = time.monotonic()
        lines = []
        for parked in ended:
            request, channel = parked.request, parked.channel
            lines.append(
                accesslog.line(
                    address=request.address,
                    method="POST",
                    path=self.path,
                    status=200,
                    size=len(self._nothing),
                    seconds=now - request.arrived,
                )
            )
            first = channel.requests[0] if channel.requests else None
            is_last = first is None or first.connection_close or first.version != "1.1"
            end = f"Date: {date}\r\nConnection: close\r\n\r\n" if is_last else f"Date: {date}\r\n\r\n"
            try:
                if first is not None:
                    channel.answer((self._head + end).encode("latin-1") + self._nothing, is_last=is_last)
            except Exception:
                logger.exception("An answer of %s could not be sent", self.path)
        self._log("\n".join(lines))
