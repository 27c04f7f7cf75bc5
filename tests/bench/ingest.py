"""Heartbeats over HTTP: how many a second, and how they and scrapes get along."""

from __future__ import annotations

import itertools
import random
import selectors
import socket
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from urllib.parse import urlsplit

from tests.bench import fleet
from tests.bench.client import Client

CONNECTIONS = 64  # that wait for an answer at the same time; a fleet has one for each host
CHANGED_SHARE = 10  # one container of so many is changed in a changed heartbeat
RHYTHM_SECONDS = 15.0
SCRAPE_SECONDS = 5.0


@dataclass(frozen=True)
class Rate:
    """What a run gave."""

    per_second: float
    latencies: Sequence[float]
    """In seconds, sorted."""

    def percentile(self, share: float) -> float:
        return self.latencies[min(len(self.latencies) - 1, int(len(self.latencies) * share))]


def unchanged(members: Sequence[fleet.Member], url: str, count: int) -> list[bytes]:
    """Requests of digest-only heartbeats, hosts taking turns."""
    return [_request(url, m, fleet.document(m, is_whole=False, rtts=[0.012])) for m in _turns(members, count)]


def with_usage(members: Sequence[fleet.Member], url: str, count: int, dice: random.Random) -> list[bytes]:
    """Requests of heartbeats with the digest alone and what every container uses, hosts taking turns."""
    return [
        _request(url, m, fleet.document(m, is_whole=False, rtts=[0.012], used=fleet.usage(m, dice)))
        for m in _turns(members, count)
    ]


def changed(members: Sequence[fleet.Member], url: str, count: int, dice: random.Random) -> list[bytes]:
    """Requests of whole inventories in each of which a tenth of the containers is new in state."""
    requests = []
    for member in _turns(members, count):
        fleet.change(member, dice, count=max(1, len(member.containers) // CHANGED_SHARE))
        requests.append(_request(url, member, fleet.document(member, is_whole=True, rtts=[0.012])))
    return requests


def throughput(urls: Sequence[str], requests: Sequence[bytes], connections: int) -> Rate:
    """Send them all as fast as the servers answer, each on one of a few connections that are kept alive.

    Heartbeats of one host must not overtake each other, so each connection has its own hosts: requests come
    in turns of hosts, and so do connections.
    """
    selector = selectors.DefaultSelector()
    queues = [list(reversed(requests[at::connections])) for at in range(connections)]
    sent: dict[socket.socket, float] = {}
    start = time.perf_counter()
    for number, queue in enumerate(queues):
        parts = urlsplit(urls[number % len(urls)])
        opened = socket.create_connection((parts.hostname, parts.port))
        opened.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        selector.register(opened, selectors.EVENT_READ, queue)
        sent[opened] = time.perf_counter()
        opened.sendall(queue.pop())
    latencies = []
    while sent:
        for key, _ in selector.select():
            sock = key.fileobj
            assert isinstance(sock, socket.socket)
            answer = sock.recv(65536)
            while b"\r\n\r\n" not in answer or not answer.endswith(b"}"):
                answer += sock.recv(65536)
            now = time.perf_counter()
            assert b'"accepted"' in answer, answer
            latencies.append(now - sent[sock])
            if key.data:
                sent[sock] = now
                sock.sendall(key.data.pop())
            else:
                selector.unregister(sock)
                sock.close()
                del sent[sock]
    return Rate(len(requests) / (time.perf_counter() - start), sorted(latencies))


@dataclass(frozen=True)
class Rhythm:
    """How heartbeats and scrapes fared beside each other; in seconds, sorted."""

    heartbeats: Sequence[float]
    scrapes: Sequence[float]


def rhythm(
    url: str, members: Sequence[fleet.Member], scraper: Client, *, seconds: float, dice: random.Random
) -> Rhythm:
    """Every host once in 15 s, evenly spread, one in a hundred with a change; a scrape every 5 s."""
    heartbeats: list[float] = []
    scrapes: list[float] = []
    end = time.monotonic() + seconds

    def scrape() -> None:
        due = time.monotonic() + 1.0
        while due < end:
            time.sleep(max(0.0, due - time.monotonic()))
            answer = scraper.get()
            assert answer.status == 200
            scrapes.append(answer.seconds)
            due += SCRAPE_SECONDS

    def beat(share: Sequence[fleet.Member], offset: float) -> None:
        client = Client(url, buffer_bytes=1 << 16)
        gap = RHYTHM_SECONDS / len(share)
        due = time.monotonic() + offset
        for member in _turns(share, 10**9):
            if due >= end:
                return
            time.sleep(max(0.0, due - time.monotonic()))
            is_changed = dice.random() < 0.01
            if is_changed:
                fleet.change(member, dice)
            request = _request(url, member, fleet.document(member, is_whole=is_changed, rtts=[0.012]))
            answer = client.send(request)
            assert answer.status == 200, answer.body
            heartbeats.append(answer.seconds)
            due += gap

    shares = [members[at::4] for at in range(4)]
    threads = [threading.Thread(target=scrape)]
    threads += [
        threading.Thread(target=beat, args=(share, at * RHYTHM_SECONDS / len(members)))
        for at, share in enumerate(shares)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return Rhythm(sorted(heartbeats), sorted(scrapes))


def _turns(members: Sequence[fleet.Member], count: int) -> Iterator[fleet.Member]:
    return itertools.islice(itertools.cycle(members), count)


def _request(url: str, member: fleet.Member, body: bytes) -> bytes:
    host = urlsplit(url).netloc
    return (
        f"POST /api/v1/agents/heartbeat HTTP/1.1\r\nHost: {host}\r\nAuthorization: Bearer {member.token}\r\n"
        f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    ).encode() + body
