"""Requests that are none, too much, or meant for somebody else."""

from __future__ import annotations

import contextlib
import itertools
import json
import re
import socket
import time

import pytest

from tests.hostile.site import HEARTBEAT, Site
from tests.integration.prometheus import wait_for

pytestmark = pytest.mark.integration


def status_of(raw: bytes) -> int:
    assert raw.startswith(b"HTTP/1."), raw[:200]
    return int(raw.split()[1])


def test_a_host_that_is_not_listed_is_refused_and_not_echoed(site: Site) -> None:
    names = ("evil.example", "localhost.evil.example", "evil.example:80", "[evil]", "a b", "@")
    for name, path in itertools.product(names, ("/", "/sign-in/", "/metrics", "/api/v1/hosts", "/nope")):
        answer = site.ask("GET", path, token=site.scraper, headers={"Host": name})
        assert answer.status == 400, (path, answer.body)
        assert b"evil" not in answer.body
        assert b"DOCKMESH_ALLOWED_HOSTS" in answer.body
        assert "evil" not in str(answer.headers)


def test_addresses_and_probes_need_no_listing(site: Site) -> None:
    for name in ("127.0.0.1", "192.0.2.7:8080", "[2001:db8::1]:8080", "[::1]"):
        assert site.ask("GET", "/metrics", token=site.scraper, headers={"Host": name}).status == 200
    for path in ("/livez", "/readyz"):
        assert site.ask("GET", path, headers={"Host": "evil.example"}).status == 200


