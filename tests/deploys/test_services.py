"""Stacks and deploys: one at a time, counted once, with nothing secret in the open."""

import datetime
import json

import pytest
from django.core import serializers
from pytest_django import Settings

from dockmesh.audit.models import AuditEntry
from dockmesh.core import clock
from dockmesh.core.errors import Conflict, InvalidInput, NotFound
from dockmesh.deploys import reports, services
from dockmesh.deploys.models import Deploy, StackFiles
from dockmesh.fleet import commands
from dockmesh.fleet import services as fleet
from dockmesh.fleet.models import AgentCommand, Container, HeartbeatState, Host, Stack, StackSeries
from tests.deploys.conftest import ANN, COMPOSE
from tests.deploys.support import fetch, progress, report
from tests.fleet.factories import make_host

pytestmark = pytest.mark.django_db

ENV = "PASSWORD=hunter2secret\nMODE=live\n"


def make_stack(host: Host, name: str = "shop", env_file: str = ENV) -> Stack:
    return services.create_stack(
        actor=ANN, host_id=host.pk, name=name, compose_file=COMPOSE, env_file=env_file
    )


def deployed(host: Host, stack: Stack, **how: object) -> Deploy:
    deploy = services.request_deploy(actor=ANN, stack_id=stack.pk)
    [command] = fetch(host)
    report(host, command["id"], **how)  # type: ignore[arg-type]
    deploy.refresh_from_db()
    return deploy


def counts(name: str = "shop") -> tuple[int, float, int, float]:
    series = StackSeries.objects.get(name=name)
    success, failure = series.success_counts.split(",")[-1], series.failure_counts.split(",")[-1]
    return int(success), series.success_sum, int(failure), series.failure_sum


def test_a_new_stack_is_there_with_its_series_at_zero(host: Host) -> None:
    stack = make_stack(host)
    assert (stack.is_managed, stack.state) == (True, "stopped")
    assert counts() == (0, 0.0, 0, 0.0)
    entry = AuditEntry.objects.get(action="stack.created")
    assert (entry.actor_name, entry.target_name) == ("ann", "shop")
    assert entry.changes == {"host": "alpha", "compose_file": "3 lines", "env_file": "2 variables"}


def test_a_deploy_runs_and_is_counted(host: Host) -> None:
    stack = make_stack(host)
    deploy = services.request_deploy(actor=ANN, stack_id=stack.pk)
    stack.refresh_from_db()
    assert (deploy.status, stack.state) == ("queued", "deploying")
    assert Host.objects.get().stack_counts == "0,0,0,0,1,0"

    [command] = fetch(host)
    assert command["kind"] == "deploy"
    assert command["payload"] == {
        "operation": "up",
        "stack": "shop",
        "compose_file": COMPOSE,
        "env_file": ENV,
        "remove": [],
        "images": [],
        "lock": "stack:shop",
        "timeout_seconds": 1800,
    }
    deploy.refresh_from_db()
    assert deploy.status == "running"
    assert deploy.started_at is not None

    progress(host, command["id"], "pulling\n")
    progress(host, command["id"], "starting\n")
    deploy.refresh_from_db()
    assert deploy.output == "pulling\nstarting\n"

    version = HeartbeatState.objects.get().version
    assert report(host, command["id"], seconds=7.5, output="pulling\nstarting\ndone\n")
    deploy.refresh_from_db()
    stack.refresh_from_db()
    assert (deploy.status, deploy.duration_seconds, deploy.exit_code) == ("success", 7.5, 0)
    assert deploy.output == "pulling\nstarting\ndone\n"
    assert (deploy.requested_by, deploy.error) == ("ann", "")
    assert (stack.is_deploying, stack.has_failed_deploy) == (False, False)
    assert counts() == (1, 7.5, 0, 0.0)
    assert HeartbeatState.objects.get().version > version
    assert list(AuditEntry.objects.order_by("sequence").values_list("action", "actor_name")) == [
        ("stack.created", "ann"),
        ("deploy.requested", "ann"),
        ("deploy.succeeded", "alpha"),
    ]


