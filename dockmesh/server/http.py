"""waitress as dockmesh runs it: stricter about requests, with threads of their own for the probes, and draining before it stops.

waitress reads each request whole in its event loop before a worker thread sees it, so slow clients cost a
buffer and never a worker. docs/wsgi-server.md says why it was chosen, with the measurements.
"""

import json
import logging
import resource
import socket
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from http import HTTPStatus
from typing import Any

from waitress import wasyncore
from waitress.adjustments import Adjustments
from waitress.buffers import ReadOnlyFileBasedBuffer
from waitress.channel import HTTPChannel
from waitress.server import TcpWSGIServer
from waitress.task import ErrorTask, ThreadedTaskDispatcher, WSGITask
from waitress.task import Task as WaitressTask

from dockmesh.core.addresses import TAKEN_OFF
from dockmesh.core.ip import parse_address
from dockmesh.server import accesslog, ledger
from dockmesh.server.batch import BatchEndpoint
from dockmesh.server.ledger import Ledger
from dockmesh.server.parking import Parking
from dockmesh.server.parser import BUSY, Refusal, StrictParser
from dockmesh.server.poller import Poller

logger = logging.getLogger(__name__)

WSGIApplication = Callable[[dict[str, Any], Callable[..., Any]], Iterable[bytes]]

MAX_HEAD_BYTES = 32 * 1024
IDLE_SECONDS = 120  # a connection on which nothing comes or goes
CLEANUP_SECONDS = 15
SWEEP_SECONDS = 1.0
REQUEST_SECONDS = 30.0  # for a request to arrive whole, and more for a large body:
LEAST_BYTES_PER_SECOND = 32 * 1024
ANSWER_SECONDS = 20.0  # for an answer to move on, or to be sent whole, and more for a large one:
LEAST_SENT_BYTES_PER_SECOND = 4 * 1024
RETRY_AFTER_SECONDS = 5
SEGMENT_BYTES = 64 * 1024
RECEIVED_AT_ONCE_BYTES = 64 * 1024
DRAIN_SECONDS = 2.0  # /readyz says no, everything else works: load balancers go elsewhere
UNFINISHED_SECONDS = 5.0  # for requests that were only half there when the server began to stop
STOP_SECONDS = 20.0  # for answers under way then
# A connection on which something went this short ago may have its next request under way,
FRESH_SECONDS = 0.2
NEW_SECONDS = 1.0  # and a new one its first
BACKLOG = 2048
LOOP_SECONDS = 1.0
STOPPING_LOOP_SECONDS = 0.05
SPARE_FILES = 64  # the database's, the log's
PROBE_THREADS = 4
# Answers wait in memory for slow clients, not in temporary files: a full disk must not stop a scrape.
IN_MEMORY_BYTES = 256 * 1024 * 1024
# The system takes no more of an answer than this beyond what the client has room for, so that one that does not
# read is found out soon.
UNSENT_BYTES = 128 * 1024
MOST_PIPELINED = (
    24  # requests in a row that don't wait for the answer to the one before; then the connection is closed
)
_TCP_NOTSENT_LOWAT = 25  # <linux/tcp.h>
RELIEF_SECONDS = 0.1  # how often answers that nobody takes are added up
REPORT_SECONDS = 60.0  # how often the log tells of connections that were cut off
ACCEPTED_AT_ONCE = 64


class ProblemTask(ErrorTask):
    """Answers a request that can't be read, as JSON like all other errors."""

    def execute(self) -> None:
        """Write the answer; the connection is closed after it."""
        request = self.request
        status = HTTPStatus(request.error.code)
        if isinstance(request.error, Refusal):
            detail = request.error.detail
        elif status >= 500 and status != HTTPStatus.NOT_IMPLEMENTED:
            detail = "Something went wrong."
        else:
            detail = f"The request can't be read: {status.phrase.lower()}."
        body = json.dumps({"title": status.phrase, "status": int(status), "detail": detail}).encode()
        self.status = f"{int(status)} {status.phrase}"
        self.response_headers.append(("Content-Type", "application/problem+json"))
        if status == HTTPStatus.SERVICE_UNAVAILABLE:
            self.response_headers.append(("Retry-After", str(RETRY_AFTER_SECONDS)))
        self.set_close_on_finish()
        self.content_length = len(body)
        self.channel.server.refused(self.channel.addr[0], request, status, detail)
        self.write(body)


