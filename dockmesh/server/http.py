"""waitress as dockmesh runs it: stricter about requests, with a lane for the probes, and draining before it stops.

waitress reads each request whole in its event loop before a worker thread sees it, so slow clients cost a
buffer and never a worker. docs/wsgi-server.md says why it was chosen, with the measurements.
"""

import json
import logging
import re
import resource
import socket
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from http import HTTPStatus
from typing import Any

from waitress import wasyncore
from waitress.buffers import ReadOnlyFileBasedBuffer
from waitress.channel import HTTPChannel
from waitress.parser import HTTPRequestParser, ParsingError
from waitress.server import create_server
from waitress.task import ErrorTask, ThreadedTaskDispatcher, WSGITask
from waitress.task import Task as WaitressTask

from dockmesh.server import accesslog
from dockmesh.server.lane import Lane
from dockmesh.server.poller import Poller

logger = logging.getLogger(__name__)

WSGIApplication = Callable[[dict[str, Any], Callable[..., Any]], Iterable[bytes]]

MAX_HEAD_BYTES = 32 * 1024
IDLE_SECONDS = 120  # a connection on which nothing comes or goes
CLEANUP_SECONDS = 15
SWEEP_SECONDS = 1.0
REQUEST_SECONDS = 30.0  # for a request to arrive whole, and more for a large body:
LEAST_BYTES_PER_SECOND = 32 * 1024
SEGMENT_BYTES = 64 * 1024
RECEIVED_AT_ONCE_BYTES = 64 * 1024
DRAIN_SECONDS = 2.0  # /readyz says no, everything else works: load balancers go elsewhere
UNFINISHED_SECONDS = 5.0  # for requests that were only half there when the server began to stop
STOP_SECONDS = 20.0  # for answers under way then
FRESH_SECONDS = 0.2  # a connection this young may have its request under way
LOOP_SECONDS = 1.0
STOPPING_LOOP_SECONDS = 0.05
SPARE_FILES = 64  # the database's, the log's
PROBE_THREADS = 4
# Answers wait in memory for slow clients, not in temporary files: a full disk must not stop a scrape.
IN_MEMORY_BYTES = 256 * 1024 * 1024
# A larger body goes to a temporary file, so that many of them at once don't fill the memory.
BODY_IN_MEMORY_BYTES = 512 * 1024

# What one server ends a request's head with and another reads on: refused, RFC 9112 section 2.2 and 5.
_CONTROLS = re.compile(rb"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]")
_SINGLE = (b"\r\nhost:", b"\r\ncontent-length:", b"\r\ncontent-type:", b"\r\nauthorization:")


class StrictParser(HTTPRequestParser):
    """waitress's parser, refusing what a proxy in front could read differently (request smuggling)."""

    arrived = 0.0  # when the request was there whole, by `time.monotonic`
    ready_answer = b""  # what the lane answers

    def parse_header(self, header_plus: bytes) -> None:
        """Raises `ParsingError`, which becomes 400 and a closed connection."""
        if _CONTROLS.search(header_plus):
            raise ParsingError("A control character in the head")
        # A name with a blank before its colon is refused by waitress itself.
        lowered = header_plus.lower()
        if b"\r\ntransfer-encoding:" in lowered and b"\r\ncontent-length:" in lowered:
            raise ParsingError("Both Content-Length and Transfer-Encoding")
        if any(lowered.count(name) > 1 for name in _SINGLE):
            raise ParsingError("A header that may occur once occurs twice")
        super().parse_header(header_plus)
        if self.version == "1.1" and "HOST" not in self.headers:
            raise ParsingError("No Host header")


class ProblemTask(ErrorTask):
    """Answers a request that waitress refuses, as JSON like all other errors."""

    def execute(self) -> None:
        """Write the answer; the connection is closed after it."""
        error = self.request.error
        status = HTTPStatus(error.code)
        detail = (
            "Something went wrong."
            if status >= 500
            else f"The request can't be read: {status.phrase.lower()}."
        )
        body = json.dumps({"title": status.phrase, "status": int(status), "detail": detail}).encode()
        self.status = f"{int(status)} {status.phrase}"
        self.response_headers.append(("Content-Type", "application/problem+json"))
        self.set_close_on_finish()
        self.content_length = len(body)
        self.write(body)


