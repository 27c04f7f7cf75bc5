"""One path whose small requests come by the thousand: all that wait are answered at once.

Handing a request to a worker thread, the WSGI protocol and a database transaction cost several times what such a
request is about. So the batch endpoint has a thread or two, which take all requests that are there whole when they get to
them, ask the batch endpoint's application for the bodies of all answers in one call, and send them. While they work, the next
ones gather. A request that is not quite ordinary, and any that the application leaves alone, goes to a worker and
the WSGI application like all others: there is the one place that says what is wrong with it.
"""

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from waitress.utilities import build_http_date

from dockmesh.server import accesslog

logger = logging.getLogger(__name__)

MOST_AT_ONCE = 64
MOST_BODY_BYTES = 128 * 1024


@dataclass(slots=True)
class Posted:
    """A request: its headers as waitress names them (`CONTENT_TYPE`), and its body."""

    address: str
    """Of who connected; the application may put the client's own in its place, for the log."""
    headers: Mapping[str, str]
    body: bytes
    arrived: float
    """When it was there whole, by `time.monotonic`."""


Application = Callable[[Sequence[Posted]], Sequence[bytes | None]]
"""From requests to the bodies of their answers (200, JSON), in the same order; None for one left alone."""


class BatchEndpoint:
    """Answers POST requests of `path` by `application`, called by `threads` threads; `headers` are on each answer."""

    def __init__(
        self, path: str, application: Application, headers: Mapping[str, str], *, threads: int = 1
    ) -> None:
        self.path = path
        self._application = application
        lines = "".join(f"{name}: {value}\r\n" for name, value in sorted(headers.items()))
        self._head = f"HTTP/1.1 200 OK\r\n{lines}Content-Type: application/json\r\nContent-Length: %d\r\nDate: %s\r\n\r\n"
        self._leave: Callable[[Any], None] = lambda channel: None
        self._log: Callable[[str], None] = lambda line: None
        self._waiting: deque[Any] = deque()
        self._changed = threading.Condition()
        self._is_ending = False
        self._threads = [
            threading.Thread(target=self._run, name=f"batch-{number}", daemon=True)
            for number in range(threads)
        ]

    def start(self, *, leave: Callable[[Any], None], log: Callable[[str], None]) -> None:
        """Begin. `leave` takes a channel whose request is for the workers, `log` a line for each answer."""
        self._leave, self._log = leave, log
        for thread in self._threads:
            thread.start()

    def takes(self, request: Any) -> bool:
        """Whether a request that waitress has read is of the ordinary kind that belongs here."""
        return bool(
            not request.error
            and request.path == self.path
            and request.command == "POST"
            and request.version == "1.1"
            and not (request.query or request.connection_close or request.chunked)
            and request.content_length <= MOST_BODY_BYTES
        )

    def add(self, channel: Any) -> None:
        """Queue a channel whose first request is one that the batch endpoint takes."""
        with self._changed:
            self._waiting.append(channel)
            self._changed.notify()

    def stop(self, seconds: float) -> None:
        """Answer what waits, and end."""
        with self._changed:
            self._is_ending = True
            self._changed.notify_all()
        for thread in self._threads:
            thread.join(seconds)

    def _run(self) -> None:
        while True:
            with self._changed:
                while not self._waiting:
                    if self._is_ending:
                        return
                    self._changed.wait()
                count = min(len(self._waiting), MOST_AT_ONCE)
                channels = [self._waiting.popleft() for _ in range(count)]
            try:
                self._answer(channels)
            except Exception:
                # Whatever it was, the thread goes on: without it nobody would be answered any more.
                logger.exception("The batch endpoint of %s failed", self.path)
                for channel in channels:
                    if channel.requests:
                        channel.cancel()

    def _answer(self, channels: Sequence[Any]) -> None:
        requests = [posted(channel) for channel in channels]
        try:
            bodies = self._application(requests)
        except Exception:
            logger.exception("The batch endpoint of %s failed; its requests go to the workers.", self.path)
            bodies = [None] * len(channels)
        now, date = time.monotonic(), build_http_date(time.time())
        lines = []
        for channel, request, body in zip(channels, requests, bodies, strict=True):
            if body is None:
                self._leave(channel)
                continue
            lines.append(
                accesslog.line(
                    address=request.address,
                    method="POST",
                    path=self.path,
                    status=200,
                    size=len(body),
                    seconds=now - request.arrived,
                )
            )
            try:
                channel.answer((self._head % (len(body), date)).encode("latin-1") + body)
            except Exception:
                logger.exception("An answer of %s could not be sent", self.path)
        if lines:
            self._log("\n".join(lines))


def posted(channel: Any) -> Posted:
    """The channel's first request, which is left where it is."""
    request = channel.requests[0]
    received = request.body_rcv
    # Only looked at: a worker may have to read it again.
    body = received.getbuf().get() if received is not None else b""
    return Posted(channel.addr[0], request.headers, body, request.arrived)
