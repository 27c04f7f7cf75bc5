"""A deploy and a backup as an agent sees them over HTTP, and as the next scrape shows them."""

import json
from typing import Any

import pytest
from django.test import Client
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families

from dockmesh.audit.models import AuditEntry
from dockmesh.backups import services as backups
from dockmesh.core import clock
from dockmesh.deploys import services
from dockmesh.deploys.models import Deploy
from dockmesh.fleet.models import Host
from metrics import rendering
from tests.deploys.conftest import ANN, COMPOSE
from tests.fleet.factories import heartbeat, make_host
from tests.tokens.support import bearer, token_with
from tokens.models import ApiToken

pytestmark = pytest.mark.django_db


class Agent:
    """Sends documents with the host's credential."""

    def __init__(self, name: str) -> None:
        self.host: Host
        self.host, self._token = make_host(name)
        self._sequence = 0

    def post(self, path: str, body: Any) -> Any:
        return Client().post(
            f"/api/v1/agents/{path}",
            json.dumps(body),
            content_type="application/json",
            headers=bearer(self._token),
        )

    def beat(self, **changes: Any) -> list[dict[str, Any]]:
        """A heartbeat; the commands in its answer."""
        self._sequence += 1
        answer = self.post("heartbeat", heartbeat(self._sequence, containers=[], **changes))
        assert answer.status_code == 200, answer.content
        return answer.json()["commands"]

    def report(self, command_id: int, **document: Any) -> int:
        body = {"result": "success", "duration_seconds": 12.5, "exit_code": 0, "output": "", "error": ""}
        answer = self.post(f"commands/{command_id}/result", {**body, **document})
        return answer.status_code


def scraped(name: str, label: str) -> dict[str, float]:
    """{the label's value: value} of the samples of this name in a fresh scrape."""
    headers = bearer(token_with("metrics.read", name=f"scraper {ApiToken.objects.count()}")[1])
    page = Client().get("/metrics", headers=headers).content.decode()
    return {
        sample.labels[label]: sample.value
        for family in text_string_to_metric_families(page)
        for sample in family.samples
        if sample.name == name
    }


def test_a_deploy_reported_fifty_times_is_counted_once_and_another_result_refused() -> None:
    agent, other = Agent("alpha"), Agent("beta")
    stack = services.create_stack(
        actor=ANN, host_id=agent.host.pk, name="shop", compose_file=COMPOSE, env_file="KEY=hunter2\n"
    )
    deploy = services.request_deploy(actor=ANN, stack_id=stack.pk)
    assert other.beat() == []
    assert scraped("dockmesh_deploys_open", "status") == {"queued": 1, "running": 0}
    [command] = agent.beat()
    assert (command["kind"], command["payload"]["env_file"]) == ("deploy", "KEY=hunter2\n")
    assert Host.objects.get(name="alpha").stack_counts == "0,0,0,0,1,0"

    # Once the agent has named it, it is not handed out again.
    progress = [{"command_id": command["id"], "output": "pulling\n", "elapsed_seconds": 1.0}]
    assert agent.beat(progress=progress) == []
    deploy.refresh_from_db()
    assert (deploy.status, deploy.output) == ("running", "pulling\n")
    assert scraped("dockmesh_deploys_open", "status") == {"queued": 0, "running": 1}

    assert other.report(command["id"]) == 403
    assert {agent.report(command["id"], output="done\n") for _ in range(50)} == {200}
    assert agent.report(command["id"], result="failure") == 409
    assert agent.report(999) == 404
    name = "dockmesh_deploy_duration_seconds"
    assert scraped(f"{name}_count", "result") == {"success": 1, "failure": 0}
    assert scraped(f"{name}_sum", "result") == {"success": 12.5, "failure": 0}
    last = scraped("dockmesh_stack_last_deploy_timestamp_seconds", "result")
    assert list(last) == ["success"]
    assert last["success"] == pytest.approx(clock.now().timestamp(), abs=60)
    assert AuditEntry.objects.filter(action="deploy.succeeded").count() == 1
    assert Deploy.objects.get().output == "done\n"


