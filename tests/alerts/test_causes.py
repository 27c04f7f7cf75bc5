"""What an alert says of its cause: which thing, why, since when; and that a page says the same."""

import datetime
from typing import Any

import pytest
from django.test import Client

from dockmesh.alerts import services
from dockmesh.alerts.models import Alert, AlertRule, Channel
from dockmesh.audit.services import SYSTEM
from dockmesh.backups.models import BackupJob, BackupRun
from dockmesh.deploys.models import Deploy
from dockmesh.fleet import causes
from dockmesh.fleet.models import Container, Host, Stack
from tests.alerts.conftest import Time
from tests.alerts.support import make_container, make_host, make_stack, see
from tests.tokens.support import user_with

pytestmark = pytest.mark.django_db

EXITED = {"states": ["exited", "dead", "restarting", "created"], "healths": []}


def rule(kind: str, **values: Any) -> AlertRule:
    rule = services.RuleInput(**({"name": kind, "kind": kind} | values))
    return services.create_rule(actor=SYSTEM, rule=rule)


def firing() -> dict[str, str]:
    return dict(Alert.objects.filter(status="firing").order_by("id").values_list("subject", "cause"))


@pytest.mark.parametrize(
    ("columns", "cause"),
    [
        (
            {"state": "exited", "exit_code": 137, "is_oom_killed": True},
            "exited with 137, killed for memory, 2026-11-22 11:59:00 UTC.",
        ),
        ({"state": "exited", "exit_code": 1}, "exited with 1, 2026-11-22 11:59:00 UTC."),
        (
            {"state": "restarting", "exit_code": 2, "restart_count": 5},
            "keeps restarting, exited with 2, restarted 5 times, 2026-11-22 12:00:00 UTC.",
        ),
        (
            {"state": "created", "exit_code": 127, "error": "exec: no such file."},
            "did not start, exec: no such file, 2026-11-22 12:00:00 UTC.",
        ),
        ({"state": "dead"}, "dead, 2026-11-22 12:00:00 UTC."),
        ({"health": "unhealthy"}, "unhealthy since 2026-11-22 12:00:00 UTC."),
    ],
)
def test_a_container_is_named_with_its_cause(columns: dict[str, Any], cause: str, time: Time) -> None:
    parameters = {"states": [], "healths": ["unhealthy"]} if "health" in columns else EXITED
    rule("container_state", parameters=parameters)
    rule("stack_error")
    host = make_host("atlas")
    stack = make_stack(host, "shop", "error")
    ended = time.now - datetime.timedelta(minutes=1)
    make_container(host, "shop-web-1", stack=stack, service="web", finished_at=ended, **columns)
    services.evaluate()
    assert firing() == {
        "Container shop-web-1 on atlas": f"web of shop on atlas: {cause}",
        "Stack shop on atlas": f"web {cause}",
    }


def test_a_container_of_no_stack_has_its_own_name(time: Time) -> None:
    rule("container_state", parameters=EXITED)
    make_container(make_host("atlas"), "cron", state="exited", exit_code=1)
    services.evaluate()
    assert firing() == {"Container cron on atlas": "cron on atlas: exited with 1, 2026-11-22 12:00:00 UTC."}


def test_what_is_run_once_by_hand_is_no_alert(time: Time) -> None:
    """It counts neither way for its stack either."""
    rule("container_state", parameters={"states": ["exited"], "healths": []})
    rule("container_state", name="sick", parameters={"states": [], "healths": ["unhealthy"]})
    rule("container_restarts")
    rule("stack_error")
    host = make_host("atlas")
    stack = make_stack(host, "shop")
    once: dict[str, Any] = {"stack": stack, "service": "web", "is_oneoff": True}
    make_container(host, "shop-web-run-0123456789ab", state="exited", exit_code=1, **once)
    make_container(host, "called-by-hand", state="exited", exit_code=137, is_oom_killed=True, **once)
    make_container(host, "sick", health="unhealthy", **once)
    services.evaluate()
    Container.objects.update(restart_count=9)
    time.passes(30)
    see(host)
    services.evaluate()
    assert firing() == {}
    Container.objects.filter(name="called-by-hand").update(is_oneoff=False)
    services.evaluate()
    assert "Container called-by-hand on atlas" in firing()


