"""Requests that wait, over real sockets: parked without a thread, woken, superseded, let go."""

import contextlib
import socket
import struct
import threading
import time
from collections.abc import Callable, Collection, Hashable, Iterable, Iterator, Sequence
from typing import Any

import pytest

from dockmesh.server import http
from dockmesh.server.batch import Posted
from dockmesh.server.http import HTTPServer
from dockmesh.server.parking import Application, Parking
from tests.server.test_http import CLOSE, read_all, read_answer, split_answer, wait_for

NOTHING = b'{"nothing":1}'


class Lot:
    """A server with a parking; the body of a request says whom it is for, or that it is not admitted."""

    def __init__(self, seconds: float = 60.0) -> None:
        self.news: set[Hashable] = set()
        self.noted: list[bytes] = []
        self.is_broken = self.counts_nothing = False
        self.lines: list[str] = []
        listener = socket.create_server(("127.0.0.1", 0), backlog=4096)
        self.port: int = listener.getsockname()[1]
        self.parking = Parking(
            "/wait",
            Application(self.admit, self.ready, self.note),
            {"X-Parked": "yes"},
            nothing=NOTHING,
            seconds=seconds,
        )
        self.server = HTTPServer(
            [listener],
            self.application,
            threads=2,
            max_body_bytes=100_000,
            parking=self.parking,
            log=self.lines.append,
        )
        self.thread = threading.Thread(target=self.server.run, daemon=True)
        self.thread.start()

    def admit(self, requests: Sequence[Posted]) -> Sequence[Hashable | None]:
        if any(request.body == b"fail" for request in requests):
            raise RuntimeError("not for the client")
        return [None if request.body == b"refused" else request.body for request in requests]

    def ready(self) -> Collection[Hashable]:
        if self.is_broken:
            raise RuntimeError("the database is away")
        return set(self.news)

    def note(self, requests: Sequence[Posted], size: int) -> None:
        if self.counts_nothing:
            raise RuntimeError("not for the client")
        self.noted += [request.body for request in requests]

    def application(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        body = b"worker:" + environ["wsgi.input"].read()
        start_response("200 OK", [("Content-Length", str(len(body)))])
        return [body]

    def ask(self, body: bytes, head: bytes = b"", version: bytes = b"1.1") -> socket.socket:
        sock = socket.create_connection(("127.0.0.1", self.port), timeout=30)
        wire = b"POST /wait HTTP/%s\r\nHost: x\r\n%sContent-Length: %d\r\n\r\n%s"
        sock.sendall(wire % (version, head, len(body), body))
        return sock

    def is_parked(self, *bodies: bytes) -> bool:
        return all(body in self.parking._parked for body in bodies)


@pytest.fixture
def start(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Lot]]:
    monkeypatch.setattr(http, "DRAIN_SECONDS", 0.3)
    lots: list[Lot] = []

    def start(**options: float) -> Lot:
        lots.append(Lot(**options))
        return lots[-1]

    yield start
    for lot in lots:
        lot.server.stop()
        lot.thread.join(30)
        assert not lot.thread.is_alive()


def test_who_waits_is_answered_by_a_worker_once_there_is_something(start: Callable[..., Lot]) -> None:
    lot = start()
    with lot.ask(b"a") as first, lot.ask(b"b") as second:
        wait_for(lambda: lot.is_parked(b"a", b"b"))
        lot.news = {b"b", b"somebody who does not wait"}
        assert read_answer(second)[2] == b"worker:b"
        assert lot.is_parked(b"a")
        lot.news = {b"a"}
        assert read_answer(first)[2] == b"worker:a"
    assert not lot.noted


def test_a_thousand_wait_and_everybody_else_is_answered(start: Callable[..., Lot]) -> None:
    lot = start()
    before = threading.active_count()
    with contextlib.ExitStack() as stack:
        socks = {b"%d" % number: stack.enter_context(lot.ask(b"%d" % number)) for number in range(1000)}
        wait_for(lambda: len(lot.parking._parked) == 1000)
        assert threading.active_count() == before
        with socket.create_connection(("127.0.0.1", lot.port), timeout=30) as other:
            other.sendall(b"GET / HTTP/1.1\r\n" + CLOSE + b"\r\n")
            assert split_answer(read_all(other))[2] == b"worker:"
        lot.news = set(socks)
        for body, sock in socks.items():
            assert read_answer(sock)[2] == b"worker:" + body


