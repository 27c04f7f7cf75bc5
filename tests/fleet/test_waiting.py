"""The agents' waiting request: who is admitted to wait, for whom there is something, and what is handed out."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from django.db import OperationalError, connection
from django.test.utils import CaptureQueriesContext

from dockmesh.audit.services import SYSTEM
from dockmesh.fleet import commands, services, waiting
from dockmesh.fleet.models import AgentCommand, HeartbeatState
from tests.fleet.conftest import AgentClient
from tests.fleet.factories import heartbeat, make_host
from tokens import secret

EMPTY = b""


@pytest.fixture(autouse=True)
def beside() -> Iterator[None]:
    """A kind that runs beside the others."""
    nothing = lambda *_: None  # noqa: E731
    commands.register_result_handler("aside", on_result=nothing, on_timeout=nothing, is_beside=True)
    yield
    del commands._handlers["aside"]


def waits(agent: AgentClient) -> list[dict[str, Any]]:
    answer = agent.post("wait", EMPTY)
    assert answer.status_code == 200
    offers: list[dict[str, Any]] = answer.json()["commands"]
    return offers


def queue(agent: AgentClient, kind: str = "deploy", lock: str = "") -> int:
    return commands.enqueue(host_id=agent.host.pk, kind=kind, payload={"a": 1}, lock=lock)


def is_waited_for(agent: AgentClient) -> bool:
    return agent.host.pk in commands.hosts_with_news()


def test_an_agent_with_the_right_token_may_wait_whatever_its_body_says(agent: AgentClient) -> None:
    for body in (b"", b"{}", b'{"protocol": 1, "more": [1]}'):
        assert waiting.admit([agent.posted(body)]) == [agent.host.pk]


def test_many_that_come_together_are_one_query(db: None) -> None:
    agents = [AgentClient(*make_host(f"host-{number}")) for number in range(20)]
    with CaptureQueriesContext(connection) as queries:
        found = waiting.admit([agent.posted(b"") for agent in agents])
    assert found == [agent.host.pk for agent in agents]
    assert len(queries) == 1


@pytest.mark.parametrize("body", [b"{", b"[]", b'{"a": NaN}', b'{"a":1,"a":2}', b"\xff"])
def test_a_body_that_is_wrong_is_refused_at_once(agent: AgentClient, body: bytes) -> None:
    assert waiting.admit([agent.posted(body)]) == [None]
    assert agent.post("wait", body).status_code == 400


@pytest.mark.parametrize(
    "headers",
    [
        {"HOST": "evil.example"},
        {"CONTENT_TYPE": "text/plain"},
        {"CONTENT_ENCODING": "gzip"},
        {"AUTHORIZATION": ""},
        {"AUTHORIZATION": f"Bearer {secret.generate(secret.Kind.AGENT)}"},
        {"AUTHORIZATION": f"Bearer {secret.generate(secret.Kind.API)}"},
    ],
    ids=lambda headers: next(iter(headers)),
)
def test_nobody_else_waits(agent: AgentClient, other_agent: AgentClient, headers: dict[str, str]) -> None:
    found = waiting.admit([agent.posted(b"", **headers), other_agent.posted(b"")])
    assert found == [None, other_agent.host.pk]


def test_other_tokens_are_refused_and_so_is_the_agent_of_a_removed_host(agent: AgentClient) -> None:
    services.remove_host(actor=SYSTEM, host_id=agent.host.pk)
    assert waiting.admit([agent.posted(b"")]) == [None]
    assert agent.post("wait", EMPTY).status_code == 401
    assert agent.post("wait", EMPTY, headers={"Authorization": ""}).status_code == 401


def test_the_token_that_a_renewal_has_replaced_waits_no_more(agent: AgentClient) -> None:
    _, text = services.create_enrollment_token(actor=SYSTEM, host_id=agent.host.pk)
    token = services.authenticate_enrollment(f"Bearer {text}", address="")
    _, renewed = services.enroll(token=token, hostname="web", labels={}, address="")
    # One that is parked is answered by the endpoint, when there is something.
    queue(agent)
    assert waiting.admit([agent.posted(b"")]) == [None]
    assert agent.post("wait", EMPTY).status_code == 401
    now = AgentClient(agent.host, renewed)
    assert waiting.admit([now.posted(b"")]) == [agent.host.pk]
    assert len(waits(now)) == 1


def test_with_the_database_away_the_endpoint_says_so(
    agent: AgentClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    def away(*_: object) -> None:
        raise OperationalError("away")

    monkeypatch.setattr("dockmesh.fleet.agents.sql.fetch_among", away)
    assert waiting.admit([agent.posted(b"")]) == [None]
    assert agent.post("wait", EMPTY).status_code == 503


def test_a_command_is_handed_out_once_and_again_with_heartbeats_until_it_is_named(agent: AgentClient) -> None:
    assert waits(agent) == []
    queue(agent)
    assert is_waited_for(agent)
    (offer,) = waits(agent)
    assert offer["payload"]["a"] == 1
    assert AgentCommand.objects.get().status == "handed_out"
    # It is the agent's now: the next wait is not answered with it at once, for ever.
    assert not is_waited_for(agent)
    assert waits(agent) == []
    answer = agent.beat(heartbeat(1)).json()
    assert [each["id"] for each in answer["commands"]] == [offer["id"]]
    progress = [{"command_id": offer["id"], "output": "", "elapsed_seconds": 0.0}]
    assert agent.beat(heartbeat(2, progress=progress)).json()["commands"] == []


def test_its_result_is_taken_before_any_heartbeat(agent: AgentClient) -> None:
    queue(agent)
    (offer,) = waits(agent)
    report = {"result": "success", "duration_seconds": 0.1}
    assert agent.post(f"commands/{offer['id']}/result", report).json() == {"status": "accepted"}
    assert not HeartbeatState.objects.get(pk=agent.host.pk).has_commands


def test_what_a_lock_holds_up_wakes_nobody_until_it_is_free(agent: AgentClient) -> None:
    queue(agent, lock="stack:shop")
    queue(agent, lock="stack:shop")
    (first,) = waits(agent)
    assert not is_waited_for(agent)
    assert waits(agent) == []
    agent.post(f"commands/{first['id']}/result", {"result": "success", "duration_seconds": 0.1})
    assert is_waited_for(agent)
    assert len(waits(agent)) == 1


def test_no_more_than_the_agent_carries_out_but_what_runs_beside_and_what_ends_another(
    agent: AgentClient,
) -> None:
    for number in range(commands.MAX_RUNNING + 1):
        queue(agent, lock=f"stack:{number}")
    assert len(waits(agent)) == commands.MAX_RUNNING
    assert not is_waited_for(agent)
    for _ in range(commands.MAX_BESIDE + 1):
        queue(agent, "aside")
    assert is_waited_for(agent)
    assert len(waits(agent)) == commands.MAX_BESIDE
    assert not is_waited_for(agent)
    commands.ask_to_end(host_id=agent.host.pk, command_id=AgentCommand.objects.earliest("id").pk)
    assert is_waited_for(agent)
    assert [each["kind"] for each in waits(agent)] == [commands.CANCEL]


def test_only_the_host_of_the_command_is_woken(agent: AgentClient, other_agent: AgentClient) -> None:
    queue(agent)
    assert commands.hosts_with_news() == {agent.host.pk}
    assert waits(other_agent) == []
    assert len(waits(agent)) == 1
    assert commands.hosts_with_news() == set()
