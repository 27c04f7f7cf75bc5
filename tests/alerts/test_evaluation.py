"""Rules fire and resolve by their own cause, count each transition once, and tell each channel once."""

import datetime
from itertools import pairwise
from typing import Any

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from dockmesh.alerts import receivers, selectors, services
from dockmesh.alerts.models import Alert, AlertRule, Notification
from dockmesh.audit.models import AuditEntry
from dockmesh.audit.services import SYSTEM
from dockmesh.backups.models import BackupJob
from dockmesh.core.schedule import Failed
from dockmesh.fleet.models import Container, HeartbeatState, ListeningSpan, Stack
from tests.alerts.conftest import Time
from tests.alerts.support import deliver_due, make_container, make_host, make_stack, see
from tests.tokens.support import token_with

pytestmark = pytest.mark.django_db


def rule(kind: str, **values: Any) -> AlertRule:
    name = values.pop("name", kind)
    return services.create_rule(actor=SYSTEM, rule=services.RuleInput(name=name, kind=kind, **values))


def firing() -> list[str]:
    return sorted(Alert.objects.filter(status="firing").values_list("subject", flat=True))


def test_a_new_rule_is_on_metrics_at_0() -> None:
    rule("host_offline", name="gone", severity="critical")
    assert [(rule.severity, rule.name, rule.fired) for rule in selectors.rule_samples()] == [
        ("critical", "gone", 0)
    ]


def test_a_healthy_fleet_is_silent(time: Time) -> None:
    services.create_recommended_rules(actor=SYSTEM)
    host = make_host("web-1")
    make_stack(host, "shop")
    make_container(host, "web", health="healthy")
    for _ in range(3):
        services.evaluate()
        time.passes(15)
        see(host)
    assert not Alert.objects.exists()


def test_an_offline_host_fires_once_and_resolves_when_it_is_back(time: Time) -> None:
    made = rule("host_offline", severity="critical")
    host = make_host("web-1", seen_seconds_ago=61)
    services.evaluate()
    services.evaluate()
    assert firing() == ["Host web-1"]
    assert [(rule.severity, rule.name, rule.fired) for rule in selectors.rule_samples()] == [
        ("critical", "host_offline", 1)
    ]
    see(host)
    time.passes(15)
    services.evaluate()
    alert = Alert.objects.get(rule=made)
    assert (alert.status, alert.resolved_at) == ("resolved", time.now)
    actions = list(AuditEntry.objects.order_by("sequence").values_list("action", flat=True))
    assert actions == ["alert_rule.created", "alert.fired", "alert.resolved"]
    time.passes(61)
    services.evaluate()
    assert selectors.rule_samples()[0].fired == 2


@pytest.mark.parametrize(("sequence", "expected"), [(-1, "never reported"), (0, "No heartbeat since")])
def test_the_cause_tells_a_host_that_fell_silent_from_one_that_never_spoke(
    sequence: int, expected: str, time: Time
) -> None:
    rule("host_offline")
    host = make_host("web-1", seen_seconds_ago=61)
    HeartbeatState.objects.filter(host=host).update(sequence=sequence)
    services.evaluate()
    assert expected in Alert.objects.get().cause


def test_a_cause_must_hold_before_it_fires(time: Time) -> None:
    rule("host_degraded", for_seconds=30)
    host = make_host("web-1", is_degraded=True, docker_error="no socket")
    services.evaluate()
    assert Alert.objects.get().status == "pending"
    time.passes(15)
    HeartbeatState.objects.filter(host=host).update(is_degraded=False, last_seen_at=time.now)
    services.evaluate()
    assert not Alert.objects.exists()
    HeartbeatState.objects.filter(host=host).update(is_degraded=True)
    services.evaluate()
    time.passes(30)
    see(host)
    services.evaluate()
    assert firing() == ["Host web-1"]
    assert "no socket" in Alert.objects.get().cause


def test_cooling_down_a_subject_does_not_fire_again(time: Time) -> None:
    rule("stack_error", cooldown_seconds=300)
    host = make_host("web-1")
    stack = make_stack(host, "shop", "error")
    services.evaluate()
    Stack.objects.filter(pk=stack.pk).update(state="running")
    services.evaluate()
    Stack.objects.filter(pk=stack.pk).update(state="error")
    time.passes(299)
    see(host)
    services.evaluate()
    assert firing() == []
    time.passes(2)
    services.evaluate()
    assert firing() == ["Stack shop on web-1"]
    assert selectors.rule_samples()[0].fired == 2