class Segment(ReadOnlyFileBasedBuffer):
    """A large piece of an answer: sent from where it is, instead of being copied into a buffer."""

    def __init__(self, data: bytes) -> None:
        self.text = data
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
        self.text = b""
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
        """Beside what WSGI asks for, when the request was there whole, before it waited for a thread; and how to ask
        whether somebody still waits for the answer."""
        environ: dict[str, Any] = super().get_environment()
        environ[TAKEN_OFF] = self.request.taken_off
        environ["dockmesh.arrived"] = self.request.arrived
        environ["dockmesh.has_hung_up"] = self.channel.has_hung_up
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
        self.close_on_finish = self.request.is_last


class Channel(HTTPChannel):
    """A client's connection: one request of it is read, answered and sent before the next one is looked at."""

    request: StrictParser | None
    requests: list[StrictParser]
    sent_continue: bool
    parser_class = StrictParser
    error_task_class = ProblemTask

    def __init__(self, server: Any, *args: Any, **options: Any) -> None:
        self.request_began = self.moved = self._owes_since = time.monotonic()
        self._sent_bytes = 0
        self._next_requests = b""  # came with the request that is being answered; not looked at yet
        self._pipelined = 0
        self.held_bytes = 0  # as the ledger has it
        self.has_asked = False  # whether anything has come
        super().__init__(server, *args, **options)
        server.ledger.open(self)
        server.poller.update(self)

    @staticmethod
    def task_class(channel: HTTPChannel, request: StrictParser) -> WaitressTask:
        """What `service` has done by a worker, or by the batch endpoint."""
        return ReadyTask(channel, request) if request.ready_answer else Task(channel, request)

    def answer(self, answer: bytes, *, is_last: bool = False) -> None:
        """This is the answer to the first request: send it, and look for the next request unless it is the last."""
        self.requests[0].ready_answer = answer
        self.requests[0].is_last = is_last
        self.service()

    def service(self) -> None:
        """Answer the first request; in a worker's or the batch endpoint's thread."""
        try:
            super().service()
        finally:
            self.server.poller.look_at(self)

    def has_hung_up(self) -> bool:
        """Whether the client has closed its side, which nobody is told while its request is under way; any thread."""
        if not self.connected or self.will_close:
            return True
        try:
            return not self.socket.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT)
        except BlockingIOError:
            return False
        except OSError:
            return True

    def settle(self) -> None:
        """Called by the loop's thread after whatever happened: close what is to be closed, read what may be read."""
        if self.will_close:
            # At once: the socket of one that does not read is never ready for the last word.
            super().handle_close()
        elif self._next_requests and not self.requests and not self.total_outbufs_len:
            data, self._next_requests = self._next_requests, b""
            self._pipelined += 1
            if self._pipelined > MOST_PIPELINED:
                super().handle_close()
            else:
                self.received(data)
        if self.held_bytes and self.connected:
            self._book()

    def refuse(self, refusal: Refusal) -> None:
        """Let this be the answer to the request that is coming, which nobody else has seen yet."""
        request, self.request = self.request, None
        if request is None:
            return
        request.refuse(refusal)
        self.requests.append(request)
        self._book()
        self.server.add_task(self)

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

    def send(self, data: Any, do_close: bool = True) -> int:
        """Send what the client takes."""
        sent: int = super().send(data, do_close)
        if sent:
            self.moved = time.monotonic()
            self._sent_bytes += sent
        return sent

    def write_soon(self, data: Any) -> int:
        """Send, or keep for later what the client does not take now."""
        if not self.total_outbufs_len:
            self.moved = self._owes_since = time.monotonic()
            self._sent_bytes = 0
        size: int = super().write_soon(data)
        if self.total_outbufs_len:
            self.server.poller.look_at(self)
        return size

    def received(self, data: bytes) -> bool:
        """Take bytes from the network, one request at a time."""
        self.has_asked = True
        with self.requests_lock:
            if self.will_close or self.close_when_flushed:
                return False
            if self.requests:  # the ledger has refused it since the loop saw that there is something to read
                return False
            self.moved = time.monotonic()
            while data and not self.requests:
                request = self.request = self.request or self._new_request()
                data = data[request.received(data) :]
                if request.expect_continue and request.headers_finished and not self.sent_continue:
                    self.send_continue()
                if request.completed:
                    self.sent_continue = False
                    self.requests.append(request)
                    self.request = None
            self._next_requests = data
            self._pipelined = self._pipelined if data else 0
            is_whole = bool(self.requests)
            self._book()  # where that is too much, a request that is not whole is refused
            if is_whole:
                if not self.server.ledger.has_room_for(self):
                    self.requests[0].refuse(BUSY)
                self.server.add_task(self)
        return True

    def _new_request(self) -> StrictParser:
        self.request_began = time.monotonic()
        parser = StrictParser(self.adj)
        parser.base_path = self.server.base_path
        return parser

    def _book(self) -> None:
        """Tell how much memory its requests take."""
        held = len(self._next_requests)
        for request in (self.request, *self.requests):
            held += 0 if request is None else request.held_bytes()
        self.server.ledger.book(self, held, is_unfinished=self.request is not None)

    def is_overdue(self, now: float) -> bool:
        """Whether its request has been coming, or its answer been going, for longer than it may take."""
        if self.total_outbufs_len:
            allowed = ANSWER_SECONDS + self._sent_bytes / LEAST_SENT_BYTES_PER_SECOND
            return self.stalled_seconds(now) > ANSWER_SECONDS or now - self._owes_since > allowed
        if self.requests or self.request is None:
            return False
        allowed = REQUEST_SECONDS + self.request.body_bytes_received / LEAST_BYTES_PER_SECOND
        return bool(now - self.request_began > allowed)

    def stalled_seconds(self, now: float) -> float:
        """Since when the client has taken nothing of what it is owed."""
        return now - self.moved

    def del_channel(self, map: Any = None) -> None:
        """Leave the poller before the socket is closed."""
        descriptor = self._fileno
        super().del_channel(map)
        if descriptor is not None:
            self.server.poller.forget(descriptor)
            self.server.ledger.close(self)


