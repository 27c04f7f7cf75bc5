"""What the batch endpoint leaves to the endpoint, and that many hosts at once cost few queries."""

from __future__ import annotations

import datetime
import json
from collections.abc import Callable
from typing import Any

import pytest
from django.db import OperationalError
from django.test.utils import CaptureQueriesContext
from django.urls import resolve
from prometheus_client import REGISTRY

from dockmesh.audit.services import SYSTEM
from dockmesh.core import clock, tally
from dockmesh.fleet import commands, services
from dockmesh.fleet.ingest import batch
from dockmesh.fleet.models import Container, HeartbeatState, Host, Stack
from metrics import requests
from tests.fleet.conftest import AgentClient, statements
from tests.fleet.factories import container, heartbeat, make_host
from tests.fleet.test_heartbeat import whole
from tokens import secret


def known(agent: AgentClient) -> None:
    """The host has been heard, so that a plain heartbeat is one that the batch endpoint takes."""
    assert agent.beat(whole(1, container("a"))).json()["status"] == "accepted"


def left_alone(agent: AgentClient, body: Any, **headers: str) -> bool:
    """Whether the batch endpoint leaves it alone, and writes nothing of it."""
    before = everything()
    (answer,) = batch.answer([agent.posted(body, **headers)])
    assert (everything() == before) == (answer is None)
    return answer is None


def everything() -> Any:
    return [list(model.objects.order_by("pk").values()) for model in (Host, HeartbeatState, Stack, Container)]


def test_plain_ones_are_taken(agent: AgentClient) -> None:
    known(agent)
    assert not left_alone(agent, heartbeat(2))
    assert not left_alone(agent, whole(3, container("a", state="exited"), container("b")))
    assert not left_alone(agent, whole(4))
    assert Container.objects.count() == Stack.objects.count() == 0


@pytest.mark.parametrize(
    "body",
    [
        heartbeat(1),
        heartbeat(2, boot_id="another"),
        heartbeat(2, digest="sha256:nobody knows"),
        heartbeat(2, system={"os": "plan9"}),
        heartbeat(2, inventory=None),
        heartbeat(2, docker={"reachable": False}),
        heartbeat(2, progress=[]),
        heartbeat(2, host_id=1),
        heartbeat(2, host={"name": "web"}),
        {**heartbeat(2), "protocol": 2},
        {**heartbeat(2), "unknown": 1},
        json.dumps(heartbeat(2)).replace("linux", "\\u006cinux").encode(),  # not the quick form
        b"{",
    ],
    ids=lambda body: str(body)[:200],
)
def test_all_others_are_left_to_the_endpoint(agent: AgentClient, body: Any) -> None:
    known(agent)
    assert left_alone(agent, body)


@pytest.mark.parametrize(
    "headers",
    [
        {"HOST": "evil.example"},
        {"HOST": ""},
        {"CONTENT_TYPE": "text/plain"},
        {"CONTENT_ENCODING": "gzip"},
        {"AUTHORIZATION": ""},
        {"AUTHORIZATION": "Basic abc"},
        {"AUTHORIZATION": f"Bearer {secret.generate(secret.Kind.AGENT)}"},
        {"AUTHORIZATION": f"Bearer {secret.generate(secret.Kind.API)}"},
    ],
    ids=lambda headers: next(iter(headers)),
)
def test_so_are_requests_that_the_endpoint_would_refuse(agent: AgentClient, headers: dict[str, str]) -> None:
    known(agent)
    assert left_alone(agent, heartbeat(2), **headers)


def test_so_is_a_token_with_another_secret(agent: AgentClient) -> None:
    known(agent)
    token = secret.parse(agent.token)
    assert token is not None
    other = secret.renewed(secret.Kind.AGENT, token.public_id)
    assert left_alone(agent, heartbeat(2), AUTHORIZATION=f"Bearer {other}")


def test_so_is_the_agent_of_a_removed_host(agent: AgentClient) -> None:
    known(agent)
    services.remove_host(actor=SYSTEM, host_id=agent.host.pk)
    assert left_alone(agent, heartbeat(2))


def test_so_is_a_host_that_has_work(agent: AgentClient) -> None:
    known(agent)
    commands.enqueue(host_id=agent.host.pk, kind="deploy", payload={})
    assert left_alone(agent, heartbeat(2))