def test_a_failed_deploy_puts_the_stack_in_error_until_one_succeeds(host: Host) -> None:
    stack = make_stack(host)
    deploy = deployed(
        host, stack, result="failure", seconds=2.0, output="no such image", error="exited with 1"
    )
    stack.refresh_from_db()
    assert (deploy.status, deploy.error, deploy.exit_code) == ("failure", "exited with 1", 1)
    assert stack.state == "error"
    assert counts() == (0, 0.0, 1, 2.0)
    deployed(host, stack, seconds=3.0)
    stack.refresh_from_db()
    assert stack.state == "stopped"
    assert counts() == (1, 3.0, 1, 2.0)


def test_the_same_result_fifty_times_is_counted_once(host: Host) -> None:
    stack = make_stack(host)
    services.request_deploy(actor=ANN, stack_id=stack.pk)
    [command] = fetch(host)
    assert [report(host, command["id"]) for _ in range(50)] == [True] + [False] * 49
    with pytest.raises(Conflict):
        report(host, command["id"], result="failure")
    assert counts() == (1, 7.0, 0, 0.0)
    assert AuditEntry.objects.filter(action__in=["deploy.succeeded", "deploy.failed"]).count() == 1


def test_only_one_deploy_of_a_stack_at_a_time(host: Host) -> None:
    stack = make_stack(host)
    services.request_deploy(actor=ANN, stack_id=stack.pk)
    for operation in ("up", "stop", "restart", "down"):
        with pytest.raises(Conflict, match="has not ended yet"):
            services.request_deploy(actor=ANN, stack_id=stack.pk, operation=operation)
    with pytest.raises(Conflict):
        services.forget_stack(actor=ANN, stack_id=stack.pk)
    assert Deploy.objects.count() == AgentCommand.objects.count() == 1


def test_two_stacks_of_a_host_may_deploy_together(host: Host) -> None:
    for name in ("one", "two"):
        services.request_deploy(actor=ANN, stack_id=make_stack(host, name).pk)
    assert [command["payload"]["stack"] for command in fetch(host)] == ["one", "two"]


def test_stop_and_restart_are_recorded_but_are_no_deploys_on_metrics(host: Host) -> None:
    stack = make_stack(host)
    for operation, result in (("stop", "success"), ("restart", "failure")):
        services.request_deploy(actor=ANN, stack_id=stack.pk, operation=operation)
        [command] = fetch(host)
        assert command["payload"]["operation"] == operation
        stack.refresh_from_db()
        assert stack.state == "stopped"
        report(host, command["id"], result=result)
    stack.refresh_from_db()
    assert stack.has_failed_deploy is False
    assert counts() == (0, 0.0, 0, 0.0)
    assert list(Deploy.objects.order_by("pk").values_list("operation", "status")) == [
        ("stop", "success"),
        ("restart", "failure"),
    ]


def test_roll_back_brings_back_the_earlier_files(host: Host) -> None:
    stack = make_stack(host)
    first = deployed(host, stack)
    newer = COMPOSE.replace("1.27", "1.28")
    services.change_stack(actor=ANN, stack_id=stack.pk, compose_file=newer, env_file="MODE=test\n")
    second = deployed(host, stack, result="failure")
    assert second.compose_file == newer
    with pytest.raises(Conflict, match="succeeded"):
        services.roll_back(actor=ANN, deploy_id=second.pk)

    back = services.roll_back(actor=ANN, deploy_id=first.pk)
    assert back.rollback_of_id == first.pk
    [command] = fetch(host)
    assert (command["payload"]["compose_file"], command["payload"]["env_file"]) == (COMPOSE, ENV)
    assert StackFiles.objects.get(stack=stack).compose_file == COMPOSE
    report(host, command["id"])
    assert counts() == (2, 14.0, 1, 7.0)


def test_a_change_of_files_waits_for_the_next_deploy(host: Host) -> None:
    stack = make_stack(host)
    services.request_deploy(actor=ANN, stack_id=stack.pk)
    services.change_stack(actor=ANN, stack_id=stack.pk, compose_file=COMPOSE + "# newer\n", env_file="")
    [command] = fetch(host)
    assert (command["payload"]["compose_file"], command["payload"]["env_file"]) == (COMPOSE, ENV)
    entry = AuditEntry.objects.get(action="stack.changed")
    assert entry.changes == {"host": "alpha", "compose_file": "4 lines", "env_file": "removed"}


