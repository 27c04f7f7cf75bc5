"""An agent of a host, as the tests' client: its heartbeats go to the endpoint, or through the batch_endpoint."""

from __future__ import annotations

import json
import time
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import pytest
from django.db import connection
from django.http import HttpResponse
from django.test import Client
from django.test.utils import CaptureQueriesContext

from dockmesh.fleet.ingest import batch
from dockmesh.fleet.models import HeartbeatState, Host
from dockmesh.server.batch import Posted
from tests.fleet.factories import make_host
from tokens import refusals, throttle


@dataclass
class AgentClient:
    """Speaks as the agent of `host`, in the form in which agents send (no blanks)."""

    host: Host
    token: str
    is_in_batch: bool = False

    def post(self, path: str, body: Any, **extra: Any) -> Any:
        raw = raw_of(body)
        headers = {"Authorization": f"Bearer {self.token}", **extra.pop("headers", {})}
        return Client().post(
            f"/api/v1/agents/{path}",
            data=raw,
            content_type=extra.pop("content_type", "application/json"),
            headers=headers,
            **extra,
        )

    def beat(self, body: Any, **extra: Any) -> Any:
        """What the server answers: the batch endpoint, or the endpoint where the batch endpoint leaves it alone."""
        if self.is_in_batch and not extra:
            (answer,) = batch.answer([self.posted(body)])
            if answer is not None:
                return LaneAnswer(answer, content_type="application/json")
        return self.post("heartbeat", body, **extra)

    def posted(self, body: Any, **headers: str) -> Posted:
        """The heartbeat as the HTTP server hands it to the batch_endpoint."""
        known = {
            "HOST": "localhost",
            "CONTENT_TYPE": "application/json",
            "AUTHORIZATION": f"Bearer {self.token}",
        }
        return Posted("127.0.0.1", {**known, **headers}, raw_of(body), time.monotonic())

    @property
    def heartbeat_state(self) -> HeartbeatState:
        return HeartbeatState.objects.get(pk=self.host.pk)


class LaneAnswer(HttpResponse):
    """The batch endpoint's body, as the test client would give it."""

    def json(self) -> Any:
        return json.loads(self.content)


def raw_of(body: Any) -> bytes:
    return body if isinstance(body, bytes) else json.dumps(body, separators=(",", ":")).encode()


@pytest.fixture
def is_in_batch() -> bool:
    """Whether the agents' heartbeats go through the batch_endpoint."""
    return False


@pytest.fixture(params=[False, True], ids=["endpoint", "batch"])
def both_ways(request: pytest.FixtureRequest) -> bool:
    """A module that says `is_in_batch = both_ways` has its tests run both ways."""
    return bool(request.param)


@pytest.fixture
def agent(db: None, is_in_batch: bool) -> AgentClient:
    return AgentClient(*make_host("web"), is_in_batch)


@pytest.fixture
def other_agent(db: None, is_in_batch: bool) -> AgentClient:
    return AgentClient(*make_host("db"), is_in_batch)


@pytest.fixture(autouse=True)
def _no_throttle() -> None:
    throttle.forget()
    refusals.forget()


@pytest.fixture
def connection_queries() -> CaptureQueriesContext:
    return CaptureQueriesContext(connection)


def statements(queries: Iterable[dict[str, str]]) -> list[str]:
    """The first word of each, without those of transactions; on SQLite a statement for many rows is one."""
    words = [query["sql"].split(" times: ")[-1].split()[0] for query in queries]
    return [word for word in words if word in ("SELECT", "UPDATE", "INSERT", "DELETE")]