def test_so_is_a_digest_once_the_whole_is_wanted_again(
    agent: AgentClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    known(agent)
    later = clock.now() + datetime.timedelta(hours=1, seconds=1)
    monkeypatch.setattr(clock, "now", lambda: later)
    assert left_alone(agent, heartbeat(2))


def test_of_two_at_once_from_one_agent_the_endpoint_gets_the_second(agent: AgentClient) -> None:
    known(agent)
    answers = batch.answer([agent.posted(heartbeat(2)), agent.posted(heartbeat(3))])
    assert [answer is None for answer in answers] == [False, True]
    assert agent.heartbeat_state.sequence == 2


def test_one_that_is_left_alone_does_not_hold_up_the_others(
    agent: AgentClient, other_agent: AgentClient
) -> None:
    known(agent)
    known(other_agent)
    answers = batch.answer([agent.posted(b"{"), other_agent.posted(heartbeat(2))])
    assert [answer is None for answer in answers] == [True, False]
    assert other_agent.heartbeat_state.sequence == 2


def test_an_error_leaves_nothing_behind(agent: AgentClient, monkeypatch: pytest.MonkeyPatch) -> None:
    known(agent)
    before = everything()

    def fail(*_: object) -> None:
        raise RuntimeError("in the middle")

    monkeypatch.setattr("dockmesh.fleet.ingest.heartbeats._STATES.update", fail)
    with pytest.raises(RuntimeError):
        batch.answer([agent.posted(whole(2, container("b")))])
    assert everything() == before


@pytest.mark.django_db(transaction=True)
def test_a_database_that_is_away_leaves_all_to_the_endpoint(monkeypatch: pytest.MonkeyPatch) -> None:
    agent = AgentClient(*make_host())
    known(agent)

    def fail(*_: object) -> None:
        raise OperationalError("away")

    monkeypatch.setattr("dockmesh.fleet.ingest.heartbeats._HEARD_STATES.update", fail)
    assert batch.application([agent.posted(heartbeat(2))]) == [None]
    monkeypatch.undo()
    (answer,) = batch.application([agent.posted(heartbeat(2))])
    assert answer is not None


@pytest.mark.parametrize("count", [1, 20])
@pytest.mark.parametrize(
    ("document", "most"),
    [
        (lambda: heartbeat(2), 2),
        # On SQLite a host's summary is compared by a statement of its own.
        (lambda: whole(2, container("a"), container("b", state="exited"), digest="d2"), 8),
    ],
    ids=["unchanged", "changed"],
)
def test_the_number_of_queries_does_not_depend_on_the_number_of_hosts(
    db: None, connection_queries: CaptureQueriesContext, count: int, document: Callable[[], Any], most: int
) -> None:
    agents = [AgentClient(*make_host()) for _ in range(count)]
    for agent in agents:
        agent.beat(whole(1, container("a"), container("b")))
    with connection_queries as queries:
        answers = batch.answer([agent.posted(document()) for agent in agents])
    assert None not in answers
    found = statements(queries)
    summaries = [query for query in queries if "container_counts <>" in query["sql"]]
    assert len(found) - max(0, len(summaries) - 1) <= most, found


def test_requests_are_counted_as_those_of_the_endpoint(agent: AgentClient) -> None:
    known(agent)
    agent.beat(heartbeat(2))
    view = {"view": resolve(batch.PATH).view_name, "method": "POST"}

    def counted() -> tuple[float | None, ...]:
        return (
            requests.counter.pending("POST", "/api/v1/agents/heartbeat", 200),
            tally.events.pending(tally.HEARTBEATS, "accepted"),
            REGISTRY.get_sample_value(
                "django_http_responses_total_by_status_view_method_total", {**view, "status": "200"}
            ),
            REGISTRY.get_sample_value("django_http_requests_latency_seconds_by_view_method_count", view),
            REGISTRY.get_sample_value("django_http_requests_body_total_bytes_count"),
            REGISTRY.get_sample_value("django_http_requests_before_middlewares_total"),
        )

    start = counted()
    agent.beat(heartbeat(3))
    by_endpoint = counted()
    batch.answer([agent.posted(heartbeat(4))])
    by_batch = counted()
    differences = [
        tuple(after - before for after, before in zip(later, earlier, strict=True))  # type: ignore[operator]
        for later, earlier in ((by_endpoint, start), (by_batch, by_endpoint))
    ]
    assert differences[0] == differences[1] == (1, 1, 1, 1, 1, 1)
