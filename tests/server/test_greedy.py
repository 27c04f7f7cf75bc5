"""Clients that don't read, don't write on, or send what can't be read: each gets little, and nobody else less."""

import contextlib
import json
import logging
import socket
import threading
import time
from collections.abc import Iterator

import pytest

from dockmesh.server import http, ledger, listener, parser
from dockmesh.server.http import HTTPServer
from tests.server.test_http import CLOSE, LIMIT, Running, read_all, read_answer, split_answer, wait_for

GET = b"GET /big HTTP/1.1\r\nHost: x\r\n\r\n"
POST = b"POST / HTTP/1.1\r\nHost: x\r\n"


@pytest.fixture
def running(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> Iterator[Running]:
    monkeypatch.setattr(http, "DRAIN_SECONDS", 0.1)
    running = Running()
    yield running
    running.gate.set()
    running.server.stop()
    running.thread.join(10)
    assert not running.thread.is_alive()
    assert not [record for record in caplog.records if record.exc_info]


def is_closed(sock: socket.socket) -> bool:
    """Whether the server has given up the connection, as somebody sees who reads nothing."""
    with contextlib.suppress(BlockingIOError):
        try:
            sock.send(b"x", socket.MSG_DONTWAIT)
        except (BrokenPipeError, ConnectionResetError):
            return True
    return False


def answers_well(running: Running) -> bool:
    return split_answer(running.ask(b"GET / HTTP/1.1\r\n" + CLOSE + b"\r\n"))[0] == 200


def test_who_pipelines_and_does_not_read_gets_one_answer_and_is_closed(
    running: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(http, "ANSWER_SECONDS", 1.0)
    greedy = [running.connect() for _ in range(12)]
    for sock in greedy:
        sock.sendall(GET * 1000)
    wait_for(lambda: len(running.lines) == len(greedy))
    for channel in running.server._server.active_channels.values():
        assert len(channel.requests) <= 1
    assert answers_well(running)
    wait_for(lambda: all(map(is_closed, greedy)))
    assert sum("/big" in line for line in running.lines) == len(greedy)
    for sock in greedy:
        sock.close()


def test_who_pipelines_on_and_on_is_closed_though_each_answer_is_small(running: Running) -> None:
    raw = running.ask(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n" * 2000)
    assert raw.count(b"HTTP/1.1 200") == http.MOST_PIPELINED + 1
    with running.connect() as sock:
        for _ in range(2 * http.MOST_PIPELINED):
            sock.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
            assert read_answer(sock)[0] == 200


def test_who_reads_slowly_but_reads_is_not_closed(running: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http, "ANSWER_SECONDS", 1.0)
    with running.connect() as sock:
        sock.sendall(b"GET /big HTTP/1.1\r\n" + CLOSE + b"\r\n")
        received = 0
        while data := sock.recv(1 << 20):
            received += len(data)
            time.sleep(0.1)
    assert received > 10 << 20


def test_answers_that_nobody_takes_are_bounded_together(
    running: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ledger, "MOST_ANSWER_BYTES", 300_000)
    # Each of these has a text of its own; a text that is shared counts once.
    asked = b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 100000\r\n\r\n" + b"x" * 100_000
    greedy = []
    for _ in range(12):
        sock = socket.socket()
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        sock.connect(("127.0.0.1", running.port))
        sock.sendall(asked * 5)
        greedy.append(sock)
    wait_for(lambda: sum(map(is_closed, greedy)) >= 6)
    assert answers_well(running)
    for sock in greedy:
        sock.close()


@pytest.mark.parametrize(
    "tail",
    [
        b"5;" + b"a" * 2000,
        b"0\r\n" + b"X-A: aaaa\r\n" * 1000,
        b"1\r\na\r\n" * 1000,
        b"\r\n" * 50,
        b"5\nhello\r\n0\r\n\r\n",
        b"3\r\nhello\r\n0\r\n\r\n",
        b"-5\r\n",
    ],
    ids=[
        "long line",
        "long trailer",
        "tiny chunks",
        "blank lines",
        "LF alone",
        "longer than it says",
        "minus",
    ],
)
def test_chunks_without_measure_are_refused(running: Running, tail: bytes) -> None:
    raw = running.ask(POST + b"Transfer-Encoding: chunked\r\n\r\n" + tail)
    assert split_answer(raw)[0] == 400
    assert raw.count(b"HTTP/1.") == 1


def test_chunks_in_any_pieces_make_the_same_body() -> None:
    wire = b"5;a=b\r\nhello\r\n6\r\n world\r\n0\r\nX-A: b\r\n\r\nGET"
    for size in range(1, len(wire)):
        request = parser.StrictParser(_Adjustments)
        data = POST + b"Transfer-Encoding: chunked\r\n\r\n" + wire
        while not request.completed:
            taken = request.received(data[:size])
            data = data[taken:]
        assert request.error is None
        assert request.get_body_stream().read() == b"hello world"
        assert data == b"GET"


class _Adjustments:
    max_request_header_size = 4096
    max_request_body_size = LIMIT
    inbuf_overflow = 1 << 20
    url_scheme = "http"


def test_a_long_chunk_line_costs_no_more_for_coming_in_drops() -> None:
    body = parser.ChunkedBody(bytearray(), LIMIT)
    for count in range(10_000):
        body.received(b"1")
        if body.error:
            assert count == parser.MOST_CHUNK_LINE_BYTES
            return
    raise AssertionError


@pytest.mark.parametrize(
    ("head", "status"),
    [
        (b"POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n", 411),
        (b"POST / HTTP/1.0\r\nHost: x\r\nTransfer-Encoding: gzip\r\n\r\n", 501),
        (b"POST / HTTP/0.9\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n", 400),
        (b"POST / HTTP/1.2\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n", 400),
        (b"POST / HTTP/2.0\r\nHost: x\r\n\r\n", 400),
        (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 400),
        (b"GET /\r\n\r\n", 400),
        (POST + b"Transfer-Encoding:\r\n\r\n", 501),
        (POST + b"Transfer-Encoding: chunked, chunked\r\n\r\n", 501),
        (POST + b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n", 400),
        (POST + b"Content-Length: " + b"1" * 5000 + b"\r\n\r\n", 400),
        (POST + b"Content-Length: " + b"1" * 25 + b"\r\n\r\n", 413),
        (POST + b"Content-Length: +5\r\n\r\n", 400),
        (POST + b"X-A: a\r\n Transfer-Encoding: chunked\r\n\r\n", 400),
        (POST + b"Content-Length:\r\n\t5\r\n\r\n", 400),
        (b"GET http://[x/ HTTP/1.1\r\nHost: x\r\n\r\n", 400),
        (b"GET \xff\xfe HTTP/1.1\r\nHost: x\r\n\r\n", 400),
        (b"\r\n\r\n\r\n\r\n", 400),
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(200), 400),
    ],
)
def test_what_can_not_be_read_is_one_answer_and_nothing_of_the_body_runs(
    running: Running, head: bytes, status: int
) -> None:
    raw = running.ask(head + b"GET /hidden HTTP/1.1\r\n" + CLOSE + b"\r\n")
    assert split_answer(raw)[0] == status
    assert raw.count(b"\r\n\r\n") == 1
    (line,) = running.lines
    assert f" {status} refused: " in line
    assert "/hidden" not in line


def test_tls_on_the_plain_port_is_told_to_the_client_and_in_the_log(running: Running) -> None:
    raw = running.ask(b"\x16\x03\x01\x00\x05hello")
    assert raw.startswith(b"HTTP/1.")  # by which Go's clients know what it was
    assert "TLS" in json.loads(split_answer(raw)[2])["detail"]
    assert "TLS" in running.lines[0]


def test_expect_without_a_body_is_answered(running: Running) -> None:
    raw = running.ask(b"GET / HTTP/1.1\r\n" + CLOSE + b"Expect: 100-continue\r\n\r\n")
    assert split_answer(raw)[0] == 200


def test_expect_with_too_large_a_body_is_refused_before_it_is_sent(running: Running) -> None:
    raw = running.ask(POST + b"Content-Length: 999999999\r\nExpect: 100-continue\r\n\r\n")
    assert split_answer(raw)[0] == 413


def test_unfinished_bodies_have_one_budget_and_small_requests_go_on(
    running: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ledger, "MOST_REQUEST_BYTES", 1_000_000)
    begin = POST + b"Content-Length: 150000\r\n\r\n" + b"x" * 149_999
    slow = []
    for _ in range(20):
        sock = running.connect()
        sock.sendall(begin)
        slow.append(sock)
    server = running.server._server
    wait_for(lambda: sum(" 503 refused" in line for line in running.lines) >= 13)
    assert server.ledger._total <= 1_000_000
    assert answers_well(running)
    # The oldest had to go; the newest are served.
    assert split_answer(read_all(slow[0]))[:2][0] == 503
    slow[-1].sendall(b"x")
    assert slow[-1].recv(100).startswith(b"HTTP/1.1 200")
    for sock in slow:
        sock.close()
    wait_for(lambda: not server.active_channels)
    assert server.ledger._total == 0
    assert not server.ledger._by_address
    assert not server.ledger._unfinished


def test_an_address_has_a_budget_of_its_own(running: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ledger, "MOST_REQUEST_BYTES_OF_AN_ADDRESS", 500_000)
    begin = POST + b"Content-Length: 150000\r\n\r\n" + b"x" * 149_000
    other = socket.create_connection(("127.0.0.1", running.port), 5, source_address=("127.0.0.2", 0))
    other.sendall(begin)
    slow = [running.connect() for _ in range(10)]
    for sock in slow:
        sock.sendall(begin)
    wait_for(lambda: sum(" 503 refused" in line for line in running.lines) >= 7)
    other.sendall(b"x" * 1000)
    assert other.recv(100).startswith(b"HTTP/1.1 200")
    for sock in [*slow, other]:
        sock.close()


def test_an_address_has_a_number_of_connections(running: Running) -> None:
    running.server._server.ledger._most_connections = 5
    with contextlib.ExitStack() as stack:
        for _ in range(5):
            stack.enter_context(running.connect())
        wait_for(lambda: len(running.server._server.active_channels) == 5)
        with running.connect() as one_more:
            assert one_more.recv(1) == b""
        with socket.create_connection(
            ("127.0.0.1", running.port), 5, source_address=("127.0.0.2", 0)
        ) as other:
            other.sendall(b"GET / HTTP/1.1\r\n" + CLOSE + b"\r\n")
            assert split_answer(read_all(other))[0] == 200


def test_a_proxy_s_clients_share_the_limits_of_all_alone(
    running: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ledger, "MOST_REQUEST_BYTES_OF_AN_ADDRESS", 500_000)
    theirs = running.server._server.ledger
    theirs._most_connections = 5
    theirs._is_proxy = "127.0.0.1".__eq__
    slow = [running.connect() for _ in range(10)]
    for sock in slow:
        sock.sendall(POST + b"Content-Length: 150000\r\n\r\n" + b"x" * 149_000)
    wait_for(lambda: theirs._by_address["127.0.0.1"] > 10 * 149_000)
    for sock in slow:
        sock.sendall(b"x" * 1000)
        assert sock.recv(100).startswith(b"HTTP/1.1 200")
        sock.close()


def test_the_log_tells_once_of_connections_that_were_cut_off(
    running: Running, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(http, "REQUEST_SECONDS", 0.2)
    caplog.set_level(logging.WARNING, "dockmesh.server")
    for _ in range(3):
        with running.connect() as sock:
            sock.sendall(b"GET /")
            assert sock.recv(1) == b""
    assert [record.getMessage() for record in caplog.records] == [
        "Closed 1 connections whose client did not send or read on, most of them from 127.0.0.1"
    ]


def test_every_address_is_both_families_and_several_are_possible() -> None:
    sockets = listener.bind_all(["[::]:0", "127.0.0.1:0"])
    seen = []

    def application(environ, start_response):
        seen.append(environ["REMOTE_ADDR"])
        start_response("204 No Content", [])
        return []

    server = HTTPServer(sockets, application, threads=1, max_body_bytes=100)
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    ports = [sock.getsockname()[1] for sock in sockets]
    for host, port in (("127.0.0.1", ports[0]), ("::1", ports[0]), ("127.0.0.1", ports[1])):
        with socket.create_connection((host, port), timeout=5) as sock:
            sock.sendall(b"GET / HTTP/1.1\r\n" + CLOSE + b"\r\n")
            assert split_answer(read_all(sock))[0] == 204
    server.stop()
    thread.join(10)
    assert not thread.is_alive()
    assert seen == ["127.0.0.1", "::1", "127.0.0.1"]


def test_a_name_is_bound_with_all_its_addresses(monkeypatch: pytest.MonkeyPatch) -> None:
    free = socket.create_server(("127.0.0.1", 0))
    port = free.getsockname()[1]
    free.close()
    found = [
        (socket.AF_INET6, socket.SOCK_STREAM, 6, "", ("2001:db8::1", port, 0, 0)),  # not of this machine
        (socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", port)),
        (socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", port)),
    ]
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: found)
    sockets = listener.bind("name", port)
    assert listener.urls(sockets) == [f"http://127.0.0.1:{port}"]
    sockets[0].listen()
    with pytest.raises(listener.BindError, match=f"can't listen on name:{port}: Address already in use"):
        listener.bind("name", port)
    sockets[0].close()


def test_every_address_of_the_machine_is_told() -> None:
    (sock,) = listener.bind_all(["0.0.0.0:0"])
    port = sock.getsockname()[1]
    urls = listener.urls([sock])
    sock.close()
    assert urls[0] == f"http://127.0.0.1:{port}"
    assert len(urls) == len(set(urls))


def test_stopping_answers_who_waits_in_the_queue_of_the_system(
    running: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = running.server._server
    # The loop accepts nothing while it drains, as when it is busy; what the system took is answered all the same.
    monkeypatch.setattr(server, "handle_accept", lambda: None)
    waiting = [running.connect() for _ in range(20)]
    for sock in waiting:
        sock.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
    running.server.stop()
    for sock in waiting:
        assert split_answer(read_all(sock))[0] == 200
        sock.close()
