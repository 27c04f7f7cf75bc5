"""Faults under load: what was acknowledged is there, whatever was killed, and a full disk heals by itself."""

import contextlib
import http.client
import os
import signal
import sqlite3
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from dockmesh.agent.client import encoded
from dockmesh.fleet.ingest.documents import read_plain_heartbeat
from tests.fleet.factories import container, heartbeat
from tests.integration.postgres import PostgresServer
from tests.integration.server import DockmeshServer
from tests.support import PATIENCE, missing

pytestmark = pytest.mark.integration

HOSTS = 4
MAKE_HOSTS = f"""
from tests.fleet.factories import make_host
print("\\n".join(make_host()[1] for _ in range({HOSTS})))
"""
SHOW_SEQUENCES = """
from dockmesh.fleet.models import HeartbeatState
print(*HeartbeatState.objects.order_by("host_id").values_list("sequence", flat=True))
"""


class Agent(threading.Thread):
    """Sends heartbeats one after the other; remembers the last one that the server acknowledged."""

    def __init__(self, server: DockmeshServer, token: str, first: int = 1) -> None:
        super().__init__(daemon=True)
        self.address = server.url.removeprefix("http://")
        self.token = token
        self.first = self.sequence = first
        self.acknowledged = first - 1
        self.statuses: set[int] = set()
        self.slowest = 0.0
        self.is_done = False

    def run(self) -> None:
        connection = http.client.HTTPConnection(self.address, timeout=20)
        while not self.is_done:
            began = time.monotonic()
            try:
                status = self.send(connection)
            except (OSError, http.client.HTTPException):
                connection.close()
                time.sleep(0.01)
                continue
            self.slowest = max(self.slowest, time.monotonic() - began)
            self.statuses.add(status)
            if status == 200:
                self.acknowledged = self.sequence
            else:
                time.sleep(0.05)
            self.sequence += 1
        connection.close()

    def document(self) -> bytes:
        """As the agent sends it: the form that is read quickest, the inventory whole at first and then by its digest.

        So most of these are taken together with others, by the way that most heartbeats of a fleet take.
        """
        whole: dict[str, Any] = {} if self.acknowledged >= self.first else {"containers": [container()]}
        raw = encoded(heartbeat(self.sequence, **whole))
        assert read_plain_heartbeat(raw) is not None
        return raw

    def send(self, connection: http.client.HTTPConnection) -> int:
        connection.request(
            "POST",
            "/api/v1/agents/heartbeat",
            self.document(),
            {"Authorization": f"Bearer {self.token}", "Content-Type": "application/json"},
        )
        answer = connection.getresponse()
        answer.read()
        return answer.status


