"""The REST API of a real server, as a script would use it."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import requests
from prometheus_client.parser import text_string_to_metric_families

from tests.integration.server import DockmeshServer
from tests.support import PATIENCE


class Api:
    """Requests with a token that may do everything."""

    def __init__(self, server: DockmeshServer, token: str = "") -> None:
        self.server = server
        self.token = token or server.createtoken("tests", role="admin")

    def call(self, method: str, path: str, body: Any = None, *, expect: int | None = None) -> Any:
        """The answer's JSON; an unexpected status fails with the body."""
        answer = requests.request(
            method,
            f"{self.server.url}/api/v1/{path}",
            json=body,
            headers={"Authorization": f"Bearer {self.token}"},
            timeout=60,
        )
        assert answer.status_code == expect if expect else answer.ok, (answer.status_code, answer.text)
        return answer.json() if answer.content else None

    def get(self, path: str) -> Any:
        return self.call("GET", path)

    def post(self, path: str, body: Any = None, *, expect: int | None = None) -> Any:
        return self.call("POST", path, body, expect=expect)

    def ended(self, path: str, *, seconds: float = 90) -> Any:
        """The deploy or run at `path` once it has ended."""
        return until(
            lambda: found if (found := self.get(path))["status"] not in ("queued", "running") else None,
            seconds=seconds,
            what=lambda: f"{path} does not end: {self.get(path)}",
        )

    def samples(self) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
        """The scrape: (name, sorted labels) → value."""
        answer = requests.get(
            f"{self.server.url}/metrics", headers={"Authorization": f"Bearer {self.token}"}, timeout=60
        )
        assert answer.status_code == 200, answer.text
        return {
            (sample.name, tuple(sorted(sample.labels.items()))): sample.value
            for family in text_string_to_metric_families(answer.text)
            for sample in family.samples
        }

    def deploys_counted(self, stack: str) -> dict[str, tuple[float, float]]:
        """{result: (count, sum)} of the stack's deploy histogram."""
        samples = self.samples()
        name = "dockmesh_deploy_duration_seconds"
        return {
            result: (
                samples[f"{name}_count", (("result", result), ("stack", stack))],
                samples[f"{name}_sum", (("result", result), ("stack", stack))],
            )
            for result in ("success", "failure")
        }

    def audited(self, action: str) -> float:
        """How many audit entries of the action there are."""
        return self.samples()["dockmesh_audit_log_entries_total", (("action", action),)]


def until(
    found: Callable[[], Any], *, seconds: float, what: str | Callable[[], str], every: float = 0.2
) -> Any:
    """What `found` gives once that is something; fails with `what` after so many seconds."""
    deadline = time.monotonic() + PATIENCE * seconds
    while True:
        value = found()
        if value:
            return value
        assert time.monotonic() < deadline, what() if callable(what) else what
        time.sleep(every)