class Dispatcher:
    """Worker threads; a few of their own for the probes, which must answer while all others wait; batch endpoint and parking."""

    def __init__(
        self,
        probe_paths: Sequence[str],
        batch_endpoint: BatchEndpoint | None,
        parking: Parking | None,
        threads: int,
    ) -> None:
        self._probe_paths = frozenset(probe_paths)
        self._workers = ThreadedTaskDispatcher()
        self._workers.set_thread_count(threads)
        self._probes = ThreadedTaskDispatcher()
        self._probes.set_thread_count(PROBE_THREADS)
        self._batch_endpoint = batch_endpoint
        self._parking = parking

    def add_task(self, task: Channel) -> None:
        """Queue the channel whose next request is there whole."""
        request = task.requests[0]
        request.arrived = time.monotonic()
        for aside in () if task.server.is_draining else (self._batch_endpoint, self._parking):
            if aside is not None and aside.takes(request):
                aside.add(task)
                return
        self.add_to_workers(task)

    def add_to_workers(self, task: Channel) -> None:
        """The same, past batch endpoint and parking."""
        if task.requests and getattr(task.requests[0], "path", "") in self._probe_paths:
            self._probes.add_task(task)
        else:
            self._workers.add_task(task)

    def shutdown(self, seconds: float) -> None:
        """End the threads."""
        for aside in (self._batch_endpoint, self._parking):
            if aside is not None:
                aside.stop(seconds)
        self._probes.shutdown(timeout=seconds)
        self._workers.shutdown(timeout=seconds)


class Listener(wasyncore.dispatcher):
    """A listening socket beside the server's first one."""

    def __init__(self, sock: socket.socket, server: "Server") -> None:
        super().__init__(sock, map=server._map)
        self.accepting = True
        sock.listen(server.adj.backlog)
        self._server = server

    def readable(self) -> bool:
        """Whether it takes connections now."""
        return self.accepting and not self._server.in_connection_overflow

    def writable(self) -> bool:
        """Never."""
        return False

    def handle_accept(self) -> None:
        """Take what connects."""
        self._server.take_from(self.socket)


