"""The API and the agents' protocol by hand."""

from __future__ import annotations

import datetime
import hashlib
import json
import urllib.request
import uuid
from typing import Any

from tests.integration.server import DockmeshServer


def call(server: DockmeshServer, token: str, method: str, path: str, body: Any = None) -> Any:
    """One request to the API; its JSON."""
    request = urllib.request.Request(
        f"{server.url}/api/v1/{path}",
        data=json.dumps(body).encode() if body is not None else None,
        headers={"Authorization": f"Bearer {token}", "Content-Type": "application/json"},
        method=method,
    )
    with urllib.request.urlopen(request, timeout=60) as answer:
        content = answer.read()
    return json.loads(content) if content else None


class HandAgent:
    """An agent played by the test, over the real protocol."""

    def __init__(self, server: DockmeshServer, hostname: str) -> None:
        self.server = server
        enrolled = call(server, server.enrollmenttoken(), "POST", "agents/enroll", {"hostname": hostname})
        self.token: str = enrolled["agent_token"]
        self.host_id: int = enrolled["host"]["id"]
        self._boot = str(uuid.uuid4())
        self._sequence = 0

    def beat(self, containers: list[dict[str, Any]]) -> dict[str, Any]:
        document = self.document(containers)
        answer: dict[str, Any] = call(self.server, self.token, "POST", "agents/heartbeat", document)
        assert answer["status"] == "accepted"
        return answer

    def document(self, containers: list[dict[str, Any]]) -> dict[str, Any]:
        """The next heartbeat."""
        self._sequence += 1
        now = datetime.datetime.now(datetime.UTC).isoformat().replace("+00:00", "Z")
        digest = hashlib.sha256(json.dumps(containers).encode()).hexdigest()
        return {
            "protocol": 1,
            "boot_id": self._boot,
            "sequence": self._sequence,
            "sent_at": now,
            "agent": {"version": "0.1.0"},
            "rtt_seconds": [0.012],
            "docker": {"reachable": True, "version": "24.0.7", "error": ""},
            "system": {
                "os": "linux",
                "arch": "x86_64",
                "kernel": "6.1",
                "cpus": 2,
                "memory_bytes": 2**30,
            },
            "inventory": {"digest": f"sha256:{digest}", "containers": containers},
        }


def container(number: int, *, stack: str, state: str, exit_code: int = 0) -> dict[str, Any]:
    return {
        "id": f"{number:064x}",
        "name": f"{stack}-{number}",
        "image": "nginx:1.27",
        "state": state,
        "health": "",
        "exit_code": exit_code,
        "oom_killed": False,
        "restart_count": 0,
        "stack": stack,
        "service": f"service-{number}",
        "created_at": "2026-11-22T11:00:00Z",
        "started_at": "2026-11-22T11:00:00Z",
    }