class Segment(ReadOnlyFileBasedBuffer):
    """A large piece of an answer: sent from where it is, instead of being copied into a buffer."""

    def __init__(self, data: bytes) -> None:
        self._data = memoryview(data)

    def __len__(self) -> int:
        return len(self._data)

    def get(self, numbytes: int = -1, skip: bool = False) -> memoryview:
        """The next bytes; they stay in front unless `skip`."""
        part = self._data if numbytes < 0 else self._data[:numbytes]
        if skip:
            self._data = self._data[len(part) :]
        return part

    def skip(self, numbytes: int, allow_prune: bool = False) -> None:
        """Drop bytes that were sent."""
        self._data = self._data[numbytes:]

    def close(self) -> None:
        """Let go of the data."""
        self._data = memoryview(b"")


class Task(WSGITask):
    """Says `Connection: close` once the server has begun to stop; sends with fewer calls and copies."""

    wrote_header: bool

    def write(self, data: bytes) -> None:
        """Send a piece of the answer; a small one together with the head, a large one without a copy."""
        is_plain = self.complete and self.has_body and self.content_length is not None and bool(data)
        if not is_plain or self.content_bytes_written + len(data) > self.content_length:
            super().write(data)
        elif len(data) >= SEGMENT_BYTES:
            super().write(b"")  # the head
            self.content_bytes_written += len(data)
            self.channel.write_soon(Segment(data))
        elif self.wrote_header:
            super().write(data)
        else:
            head = self.build_response_header()
            self.wrote_header = True
            self.content_bytes_written += len(data)
            self.channel.write_soon(head + data)

    def get_environment(self) -> dict[str, Any]:
        """Beside what WSGI asks for, when the request was there whole: before it waited for a thread."""
        environ: dict[str, Any] = super().get_environment()
        environ["dockmesh.arrived"] = self.request.arrived
        return environ

    def build_response_header(self) -> bytes:
        """The head of the answer."""
        if self.channel.server.is_draining:
            self.set_close_on_finish()
        head: bytes = super().build_response_header()
        return head


class ReadyTask(WaitressTask):
    """Sends an answer that is there already, head and body."""

    def service(self) -> None:
        """Hand it to the connection."""
        self.channel.write_soon(self.request.ready_answer)


class Channel(HTTPChannel):
    """A client's connection."""

    parser_class = StrictParser
    error_task_class = ProblemTask

    def __init__(self, server: Any, *args: Any, **options: Any) -> None:
        self.request_began = time.monotonic()
        super().__init__(server, *args, **options)
        server.poller.update(self)

    @staticmethod
    def task_class(channel: HTTPChannel, request: StrictParser) -> WaitressTask:
        """What `service` has done by a worker, or by the lane."""
        return ReadyTask(channel, request) if request.ready_answer else Task(channel, request)

    def answer(self, answer: bytes) -> None:
        """The lane has this answer to the first request: send it, and look for the next request."""
        self.requests[0].ready_answer = answer
        self.service()

    def service(self) -> None:
        """Answer the first request; in a worker's or the lane's thread."""
        try:
            super().service()
        finally:
            self.server.poller.look_at(self)

    def handle_close(self) -> None:
        """Close the connection; the loop's thread alone may do that, others ask it to."""
        if self.server.poller.is_own_thread():
            super().handle_close()
        else:
            self.will_close = True
            self.server.poller.look_at(self)

    def cancel(self) -> None:
        """Give up what it waits for, and have it closed."""
        super().cancel()
        self.server.poller.look_at(self)

    def write_soon(self, data: Any) -> int:
        """Send, or keep for later what the client does not take now."""
        size: int = super().write_soon(data)
        if self.total_outbufs_len:
            self.server.poller.look_at(self)
        return size

    def received(self, data: bytes) -> bool:
        """Take bytes from the network."""
        if self.request is None:
            self.request_began = time.monotonic()
        return bool(super().received(data))

    def is_overdue(self, now: float) -> bool:
        """Whether its request has been coming for longer than it may take."""
        if self.requests or self.total_outbufs_len or self.request is None:
            return False
        allowed = REQUEST_SECONDS + self.request.body_bytes_received / LEAST_BYTES_PER_SECOND
        return bool(now - self.request_began > allowed)

    def del_channel(self, map: Any = None) -> None:
        """Leave the poller before the socket is closed."""
        descriptor = self._fileno
        super().del_channel(map)
        if descriptor is not None:
            self.server.poller.forget(descriptor)


