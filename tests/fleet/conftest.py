"""An agent of a host, as the tests' client."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

import pytest
from django.test import Client

from dockmesh.fleet.models import Host, HostPulse
from tests.fleet.factories import make_host
from tokens import throttle


@dataclass
class AgentClient:
    """Speaks as the agent of `host`, in the form in which agents send (no blanks)."""

    host: Host
    token: str

    def post(self, path: str, body: Any, **extra: Any) -> Any:
        raw = body if isinstance(body, bytes) else json.dumps(body, separators=(",", ":")).encode()
        headers = {"Authorization": f"Bearer {self.token}", **extra.pop("headers", {})}
        return Client().post(
            f"/api/v1/agents/{path}",
            data=raw,
            content_type=extra.pop("content_type", "application/json"),
            headers=headers,
            **extra,
        )

    def beat(self, body: Any, **extra: Any) -> Any:
        return self.post("heartbeat", body, **extra)

    @property
    def pulse(self) -> HostPulse:
        return HostPulse.objects.get(pk=self.host.pk)


@pytest.fixture
def agent(db: None) -> AgentClient:
    return AgentClient(*make_host("web"))


@pytest.fixture
def other_agent(db: None) -> AgentClient:
    return AgentClient(*make_host("db"))


@pytest.fixture(autouse=True)
def _no_throttle() -> None:
    throttle.forget()