def test_what_is_on_an_offline_host_neither_fires_nor_resolves(time: Time) -> None:
    rule("stack_error")
    host = make_host("web-1")
    stack = make_stack(host, "shop", "error")
    services.evaluate()
    time.passes(100)
    make_stack(host, "blog", "error")
    Stack.objects.filter(pk=stack.pk).update(state="running")
    services.evaluate()
    assert firing() == ["Stack shop on web-1"]
    see(host)
    services.evaluate()
    assert firing() == ["Stack blog on web-1"]


def test_the_alert_of_a_removed_host_resolves() -> None:
    rule("host_offline")
    host = make_host("web-1", seen_seconds_ago=100)
    services.evaluate()
    host.delete()
    services.evaluate()
    assert firing() == []


@pytest.mark.parametrize(
    ("parameters", "expected"),
    [
        ({"healths": ["unhealthy"], "states": []}, ["Container sick on web-1"]),
        ({"states": ["exited", "dead"], "healths": []}, ["Container gone on web-1"]),
        ({"states": [], "healths": []}, []),
    ],
)
def test_containers_by_state_and_health(parameters: dict[str, Any], expected: list[str]) -> None:
    rule("container_state", parameters=parameters)
    host = make_host("web-1")
    make_container(host, "fine", health="healthy")
    make_container(host, "sick", health="unhealthy")
    make_container(host, "gone", state="exited", exit_code=3)
    services.evaluate()
    assert firing() == expected


def test_globs_and_labels_bound_a_rule() -> None:
    rule("container_state", name="a", match_name="web-*", parameters={"states": ["exited"], "healths": []})
    rule("container_state", name="b", match_stack="shop", parameters={"states": ["exited"], "healths": []})
    rule(
        "container_state",
        name="c",
        host_labels={"env": "prod"},
        match_host="h*",
        parameters={"states": ["exited"], "healths": []},
    )
    prod = make_host("h1", labels={"env": "prod"})
    test = make_host("h2", labels={"env": "test"})
    shop = make_stack(test, "shop")
    make_container(prod, "web-1", state="exited")
    make_container(test, "db-1", state="exited", stack=shop)
    services.evaluate()
    found = {(alert.rule.name, alert.subject) for alert in Alert.objects.select_related("rule")}
    assert found == {
        ("a", "Container web-1 on h1"),
        ("b", "Container db-1 on h2"),
        ("c", "Container web-1 on h1"),
    }


def test_restarts_count_within_the_window_only(time: Time) -> None:
    rule("container_restarts", parameters={"restarts": 3, "window_seconds": 600})
    host = make_host("web-1", enrolled_at=time.now - datetime.timedelta(days=1))
    type(host).objects.update(enrolled_at=time.now - datetime.timedelta(days=1))
    old = make_container(host, "old", restart_count=50)
    fresh = make_container(host, "fresh")
    services.evaluate()
    assert firing() == [], "what a container had before anybody looked is not held against it"
    for count in (1, 2, 3):
        time.passes(60)
        see(host)
        Container.objects.filter(pk=fresh.pk).update(restart_count=count)
        services.evaluate()
    assert firing() == ["Container fresh on web-1"]
    time.passes(600)
    see(host)
    services.evaluate()
    assert firing() == []
    Container.objects.filter(pk=old.pk).update(restart_count=52)
    services.evaluate()
    assert firing() == []


def test_the_restarts_of_a_new_host_are_not_held_against_it(time: Time) -> None:
    rule("container_restarts", parameters={"restarts": 3, "window_seconds": 600})
    services.evaluate()
    time.passes(15)
    host = make_host("web-1")
    type(host).objects.update(enrolled_at=time.now)
    make_container(host, "old", restart_count=50)
    services.evaluate()
    assert firing() == []


def test_a_failed_deploy_fires_until_the_next_one_succeeds() -> None:
    rule("deploy_failed")
    stack = make_stack(make_host("web-1"), "shop", has_failed_deploy=True)
    services.evaluate()
    assert firing() == ["Stack shop on web-1"]
    Stack.objects.filter(pk=stack.pk).update(has_failed_deploy=False)
    services.evaluate()
    assert firing() == []


def test_backups_overdue_and_failed(time: Time) -> None:
    rule("backup_overdue", parameters={"overdue_seconds": 3600})
    rule("backup_failed")
    host = make_host("web-1")
    job = BackupJob.objects.create(name="nightly", host=host)
    BackupJob.objects.update(created_at=time.now)
    off = BackupJob.objects.create(name="off", host=host, is_enabled=False, last_status="failure")
    services.evaluate()
    assert firing() == []
    time.passes(3600)
    see(host)
    services.evaluate()
    assert firing() == ["Backup job nightly on web-1"]
    BackupJob.objects.filter(pk=job.pk).update(last_success_at=time.now, last_status="success")
    services.evaluate()
    assert firing() == []
    BackupJob.objects.filter(pk__in=[job.pk, off.pk]).update(last_status="failure")
    services.evaluate()
    assert firing() == ["Backup job nightly on web-1"]
    BackupJob.objects.filter(pk=job.pk).update(last_status="success")
    services.evaluate()
    assert firing() == []
    BackupJob.objects.filter(pk=job.pk).update(last_status="partial", last_unreadable=1)
    services.evaluate()
    assert firing() == ["Backup job nightly on web-1"]
    assert Alert.objects.latest("pk").cause == "The last run was partial: 1 file could not be read."