class Dispatcher(ThreadedTaskDispatcher):
    """Worker threads; a few of their own for the probes, which must answer while all others wait; and the lane."""

    def __init__(self, probe_paths: Sequence[str], lane: Lane | None) -> None:
        super().__init__()
        self._probe_paths = frozenset(probe_paths)
        self._probes = ThreadedTaskDispatcher()
        self._probes.set_thread_count(PROBE_THREADS)
        self._lane = lane

    def add_task(self, task: Channel) -> None:
        """Queue the channel whose next request is there whole."""
        request = task.requests[0]
        request.arrived = time.monotonic()
        if self._lane is not None and self._lane.takes(request) and not task.server.is_draining:
            self._lane.add(task)
        else:
            self.add_to_workers(task)

    def add_to_workers(self, task: Channel) -> None:
        """The same, past the lane."""
        if task.requests and getattr(task.requests[0], "path", "") in self._probe_paths:
            self._probes.add_task(task)
        else:
            super().add_task(task)

    def shutdown(self, cancel_pending: bool = True, timeout: float = 5) -> bool:
        """End the threads."""
        if self._lane is not None:
            self._lane.stop(timeout)
        self._probes.shutdown(cancel_pending, timeout)
        done: bool = super().shutdown(cancel_pending, timeout)
        return done


