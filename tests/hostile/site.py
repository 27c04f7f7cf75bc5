"""A started server with a fleet of two hosts, and the question whether an attack on it has hurt anybody."""

from __future__ import annotations

import contextlib
import http.client
import json
import re
import socket
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.end_to_end.hand_agent import HandAgent, call, container
from tests.integration.server import DockmeshServer
from tests.metrics.test_page import COMPLAINTS
from tests.support import require

# Silence makes nobody offline while a test runs.
ENVIRONMENT = {"DOCKMESH_HOST_OFFLINE_AFTER": "86400"}

# What differs from scrape to scrape though nothing has happened.
_OF_THE_MOMENT = ("dockmesh_agent_last_seen_seconds",)

HEARTBEAT = "/api/v1/agents/heartbeat"


@dataclass(frozen=True)
class Answer:
    status: int
    headers: http.client.HTTPMessage
    body: bytes

    def json(self) -> Any:
        return json.loads(self.body)


class Site:
    """`agent` is whom an attacker has taken over, `bystander` another host's agent."""

    def __init__(self, server: DockmeshServer) -> None:
        self.server = server
        self.host, _, port = server.url.removeprefix("http://").rpartition(":")
        self.port = int(port)
        self.admin = server.createtoken("admin", role="admin")
        self.scraper = server.createtoken("scraper", permissions=["metrics.read"])
        self.bystander = HandAgent(server, "bystander")
        self.bystander.beat([container(1, stack="theirs", state="running")])
        self.agent = HandAgent(server, "attacked")
        self.agent.beat([container(2, stack="ours", state="running")])
        self.secrets = {self.admin, self.scraper, self.bystander.token, self.agent.token}
        self._log_begin = 0

    def ask(
        self,
        method: str,
        path: str,
        body: bytes | str | None = None,
        *,
        token: str = "",
        headers: dict[str, str] | None = None,
        source: str = "127.0.0.1",
    ) -> Answer:
        """One request on a connection of its own, from a loopback address of choice."""
        connection = http.client.HTTPConnection(self.host, self.port, timeout=30, source_address=(source, 0))
        with contextlib.closing(connection):
            given = {"Authorization": f"Bearer {token}"} if token else {}
            connection.request(method, path, body, {**given, **(headers or {})})
            answer = connection.getresponse()
            found = Answer(answer.status, answer.headers, answer.read())
        assert b"Traceback" not in found.body
        return found

    def api(self, method: str, path: str, body: Any = None) -> Any:
        """The API as an administrator; a refusal raises."""
        return call(self.server, self.admin, method, path, body)

    def raw(self, *parts: bytes) -> bytes:
        """Bytes as they are; whatever comes back until the server closes."""
        received = b""
        with socket.create_connection((self.host, self.port), timeout=30) as sock:
            with contextlib.suppress(ConnectionResetError, BrokenPipeError):
                for part in parts:
                    sock.sendall(part)
            with contextlib.suppress(ConnectionResetError):
                while data := sock.recv(65536):
                    received += data
        assert b"Traceback" not in received
        return received

    def beat(self, body: bytes | str, **options: Any) -> Answer:
        """A heartbeat of the attacked host; one whose connection is closed while it is sent counts as too large."""
        headers = {"Content-Type": "application/json", **options.pop("headers", {})}
        try:
            return self.ask("POST", HEARTBEAT, body, token=self.agent.token, headers=headers, **options)
        except (BrokenPipeError, ConnectionResetError):
            return Answer(413, http.client.HTTPMessage(), b"")

    def scrape(self) -> str:
        answer = self.ask("GET", "/metrics", token=self.scraper)
        assert answer.status == 200, answer.body[:500]
        return answer.body.decode()

    def series(self) -> set[str]:
        """Names and labels of all series."""
        return {line.rpartition(" ")[0] for line in self.scrape().splitlines() if not line.startswith("#")}

    def series_of(self, *hosts: str) -> dict[str, str]:
        """Each series of the hosts, with its value."""
        wanted = tuple(f'host="{host}"' for host in hosts)
        lines = [line for line in self.scrape().splitlines() if any(each in line for each in wanted)]
        assert lines
        pairs = (line.rpartition(" ")[::2] for line in lines if not line.startswith(_OF_THE_MOMENT))
        return dict(pairs)

    def audited(self, action: str) -> int:
        """How many entries of the action there ever were."""
        label = re.escape(f'dockmesh_audit_log_entries_total{{action="{action}"}}')
        found = re.search(f"^{label} (\\d+)", self.scrape(), re.MULTILINE)
        return int(found[1]) if found else 0

    def assert_unharmed(self, before: dict[str, str]) -> None:
        """After whatever was done: it lives, scrapes pass, the bystander is as `before`, and the log tells no secret."""
        assert self.ask("GET", "/livez").status == 200
        check_metrics(self.scrape())
        assert self.series_of("bystander") == before
        log = self.server.log[self._log_begin :]
        self._log_begin += len(log)
        assert "Traceback" not in log
        for secret in self.secrets:
            assert secret.split("_")[2] not in log
        self.bystander.beat([container(1, stack="theirs", state="running")])


def check_metrics(text: str) -> None:
    """promtool has nothing to say but of the names that the page fixes, and of django-prometheus's."""
    done = subprocess.run(
        [require("promtool"), "check", "metrics"], input=text, capture_output=True, text=True, check=False
    )
    found = set((done.stdout + done.stderr).splitlines())
    assert {line for line in found if not line.startswith("django_")} <= COMPLAINTS


def start(data_dir: Path, database_url: str = "") -> DockmeshServer:
    """A server that the caller stops."""
    return DockmeshServer(data_dir, ENVIRONMENT, database_url=database_url)
