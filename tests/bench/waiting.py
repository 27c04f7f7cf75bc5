"""`python -m tests.bench.waiting`: what agents cost that wait for commands at one process, and how soon a command is there."""

from __future__ import annotations

import argparse
import json
import os
import random
import selectors
import socket
import statistics
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from tests.bench.client import processor_seconds, resident_bytes
from tests.integration.server import DockmeshServer

COMMANDS = 50
# Between two commands, so that what the database and the kernel do after one is over.
PAUSE_SECONDS = 0.1


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.bench.waiting", description=__doc__)
    parser.add_argument("--agents", type=int, default=2000)
    parser.add_argument("--seconds", type=float, default=60.0, help="for which they wait, again and again")
    parser.add_argument("--database", choices=["sqlite", "postgresql"], default="sqlite")
    options = parser.parse_args()
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="dockmesh-bench-")))
        url = ""
        if options.database == "postgresql":
            from tests.integration.postgres import PostgresServer

            url = stack.enter_context(PostgresServer(durable=True)).create_database()
            os.environ["DOCKMESH_DATABASE_URL"] = url
        os.environ["DJANGO_SETTINGS_MODULE"] = "dockmesh.settings"
        os.environ["DOCKMESH_DATA_DIR"] = str(folder / "data")
        with DockmeshServer(folder / "data", database_url=url) as server:
            import django

            django.setup()
            print(json.dumps(_measure(server, options.agents, options.seconds)))


class Waiters:
    """Connections that wait, one for each agent, and ask again as soon as they are answered."""

    def __init__(self, url: str, tokens: dict[int, str]) -> None:
        self._selector = selectors.DefaultSelector()
        self.answers = 0
        self._requests: dict[socket.socket, bytes] = {}
        parts = urlsplit(url)
        for host_id, token in tokens.items():
            sock = socket.create_connection((parts.hostname, parts.port or 80))
            request = (
                f"POST /api/v1/agents/wait HTTP/1.1\r\nHost: {parts.netloc}\r\nAuthorization: Bearer {token}\r\n"
                "Content-Type: application/json\r\nContent-Length: 2\r\n\r\n{}"
            ).encode()
            self._requests[sock] = request
            self._selector.register(sock, selectors.EVENT_READ, host_id)
            sock.sendall(request)

    def run(self, seconds: float, *, until: int = 0) -> float | None:
        """Keep them waiting; gives when the host `until` was answered with a command."""
        end = time.monotonic() + seconds
        while (left := end - time.monotonic()) > 0:
            for key, _ in self._selector.select(left):
                sock = key.fileobj
                assert isinstance(sock, socket.socket)
                answer = sock.recv(65536)
                while b"\r\n\r\n" not in answer or not answer.endswith(b"}"):
                    answer += sock.recv(65536)
                now = time.monotonic()
                assert b" 200 OK" in answer, answer
                self.answers += 1
                sock.sendall(self._requests[sock])
                if key.data == until and b'"commands":[]' not in answer:
                    return now
        return None


def _measure(server: DockmeshServer, agents: int, seconds: float) -> dict[str, Any]:
    from django.db import transaction

    from dockmesh.fleet import commands
    from tests.bench.fleet import _enrol

    with transaction.atomic():
        members = [_enrol(number) for number in range(1, agents + 1)]
    pid = server.children()[0]
    time.sleep(2)
    memory, idle = resident_bytes(pid), _processor_share(pid, 5.0)
    waiters = Waiters(server.url, {member.host_id: member.token for member in members})
    waiters.run(3)
    waiters.answers = 0
    before = processor_seconds(pid)
    waiters.run(seconds)
    share = (processor_seconds(pid) - before) / seconds
    answers = waiters.answers
    delays = []
    dice = random.Random(1)
    for member in dice.sample(members, min(COMMANDS, agents)):
        waiters.run(PAUSE_SECONDS)
        asked = time.monotonic()
        commands.enqueue(host_id=member.host_id, kind="container-action", payload={})
        answered = waiters.run(30, until=member.host_id)
        assert answered is not None, "the command did not come"
        delays.append(answered - asked)
    return {
        "agents": agents,
        "threads": len(os.listdir(f"/proc/{pid}/task")),
        "memory_before_mib": round(memory / 2**20, 1),
        "memory_with_them_mib": round(resident_bytes(pid) / 2**20, 1),
        "processor_idle_percent": round(idle * 100, 2),
        "processor_waiting_percent": round(share * 100, 2),
        "answers_a_second": round(answers / seconds, 1),
        "command_ms_median": round(statistics.median(delays) * 1e3, 1),
        "command_ms_longest": round(max(delays) * 1e3, 1),
    }


def _processor_share(pid: int, seconds: float) -> float:
    before = processor_seconds(pid)
    time.sleep(seconds)
    return (processor_seconds(pid) - before) / seconds


if __name__ == "__main__":
    main()
