"""What a heartbeat costs must not rot: calls of Python and of C functions, never seconds.

Twenty hosts of a hundred containers each report together, as under load. The limits are what was measured, and a
fifth more; on PostgreSQL psycopg's own calls come to it.
"""

from __future__ import annotations

from typing import Any

import pytest
from django.db import connection

from dockmesh.fleet.ingest import batch
from tests.fleet.conftest import AgentClient
from tests.fleet.factories import container, heartbeat, make_host
from tests.support import calls_of

HOSTS, CONTAINERS, CHANGED = 20, 100, 10
LIMITS = {"sqlite": {"unchanged": 185, "changed": 1550}, "postgresql": {"unchanged": 203, "changed": 1420}}
"""For each heartbeat."""


def containers(sequence: int) -> list[dict[str, Any]]:
    """A tenth of them differ in state from those of the sequence before."""
    return [
        container(
            f"{number:064x}",
            stack=f"stack-{number % 5}",
            service=f"service-{number}",
            state="exited" if sequence % 2 and number % CHANGED == 0 else "running",
        )
        for number in range(CONTAINERS)
    ]


@pytest.mark.parametrize("kind", ["unchanged", "changed"])
def test_a_heartbeat_takes_few_calls(db: None, kind: str) -> None:
    agents = [AgentClient(*make_host()) for _ in range(HOSTS)]
    for agent in agents:
        agent.beat(heartbeat(1, containers=containers(1)))

    def posted(sequence: int) -> Any:
        more: dict[str, Any] = (
            {} if kind == "unchanged" else {"containers": containers(sequence), "digest": f"d{sequence}"}
        )
        return [agent.posted(heartbeat(sequence, **more)) for agent in agents]

    batch.answer(posted(2))
    requests = posted(3)
    calls = calls_of(lambda: batch.answer(requests)) / HOSTS
    assert calls < LIMITS[connection.vendor][kind]
    assert {agent.heartbeat_state.sequence for agent in agents} == {3}