def test_a_change_that_changes_nothing_is_not_recorded(host: Host) -> None:
    stack = make_stack(host)
    services.change_stack(actor=ANN, stack_id=stack.pk, compose_file=COMPOSE, timeout_seconds=1800)
    assert not AuditEntry.objects.filter(action="stack.changed").exists()


def test_a_stack_that_is_taken_down_goes_and_its_history_stays(host: Host) -> None:
    stack = make_stack(host)
    deployed(host, stack)
    down = services.remove_stack(actor=ANN, stack_id=stack.pk)
    [command] = fetch(host)
    assert command["payload"]["operation"] == "down"
    report(host, command["id"])
    assert not Stack.objects.exists()
    assert not StackSeries.objects.exists()
    down.refresh_from_db()
    assert (down.status, down.stack_id, down.stack_name) == ("success", None, "shop")
    assert Deploy.objects.count() == 2
    assert AuditEntry.objects.filter(action="stack.removed", target_name="shop").count() == 1


def test_a_stack_that_can_not_be_taken_down_stays(host: Host) -> None:
    stack = make_stack(host)
    services.remove_stack(actor=ANN, stack_id=stack.pk)
    report(host, fetch(host)[0]["id"], result="failure")
    assert Stack.objects.filter(pk=stack.pk, is_managed=True).exists()
    assert StackFiles.objects.filter(pk=stack.pk).exists()


def test_a_stack_can_be_forgotten_without_its_host(host: Host) -> None:
    stack = make_stack(host)
    services.forget_stack(actor=ANN, stack_id=stack.pk)
    assert not Stack.objects.exists()
    assert not AgentCommand.objects.exists()


def discovered(host: Host, name: str = "found") -> Stack:
    stack = Stack.objects.create(host=host, name=name, state="running", state_changed_at=clock.now())
    fleet.stacks.lock_series([name])
    Container.objects.create(
        host=host, stack=stack, container_id="a" * 64, name="x", image="y", state="running",
        changed_at=clock.now(),
    )  # fmt: skip
    return stack


def test_a_discovered_stack_can_be_adopted_and_then_deployed(host: Host) -> None:
    stack = discovered(host)
    with pytest.raises(Conflict, match="adopt it first"):
        services.request_deploy(actor=ANN, stack_id=stack.pk)
    services.adopt_stack(actor=ANN, stack_id=stack.pk, compose_file=COMPOSE)
    stack.refresh_from_db()
    assert stack.is_managed
    assert AuditEntry.objects.filter(action="stack.adopted").count() == 1
    assert deployed(host, stack).status == "success"
    with pytest.raises(Conflict, match="already"):
        services.adopt_stack(actor=ANN, stack_id=stack.pk, compose_file=COMPOSE)


def test_a_stack_whose_name_compose_would_refuse_is_not_adopted(host: Host) -> None:
    with pytest.raises(Conflict, match="no name"):
        services.adopt_stack(actor=ANN, stack_id=discovered(host, "Über").pk, compose_file=COMPOSE)


def test_an_agent_that_vanishes_ends_the_deploy_as_a_failure_once(host: Host) -> None:
    stack = make_stack(host)
    deploy = services.request_deploy(actor=ANN, stack_id=stack.pk)
    [command] = fetch(host)
    later = clock.now() - datetime.timedelta(hours=1)
    AgentCommand.objects.update(handed_out_at=later)
    Deploy.objects.update(started_at=later)
    commands.expire_overdue()
    commands.expire_overdue()
    deploy.refresh_from_db()
    stack.refresh_from_db()
    assert (deploy.status, deploy.error) == ("failure", commands.NO_RESULT)
    assert deploy.duration_seconds == pytest.approx(3600, abs=60)
    assert stack.state == "error"
    with pytest.raises(Conflict):
        report(host, command["id"])
    assert counts()[0::2] == (0, 1)
    assert AuditEntry.objects.filter(action="deploy.failed", actor_kind="system").count() == 1