class Server(TcpWSGIServer):
    """waitress's part that accepts connections."""

    channel_class = Channel
    is_draining = False
    base_path = ""
    ledger: Ledger
    poller: Poller
    refused: Callable[[str, StrictParser, int, str], None]

    def pull_trigger(self) -> None:
        """Nothing: waitress's threads wake its loop before all is as it will be; ours say what to look at, and when."""

    def set_socket_options(self, conn: socket.socket) -> None:
        """For each connection."""
        super().set_socket_options(conn)
        conn.setsockopt(socket.IPPROTO_TCP, _TCP_NOTSENT_LOWAT, UNSENT_BYTES)

    def handle_accept(self) -> None:
        """Take what connects."""
        self.take_from(self.socket)

    def take_from(self, listener: socket.socket, at_most: int = ACCEPTED_AT_ONCE) -> None:
        """Accept the connections that wait; one too many of an address is closed at once."""
        for _ in range(at_most):
            try:
                sock, address = listener.accept()
            except OSError:  # nobody waits any more, or somebody gave up
                return
            client = str(parse_address(address[0]) or address[0])
            if self.ledger.may_open(client):
                self.set_socket_options(sock)
                self.channel_class(self, sock, (client, *address[1:]), self.adj, map=self._map)
            else:
                sock.close()


