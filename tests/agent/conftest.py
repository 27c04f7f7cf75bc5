from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.integration.agent_process import AgentProcess
from tests.integration.stubserver import ENROLLMENT_TOKEN, StubServer


@pytest.fixture
def server() -> Iterator[StubServer]:
    stub = StubServer()
    yield stub
    stub.close()


@pytest.fixture
def start_agent(server: StubServer, tmp_path: Path) -> Iterator[Callable[..., AgentProcess]]:
    """Starts agents of the stub server; options come after the usual ones and so win."""
    started = []

    def start(*options: str, env: dict[str, str] | None = None, state: str = "state") -> AgentProcess:
        usual = (
            f"--server={server.url}",
            f"--enrollment-token={ENROLLMENT_TOKEN}",
            "--name=node-1",
            "--verbose",
        )
        agent = AgentProcess(tmp_path / state, *usual, *options, env=env).start()
        started.append(agent)
        return agent

    yield start
    for agent in started:
        agent.close()
