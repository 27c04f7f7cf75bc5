"""The HTTP server over real sockets, with a small application behind it."""

import contextlib
import json
import socket
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import pytest

from dockmesh.server import http
from dockmesh.server.http import HTTPServer

LIMIT = 100_000
BIG = [bytes([number % 256]) * 65536 for number in range(160)]


class Running:
    """A server in a thread of its own."""

    def __init__(self, threads: int = 2) -> None:
        self.gate = threading.Event()
        self.lines: list[str] = []
        self.is_drained = False
        listener = socket.create_server(("127.0.0.1", 0), backlog=1024)
        self.port: int = listener.getsockname()[1]
        self.server = HTTPServer(
            listener,
            self.application,
            threads=threads,
            max_body_bytes=LIMIT,
            lanes=("/lane",),
            secret_paths=("/secret/",),
            on_drain=self.drain,
            log=self.lines.append,
        )
        self.thread = threading.Thread(target=self.server.run, daemon=True)
        self.thread.start()

    def drain(self) -> None:
        self.is_drained = True

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
        (b"Content-Length: 100001\r\n\r\n", 413),
        (b"Transfer-Encoding: chunked\r\n\r\n186A1\r\n" + b"x" * 100_001, 413),
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


def test_a_lane_answers_while_all_workers_are_busy(running: Running) -> None:
    busy = [running.connect() for _ in range(4)]
    for sock in busy:
        sock.sendall(b"GET /wait HTTP/1.1\r\n" + CLOSE + b"\r\n")
    assert split_answer(running.ask(b"GET /lane HTTP/1.1\r\n" + CLOSE + b"\r\n"))[0] == 200
    running.gate.set()
    for sock in busy:
        assert split_answer(read_all(sock))[0] == 200
        sock.close()


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
