"""The HTTP server over real sockets, with a small application behind it."""

import contextlib
import json
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import pytest

from dockmesh.server import http
from dockmesh.server.batch import MOST_AT_ONCE, MOST_BODY_BYTES, BatchEndpoint, Posted
from dockmesh.server.http import HTTPServer
from tests.support import PATIENCE

LIMIT = 200_000
BIG = [bytes([number % 256]) * 65536 for number in range(160)]


class Running:
    """A server in a thread of its own."""

    def __init__(self, threads: int = 2, base_path: str = "") -> None:
        self.gate = threading.Event()
        self.lines: list[str] = []
        self.batches: list[int] = []
        self.is_drained = False
        listener = socket.create_server(("127.0.0.1", 0), backlog=1024)
        self.port: int = listener.getsockname()[1]
        self.server = HTTPServer(
            [listener],
            self.application,
            threads=threads,
            max_body_bytes=LIMIT,
            base_path=base_path,
            probe_paths=("/batch",),
            batch_endpoint=BatchEndpoint("/quick", self.quickly, {"X-Quick": "yes"}),
            secret_paths=("/secret/",),
            on_drain=self.drain,
            log=self.lines.append,
        )
        self.thread = threading.Thread(target=self.server.run, daemon=True)
        self.thread.start()

    def drain(self) -> None:
        self.is_drained = True

    def quickly(self, requests: Sequence[Posted]) -> Sequence[bytes | None]:
        """The batch endpoint's application; the body says what is to happen."""
        self.batches.append(len(requests))
        if any(request.body == b"wait" for request in requests):
            self.gate.wait(10)
        if any(request.body == b"fail" for request in requests):
            raise RuntimeError("not for the client")
        if any(request.body == b"too few" for request in requests):
            return []
        return [None if request.body == b"leave" else b"<" + request.body + b">" for request in requests]

    def application(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        path = environ["PATH_INFO"]
        if path == "/wait":
            self.gate.wait(10)
        if path == "/fail":
            raise RuntimeError("not for the client")
        if path == "/split":
            start_response("200 OK", [("X-A", "a\r\nX-B: b")])
            return [b""]
        if path == "/big":
            start_response("200 OK", [("Content-Length", str(sum(map(len, BIG))))])
            return BIG
        if path == "/empty":
            start_response("204 No Content", [])
            return []
        seen = {name: value for name, value in environ.items() if isinstance(value, str)}
        body = environ["wsgi.input"].read()
        answer = json.dumps({"environ": seen, "body": body.decode("latin-1")}).encode()
        start_response("200 OK", [("Content-Type", "application/json"), ("Content-Length", str(len(answer)))])
        return iter([answer[:10], answer[10:]])

    def connect(self) -> socket.socket:
        return socket.create_connection(("127.0.0.1", self.port), timeout=5)

    def ask(self, *parts: bytes, pause: float = 0.0) -> bytes:
        """Send the parts, then read until the server closes."""
        with self.connect() as sock:
            for part in parts:
                sock.sendall(part)
                if pause:
                    time.sleep(pause)
            return read_all(sock)


def read_all(sock: socket.socket) -> bytes:
    received = b""
    with contextlib.suppress(ConnectionResetError):
        while data := sock.recv(65536):
            received += data
    return received


def split_answer(raw: bytes) -> tuple[int, dict[str, str], bytes]:
    head, _, body = raw.partition(b"\r\n\r\n")
    first, *lines = head.decode("latin-1").split("\r\n")
    return int(first.split()[1]), dict(line.split(": ", 1) for line in lines), body


def wait_for(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE * 5
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.005)


@pytest.fixture
def running(monkeypatch: pytest.MonkeyPatch) -> Iterator[Running]:
    monkeypatch.setattr(http, "DRAIN_SECONDS", 0.3)
    running = Running()
    yield running
    running.gate.set()
    running.server.stop()
    running.thread.join(10)
    assert not running.thread.is_alive()


CLOSE = b"Host: x\r\nConnection: close\r\n"


def test_a_request_and_its_answer(running: Running) -> None:
    status, headers, body = split_answer(
        running.ask(b"POST /a?b HTTP/1.1\r\n" + CLOSE + b"Content-Length: 5\r\n\r\nhello")
    )
    assert status == 200
    assert headers["Content-Type"] == "application/json"
    assert headers["Content-Length"] == str(len(body))
    assert "Date" in headers
    assert "Server" not in headers
    answer = json.loads(body)
    assert answer["body"] == "hello"
    assert answer["environ"]["REMOTE_ADDR"] == "127.0.0.1"
    assert answer["environ"]["CONTENT_LENGTH"] == "5"


def test_a_request_byte_by_byte(running: Running) -> None:
    wire = b"POST /a HTTP/1.1\r\n" + CLOSE + b"Content-Length: 5\r\n\r\nhello"
    status, _, body = split_answer(running.ask(*(wire[i : i + 1] for i in range(len(wire))), pause=0.001))
    assert (status, json.loads(body)["body"]) == (200, "hello")


def test_a_chunked_body_arrives_whole(running: Running) -> None:
    status, _, body = split_answer(
        running.ask(
            b"POST / HTTP/1.1\r\n" + CLOSE + b"Transfer-Encoding: chunked\r\n\r\n5\r\nhel",
            b"lo\r\n6\r\n world\r\n0\r\n\r\n",
            pause=0.05,
        )
    )
    answer = json.loads(body)
    assert (status, answer["body"]) == (200, "hello world")
    assert answer["environ"]["CONTENT_LENGTH"] == "11"
    assert "HTTP_TRANSFER_ENCODING" not in answer["environ"]


def test_several_requests_on_one_connection_are_answered_in_order(running: Running) -> None:
    wire = b"".join(b"GET /%d HTTP/1.1\r\nHost: x\r\n\r\n" % number for number in range(20))
    raw = running.ask(wire + b"GET /last HTTP/1.1\r\n" + CLOSE + b"\r\n")
    paths = [part.split(b'"')[0] for part in raw.split(b'"PATH_INFO": "')[1:]]
    assert paths == [*(b"/%d" % number for number in range(20)), b"/last"]


def test_expect_100_continue(running: Running) -> None:
    with running.connect() as sock:
        sock.sendall(b"POST / HTTP/1.1\r\n" + CLOSE + b"Content-Length: 2\r\nExpect: 100-continue\r\n\r\n")
        assert sock.recv(100) == b"HTTP/1.1 100 Continue\r\n\r\n"
        sock.sendall(b"ok")
        assert split_answer(read_all(sock))[0] == 200


def test_head_and_204_have_no_body(running: Running) -> None:
    status, headers, body = split_answer(running.ask(b"HEAD /big HTTP/1.1\r\n" + CLOSE + b"\r\n"))
    assert (status, headers["Content-Length"], body) == (200, "10485760", b"")
    status, headers, body = split_answer(running.ask(b"GET /empty HTTP/1.1\r\n" + CLOSE + b"\r\n"))
    assert (status, body) == (204, b"")
    assert "Content-Length" not in headers


@pytest.mark.alone
def test_a_large_answer_is_whole_though_the_client_reads_slowly_and_no_worker_waits(running: Running) -> None:
    slow = [running.connect() for _ in range(6)]
    for sock in slow:
        sock.sendall(b"GET /big HTTP/1.1\r\n" + CLOSE + b"\r\n")
    began = time.monotonic()
    assert split_answer(running.ask(b"GET / HTTP/1.1\r\n" + CLOSE + b"\r\n"))[0] == 200
    assert time.monotonic() - began < 2
    for sock in slow:
        _, _, body = split_answer(read_all(sock))
        assert body == b"".join(BIG)
        sock.close()


@pytest.mark.parametrize(
    ("wire", "status"),
    [
        (b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\nGET /hidden HTTP/1.1\r\nHost: x\r\n\r\n", 400),
        (b"Content-Length: 5\r\nContent-Length: 6\r\n\r\nhelloGET /hidden HTTP/1.1\r\nHost: x\r\n\r\n", 400),
        (b"X-A: a\0b\r\n\r\nGET /hidden HTTP/1.1\r\nHost: x\r\n\r\n", 400),
        (b"Transfer-Encoding: chunked\r\n\r\nzz\r\nGET /hidden HTTP/1.1\r\nHost: x\r\n\r\n", 400),
        (b"Content-Length: 200001\r\n\r\n", 413),
        (b"Transfer-Encoding: chunked\r\n\r\n30D41\r\n" + b"x" * 200_001, 413),
        (b"X-A: " + b"a" * 40_000 + b"\r\n\r\n", 431),
        (b"X-A: " + b"a" * 40_000, 431),
    ],
)  # fmt: skip
def test_a_bad_request_is_answered_once_and_closed(running: Running, wire: bytes, status: int) -> None:
    raw = running.ask(b"POST / HTTP/1.1\r\nHost: x\r\n" + wire)
    assert raw.count(b"HTTP/1.") == 1
    code, headers, body = split_answer(raw)
    assert code == status
    assert headers["Connection"] == "close"
    assert headers["Content-Type"] == "application/problem+json"
    assert json.loads(body)["status"] == status
    assert not any("/hidden" in line for line in running.lines)


def test_a_body_over_the_limit_is_refused_while_the_client_still_sends(running: Running) -> None:
    raw = b""
    with running.connect() as sock:
        sock.sendall(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 10000000\r\n\r\n")
        with contextlib.suppress(OSError):
            for _ in range(100):
                sock.sendall(b"x" * 100_000)
        with contextlib.suppress(OSError):
            raw = read_all(sock)
    assert raw == b"" or split_answer(raw)[0] == 413


def test_an_exception_is_500_without_its_text(running: Running) -> None:
    status, _, body = split_answer(running.ask(b"GET /fail HTTP/1.1\r\n" + CLOSE + b"\r\n"))
    assert status == 500
    assert b"not for the client" not in body


def test_a_header_with_a_line_break_never_leaves(running: Running) -> None:
    assert b"X-B" not in running.ask(b"GET /split HTTP/1.1\r\n" + CLOSE + b"\r\n")
    assert split_answer(running.ask(b"GET / HTTP/1.1\r\n" + CLOSE + b"\r\n"))[0] == 200


def test_the_log_has_neither_query_nor_what_is_below_a_secret_path(running: Running) -> None:
    running.ask(b"GET /page?token=abc HTTP/1.1\r\n" + CLOSE + b"\r\n")
    running.ask(b"GET /secret/abc HTTP/1.1\r\n" + CLOSE + b"\r\n")
    assert any('"GET /page" 200' in line for line in running.lines)
    assert any('"GET /secret/" 200' in line for line in running.lines)
    assert not any("abc" in line for line in running.lines)


@pytest.mark.alone
def test_slow_bodies_and_heads_do_not_hold_up_good_requests(running: Running) -> None:
    slow = []
    for _ in range(200):
        for part in (b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 50\r\n\r\nabc", b"GET / HTTP/1.1\r\nHo"):
            sock = running.connect()
            sock.sendall(part)
            slow.append(sock)
    for _ in range(5):
        began = time.monotonic()
        assert split_answer(running.ask(b"GET / HTTP/1.1\r\n" + CLOSE + b"\r\n"))[0] == 200
        assert time.monotonic() - began < 2
    for sock in slow:
        sock.close()


@pytest.mark.alone
def test_a_request_that_never_ends_is_cut_off(running: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http, "REQUEST_SECONDS", 0.5)
    for begin in (b"GET / HTTP/1.1\r\n", b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\na"):
        with running.connect() as sock:
            sock.sendall(begin)
            began = time.monotonic()
            assert read_all(sock) == b""
            assert time.monotonic() - began < 4


def test_a_thousand_idle_connections_do_not_slow_down_the_others(running: Running) -> None:
    idle = []
    for _ in range(1000):
        sock = running.connect()
        sock.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        idle.append(sock)
    for sock in idle:
        assert sock.recv(100).startswith(b"HTTP/1.1 200")
    asked = 0
    for dispatcher in running.server._server.active_channels.values():
        readable = dispatcher.readable

        def counting(readable: Callable[[], bool] = readable) -> bool:
            nonlocal asked
            asked += 1
            return readable()

        dispatcher.readable = counting
    for _ in range(20):
        assert split_answer(running.ask(b"GET / HTTP/1.1\r\n" + CLOSE + b"\r\n"))[0] == 200
    assert asked < 10_000  # a sweep a second, but not each of them for each request
    for sock in idle:
        sock.close()


def test_a_batch_endpoint_answers_while_all_workers_are_busy(running: Running) -> None:
    busy = [running.connect() for _ in range(4)]
    for sock in busy:
        sock.sendall(b"GET /wait HTTP/1.1\r\n" + CLOSE + b"\r\n")
    assert split_answer(running.ask(b"GET /batch HTTP/1.1\r\n" + CLOSE + b"\r\n"))[0] == 200
    running.gate.set()
    for sock in busy:
        assert split_answer(read_all(sock))[0] == 200
        sock.close()


def quick(body: bytes, head: bytes = b"") -> bytes:
    return b"POST /quick HTTP/1.1\r\nHost: x\r\n%sContent-Length: %d\r\n\r\n%s" % (head, len(body), body)


def read_answer(sock: socket.socket) -> tuple[int, dict[str, str], bytes]:
    """One answer of a connection that stays open."""
    raw = b""
    while b"\r\n\r\n" not in raw:
        raw += sock.recv(65536)
    length = int(split_answer(raw)[1]["Content-Length"])
    while len(raw.partition(b"\r\n\r\n")[2]) < length:
        raw += sock.recv(65536)
    return split_answer(raw)


def is_by_worker(answer: tuple[int, dict[str, str], bytes]) -> bool:
    return "X-Quick" not in answer[1]


def test_the_batch_answers_with_its_headers_and_keeps_the_connection(running: Running) -> None:
    with running.connect() as sock:
        for body in (b"one", b"", b"three"):
            sock.sendall(quick(body))
            status, headers, answer = read_answer(sock)
            assert (status, headers["X-Quick"], answer) == (200, "yes", b"<" + body + b">")
            assert headers["Content-Type"] == "application/json"
            assert "Date" in headers
    wait_for(lambda: len(running.lines) == 3)
    assert [line.split('"')[1:3] for line in running.lines] == [
        ["POST /quick", f" 200 {size} {line.rpartition(' ')[2]}"]
        for size, line in zip((5, 2, 7), running.lines, strict=True)
    ]


def test_requests_that_wait_are_answered_together(running: Running) -> None:
    with contextlib.ExitStack() as stack:
        first = stack.enter_context(running.connect())
        first.sendall(quick(b"wait"))
        wait_for(lambda: running.batches == [1])
        others = [stack.enter_context(running.connect()) for _ in range(MOST_AT_ONCE + 10)]
        for number, sock in enumerate(others):
            sock.sendall(quick(b"%d" % number))
        batch_endpoint = running.server._dispatcher._batch_endpoint
        assert batch_endpoint is not None
        wait_for(lambda: len(batch_endpoint._waiting) == len(others))
        running.gate.set()
        for number, sock in enumerate(others):
            assert read_answer(sock)[2] == b"<%d>" % number
    assert running.batches == [1, MOST_AT_ONCE, 10]


def test_a_path_is_the_same_with_the_base_path_and_without() -> None:
    running = Running(base_path="/below/it")
    try:
        for path in ("/quick", "/below/it/quick"):
            head = f"POST {path} HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\n".encode()
            with running.connect() as sock:
                sock.sendall(head + b"one")
                assert read_answer(sock)[2] == b"<one>"
        for path, seen in (
            ("/below/it/secret/abc", "/secret/abc"),
            ("/secret/abc", "/secret/abc"),
            ("/below/it//secret/abc", "/secret/abc"),
            ("//secret/abc", "/secret/abc"),
            ("//below/it/a", "/a"),
            ("/below/it", "/below/it"),
            ("/below/its/a", "/below/its/a"),
            ("/below/it/below/it/a", "/below/it/a"),
        ):
            _, _, answer = split_answer(running.ask(f"GET {path} HTTP/1.1\r\n".encode() + CLOSE + b"\r\n"))
            environ = json.loads(answer)["environ"]
            assert environ["PATH_INFO"] == seen
            # So that nobody takes it off again.
            assert environ["dockmesh.base_path_taken_off"] == ("/below/it" if "/below/it/" in path else "")
        for path in ("/below/it//secret/abc", "//secret/abc"):
            assert b" 400 " in running.ask(f"GET {path} HTTP/1.1\r\n\r\n".encode())[:20]
        assert running.batches == [1, 1]
        wait_for(lambda: len(running.lines) == 12)
        assert not any("abc" in line for line in running.lines)
    finally:
        running.server.stop()
        running.thread.join(PATIENCE * 5)


def test_what_the_batch_leaves_alone_goes_to_a_worker_whole(running: Running) -> None:
    with running.connect() as sock:
        for body in (b"leave", b"fail"):
            sock.sendall(quick(body))
            answer = read_answer(sock)
            assert is_by_worker(answer)
            assert json.loads(answer[2])["body"] == body.decode()


@pytest.mark.parametrize(
    "wire",
    [
        b"GET /quick HTTP/1.1\r\nHost: x\r\n\r\n",
        quick(b"a").replace(b"/quick", b"/quick?a=b"),
        quick(b"a").replace(b"/quick", b"/quick/"),
        quick(b"a" * (MOST_BODY_BYTES + 1)),
        quick(b"a", b"Connection: close\r\n"),
        b"POST /quick HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n0\r\n\r\n",
    ],
    ids=["GET", "query", "another path", "large", "close", "chunked"],
)
def test_what_is_not_ordinary_goes_to_a_worker(running: Running, wire: bytes) -> None:
    with running.connect() as sock:
        sock.sendall(wire)
        assert is_by_worker(read_answer(sock))
    assert not running.batches


def test_requests_of_batch_and_workers_on_one_connection_are_answered_in_order(running: Running) -> None:
    wire = quick(b"1") + b"GET /2 HTTP/1.1\r\nHost: x\r\n\r\n" + quick(b"3") + quick(b"leave") + quick(b"5")
    raw = running.ask(wire, b"GET /6 HTTP/1.1\r\n" + CLOSE + b"\r\n")
    marks = [b"<1>", b'"PATH_INFO": "/2"', b"<3>", b'"body": "leave"', b"<5>", b'"PATH_INFO": "/6"']
    places = [raw.find(mark) for mark in marks]
    assert -1 not in places
    assert places == sorted(places)


def test_a_client_of_the_batch_that_leaves_harms_nobody(running: Running) -> None:
    first = running.connect()
    first.sendall(quick(b"wait"))
    wait_for(lambda: running.batches == [1])
    gone = running.connect()
    gone.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    gone.sendall(quick(b"gone"))
    batch_endpoint = running.server._dispatcher._batch_endpoint
    assert batch_endpoint is not None
    wait_for(lambda: len(batch_endpoint._waiting) == 1)
    gone.close()
    running.gate.set()
    assert read_answer(first)[2] == b"<wait>"
    first.sendall(quick(b"again"))
    assert read_answer(first)[2] == b"<again>"
    first.close()


def test_a_batch_endpoint_that_fails_badly_closes_the_connection_and_goes_on(running: Running) -> None:
    with running.connect() as sock:
        sock.sendall(quick(b"too few"))
        assert sock.recv(1) == b""
    with running.connect() as sock:
        sock.sendall(quick(b"next"))
        assert read_answer(sock)[2] == b"<next>"


def test_a_connection_is_closed_by_the_loop_whoever_wants_it(running: Running) -> None:
    with running.connect() as sock:
        sock.sendall(quick(b"a"))
        read_answer(sock)
        channels = running.server._server.active_channels
        (channel,) = channels.values()
        channel.handle_close()  # from this thread, which is not the loop's
        assert sock.recv(1) == b""
        wait_for(lambda: not channels)


def test_stopping_finishes_what_the_batch_has(running: Running) -> None:
    with running.connect() as sock:
        sock.sendall(quick(b"wait"))
        wait_for(lambda: running.batches == [1])
        running.server.stop()
        wait_for(lambda: running.is_drained)
        running.gate.set()
        assert read_answer(sock)[2] == b"<wait>"
        assert sock.recv(1) == b""
    running.thread.join(5)
    assert not running.thread.is_alive()


def test_stopping_finishes_what_was_accepted(running: Running) -> None:
    waiting, idle, half = running.connect(), running.connect(), running.connect()
    waiting.sendall(b"GET /wait HTTP/1.1\r\nHost: x\r\n\r\n")
    half.sendall(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nhel")
    time.sleep(0.1)
    running.server.stop()
    assert running.is_drained
    assert split_answer(running.ask(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"))[1]["Connection"] == "close"
    half.sendall(b"lo")
    assert b"hello" in read_all(half)
    assert idle.recv(1) == b""
    running.gate.set()
    status, headers, _ = split_answer(read_all(waiting))
    assert (status, headers["Connection"]) == (200, "close")
    running.thread.join(5)
    assert not running.thread.is_alive()
    with pytest.raises(ConnectionRefusedError):
        running.connect()
    for sock in (waiting, idle, half):
        sock.close()


def test_a_client_that_leaves_in_the_middle_harms_nobody(running: Running) -> None:
    for part in (b"", b"GET / HT", b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\nabc"):
        with running.connect() as sock:
            sock.sendall(part)
    for _ in range(20):
        with running.connect() as sock:
            sock.sendall(b"GET /big HTTP/1.1\r\nHost: x\r\n\r\n")
            sock.recv(10)
    assert split_answer(running.ask(b"GET / HTTP/1.1\r\n" + CLOSE + b"\r\n"))[0] == 200