def test_after_its_time_it_is_answered_with_nothing_and_the_connection_stays(
    start: Callable[..., Lot],
) -> None:
    lot = start(seconds=0.1)
    with lot.ask(b"a") as sock:
        for _ in range(2):
            status, headers, body = read_answer(sock)
            assert (status, headers["X-Parked"], body) == (200, "yes", NOTHING)
            assert "Connection" not in headers
            sock.sendall(b"POST /wait HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\n\r\na")
        read_answer(sock)
    wait_for(lambda: len(lot.lines) == 3)
    assert lot.noted == [b"a"] * 3
    assert '"POST /wait" 200 13 ' in lot.lines[0]


def test_who_can_not_be_counted_is_answered_all_the_same(start: Callable[..., Lot]) -> None:
    lot = start(seconds=0.2)
    lot.counts_nothing = True
    with lot.ask(b"a") as sock:
        assert read_answer(sock)[2] == NOTHING


@pytest.mark.parametrize(("head", "version"), [(b"Connection: close\r\n", b"1.1"), (b"", b"1.0")])
def test_a_proxy_that_keeps_no_connection_may_wait_as_well(
    start: Callable[..., Lot], head: bytes, version: bytes
) -> None:
    lot = start(seconds=0.1)
    with lot.ask(b"a", head, version) as sock:
        status, headers, body = split_answer(read_all(sock))
    assert (status, headers["Connection"], body) == (200, "close", NOTHING)


def test_of_two_requests_of_one_client_the_newer_waits(start: Callable[..., Lot]) -> None:
    lot = start()
    with lot.ask(b"a") as older:
        wait_for(lambda: lot.is_parked(b"a"))
        with lot.ask(b"a") as newer:
            assert read_answer(older)[2] == NOTHING
            lot.news = {b"a"}
            assert read_answer(newer)[2] == b"worker:a"


@pytest.mark.parametrize("body", [b"refused", b"fail", b"x" * 5000])
def test_what_is_not_admitted_is_answered_by_a_worker_at_once(start: Callable[..., Lot], body: bytes) -> None:
    lot = start()
    with lot.ask(body) as sock:
        assert read_answer(sock)[2] == b"worker:" + body


def test_a_database_that_is_away_ends_no_wait(start: Callable[..., Lot]) -> None:
    lot = start()
    lot.is_broken = True
    with lot.ask(b"a") as sock:
        wait_for(lambda: lot.is_parked(b"a") and lot.parking._next_complaint > 0)
        lot.news, lot.is_broken = {b"a"}, False
        assert read_answer(sock)[2] == b"worker:a"


@pytest.mark.parametrize("is_reset", [False, True])
def test_nothing_is_handed_to_who_has_hung_up(start: Callable[..., Lot], is_reset: bool) -> None:
    lot = start()
    gone = lot.ask(b"a")
    wait_for(lambda: lot.is_parked(b"a"))
    if is_reset:
        gone.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    gone.close()
    time.sleep(0.05)  # what was sent may be on its way for a moment, even here
    lot.news = {b"a"}
    wait_for(lambda: not lot.is_parked(b"a"))
    wait_for(lambda: not lot.server._server.active_channels)
    assert not any("worker" in line or '"POST /wait"' in line for line in lot.lines)
    lot.news = {b"b"}
    with lot.ask(b"b") as sock:
        assert read_answer(sock)[2] == b"worker:b"


def test_stopping_lets_everybody_go_at_once(start: Callable[..., Lot]) -> None:
    lot = start()
    with lot.ask(b"a") as sock:
        wait_for(lambda: lot.is_parked(b"a"))
        lot.server.stop()
        assert read_answer(sock)[2] == NOTHING
        assert sock.recv(1) == b""
    lot.thread.join(30)
    assert not lot.thread.is_alive()
