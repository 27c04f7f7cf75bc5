"""One agent hurts only its own host: how much it may send, and how much it may make the server write."""

import threading
from typing import Any

import pytest
from django.db import connection, transaction

from dockmesh.core import busy
from dockmesh.fleet.ingest import budget as budgets
from dockmesh.fleet.ingest.budget import ROWS_A_MINUTE, Budget
from dockmesh.fleet.models import Container, HeartbeatState, Stack, StackSeries
from tests.fleet.conftest import AgentClient
from tests.fleet.factories import container, heartbeat, make_host

pytestmark = pytest.mark.django_db


def stacks(count: int, prefix: str = "app") -> list[dict[str, Any]]:
    return [container(f"{prefix}{n}", stack=f"{prefix}-{n}") for n in range(count)]


def test_a_host_has_500_stacks_at_most(agent: AgentClient) -> None:
    answer = agent.beat(heartbeat(1, containers=stacks(501)))
    assert answer.status_code == 422
    assert "500 stacks of one host, not 501" in answer.json()["detail"]
    assert not Container.objects.exists()
    assert not Stack.objects.exists()
    assert agent.beat(heartbeat(1, containers=stacks(500))).json()["status"] == "accepted"


def test_new_names_each_time_are_taken_within_the_budget_only(
    agent: AgentClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = [0.0]
    monkeypatch.setattr(budgets.budget, "_clock", lambda: now[0])
    monkeypatch.setattr(budgets.budget, "_used", {})
    taken = []
    for sequence in range(1, 11):
        body = heartbeat(sequence, digest=f"sha256:{sequence}", containers=stacks(500, f"s{sequence}x"))
        answer = agent.beat(body).json()
        taken.append(answer["status"])
        assert agent.heartbeat_state.sequence == sequence  # it is heard all the same
    assert taken[:2] == ["accepted"] * 2
    assert taken[-4:] == ["inventory_wanted"] * 4
    assert Stack.objects.count() == StackSeries.objects.count() == 500
    other_host, token = make_host()
    other = AgentClient(other_host, token, agent.is_in_batch)
    assert other.beat(heartbeat(1, containers=stacks(3))).json()["status"] == "accepted"
    now[0] += 60
    last = heartbeat(11, digest="sha256:11", containers=stacks(500, "last"))
    assert agent.beat(last).json()["status"] == "accepted"
    assert Stack.objects.filter(host=agent.host, name__startswith="last").count() == 500


def test_an_ordinary_agent_never_meets_its_budget() -> None:
    now = [0.0]
    budget = Budget(lambda: now[0])
    for _ in range(600):  # a change each second of a host with 200 containers
        assert budget.has_any("a")
        budget.charge("a", written=100, compared=200)
        now[0] += 1


def test_budgets_are_each_ones_own_and_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(budgets, "MOST_AGENTS", 10)
    budget = Budget(lambda: 0.0)
    budget.charge("a", written=int(ROWS_A_MINUTE), compared=1)
    assert not budget.has_any("a")
    assert budget.has_any("b")
    for number in range(50):
        budget.charge(f"c{number}", written=1, compared=1)
    assert len(budget._used) <= 10


@pytest.mark.django_db(transaction=True)
def test_a_lock_that_is_held_is_not_a_database_that_is_away(
    monkeypatch: pytest.MonkeyPatch, settings: Any
) -> None:
    host, token = make_host()
    agent = AgentClient(host, token)
    began, over = threading.Event(), threading.Event()

    def hold() -> None:
        try:
            with transaction.atomic():
                HeartbeatState.objects.select_for_update().get(host=host)
                began.set()
                over.wait(60)
        finally:
            connection.close()

    holder = threading.Thread(target=hold)
    holder.start()
    try:
        assert began.wait(30)
        with connection.cursor() as cursor:
            cursor.execute(
                "PRAGMA busy_timeout = 200" if connection.vendor == "sqlite" else "SET lock_timeout = 200"
            )
        answer = agent.post("heartbeat", heartbeat(1))
        assert answer.status_code == 503
        assert answer.json()["detail"] == busy.BUSY
        assert answer.headers["Retry-After"] == "1"
    finally:
        over.set()
        holder.join()
        connection.close()
    assert agent.post("heartbeat", heartbeat(1)).status_code == 200