class HTTPServer:
    """Serves `application` on `listener` until `stop` is called.

    `probe_paths` have threads of their own, and so has `lane`. `on_drain` is called when stopping begins. `log` gets one line for
    each request: without the query, and without what follows one of the `secret_paths`.
    """

    def __init__(
        self,
        listener: socket.socket,
        application: WSGIApplication,
        *,
        threads: int,
        max_body_bytes: int,
        probe_paths: Sequence[str] = (),
        lane: Lane | None = None,
        secret_paths: Sequence[str] = (),
        on_drain: Callable[[], None] = lambda: None,
        log: Callable[[str], None] = lambda line: None,
    ) -> None:
        self._on_drain = on_drain
        self._log = log
        self._secret_paths = tuple(secret_paths)
        self._application = application
        self._stop_began = 0.0
        self._is_listening = True
        self._dispatcher = Dispatcher(probe_paths, lane)
        self._dispatcher.queue_logger = logging.getLogger("dockmesh.server.queue")
        self._dispatcher.queue_logger.setLevel(logging.ERROR)
        self._dispatcher.set_thread_count(threads)
        self._server = create_server(
            self._logged,
            map={},
            _dispatcher=self._dispatcher,
            sockets=[listener],
            threads=threads,
            ident=None,
            connection_limit=_files_at_most() - SPARE_FILES,
            backlog=2048,
            asyncore_use_poll=True,
            channel_timeout=IDLE_SECONDS,
            recv_bytes=RECEIVED_AT_ONCE_BYTES,
            cleanup_interval=CLEANUP_SECONDS,
            max_request_header_size=MAX_HEAD_BYTES,
            max_request_body_size=max_body_bytes + 1,
            outbuf_overflow=IN_MEMORY_BYTES,
            outbuf_high_watermark=IN_MEMORY_BYTES,
            inbuf_overflow=BODY_IN_MEMORY_BYTES,
            log_socket_errors=False,
            clear_untrusted_proxy_headers=False,
        )
        self._server.channel_class = Channel
        self._server.poller = self._poller = Poller(self._server._map, self._server.pull_trigger)
        # waitress's threads wake its loop before all is as it will be; ours say what to look at, and when.
        self._server.pull_trigger = _nothing
        if lane is not None:
            lane.start(leave=self._dispatcher.add_to_workers, log=log)
        self._next_sweep = 0.0
        self._server.is_draining = False

    def run(self) -> None:
        """Serve; returns when the server has stopped."""
        self._poller.update_all()
        while not self._is_finished():
            seconds = STOPPING_LOOP_SECONDS if self._stop_began else LOOP_SECONDS
            self._poller.turn(seconds)
            self._sweep(time.monotonic())
        self._dispatcher.shutdown(timeout=1)
        wasyncore.close_all(self._server._map)
        self._poller.close()

    def stop(self) -> None:
        """Begin to stop; may be called from a signal handler and more than once."""
        if not self._stop_began:
            self._stop_began = time.monotonic()
            self._on_drain()
            self._server.is_draining = True
            self._poller.wake()

    def _sweep(self, now: float) -> None:
        """Once in a while: close what is overdue, and what waitress itself found idle for too long."""
        if now < self._next_sweep:
            return
        self._next_sweep = now + SWEEP_SECONDS
        for channel in list(self._server.active_channels.values()):
            channel.will_close = channel.will_close or channel.is_overdue(now)
        self._poller.update_all()

    def _is_finished(self) -> bool:
        if not self._stop_began:
            return False
        past = time.monotonic() - self._stop_began
        if past < DRAIN_SECONDS:
            return False
        if self._is_listening:
            self._is_listening = False
            self._poller.forget(self._server._fileno)
            self._server.del_channel()
            self._server.socket.close()
        _close_idle(self._server, even_unfinished=past > UNFINISHED_SECONDS)
        self._poller.update_all()
        return not self._server.active_channels or past > STOP_SECONDS

    def _logged(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        """The application, with one line in the log for each answer."""
        status = ""
        size = ""

        def start(line: str, headers: list[tuple[str, str]], *rest: Any) -> Any:
            nonlocal status, size
            status = line[:3]
            size = next((value for name, value in headers if name.lower() == "content-length"), "-")
            return start_response(line, headers, *rest)

        try:
            answer = self._application(environ, start)
            return _NoBody(answer) if environ["REQUEST_METHOD"] == "HEAD" else answer
        finally:
            path = environ["PATH_INFO"]
            for secret_path in self._secret_paths:
                if path.startswith(secret_path):
                    path = secret_path
            self._log(
                accesslog.line(
                    address=environ["REMOTE_ADDR"],
                    method=environ["REQUEST_METHOD"],
                    path=path,
                    status=status or 500,
                    size=size,
                    seconds=time.monotonic() - environ["dockmesh.arrived"],
                )
            )


class _NoBody:
    """The answer to HEAD: its head is that of GET, its body is left out."""

    def __init__(self, answer: Iterable[bytes]) -> None:
        self.close = getattr(answer, "close", lambda: None)

    def __iter__(self) -> Iterator[bytes]:
        return iter(())


def _nothing() -> None:
    pass


def _close_idle(server: Any, *, even_unfinished: bool = False) -> None:
    """Close the connections on which no request is under way, or none that is there whole."""
    for channel in list(server.active_channels.values()):
        is_busy = bool(channel.requests) or bool(channel.total_outbufs_len)
        has_begun = channel.request is not None and bool(
            channel.request.header_plus or channel.request.headers_finished
        )
        is_fresh = time.time() - channel.last_activity < FRESH_SECONDS
        if not is_busy and (even_unfinished or not (has_begun or is_fresh)):
            channel.will_close = True


def _files_at_most() -> int:
    """How many files this process may have open, after asking for as many as it may."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = min(hard, 65_536) if hard != resource.RLIM_INFINITY else 65_536
    if soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
        return wanted
    return soft