def test_a_token_about_to_expire(time: Time) -> None:
    rule("token_expiring", parameters={"within_seconds": 86_400}, match_name="prom*")
    token, _ = token_with("metrics.read", name="prometheus")
    type(token).objects.update(expires_at=time.now + datetime.timedelta(days=2))
    services.evaluate()
    assert firing() == []
    time.passes(86_400)
    services.evaluate()
    assert firing() == ["API token prometheus"]


def test_disabling_a_rule_resolves_its_alerts() -> None:
    made = rule("host_offline")
    make_host("web-1", seen_seconds_ago=100)
    services.evaluate()
    services.change_rule(actor=SYSTEM, rule_id=made.pk, is_enabled=False)
    services.evaluate()
    assert firing() == []


def test_a_muted_rule_counts_and_tells_nobody(time: Time) -> None:
    services.create_channel(actor=SYSTEM, name="ops", kind="apprise", url="json://192.0.2.1/")
    rule("host_offline", muted_until=time.now + datetime.timedelta(hours=1))
    make_host("web-1", seen_seconds_ago=100)
    services.evaluate()
    assert selectors.rule_samples()[0].fired == 1
    assert not Notification.objects.exists()


def test_channels_are_told_from_their_least_severity_on_once_each() -> None:
    services.create_channel(actor=SYSTEM, name="all", kind="apprise", url="json://192.0.2.1/")
    services.create_channel(
        actor=SYSTEM, name="grave", kind="apprise", url="json://192.0.2.1/", minimum_severity="critical"
    )
    rule("host_offline", severity="warning")
    host = make_host("web-1", seen_seconds_ago=100)
    services.evaluate()
    services.evaluate()
    assert list(Notification.objects.values_list("channel__name", "event")) == [("all", "firing")]
    Notification.objects.update(status="sent")
    see(host)
    services.evaluate()
    told = list(Notification.objects.order_by("id").values_list("channel__name", "event"))
    assert told == [("all", "firing"), ("all", "resolved")]


def test_a_message_that_can_not_be_sent_is_tried_again_with_back_off(
    time: Time, monkeypatch: pytest.MonkeyPatch
) -> None:
    attempts: list[datetime.datetime] = []

    def refuse(*_: object) -> None:
        attempts.append(time.now)
        raise receivers.NotSent("The receiver did not take the message.")

    monkeypatch.setattr(receivers, "send", refuse)
    services.create_channel(actor=SYSTEM, name="ops", kind="apprise", url="json://192.0.2.1/")
    rule("host_offline")
    make_host("web-1", seen_seconds_ago=100)
    services.evaluate()
    for _ in range(60):
        deliver_due()
        time.passes(5)
    gaps = [(later - earlier).total_seconds() for earlier, later in pairwise(attempts)]
    assert gaps == [10, 20, 40, 80]
    sent = Notification.objects.get()
    assert (sent.status, sent.last_error) == ("queued", "The receiver did not take the message.")
    monkeypatch.setattr(receivers, "send", lambda *_: None)
    time.passes(300)
    deliver_due()
    deliver_due()
    assert Notification.objects.get().status == "sent"


def test_evaluation_asks_the_same_number_of_queries_whatever_the_fleet() -> None:
    services.create_recommended_rules(actor=SYSTEM)
    services.evaluate()
    counts = []
    for size in (1, 20):
        for number in range(size):
            host = make_host(f"h{size}-{number}")
            make_container(host, "web", health="healthy")
        with CaptureQueriesContext(connection) as captured:
            services.evaluate()
        counts.append(len(captured))
    assert counts[0] == counts[1]


def listened(since: datetime.datetime, until: datetime.datetime) -> None:
    ListeningSpan.objects.create(since=since, until=until)


