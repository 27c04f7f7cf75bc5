"""Requests as bytes: what is read, and what is refused because it could be read in two ways."""

import contextlib
import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dockmesh.server.parser import MAX_CHUNK_LINE_BYTES, BadRequest, ChunkedBody, parse_head

HOST = b"Host: example.com\r\n"


def status_of(block: bytes) -> int:
    with pytest.raises(BadRequest) as refused:
        parse_head(block)
    return refused.value.status.value


def test_a_request_becomes_a_wsgi_environ() -> None:
    head = parse_head(
        b"POST /caf%C3%A9/a?q=%20&x HTTP/1.1\r\nHost: example.com:8080\r\nContent-Type: application/json\r\n"
        b"Content-Length: 3\r\nX-Two:  a \r\nX-Two: b\r\nCookie: a=1\r\ncookie: b=2\r\n"
    )
    assert head.body_bytes == 3
    assert head.is_keep_alive
    assert not head.is_chunked
    assert head.environ == {
        "REQUEST_METHOD": "POST",
        "PATH_INFO": "/café/a".encode().decode("latin-1"),
        "RAW_PATH": "/caf%C3%A9/a",
        "QUERY_STRING": "q=%20&x",
        "SERVER_PROTOCOL": "HTTP/1.1",
        "HTTP_HOST": "example.com:8080",
        "CONTENT_TYPE": "application/json",
        "CONTENT_LENGTH": "3",
        "HTTP_X_TWO": "a, b",
        "HTTP_COOKIE": "a=1; b=2",
    }


def test_headers_with_an_underscore_are_dropped() -> None:
    head = parse_head(b"GET / HTTP/1.1\r\n" + HOST + b"X_Forwarded_For: 6.6.6.6\r\nContent_Length: 5\r\n")
    assert set(head.environ) & {"HTTP_X_FORWARDED_FOR", "CONTENT_LENGTH", "HTTP_CONTENT_LENGTH"} == set()
    assert head.body_bytes == 0


def test_an_absolute_target_gives_the_host() -> None:
    head = parse_head(b"GET http://other.example/x?y HTTP/1.1\r\n" + HOST)
    assert head.environ["HTTP_HOST"] == "other.example"
    assert (head.environ["PATH_INFO"], head.environ["QUERY_STRING"]) == ("/x", "y")


@pytest.mark.parametrize(
    ("line", "headers", "keeps"),
    [
        (b"GET / HTTP/1.1", b"", True),
        (b"GET / HTTP/1.1", b"Connection: Close\r\n", False),
        (b"GET / HTTP/1.1", b"Connection: upgrade, close\r\n", False),
        (b"GET / HTTP/1.0", b"", False),
        (b"GET / HTTP/1.0", b"Connection: Keep-Alive\r\n", True),
    ],
)
def test_keep_alive(line: bytes, headers: bytes, keeps: bool) -> None:
    assert parse_head(line + b"\r\n" + HOST + headers).is_keep_alive is keeps


@pytest.mark.parametrize(
    "headers",
    [
        b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n",
        b"Transfer-Encoding: chunked\r\nContent-Length: 5\r\n",
        b"Content-Length: 5\r\nContent-Length: 5\r\n",
        b"Content-Length: 5\r\nContent-Length: 6\r\n",
        b"Content-Length: 5, 5\r\n",
        b"Content-Length: +5\r\n",
        b"Content-Length: -5\r\n",
        b"Content-Length: 0x5\r\n",
        b"Content-Length: 1_0\r\n",
        b"Content-Length: \xb2\r\n",
        b"Content-Length: 9999999999999999999\r\n",
        b"Content-Length:\r\n",
        b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n",
        b"Transfer-Encoding : chunked\r\n",
        b"X-A: a\0b\r\n",
        b"X-A: a\x01b\r\n",
        b"X-A: a\rb\r\n",
        b"X-A: a\nX-B: b\r\n",
        b"X-A: a\r\n folded\r\n",
        b" X-A: a\r\n",
        b"X A: a\r\n",
        b": a\r\n",
        b"nothing\r\n",
        b"Host: second.example\r\n",
    ],
)
def test_what_could_be_read_in_two_ways_is_400(headers: bytes) -> None:
    assert status_of(b"POST / HTTP/1.1\r\n" + HOST + headers) == 400