def test_how_often_today_is_counted_also_where_it_is_made_anew(time: Time) -> None:
    rule("container_state", parameters=EXITED)
    host = make_host("atlas")
    for word in ("", ", second time today", ", third time today"):
        made = make_container(host, "web", state="exited", exit_code=1)
        Container.objects.filter(pk=made.pk).update(container_id=f"{made.pk:064d}")
        services.evaluate()
        assert firing()["Container web on atlas"].endswith(f"12:00:00 UTC{word}.")
        made.delete()
        services.evaluate()
    time.passes(86_400)
    see(host)
    make_container(host, "web", state="exited", exit_code=1)
    services.evaluate()
    assert "today" not in firing()["Container web on atlas"]


def test_ordinals() -> None:
    assert [causes.ordinal(count) for count in (1, 4, 11, 21, 22, 112)] == [
        "first", "4th", "11th", "21st", "22nd", "112th",
    ]  # fmt: skip


def test_a_stack_names_which_of_its_containers(time: Time) -> None:
    rule("stack_error")
    stack = make_stack(make_host("atlas"), "shop", "error")
    for number in range(5):
        make_container(
            stack.host,
            f"shop-w-{number}",
            stack=stack,
            service=f"w{number}",
            state="exited",
            exit_code=number,
        )
    services.evaluate()
    (cause,) = firing().values()
    assert [word in cause for word in ("w0", "w1 exited with 1,", "w3 exited", "w4", "and 1 more.")] == [
        False, True, True, False, True,
    ]  # fmt: skip


def failed_deploy(stack: Stack, time: Time, **columns: Any) -> Deploy:
    values = {"status": "failure", "error": "pull access denied", "operation": "up"} | columns
    return Deploy.objects.create(
        stack=stack,
        stack_name=stack.name,
        host_name=stack.host.name,
        requested_at=time.now,
        finished_at=time.now,
        **values,
    )


def test_a_failed_deploy_is_told_with_its_error_and_the_page_says_the_same(
    time: Time, client: Client
) -> None:
    rule("stack_error")
    rule("deploy_failed")
    stack = make_stack(make_host("atlas"), "shop", "error", has_failed_deploy=True)
    failed_deploy(stack, time, error="an older one")
    last = failed_deploy(stack, time)
    failed_deploy(stack, time, operation="preview", error="of a preview")
    services.evaluate()
    expected = f"The last deploy ({last.pk}) failed 2026-11-22 12:00:00 UTC: pull access denied."
    assert set(Alert.objects.values_list("cause", flat=True)) == {expected}
    client.force_login(user_with("fleet.read"))
    assert expected in client.get(f"/stacks/{stack.pk}/").content.decode()
    Alert.objects.all().delete()
    assert expected in client.get("/").content.decode()


def test_a_hosts_page_says_what_its_alert_does(time: Time, client: Client) -> None:
    rule("host_degraded")
    host = make_host("atlas", is_degraded=True, docker_error="no such socket")
    services.evaluate()
    (cause,) = firing().values()
    assert "no such socket" in cause
    client.force_login(user_with("fleet.read"))
    assert f'<dd class="break">{cause}</dd>' in client.get(f"/hosts/{host.pk}/").content.decode()


def test_a_backup_is_told_with_the_error_of_its_run(time: Time) -> None:
    rule("backup_failed")
    rule("backup_overdue", parameters={"overdue_seconds": 60})
    host = make_host("atlas")
    job = BackupJob.objects.create(name="nightly", host=host, last_status="failure", last_attempt_at=time.now)
    BackupJob.objects.update(created_at=time.now)
    for error in ("of the one before", "no space left on device"):
        BackupRun.objects.create(
            job=job,
            job_name="nightly",
            host_name="atlas",
            status="failure",
            error=error,
            requested_at=time.now,
        )
    time.passes(60)
    see(host)
    services.evaluate()
    failed = "The last run failed 2026-11-22 12:00:00 UTC: no space left on device"
    assert list(Alert.objects.order_by("rule__name").values_list("cause", flat=True)) == [
        failed, f"The last successful run was: never. {failed}",
    ]  # fmt: skip