def test_the_servers_absence_fires_nothing(time: Time) -> None:
    services.create_recommended_rules(actor=SYSTEM)
    host = make_host("web-1")
    begin = time.now
    time.passes(7200)
    see(host)
    stack = make_stack(host, "shop", "error")
    services.evaluate()
    listened(begin, time.now)
    time.passes(36_000)
    for _ in range(3):
        services.evaluate()
        listened(time.now, time.now + datetime.timedelta(seconds=9))
        time.passes(9)
    assert firing() == []
    assert Alert.objects.get().status == "pending"
    Stack.objects.filter(pk=stack.pk).update(state="running")
    see(host)
    services.evaluate()
    assert not Alert.objects.exists()


def test_restarts_while_nobody_looked_are_of_nobody_knows_when(time: Time) -> None:
    rule("container_restarts", parameters={"restarts": 3, "window_seconds": 600})
    host = make_host("web-1")
    HeartbeatState.objects.update(sequence=1)
    container = make_container(host, "web")
    other = make_container(host, "other", restart_count=1)
    time.passes(300)
    see(host)
    services.evaluate()
    time.passes(3600)  # the server's absence
    services.evaluate()
    time.passes(15)
    see(host)
    Container.objects.update(restart_count=6)
    services.evaluate()
    assert firing() == []
    for _ in range(10):  # the host's own silence
        time.passes(60)
        services.evaluate()
    see(host)
    Container.objects.update(restart_count=12)
    services.evaluate()
    assert firing() == []
    time.passes(15)
    see(host)
    Container.objects.filter(pk=container.pk).update(restart_count=15)
    services.evaluate()
    assert firing() == ["Container web on web-1"]
    assert other.pk


def test_a_backup_missed_in_the_servers_absence_has_time_to_run(time: Time) -> None:
    rule("backup_overdue", parameters={"overdue_seconds": 3600})
    host = make_host("web-1")
    begin = time.now
    BackupJob.objects.create(host=host, name="nightly", last_success_at=begin)
    time.passes(1800)
    listened(begin, time.now)
    time.passes(86_400)
    listened(time.now, time.now + datetime.timedelta(hours=2))
    time.passes(1800)
    see(host)
    services.evaluate()
    assert firing() == []
    time.passes(1801)
    services.evaluate()
    assert firing() == ["Backup job nightly on web-1"]


@pytest.mark.parametrize("order", [1, -1])
def test_of_one_hosts_many_subjects_some_alert_and_the_rest_are_counted(
    time: Time, order: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes: list[int] = []
    bring_to = services._bring_to

    def counting(rule_id: int, due: list[Any], over: list[Any], facts: Any) -> bool:
        sizes.append(len(due) + len(over))
        return bring_to(rule_id, due, over, facts)

    monkeypatch.setattr(services, "_bring_to", counting)
    rule("container_state", name="dead", parameters={"states": ["dead"], "healths": []})
    rule("container_state", name="gone", parameters={"states": ["dead", "exited"], "healths": []})
    host, other = make_host("web-1"), make_host("web-2")
    make_container(other, "db", state="dead")
    Container.objects.bulk_create(
        Container(
            host=host, name=f"c{n}", container_id=f"{n:064d}", state="dead", image="i", changed_at=time.now
        )
        for n in range(5000)
    )
    services.evaluate()
    found = Alert.objects.filter(rule__name="dead", status="firing")
    assert found.count() == services.MOST_OF_A_HOST + 2
    rest = found.get(subject="More on web-1")
    assert rest.cause == "and 4,980 more."
    assert found.filter(subject="Container db on web-2").exists()
    assert Alert.objects.count() == 2 * found.count()
    assert max(sizes) <= 2 * services.AT_ONCE
    told = set(found.values_list("key", flat=True))
    removed = [pk for (pk,) in Container.objects.filter(host=host).order_by("pk").values_list("pk")][::order][
        :4000
    ]
    Container.objects.filter(pk__in=removed).delete()
    services.evaluate()
    rest.refresh_from_db()
    assert rest.cause == "and 980 more."
    kept = told & set(found.values_list("key", flat=True))
    assert len(kept) == (2 if order == 1 else services.MOST_OF_A_HOST + 2)
    Container.objects.all().delete()
    services.evaluate()
    assert firing() == []


@pytest.mark.parametrize("broken", ["dockmesh.alerts.restarts.mark", "dockmesh.alerts.restarts.counts_at"])
def test_a_rule_that_fails_stops_no_other(
    time: Time, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, broken: str
) -> None:
    def fail(*_args: object, **_kwargs: object) -> None:
        raise ValueError("value too long for type character varying(200)")

    monkeypatch.setattr(broken, fail)
    rule("container_restarts", name="bad")
    rule("stack_error", name="good")
    host = make_host("web-1")
    make_stack(host, "shop", state="error")
    with pytest.raises(Failed):
        services.evaluate()
    assert firing() == ["Stack shop on web-1"]
    assert "The alert rule bad failed; the others go on" in caplog.text
