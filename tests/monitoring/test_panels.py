"""Every query of every panel, run against a real Prometheus that scrapes a real dockmesh."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator

import pytest

from tests.integration.prometheus import QueryError, wait_for
from tests.monitoring import panels
from tests.monitoring.installation import Installation

pytestmark = pytest.mark.integration

# Empty in a healthy installation, by intention.
MAY_BE_EMPTY = {
    ("dockmesh-alerts", "Alerts of Prometheus now"),
    ("dockmesh-alerts", "Messages to channels"),
    ("dockmesh-alerts", "Open alerts of dockmesh, by rule"),
    ("dockmesh-backups", "What the jobs are and did"),  # the last verification
    ("dockmesh-server", "Commands that wait or run"),
    ("dockmesh-slo", "Where requests failed"),
    ("dockmesh-slo", "What spends the budget of backups"),
    ("dockmesh-stacks", "Stacks that do not run"),
    ("dockmesh-versions", "Versions by host"),  # those of another version
    ("dockmesh-containers", "Containers"),  # the last exit code
    ("dockmesh-containers", "Newer images"),
    ("dockmesh-containers", "Restarts by container"),
    ("dockmesh-containers", "Kills for memory by container"),
    *((board, f"annotation {name}") for board in panels.boards() for name in ("Restarts", "Alerts")),
}
BOARDS = panels.boards()


@pytest.fixture(scope="module")
def lively(installed: Installation) -> Iterator[Installation]:
    """The installation after a deploy of each result, a backup, and with a token that has an end."""
    name = installed.fleet.names[0]
    stack = installed.make_stack(name, "lively")
    installed.fleet.do_deploys_fail = True
    assert installed.deploy(stack) == "failure"
    installed.fleet.do_deploys_fail = False
    assert installed.deploy(stack) == "success"
    job = installed.make_job(name, "nightly")
    assert installed.back_up(job) == "success"
    rule = {"name": "Host offline", "kind": "host_offline", "severity": "critical"}
    installed.api("POST", "alert-rules", rule)
    installed.server.manage("createtoken", "--name", "ends", "--role", "viewer", "--expires-in", "90d")
    wait_for(
        lambda: installed.prometheus.value("sum(increase(dockmesh_deploy_duration_seconds_count[60s]))"),
        what="the deploys",
    )
    yield installed
    # Or it would soon be overdue for the other tests.
    installed.api("DELETE", f"backup-jobs/{job}")


@pytest.mark.parametrize("name", BOARDS)
def test_every_query_answers_without_error_or_warning(lively: Installation, name: str) -> None:
    # What is counted over the last hour is here that of a minute, which other boards may have taken.
    if name in ("dockmesh-stacks", "dockmesh-slo"):
        [stack] = lively.api("GET", "stacks?name=lively")["results"]
        assert lively.deploy(stack["id"]) == "success"
    for query in panels.queries(BOARDS[name], lively.fleet.names[0]):
        if (query.board, query.panel) not in MAY_BE_EMPTY:
            wait_for(lambda: panels.has_data(query.run(lively.prometheus)), seconds=20, what=str(query))  # noqa: B023
        assert query.run(lively.prometheus).warnings == [], query


def test_prometheus_keeps_the_exemplars_of_deploys(lively: Installation) -> None:
    """Each leads to a deploy."""
    found = wait_for(
        lambda: lively.prometheus.exemplars("dockmesh_deploy_duration_seconds_bucket"), what="exemplars"
    )
    for exemplar in found:
        deploy = lively.api("GET", f"deploys/{exemplar['labels']['deploy_id']}")
        assert deploy["status"] in ("success", "failure")


def test_a_planted_typo_is_caught(lively: Installation) -> None:
    [query, *_] = panels.queries(BOARDS["dockmesh-fleet"], lively.fleet.names[0])
    wrong_name = dataclasses.replace(
        query, expr=query.expr.replace("dockmesh_hosts_total", "dockmesh_host_total")
    )
    assert not panels.has_data(wrong_name.run(lively.prometheus))
    wrong_syntax = dataclasses.replace(query, expr=query.expr.removesuffix(")"))
    with pytest.raises(QueryError):
        wrong_syntax.run(lively.prometheus)
    with pytest.raises(KeyError):
        panels.filled('up{job=~"$jbo"}', panels.variables("x"))


def test_the_pages_own_expressions_answer(lively: Installation) -> None:
    """The five of the documentation page, word for word."""
    ask = lively.prometheus.query
    assert ask("dockmesh_agent_last_seen_seconds > 120") == []
    assert [sample.value for sample in ask('dockmesh_stacks_total{state="error"}')] == [0.0] * 3
    assert ask("time() - dockmesh_backup_last_run_timestamp > 26 * 3600") == []
    quantiles = ask("histogram_quantile(0.95, rate(dockmesh_deploy_duration_seconds_bucket[5m]))")
    assert any(sample.value > 0 for sample in quantiles)
    fired = ask("sum by (severity) (rate(dockmesh_alerts_fired_total[5m]))")
    assert [(sample.labels, sample.value) for sample in fired] == [({"severity": "critical"}, 0.0)]


def test_the_backup_metrics_job_is_exported_job(lively: Installation) -> None:
    [sample] = lively.prometheus.query('dockmesh_backup_last_run_timestamp{exported_job="nightly"}')
    assert sample.labels["job"] == "dockmesh"
    assert sample.labels["backup_job"] == "nightly"
