"""Two replicas on one PostgreSQL: the same lines, one that acts, one chain of audit entries."""

from __future__ import annotations

import json
import threading
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.end_to_end.conftest import SHORT, read_metrics
from tests.end_to_end.hand_agent import HandAgent, call, container
from tests.integration.postgres import PostgresServer
from tests.integration.prometheus import WebhookReceiver, wait_for
from tests.integration.server import DockmeshServer

pytestmark = pytest.mark.integration

Replicas = tuple[DockmeshServer, DockmeshServer]


@pytest.fixture
def replicas(tmp_path: Path, postgres_server: PostgresServer) -> Iterator[Replicas]:
    """Both share database and secrets."""
    url = postgres_server.create_database()
    environment = {**SHORT, "DOCKMESH_ALERT_LOCAL_RECEIVERS": "true"}
    with (
        DockmeshServer(tmp_path / "data", environment, database_url=url) as one,
        DockmeshServer(tmp_path / "data", environment, database_url=url) as two,
    ):
        yield one, two


def test_both_give_the_same_lines(replicas: Replicas) -> None:
    one, two = replicas
    token = one.createtoken("prometheus-scraper", permissions=["metrics.read"])
    agent = HandAgent(one, "web-1")
    for server in replicas:
        agent.server = server
        agent.beat([container(1, stack="shop", state="running")])
    time.sleep(2.5)

    def lines(server: DockmeshServer) -> dict[str, float]:
        own = ("dockmesh_agent_last_seen_seconds", "dockmesh_collector_duration_seconds")
        page = read_metrics(server.url, token)
        return {n: v for n, v in page.items() if n.startswith("dockmesh_") and not n.startswith(own)}

    first, second = lines(one), lines(two)
    leader = "dockmesh_scheduler_leader"
    assert sorted((first.pop(leader), second.pop(leader))) == [0, 1]
    assert first == second
    assert lines(one)['dockmesh_agent_rtt_seconds_count{host="web-1"}'] == 2


def test_an_alert_is_told_once_though_the_one_that_acts_is_killed(replicas: Replicas) -> None:
    one, two = replicas
    admin = one.createtoken("admin", role="admin")
    with WebhookReceiver() as receiver:
        address = receiver.url.replace("http://", "json://")
        call(one, admin, "POST", "alert-channels", {"name": "hook", "url": address})
        call(
            one,
            admin,
            "POST",
            "alert-rules",
            {"name": "Errors", "kind": "stack_error", "severity": "critical"},
        )
        agent = HandAgent(one, "web-1")

        def told(state: str, **details: Any) -> list[str]:
            agent.beat([container(1, stack="shop", state=state, **details)])
            return [document["title"] for _, document in receiver.received()]

        fired = "[critical] Firing: Errors"
        resolved = "[critical] Resolved: Errors"
        wait_for(lambda: told("exited", exit_code=3) == [fired], seconds=60, what="the message")
        acting = next(server for server in replicas if "runs the periodic jobs now" in server.log)
        other = two if acting is one else one
        agent.server = other
        acting.kill()
        wait_for(lambda: told("running") == [fired, resolved], seconds=90, what="the end from the other")
        time.sleep(6)
        assert told("running") == [fired, resolved], "each once"
        token = other.createtoken("prometheus-scraper", permissions=["metrics.read"])
        page = read_metrics(other.url, token)
        assert page['dockmesh_alerts_fired_total{severity="critical",rule="Errors"}'] == 1


def test_200_parallel_mutations_make_one_chain(replicas: Replicas) -> None:
    one, _ = replicas
    admin = one.createtoken("admin", role="admin")
    failures: list[str] = []

    def make(number: int) -> None:
        body = {"name": f"rule {number}", "kind": "host_offline", "severity": "info"}
        try:
            call(replicas[number % 2], admin, "POST", "alert-rules", body)
        except OSError as error:
            failures.append(f"{number}: {error}")

    threads = [threading.Thread(target=make, args=(number,)) for number in range(200)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    assert "holds" in one.manage("verifyaudit")
    request = urllib.request.Request(
        f"{one.url}/api/v1/audit?action=alert_rule.created&page_size=500",
        headers={"Authorization": f"Bearer {admin}"},
    )
    with urllib.request.urlopen(request, timeout=20) as answer:
        entries = json.loads(answer.read())["results"]
    assert len({entry["target"]["name"] for entry in entries}) == 200
    assert {entry["actor"]["name"] for entry in entries} == {"admin"}