@pytest.mark.parametrize(
    "line",
    [
        b"GET /",
        b"GET / HTTP/2.0",
        b"GET  / HTTP/1.1",
        b"GET / HTTP/1.1 ",
        b" GET / HTTP/1.1",
        b"GET /a b HTTP/1.1",
        b"GET /\0 HTTP/1.1",
        b"GET /a#b HTTP/1.1",
        b"GET a HTTP/1.1",
        b"GET * HTTP/1.1",
        b"CONNECT host:443 HTTP/1.1",
        b"G(T / HTTP/1.1",
        b"A" * 33 + b" / HTTP/1.1",
        b"GET ftp://x/ HTTP/1.1",
        b"GET http://user@x/ HTTP/1.1",
        b"",
    ],
)
def test_a_bad_request_line_is_400(line: bytes) -> None:
    assert status_of(line + b"\r\n" + HOST) == 400


def test_http_1_1_needs_a_host_and_http_1_0_knows_no_chunks() -> None:
    assert status_of(b"GET / HTTP/1.1\r\n") == 400
    assert status_of(b"GET / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n") == 400


def test_other_transfer_codings_are_501() -> None:
    for coding in (b"gzip, chunked", b"identity", b"xchunked", b"chunked, chunked"):
        assert status_of(b"POST / HTTP/1.1\r\n" + HOST + b"Transfer-Encoding: " + coding + b"\r\n") == 501


def test_many_headers_are_431() -> None:
    assert status_of(b"GET / HTTP/1.1\r\n" + HOST + b"".join(b"X-%d: 1\r\n" % n for n in range(200))) == 431


@given(st.binary(max_size=200))
def test_any_bytes_are_read_or_refused(garbage: bytes) -> None:
    for block in (garbage + b"\r\n", b"GET / HTTP/1.1\r\n" + HOST + garbage + b"\r\n"):
        with contextlib.suppress(BadRequest):
            parse_head(block)


@given(
    chunks=st.lists(st.binary(min_size=1, max_size=50), max_size=8),
    extension=st.sampled_from([b"", b";a=b", b" ; x"]),
    trailer=st.sampled_from([b"", b"X-A: b\r\n", b"X-A: b\r\nX-B: c\r\n"]),
    rest=st.binary(max_size=20),
    cuts=st.lists(st.integers(0, 700), max_size=12),
)
def test_a_chunked_body_is_the_same_however_the_network_cuts_it(
    chunks: list[bytes], extension: bytes, trailer: bytes, rest: bytes, cuts: list[int]
) -> None:
    wire = b"".join(b"%x%s\r\n%s\r\n" % (len(chunk), extension, chunk) for chunk in chunks)
    wire += b"0\r\n" + trailer + b"\r\n" + rest
    reader = ChunkedBody(limit=1000)
    edges = [0, *sorted(min(cut, len(wire)) for cut in cuts), len(wire)]
    for begin, end in itertools.pairwise(edges):
        left = reader.feed(wire[begin:end])
        if left is not None:
            assert left + wire[end:] == rest
            assert bytes(reader.body) == b"".join(chunks)
            return
    raise AssertionError("never whole")


@pytest.mark.parametrize(
    ("wire", "status"),
    [
        (b"5\r\nhelloXY", 400),
        (b"5\r\nhello\n0\r\n\r\n", 400),
        (b"-1\r\n", 400),
        (b"+5\r\n", 400),
        (b"0x5\r\n", 400),
        (b"\r\n", 400),
        (b"5 5\r\n", 400),
        (b"5;\0\r\n", 400),
        (b"111111111\r\n", 400),
        (b"5" * MAX_CHUNK_LINE_BYTES, 400),
        (b"65\r\n", 413),
        (b"64\r\n" + b"x" * 100 + b"\r\n1\r\n", 413),
        (b"0\r\n" + b"x" * 5000, 431),
    ],
)
def test_bad_chunks_are_refused(wire: bytes, status: int) -> None:
    with pytest.raises(BadRequest) as refused:
        ChunkedBody(limit=100).feed(wire)
    assert refused.value.status.value == status
