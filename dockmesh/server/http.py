"""The HTTP server: one thread waits for the network, a few threads run the WSGI application.

A request is handed to a worker once it is there whole, and what a client doesn't take at once is sent
by the network thread: slow clients cost a buffer, never a worker. docs/wsgi-server.md says why this
server is dockmesh's own, with the measurements.

A connection belongs to one thread at a time, so it needs no lock: epoll's EPOLLONESHOT disarms it when
it hands out an event; whoever holds it then arms it again, or gives it to a worker through the queue.
Only the holder closes a connection. To end one that is armed, the network thread shuts its socket down,
which makes epoll hand it out.
"""

import contextlib
import errno
import json
import logging
import queue
import resource
import select
import socket
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable
from email.utils import formatdate
from http import HTTPStatus
from io import BytesIO
from typing import Any

from dockmesh.server.parser import MAX_HEAD_BYTES, BadRequest, ChunkedBody, Head, parse_head, too_large

logger = logging.getLogger(__name__)

WSGIApplication = Callable[[dict[str, Any], Callable[..., Any]], Iterable[bytes]]

HEAD_SECONDS = 15  # for a request's head, from its first byte
BODY_SECONDS = 30  # for its body, and a second more for each 64 KiB
IDLE_SECONDS = 120  # a connection kept alive between two requests
WRITE_SECONDS = 60  # for an answer to be taken, and a second more for each 64 KiB
LINGER_SECONDS = 2  # to let a refused client read the answer
UNFINISHED_SECONDS = 5  # for requests that were only half there when the server began to stop
DRAIN_SECONDS = 2  # /readyz says no, everything else works: load balancers go elsewhere
STOP_SECONDS = 20  # for answers under way when the server began to stop

ACCEPTS_AT_ONCE = 256
RECEIVE_BYTES = 64 * 1024
SEGMENTS_PER_SEND = 512  # below IOV_MAX
SMALL_BODY_BYTES = 64 * 1024
LOGGED_PATH_CHARACTERS = 300
LARGE_BODIES_BYTES = 256 * 1024 * 1024  # all bodies above SMALL_BODY_BYTES that are held at a time

_READ = select.EPOLLIN | select.EPOLLONESHOT
_WRITE = select.EPOLLOUT | select.EPOLLONESHOT
_CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"


class Connection:
    """A client's connection and the request that is being read from it or answered on it."""

    __slots__ = (
        "address", "body", "buffer", "chunked", "deadline", "head", "is_closing", "is_lingering",
        "is_waiting", "needed", "outgoing", "reserved", "since", "sock", "started",
    )  # fmt: skip

    def __init__(self, sock: socket.socket, address: str, now: float) -> None:
        self.sock = sock
        self.address = address
        self.buffer = b""  # received, but not yet part of a request
        self.head: Head | None = None
        self.body: bytearray | bytes = b""
        self.chunked: ChunkedBody | None = None
        self.needed = 0  # bytes of body still to come
        self.reserved = 0  # of LARGE_BODIES_BYTES
        self.outgoing: deque[memoryview] = deque()
        self.is_closing = False  # once `outgoing` is sent
        self.is_lingering = False  # read and drop, until the client closes
        self.is_waiting = False  # armed in epoll, so no thread holds it
        self.since = now  # when it began to wait for its present request
        self.deadline = now + HEAD_SECONDS
        self.started = False  # something of the present request has come

    @property
    def is_idle(self) -> bool:
        """Nothing of a request is there and nothing is to be sent."""
        return not (self.started or self.outgoing or self.head)