@pytest.fixture(params=["sqlite", "postgresql"])
def server(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[DockmeshServer]:
    url = ""
    if request.param == "postgresql":
        postgres: PostgresServer = request.getfixturevalue("postgres_server")
        url = postgres.create_database()
    with DockmeshServer(tmp_path / "data", database_url=url) as server:
        yield server


@pytest.fixture
def agents(server: DockmeshServer) -> Iterator[list[Agent]]:
    agents = [Agent(server, token) for token in server.manage("shell", "-v0", "-c", MAKE_HOSTS).split()]
    yield agents
    for agent in agents:
        agent.is_done = True


def start(agents: list[Agent]) -> None:
    for agent in agents:
        agent.start()
    wait_for_progress(agents)


def finish(agents: list[Agent]) -> None:
    for agent in agents:
        agent.is_done = True
    for agent in agents:
        agent.join(30)


def wait_for_progress(agents: list[Agent]) -> None:
    """Until every agent has had another heartbeat acknowledged."""
    before = [agent.acknowledged for agent in agents]
    deadline = time.monotonic() + PATIENCE * 20
    while any(agent.acknowledged <= old for agent, old in zip(agents, before, strict=True)):
        assert time.monotonic() < deadline, [agent.statuses for agent in agents]
        time.sleep(0.02)


def stored(server: DockmeshServer) -> list[int]:
    return [int(word) for word in server.manage("shell", "-v0", "-c", SHOW_SEQUENCES).split()]


def test_kill_9_of_the_web_process_loses_nothing_acknowledged(
    server: DockmeshServer, agents: list[Agent]
) -> None:
    start(agents)
    for _ in range(10):
        os.kill(server.children()[0], signal.SIGKILL)
        wait_for_progress(agents)
    finish(agents)
    assert all(agent.statuses == {200} for agent in agents)
    for sequence, agent in zip(stored(server), agents, strict=True):
        assert sequence >= agent.acknowledged


def test_kill_9_of_the_whole_server_loses_nothing_acknowledged(
    server: DockmeshServer, agents: list[Agent]
) -> None:
    start(agents)
    for _ in range(2):
        server.kill()
        began = time.monotonic()
        server.start()
        assert time.monotonic() - began < 15
        wait_for_progress(agents)
    server.kill()
    finish(agents)
    if "DOCKMESH_DATABASE_URL" not in server.environment:
        with contextlib.closing(sqlite3.connect(server.data_dir / "dockmesh.sqlite3")) as database:
            assert database.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    for sequence, agent in zip(stored(server), agents, strict=True):
        assert sequence >= agent.acknowledged


@pytest.mark.alone
def test_sigterm_under_load_finishes_accepted_requests(server: DockmeshServer, agents: list[Agent]) -> None:
    start(agents)
    assert server.process is not None
    began = time.monotonic()
    server.process.send_signal(signal.SIGTERM)
    time.sleep(0.3)
    assert server.readyz() == 503
    assert server.process.wait(30) == 0
    assert time.monotonic() - began < 10
    finish(agents)
    assert all(agent.statuses == {200} for agent in agents)
    for sequence, agent in zip(stored(server), agents, strict=True):
        assert sequence >= agent.acknowledged
    assert "Traceback" not in server.log


@pytest.mark.alone
def test_slow_clients_do_not_hold_up_heartbeats(server: DockmeshServer, agents: list[Agent]) -> None:
    host, _, port = server.url.removeprefix("http://").rpartition(":")
    slow = []
    for part in (
        b"POST /api/v1/agents/heartbeat HTTP/1.1\r\nHost: x\r\nContent-Length: 900\r\n\r\n{",
        b"GET / HT",
    ):
        for _ in range(200):
            connection = http.client.HTTPConnection(host, int(port))
            connection.connect()
            connection.sock.sendall(part)
            slow.append(connection)
    start(agents)
    for _ in range(3):
        wait_for_progress(agents)
    finish(agents)
    assert max(agent.slowest for agent in agents) < 2
    for connection in slow:
        connection.close()


def test_large_bodies_are_refused_and_cost_no_memory(tmp_path: Path) -> None:
    with DockmeshServer(tmp_path / "data") as server:
        web = server.children()[0]
        before = peak_memory(web)
        for _ in range(5):
            connection = http.client.HTTPConnection(server.url.removeprefix("http://"), timeout=10)
            with contextlib.suppress(OSError):  # closed while sending is a refusal too
                connection.request("POST", "/api/v1/agents/heartbeat", b"x" * 10_000_000)
                assert connection.getresponse().status == 413
            connection.close()
        assert peak_memory(web) - before < 32 * 1024 * 1024
        assert server.readyz() == 200


def peak_memory(pid: int) -> int:
    """The most resident memory that the process had, in bytes."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return 1024 * next(int(line.split()[1]) for line in lines if line.startswith("VmHWM"))


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A folder with room for 24 MB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=24m", "tmpfs", str(folder)]
    if os.geteuid() != 0 or subprocess.run(mount, capture_output=True, check=False).returncode:
        missing("a small disk can't be mounted here")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


def test_a_full_disk_refuses_writes_serves_reads_and_recovers(small_disk: Path) -> None:
    with DockmeshServer(small_disk / "data") as server:
        token = server.manage("shell", "-v0", "-c", MAKE_HOSTS).split()[0]
        agent = Agent(server, token)
        agent.start()
        wait_for_progress([agent])
        filler = small_disk / "filler"
        with contextlib.suppress(OSError), filler.open("wb", buffering=0) as file:
            while True:
                file.write(b"\0" * 4096)
        deadline = time.monotonic() + 20
        while 503 not in agent.statuses:  # until what SQLite had reserved is used up
            assert time.monotonic() < deadline
            time.sleep(0.05)
        assert agent.statuses == {200, 503}
        assert server.readyz() == 200
        connection = http.client.HTTPConnection(agent.address, timeout=5)
        connection.request("GET", "/sign-in/")
        assert connection.getresponse().status == 200
        connection.close()
        filler.unlink()
        wait_for_progress([agent])
        finish([agent])
        assert agent.statuses == {200, 503}