def test_a_deploy_that_was_cancelled_is_not_the_last_one_and_the_exemplar_is_the_last_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(rendering, "renderer", rendering.Renderer())
    agent = Agent("alpha")
    stack = services.create_stack(actor=ANN, host_id=agent.host.pk, name="shop", compose_file=COMPOSE)
    deploy = services.request_deploy(actor=ANN, stack_id=stack.pk)
    [command] = agent.beat()
    agent.report(command["id"], result="failure", exit_code=1, error="no such image")
    services.request_deploy(actor=ANN, stack_id=stack.pk)
    services.cancel_deploy(actor=ANN, deploy_id=Deploy.objects.order_by("-pk")[0].pk)
    assert list(scraped("dockmesh_stack_last_deploy_timestamp_seconds", "result")) == ["failure"]
    headers = bearer(token_with("metrics.read", name="open")[1])
    page = (
        Client()
        .get("/metrics", headers={**headers, "accept": "application/openmetrics-text"})
        .content.decode()
    )
    (line,) = [line for line in page.splitlines() if " # {" in line]
    labels = 'stack="shop",result="failure",le="20.0"'
    assert line.startswith(
        f'dockmesh_deploy_duration_seconds_bucket{{{labels}}} 1 # {{deploy_id="{deploy.pk}"}} 12.5 '
    )
    parsed = [
        sample.exemplar
        for family in parse_openmetrics(page)
        for sample in family.samples
        if sample.exemplar is not None
    ]
    assert [(each.labels, each.value) for each in parsed] == [({"deploy_id": str(deploy.pk)}, 12.5)]
    assert float(parsed[0].timestamp) == pytest.approx(clock.now().timestamp(), abs=60)
    # The stack's removal takes its series away.
    stack.delete()
    assert scraped("dockmesh_stack_last_deploy_timestamp_seconds", "result") == {}


@pytest.mark.parametrize("seconds", [-1, "NaN", 1e999, "12", None])
def test_a_result_that_makes_no_sense_is_refused_and_the_deploy_goes_on(seconds: Any) -> None:
    agent = Agent("alpha")
    stack = services.create_stack(actor=ANN, host_id=agent.host.pk, name="shop", compose_file=COMPOSE)
    services.request_deploy(actor=ANN, stack_id=stack.pk)
    [command] = agent.beat()
    assert agent.report(command["id"], duration_seconds=seconds) == 400
    assert agent.report(command["id"], result="perhaps") == 400
    assert Deploy.objects.get().is_open
    assert agent.report(command["id"]) == 200


def test_a_backup_is_at_zero_until_it_has_succeeded() -> None:
    agent = Agent("alpha")
    job = backups.create_job(actor=ANN, host_id=agent.host.pk, name="nightly", stack_name="shop")
    last_run, last_duration = "dockmesh_backup_last_run_timestamp", "dockmesh_backup_last_duration_seconds"
    assert (scraped(last_run, "job"), scraped(last_duration, "job")) == ({"nightly": 0}, {})
    backups.run_now(actor=ANN, job_id=job.pk)
    [command] = agent.beat()
    assert agent.report(command["id"], result="failure", error="locked") == 200
    assert (scraped(last_run, "job"), scraped(last_duration, "job")) == ({"nightly": 0}, {"nightly": 12.5})
    backups.run_now(actor=ANN, job_id=job.pk)
    [command] = agent.beat()
    assert agent.report(command["id"], snapshot_id="ab" * 32, duration_seconds=3.5) == 200
    job.refresh_from_db()
    assert job.last_success_at is not None
    assert scraped(last_run, "job")["nightly"] == pytest.approx(job.last_success_at.timestamp(), abs=0.01)
    assert scraped(last_duration, "job") == {"nightly": 3.5}