class HTTPServer:
    """Serves `application` on `listener` until `stop` is called, then finishes what was accepted.

    `lanes` are paths with a thread of their own each, so that probes are answered while every worker
    waits for the database. Of paths below `secret_paths` the log shows only these. `on_drain` is called when stopping begins.
    """

    def __init__(
        self,
        listener: socket.socket,
        application: WSGIApplication,
        *,
        threads: int,
        max_body_bytes: int,
        lanes: Iterable[str] = (),
        secret_paths: tuple[str, ...] = (),
        on_drain: Callable[[], None] = lambda: None,
        log: Callable[[str], None] = print,
    ) -> None:
        self._listener = listener
        self._application = application
        self._max_body_bytes = max_body_bytes
        self._secret_paths = secret_paths
        self._on_drain = on_drain
        self._log = log
        host, port = listener.getsockname()[:2]
        self._base_environ = {
            "SCRIPT_NAME": "",
            "SERVER_NAME": str(host),
            "SERVER_PORT": str(port),
            "SERVER_SOFTWARE": "dockmesh",
            "wsgi.version": (1, 0),
            "wsgi.url_scheme": "http",
            "wsgi.errors": sys.stderr,
            "wsgi.multithread": True,
            "wsgi.multiprocess": False,
            "wsgi.run_once": False,
            "wsgi.input_terminated": True,
        }
        self._connections: dict[int, Connection] = {}
        self._max_connections = _raise_file_limit() - 128
        self._large_bodies = 0
        self._large_bodies_lock = threading.Lock()
        self._queue: queue.SimpleQueue[Connection] = queue.SimpleQueue()
        self._lanes: dict[object, queue.SimpleQueue[Connection]] = {
            path: queue.SimpleQueue() for path in lanes
        }
        self._date = (0, "")
        self._stopping_since: float | None = None
        self._wake_reader, self._wake_writer = socket.socketpair()
        self._wake_reader.setblocking(False)
        self._wake_writer.setblocking(False)
        listener.setblocking(False)
        self._epoll = select.epoll()
        self._epoll.register(listener, select.EPOLLIN)
        self._epoll.register(self._wake_reader, select.EPOLLIN)
        for number, source in enumerate([self._queue] * threads + list(self._lanes.values())):
            threading.Thread(target=self._work, args=(source,), name=f"web-{number + 1}", daemon=True).start()

    # The network thread

    def run(self) -> None:
        """Serve; returns once the server was stopped and all accepted requests are answered."""
        listener, wake = self._listener.fileno(), self._wake_reader.fileno()
        next_sweep = time.monotonic() + 1
        while True:
            for descriptor, event in self._epoll.poll(1.0 if self._stopping_since is None else 0.1):
                if descriptor == listener:
                    self._accept()
                elif descriptor == wake:
                    with contextlib.suppress(BlockingIOError):
                        self._wake_reader.recv(512)
                else:
                    connection = self._connections.get(descriptor)
                    if connection is not None:
                        connection.is_waiting = False
                        self._handle(connection, event)
            now = time.monotonic()
            if now >= next_sweep:
                next_sweep = now + 1
                self._sweep(now)
            if self._stopping_since is not None and self._is_stopped(now):
                break
        for connection in list(self._connections.values()):
            self._close(connection)
        self._epoll.close()

    def stop(self) -> None:
        """Begin to stop; safe to call from a signal handler and more than once."""
        if self._stopping_since is None:
            self._stopping_since = time.monotonic()
            self._on_drain()
        with contextlib.suppress(BlockingIOError):
            self._wake_writer.send(b"\0")

    def _is_stopped(self, now: float) -> bool:
        assert self._stopping_since is not None
        elapsed = now - self._stopping_since
        if elapsed < DRAIN_SECONDS:
            return False
        if self._listener.fileno() >= 0:
            self._accept()  # who connected before the door closes is served
            self._epoll.unregister(self._listener)
            self._listener.close()
        for connection in list(self._connections.values()):
            is_late = elapsed > DRAIN_SECONDS + UNFINISHED_SECONDS and not connection.outgoing
            if connection.is_waiting and (connection.is_idle or connection.is_lingering or is_late):
                self._end(connection)
        return not self._connections or elapsed > STOP_SECONDS

    def _accept(self) -> None:
        for _ in range(ACCEPTS_AT_ONCE):
            try:
                sock, address = self._listener.accept()
            except BlockingIOError:
                return
            except OSError as error:
                if error.errno in (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM):
                    self._evict()
                    return
                continue  # the client was gone before it was accepted
            if len(self._connections) >= self._max_connections:
                self._evict()
            sock.setblocking(False)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            connection = Connection(sock, str(address[0]), time.monotonic())
            self._connections[sock.fileno()] = connection
            connection.is_waiting = True
            self._epoll.register(sock, _READ)

    def _evict(self) -> None:
        """Close the connection that has waited longest for its request: of many slow ones, the slowest."""
        waiting = [each for each in self._connections.values() if each.is_waiting and not each.outgoing]
        if waiting:
            self._end(min(waiting, key=lambda each: each.since))

    def _sweep(self, now: float) -> None:
        for connection in list(self._connections.values()):
            if connection.is_waiting and connection.deadline < now:
                self._end(connection)

    def _end(self, connection: Connection) -> None:
        """Make whoever holds the connection next close it."""
        with contextlib.suppress(OSError):
            connection.sock.shutdown(socket.SHUT_RDWR)

    def _handle(self, connection: Connection, event: int) -> None:
        if event & select.EPOLLOUT or (connection.outgoing and event & (select.EPOLLERR | select.EPOLLHUP)):
            self._flush(connection)
            return
        try:
            data = connection.sock.recv(RECEIVE_BYTES)
        except BlockingIOError:
            self._arm(connection, _READ)
            return
        except OSError:
            data = b""
        if not data:
            self._close(connection)
        elif connection.is_lingering:
            self._arm(connection, _READ)
        else:
            self._receive(connection, data)

    # Whichever thread holds the connection

    def _arm(self, connection: Connection, events: int) -> None:
        connection.is_waiting = True  # first: once it is armed, the network thread may have it
        self._epoll.modify(connection.sock.fileno(), events)

    def _close(self, connection: Connection) -> None:
        connection.is_waiting = False
        self._release(connection)
        connection.outgoing.clear()
        self._connections.pop(connection.sock.fileno(), None)
        connection.sock.close()

    def _receive(self, connection: Connection, data: bytes) -> None:
        """Take bytes from the network; hand the request over once it is whole."""
        try:
            is_whole = self._read_head(connection, data) if connection.head is None else self._read_body(
                connection, data
            )  # fmt: skip
        except BadRequest as error:
            self._refuse(connection, error)
            return
        if not is_whole:
            self._arm(connection, _READ)
            return
        assert connection.head is not None
        self._lanes.get(connection.head.environ["RAW_PATH"], self._queue).put(connection)

    def _read_head(self, connection: Connection, data: bytes) -> bool:
        if not connection.started:
            connection.started = True
            connection.since = time.monotonic()
            connection.deadline = connection.since + HEAD_SECONDS
        searched = max(0, len(connection.buffer) - 3)
        buffer = connection.buffer + data if connection.buffer else data
        end = buffer.find(b"\r\n\r\n", searched)
        if end > MAX_HEAD_BYTES or (end < 0 and len(buffer) > MAX_HEAD_BYTES):
            raise BadRequest(
                HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE, f"The head is over {MAX_HEAD_BYTES} bytes."
            )
        connection.buffer = buffer
        if end < 0:
            return False
        head = parse_head(buffer[: end + 2])
        connection.head = head
        rest = buffer[end + 4 :]
        if not head.body_bytes and not head.is_chunked:
            connection.buffer, connection.body = rest, b""
            return True
        if len(rest) >= head.body_bytes and not head.is_chunked and head.body_bytes <= self._max_body_bytes:
            connection.buffer, connection.body = rest[head.body_bytes :], rest[: head.body_bytes]
            return True
        connection.buffer = b""
        self._expect_body(connection, head)
        return self._read_body(connection, rest)

    def _expect_body(self, connection: Connection, head: Head) -> None:
        size = self._max_body_bytes if head.is_chunked else head.body_bytes
        if size > self._max_body_bytes:
            raise too_large(self._max_body_bytes)
        if size > SMALL_BODY_BYTES:
            self._reserve(connection, size)
        connection.deadline = time.monotonic() + BODY_SECONDS + size / (64 * 1024)
        connection.chunked = ChunkedBody(self._max_body_bytes) if head.is_chunked else None
        connection.body = bytearray()
        connection.needed = head.body_bytes
        if head.wants_continue:
            with contextlib.suppress(OSError):
                connection.sock.send(_CONTINUE)

    def _read_body(self, connection: Connection, data: bytes) -> bool:
        if connection.chunked is not None:
            rest = connection.chunked.feed(data)
            if rest is None:
                return False
            connection.body, connection.buffer, connection.chunked = connection.chunked.body, rest, None
            return True
        part = data[: connection.needed]
        connection.body += part
        connection.needed -= len(part)
        connection.buffer = data[len(part) :]
        return connection.needed == 0

    def _reserve(self, connection: Connection, size: int) -> None:
        with self._large_bodies_lock:
            if self._large_bodies + size > LARGE_BODIES_BYTES:
                raise BadRequest(HTTPStatus.SERVICE_UNAVAILABLE, "Too many large bodies are being received.")
            self._large_bodies += size
        connection.reserved = size

    def _release(self, connection: Connection) -> None:
        if connection.reserved:
            with self._large_bodies_lock:
                self._large_bodies -= connection.reserved
            connection.reserved = 0

    def _refuse(self, connection: Connection, error: BadRequest) -> None:
        """Answer a request that the application never sees, and close."""
        body = {"title": error.status.phrase, "status": error.status.value, "detail": error.detail}
        payload = json.dumps(body).encode()
        head = [
            "Content-Type: application/problem+json",
            "Cache-Control: no-store",
            f"Content-Length: {len(payload)}",
        ]
        if error.status == HTTPStatus.SERVICE_UNAVAILABLE:
            head.append("Retry-After: 5")
        self._log(f'{connection.address} "-" {error.status.value} - {error.detail}')
        connection.is_lingering = True
        self._release(connection)
        self._send(connection, error.status.value, error.status.phrase, head, [payload], is_keep_alive=False)

    # The worker threads

    def _work(self, source: "queue.SimpleQueue[Connection]") -> None:
        while True:
            connection = source.get()
            try:
                self._serve(connection)
            except Exception:
                logger.exception("The connection of a client broke the server's own code")
                self._close(connection)

    def _serve(self, connection: Connection) -> None:
        head = connection.head
        assert head is not None
        began = time.monotonic()
        environ = self._base_environ | head.environ
        environ["REMOTE_ADDR"] = connection.address
        environ["wsgi.input"] = BytesIO(connection.body)
        if head.is_chunked:
            environ["CONTENT_LENGTH"] = str(len(connection.body))
        status, headers, segments = self._run(environ)
        code = int(status[:3])
        size = sum(map(len, segments))
        is_head = environ["REQUEST_METHOD"] == "HEAD"
        has_body = not is_head and code not in (204, 304)
        lines = [f"{name}: {value}" for name, value in headers if is_head or name.lower() != "content-length"]
        if has_body:
            lines.append(f"Content-Length: {size}")
        path = str(head.environ["RAW_PATH"])
        if path not in self._lanes or code != 200:
            shown = next((secret for secret in self._secret_paths if path.startswith(secret)), path)
            self._log(
                f'{environ["REMOTE_ADDR"]} "{environ["REQUEST_METHOD"]} {shown[:LOGGED_PATH_CHARACTERS]}"'
                f" {code} {size if has_body else 0} {time.monotonic() - began:.4f}"
            )
        self._release(connection)
        self._send(
            connection,
            code,
            status[4:],
            lines,
            segments if has_body else [],
            is_keep_alive=head.is_keep_alive and self._stopping_since is None,
            is_version_1_0=environ["SERVER_PROTOCOL"] == "HTTP/1.0",
        )

    def _run(self, environ: dict[str, Any]) -> tuple[str, list[tuple[str, str]], list[bytes]]:
        """Call the application; its answer whole. An exception that it lets through becomes a 500."""
        answer: list[Any] = []

        def start_response(status: str, headers: list[tuple[str, str]], exc_info: Any = None) -> None:
            del exc_info  # nothing was sent yet: a second call simply replaces the first
            answer[:] = (status, headers)

        try:
            result = self._application(environ, start_response)
            try:
                segments = [segment for segment in result if segment]
            finally:
                if hasattr(result, "close"):
                    result.close()
            status, headers = answer
        except Exception:
            logger.exception("%s %s failed", environ["REQUEST_METHOD"], environ["RAW_PATH"])
            body = b'{"title": "Internal error", "status": 500, "detail": "The server failed."}'
            return "500 Internal Server Error", [("Content-Type", "application/problem+json")], [body]
        return status, headers, segments

    def _send(
        self,
        connection: Connection,
        code: int,
        phrase: str,
        lines: list[str],
        segments: list[bytes],
        *,
        is_keep_alive: bool,
        is_version_1_0: bool = False,
    ) -> None:
        if not is_keep_alive:
            lines = [*lines, "Connection: close"]
        elif is_version_1_0:
            lines = [*lines, "Connection: keep-alive"]
        text = f"HTTP/1.1 {code} {phrase}\r\nDate: {self._http_date()}\r\n" + "\r\n".join(lines)
        if text.count("\n") != len(lines) + 1 or text.count("\r") != len(lines) + 1:
            raise ValueError("a header of the answer has a line break")
        connection.is_closing = not is_keep_alive
        size = sum(map(len, segments))
        connection.deadline = time.monotonic() + WRITE_SECONDS + size / (64 * 1024)
        connection.outgoing.append(memoryview(f"{text}\r\n\r\n".encode("latin-1")))
        connection.outgoing.extend(map(memoryview, segments))
        self._flush(connection)

    def _flush(self, connection: Connection) -> None:
        """Send what the client takes; the network thread goes on when it takes more."""
        outgoing = connection.outgoing
        try:
            while outgoing:
                batch = [outgoing[index] for index in range(min(len(outgoing), SEGMENTS_PER_SEND))]
                sent = connection.sock.sendmsg(batch)
                for segment in batch:
                    if sent < len(segment):
                        outgoing[0] = segment[sent:]
                        break
                    sent -= len(segment)
                    outgoing.popleft()
        except BlockingIOError:
            self._arm(connection, _WRITE)
            return
        except OSError:
            self._close(connection)
            return
        self._finish(connection)

    def _finish(self, connection: Connection) -> None:
        """The answer is sent: the next request, or the end."""
        if connection.is_lingering:
            with contextlib.suppress(OSError):
                connection.sock.shutdown(socket.SHUT_WR)
            connection.deadline = time.monotonic() + LINGER_SECONDS
            self._arm(connection, _READ)
            return
        if connection.is_closing:
            self._close(connection)
            return
        connection.head, connection.body, connection.started = None, b"", False
        connection.since = time.monotonic()
        connection.deadline = connection.since + IDLE_SECONDS
        if connection.buffer:  # the client sent its next request before the answer
            data, connection.buffer = connection.buffer, b""
            self._receive(connection, data)
        else:
            self._arm(connection, _READ)

    def _http_date(self) -> str:
        now = int(time.time())
        if self._date[0] != now:
            self._date = (now, formatdate(now, usegmt=True))
        return self._date[1]


def _raise_file_limit() -> int:
    """As many open files as the system allows, 65,536 at most; returns the limit."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = 65536 if hard == resource.RLIM_INFINITY else min(hard, 65536)
    if soft == resource.RLIM_INFINITY or soft >= wanted:
        return wanted
    resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
    return wanted