def test_a_channel_that_fails_is_told(time: Time) -> None:
    rule("channel_failing")
    told = services.create_channel(actor=SYSTEM, name="ops", kind="apprise", url="json://192.0.2.1/")
    services.evaluate()
    assert firing() == {}
    Channel.objects.filter(pk=told.pk).update(last_error="connection refused")
    services.evaluate()
    assert firing() == {"Channel ops": "ops could not be told (never told): connection refused"}
    Channel.objects.filter(pk=told.pk).update(last_error="")
    services.evaluate()
    assert firing() == {}


class TestDeploys:
    """The noise of a deploy is held back; what fires already, and what it leaves behind, is told."""

    def noisy(self, time: Time, **columns: Any) -> tuple[Stack, Deploy]:
        rule("container_state", parameters=EXITED)
        stack = make_stack(make_host("atlas"), "shop", "deploying")
        deploy = failed_deploy(stack, time, error="", **columns)
        make_container(stack.host, "shop-web-1", stack=stack, service="web", state="exited", exit_code=1)
        return stack, deploy

    def test_while_it_runs_and_ten_minutes_after(self, time: Time) -> None:
        stack, deploy = self.noisy(time, status="running")
        Deploy.objects.update(finished_at=None)
        for _ in range(3):
            time.passes(60)
            see(stack.host)
            services.evaluate()
            assert firing() == {}
        Deploy.objects.filter(pk=deploy.pk).update(status="success", finished_at=time.now)
        time.passes(599)
        see(stack.host)
        services.evaluate()
        assert firing() == {}
        time.passes(2)
        see(stack.host)
        services.evaluate()
        assert list(firing()) == ["Container shop-web-1 on atlas"]

    @pytest.mark.parametrize(
        ("kind", "parameters", "trouble"),
        [
            ("container_restarts", {"restarts": 1, "window_seconds": 3600}, {"restart_count": 5}),
            ("container_state", {"states": [], "healths": ["unhealthy"]}, {"health": "unhealthy"}),
        ],
    )
    def test_neither_restarts_nor_health_are_told_in_that_time(
        self, time: Time, kind: str, parameters: dict[str, Any], trouble: dict[str, Any]
    ) -> None:
        rule(kind, parameters=parameters)
        stack = make_stack(make_host("atlas"), "shop")
        Host.objects.update(enrolled_at=time.now - datetime.timedelta(days=1))
        make_container(stack.host, "shop-web-1", stack=stack, service="web")

        def minutes(count: int) -> list[str]:
            for _ in range(count):
                time.passes(60)
                see(stack.host)
                services.evaluate()
            return list(firing())

        assert minutes(3) == []
        failed_deploy(stack, time, error="", status="success")
        Container.objects.update(**trouble)
        assert minutes(10) == []
        assert minutes(1) == ["Container shop-web-1 on atlas"]

    def test_what_is_gone_by_then_is_never_told(self, time: Time) -> None:
        stack, _ = self.noisy(time, status="success")
        services.evaluate()
        Container.objects.update(state="running")
        time.passes(601)
        see(stack.host)
        services.evaluate()
        assert not Alert.objects.exists()

    def test_what_fires_already_goes_on(self, time: Time) -> None:
        _, deploy = self.noisy(time, status="success")
        Deploy.objects.update(finished_at=time.now - datetime.timedelta(hours=1))
        services.evaluate()
        Deploy.objects.filter(pk=deploy.pk).update(finished_at=time.now)
        services.evaluate()
        assert list(firing()) == ["Container shop-web-1 on atlas"]

    def test_other_stacks_and_mere_looks_are_not_held_back(self, time: Time) -> None:
        stack, _ = self.noisy(time, status="success", operation="validate")
        other = make_stack(stack.host, "blog")
        failed_deploy(other, time, status="success")
        services.evaluate()
        assert list(firing()) == ["Container shop-web-1 on atlas"]