def test_other_methods_are_405_and_one_series(site: Site) -> None:
    methods = ("TRACE", "FOO123", "TRACK", "CONNECT", "PROPFIND")
    for method, path in itertools.product(methods, ("/api/v1/hosts", "/metrics", "/", HEARTBEAT)):
        raw = site.raw(f"{method} {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n".encode())
        assert status_of(raw) == 405, (path, raw[:300])
    time.sleep(1.5)  # counts of the API are written once a second
    seen = set(re.findall(r'dockmesh_api_requests_total\{method="([^"]*)"', site.scrape()))
    assert seen <= {"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "other"}


def test_random_paths_make_few_series(site: Site) -> None:
    site.series()  # the second scrape shows the first
    before = site.series()
    paths = [
        "/{}/x",
        "/api/v1/{}",
        "/api/v1/hosts/{}",
        "/api/v1/hosts/1/{}",
        "/metrics/{}",
        "/%ff{}",
        "/{}?a=b",
    ]
    for number in range(30):
        for path in paths:
            assert site.ask("GET", path.format(number)).status in (401, 404)
    time.sleep(1.5)
    new = site.series() - before
    # Besides one for what fits no route: one for a route that was asked for with an id of nothing, and its views.
    assert len({line for line in new if line.startswith("dockmesh_api_")}) <= 3, new
    assert not any("29" in line for line in new)


@pytest.mark.parametrize("chunked", [False, True])
def test_a_body_of_10_mb_is_refused(site: Site, chunked: bool) -> None:
    size = 10_000_000
    head = "Transfer-Encoding: chunked" if chunked else f"Content-Length: {size}"
    wire = f"POST {HEARTBEAT} HTTP/1.1\r\nHost: localhost\r\n{head}\r\n\r\n".encode()
    raw = site.raw(wire, f"{size:x}\r\n".encode() if chunked else b"", b"x" * size)
    assert raw == b"" or status_of(raw) == 413


def test_a_chunked_heartbeat_is_accepted_whole(site: Site) -> None:
    body = json.dumps(site.agent.document([])).encode()
    pieces = b"".join(
        b"%x;a=b\r\n%s\r\n" % (len(part), part)
        for part in (body[at : at + 100] for at in range(0, len(body), 100))
    )
    head = (
        f"POST {HEARTBEAT} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Type: application/json\r\n"
        f"Authorization: Bearer {site.agent.token}\r\nTransfer-Encoding: chunked\r\n\r\n"
    )
    raw = site.raw(head.encode() + pieces + b"0\r\n\r\n")
    assert status_of(raw) == 200
    assert b'"accepted"' in raw


HIDDEN = b"DELETE /hidden HTTP/1.1\r\nHost: localhost\r\n\r\n"


AMBIGUOUS = [
    (b"1.1|Content-Length: 5|Transfer-Encoding: chunked", 400),
    (b"1.1|Transfer-Encoding: chunked|Content-Length: 0", 400),
    (b"1.1|Content-Length: 0|Content-Length: 5", 400),
    (b"1.1|Content-Length: 0|Content-Length: 0", 400),
    (b"1.1|Content-Length: 0, 5", 400),
    (b"1.1|Content-Length: 0x5", 400),
    (b"1.1|Content-Length: -1", 400),
    (b"1.1|Content-Length: 5_0", 400),
    (b"1.1|Content-Length:", 400),
    (b"1.1|Content-Length: \xc2\xb2", 400),
    (b"1.1|Content-Length: " + b"9" * 5000, 400),
    (b"1.1|Content-Length : 0", 400),
    (b"1.1|Content-Length:| 5", 400),
    (b"1.1|Transfer-Encoding : chunked", 400),
    (b"1.1|Transfer-Encoding: xchunked", 501),
    (b"1.1|Transfer-Encoding: identity", 501),
    (b"1.1|Transfer-Encoding: chunked, identity", 501),
    (b"1.1|Transfer-Encoding:|\tchunked", 400),
    (b"1.1|Transfer-Encoding: \x0bchunked", 400),
    (b"1.1|X-A: a\0b", 400),
    (b"1.1|X-A: a\rX-B: b", 400),
    (b"1.1|X-A: a\nTransfer-Encoding: chunked", 400),
    (b"1.1|X-A: a| Transfer-Encoding: chunked", 400),
    (b"1.1|X\x01A: a", 400),
    (b"1.1|Host: second.example", 400),
    (b"1.0|Transfer-Encoding: chunked", 411),
    (b"1.0|Transfer-Encoding: gzip", 501),
    (b"0.9|Transfer-Encoding: chunked", 400),
    (b"1.2|Transfer-Encoding: chunked", 400),
    (b"2.0|Transfer-Encoding: chunked", 400),
]


def test_what_two_could_read_differently_is_refused_and_nothing_behind_it_runs(site: Site) -> None:
    for head, status in AMBIGUOUS:
        version, *lines = head.split(b"|")
        begin = b"POST /api/v1/tokens HTTP/" + version + b"\r\nHost: localhost\r\n"
        raw = site.raw(begin + b"\r\n".join(lines) + b"\r\n\r\n" + HIDDEN)
        assert status_of(raw) == status, head
        assert raw.count(b"\r\n\r\n") == 1, head
        assert b"application/problem+json" in raw
        assert "/hidden" not in site.server.log, head


def test_a_compressed_body_is_415(site: Site) -> None:
    codings = ("gzip", "deflate", "br", "GZIP", "gzip, identity", "x")
    for coding, path in itertools.product(codings, (HEARTBEAT, "/api/v1/tokens", "/sign-in/")):
        headers = {"Content-Encoding": coding, "Content-Type": "application/json"}
        assert site.ask("POST", path, b"\x1f\x8b", token=site.agent.token, headers=headers).status == 415


def test_an_expect_without_a_body_and_tls_on_the_plain_port_are_answered(site: Site) -> None:
    head = f"GET /metrics HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {site.scraper}\r\n"
    assert status_of(site.raw(head.encode() + b"Expect: 100-continue\r\nConnection: close\r\n\r\n")) == 200
    assert status_of(site.raw(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(200))) == 400
    assert status_of(site.raw(b"\x16")) == 400


def test_slow_and_greedy_clients_keep_nobody_waiting(site: Site) -> None:
    begins = [
        b"POST /api/v1/tokens HTTP/1.1\r\nHost: localhost\r\nContent-Length: 900\r\n\r\n{",
        b"GET / HT",
        b"GET /metrics HTTP/1.1\r\nHost: localhost\r\nX-A:",
        f"POST {HEARTBEAT} HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n1;".encode(),
        f"POST {HEARTBEAT} HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nX:".encode(),
        # Answers that nobody reads.
        f"GET /metrics HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {site.scraper}\r\n\r\n".encode()
        * 200,
    ]
    with contextlib.ExitStack() as stack:
        slow = []
        for number in range(240):
            sock = stack.enter_context(socket.create_connection((site.host, site.port), timeout=30))
            sock.sendall(begins[number % len(begins)])
            slow.append((number % len(begins), sock))
        for _ in range(5):
            for kind, sock in slow:
                if kind in (3, 4):
                    with contextlib.suppress(OSError):
                        sock.send(b"a")
            site.scrape()
            assert site.ask("GET", "/livez").status == 200
            assert site.beat(json.dumps(site.agent.document([]))).status == 200


def test_unfinished_bodies_are_bounded_and_heartbeats_go_on(site: Site) -> None:
    begin = f"POST {HEARTBEAT} HTTP/1.1\r\nHost: localhost\r\nContent-Length: 500000\r\n\r\n".encode()
    with contextlib.ExitStack() as stack:
        for _ in range(100):
            sock = stack.enter_context(socket.create_connection((site.host, site.port), timeout=30))
            with contextlib.suppress(OSError):
                sock.sendall(begin + b"x" * 499_000)
        assert site.beat(json.dumps(site.agent.document([]))).status == 200
        # The server may still be reading what is in its sockets.
        wait_for(
            lambda: " 503 refused: Too much is being received" in site.server.log,
            what="a body that is refused",
        )