class HTTPServer:
    """Serves `application` on `listeners` until `stop` is called.

    Paths are those without `base_path`, which a request may have before its own.
    `probe_paths` have threads of their own, and so have `batch_endpoint` and `parking`. `on_drain` is called when stopping begins. `log` gets one line for
    each request: without the query, and without what follows one of the `secret_paths`. `on_refused` is called with method,
    path and status of what is answered here because it can't be read; they are empty where they could not be read either.
    `is_proxy` tells addresses that many clients come by.
    """

    def __init__(
        self,
        listeners: Sequence[socket.socket],
        application: WSGIApplication,
        *,
        threads: int,
        max_body_bytes: int,
        base_path: str = "",
        probe_paths: Sequence[str] = (),
        batch_endpoint: BatchEndpoint | None = None,
        parking: Parking | None = None,
        secret_paths: Sequence[str] = (),
        on_drain: Callable[[], None] = lambda: None,
        on_refused: Callable[[str, str, int], None] = lambda method, path, status: None,
        is_proxy: Callable[[str], bool] = lambda address: False,
        log: Callable[[str], None] = lambda line: None,
    ) -> None:
        self._on_drain = on_drain
        self._on_refused = on_refused
        self._log = log
        self._secret_paths = tuple(secret_paths)
        self._application = application
        self._stop_began = 0.0
        self._dispatcher = Dispatcher(probe_paths, batch_endpoint, parking, threads)
        # It warns of each request that waits for a thread.
        logging.getLogger("waitress.queue").setLevel(logging.ERROR)
        most_connections = _files_at_most() - SPARE_FILES
        first, *others = listeners
        self._server = Server(
            self._logged,
            map={},
            _sock=first,
            dispatcher=self._dispatcher,
            adj=Adjustments(
                sockets=[first],
                threads=threads,
                ident=None,
                connection_limit=most_connections,
                backlog=BACKLOG,
                channel_timeout=IDLE_SECONDS,
                recv_bytes=RECEIVED_AT_ONCE_BYTES,
                cleanup_interval=CLEANUP_SECONDS,
                max_request_header_size=MAX_HEAD_BYTES,
                max_request_body_size=max_body_bytes + 1,
                outbuf_overflow=IN_MEMORY_BYTES,
                outbuf_high_watermark=IN_MEMORY_BYTES,
                inbuf_overflow=IN_MEMORY_BYTES,
                log_socket_errors=False,
                clear_untrusted_proxy_headers=False,
            ),
            sockinfo=(first.family, first.type, first.proto, first.getsockname()),
            bind_socket=False,
        )
        self._server.refused = self._refused
        self._server.base_path = base_path
        # One address must not use up the files that the system allows us.
        self._server.ledger = Ledger(most_connections // 2, is_proxy)
        self._listeners: list[Any] = [self._server, *(Listener(sock, self._server) for sock in others)]
        self._server.poller = self._poller = Poller(
            self._server._map, self._server.trigger.pull_trigger, settle=_settle
        )
        self._parking = parking
        for aside in (batch_endpoint, parking):
            if aside is not None:
                aside.start(leave=self._dispatcher.add_to_workers, log=log)
        self._next_sweep = self._next_relief = self._next_report = 0.0
        self._cut_off: Counter[str] = Counter()

    def run(self) -> None:
        """Serve; returns when the server has stopped."""
        self._poller.update_all()
        while not self._is_finished():
            seconds = STOPPING_LOOP_SECONDS if self._stop_began else LOOP_SECONDS
            self._poller.turn(seconds)
            if self._stop_began and self._parking is not None:
                self._parking.drain()
            now = time.monotonic()
            self._relieve(now)
            self._sweep(now)
        self._dispatcher.shutdown(1)
        wasyncore.close_all(self._server._map)
        self._poller.close()

    def stop(self) -> None:
        """Begin to stop; may be called from a signal handler and more than once."""
        if not self._stop_began:
            self._stop_began = time.monotonic()
            self._on_drain()
            self._server.is_draining = True
            self._poller.wake()

    def _relieve(self, now: float) -> None:
        """Close connections that take nothing, when the answers that wait for them are too much together."""
        if now < self._next_relief:
            return
        self._next_relief = now + RELIEF_SECONDS
        owed = [each for each in self._server.active_channels.values() if each.total_outbufs_len]
        for channel in ledger.stalled(owed, now) if owed else ():
            self._cut(channel)

    def _sweep(self, now: float) -> None:
        """Once in a while: close what is overdue, and what waitress itself found idle for too long."""
        if now < self._next_sweep:
            return
        self._next_sweep = now + SWEEP_SECONDS
        for channel in list(self._server.active_channels.values()):
            if not channel.will_close and channel.is_overdue(now):
                self._cut(channel)
        self._poller.update_all()
        if self._cut_off and now >= self._next_report:
            self._next_report = now + REPORT_SECONDS
            address, _ = self._cut_off.most_common(1)[0]
            logger.warning(
                "Closed %d connections whose client did not send or read on, most of them from %s",
                self._cut_off.total(),
                address,
            )
            self._cut_off.clear()

    def _cut(self, channel: Channel) -> None:
        self._cut_off[channel.addr[0]] += 1
        channel.will_close = True
        channel.settle()

    def _is_finished(self) -> bool:
        if not self._stop_began:
            return False
        past = time.monotonic() - self._stop_began
        if past < DRAIN_SECONDS:
            return False
        while self._listeners:
            listener = self._listeners.pop()
            # Whoever waits in the queue has been accepted by the system: closing would reset the connection.
            self._server.take_from(listener.socket, at_most=BACKLOG)
            self._poller.forget(listener._fileno)
            listener.del_channel()
            listener.socket.close()
        _close_idle(self._server, even_unfinished=past > UNFINISHED_SECONDS)
        self._poller.update_all()
        return not self._server.active_channels or past > STOP_SECONDS

    def _refused(self, address: str, request: StrictParser, status: int, reason: str) -> None:
        """A request can't be read: it is told in the log, and to whoever counts."""
        path = self._shown(request.path)
        self._on_refused(request.command, path, status)
        self._log(
            accesslog.refusal_line(
                address=address, method=request.command, path=path, status=status, reason=reason
            )
        )

    def _shown(self, path: str) -> str:
        return next((secret for secret in self._secret_paths if path.startswith(secret)), path)

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
            self._log(
                accesslog.line(
                    address=environ["REMOTE_ADDR"],
                    method=environ["REQUEST_METHOD"],
                    path=self._shown(environ["PATH_INFO"]),
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


def _settle(dispatcher: Any) -> None:
    if isinstance(dispatcher, Channel):
        dispatcher.settle()


def _close_idle(server: Any, *, even_unfinished: bool = False) -> None:
    """Close the connections on which no request is under way, or none that is there whole."""
    now = time.monotonic()
    for channel in list(server.active_channels.values()):
        is_busy = bool(channel.requests) or bool(channel.total_outbufs_len)
        is_fresh = now - channel.moved < (FRESH_SECONDS if channel.has_asked else NEW_SECONDS)
        is_expected = channel.request is not None or is_fresh or _has_bytes(channel.socket)
        if not is_busy and (even_unfinished or not is_expected):
            channel.will_close = True


def _has_bytes(sock: socket.socket) -> bool:
    """Whether the client has sent something that is not read yet."""
    try:
        return bool(sock.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT))
    except OSError:
        return False


def _files_at_most() -> int:
    """How many files this process may have open, after asking for as many as it may."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = min(hard, 65_536) if hard != resource.RLIM_INFINITY else 65_536
    if soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
        return wanted
    return soft