def test_a_host_that_is_removed_ends_its_deploys(host: Host) -> None:
    deploy = services.request_deploy(actor=ANN, stack_id=make_stack(host).pk)
    host.delete()
    reports.close_lost()
    deploy.refresh_from_db()
    assert (deploy.status, deploy.error, deploy.stack_id) == ("failure", reports.STACK_GONE, None)
    reports.close_lost()
    assert AuditEntry.objects.filter(action="deploy.failed").count() == 1


def test_close_lost_leaves_alone_what_still_runs(host: Host) -> None:
    services.request_deploy(actor=ANN, stack_id=make_stack(host).pk)
    reports.close_lost()
    assert Deploy.objects.get().status == "queued"


def test_secrets_of_an_env_file_are_nowhere_in_the_open(host: Host, caplog: pytest.LogCaptureFixture) -> None:
    stack = make_stack(host)
    deployed(host, stack)
    services.change_stack(actor=ANN, stack_id=stack.pk, env_file="PASSWORD=hunter3secret")
    deployed(host, stack, result="failure")
    rows = [StackFiles, Deploy, Stack, AgentCommand, AuditEntry]
    stored = "".join(serializers.serialize("json", model.objects.all()) for model in rows)  # type: ignore[attr-defined]
    assert "hunter" not in stored + caplog.text


def test_another_secret_key_is_said_clearly(host: Host, settings: Settings) -> None:
    stack = make_stack(host)
    waiting = make_stack(host, "waiting")
    services.request_deploy(actor=ANN, stack_id=waiting.pk)
    settings.SECRET_KEY = "another key that is long enough to be one"
    with pytest.raises(Conflict, match="DOCKMESH_SECRET_KEY"):
        services.request_deploy(actor=ANN, stack_id=stack.pk)
    [command] = fetch(host)
    assert "DOCKMESH_SECRET_KEY" in command["payload"]["operation"]
    assert "compose_file" not in command["payload"]


def test_the_output_that_is_kept_is_bounded(host: Host) -> None:
    stack = make_stack(host)
    deploy = services.request_deploy(actor=ANN, stack_id=stack.pk)
    [command] = fetch(host)
    for _ in range(20):
        progress(host, command["id"], "x" * 16_000 + "\n")
    deploy.refresh_from_db()
    assert len(deploy.output) <= 65_536
    report(host, command["id"], output="y" * 1_000_000)
    deploy.refresh_from_db()
    assert len(deploy.output) <= 65_536


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("name", "Not A Name"),
        ("compose_file", "services: ["),
        ("env_file", "A=\x07"),
        ("timeout_seconds", 5),
        ("timeout_seconds", True),
        ("timeout_seconds", 10.5),
        ("timeout_seconds", 86_401),
    ],
)
def test_bad_input_names_its_field_and_stores_nothing(host: Host, field: str, value: object) -> None:
    given: dict[str, object] = {"name": "shop", "compose_file": COMPOSE, field: value}
    with pytest.raises(InvalidInput) as caught:
        services.create_stack(actor=ANN, host_id=host.pk, **given)
    assert list(caught.value.errors) == [field]
    assert not Stack.objects.exists()
    assert not AuditEntry.objects.exists()


def test_a_name_is_once_on_a_host_and_may_be_on_another(host: Host) -> None:
    make_stack(host)
    with pytest.raises(Conflict):
        make_stack(host)
    make_stack(make_host("beta")[0])
    assert StackSeries.objects.count() == 1


def test_what_is_not_there_is_not_found(host: Host) -> None:
    with pytest.raises(NotFound):
        services.create_stack(actor=ANN, host_id=999, name="shop", compose_file=COMPOSE)
    with pytest.raises(NotFound):
        services.request_deploy(actor=ANN, stack_id=999)
    with pytest.raises(NotFound):
        services.roll_back(actor=ANN, deploy_id=999)
    assert json.loads(serializers.serialize("json", Stack.objects.all())) == []
