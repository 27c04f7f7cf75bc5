"""Families that name each thing, and dockmesh's own: born at 0, durable, gone with what they name."""

import datetime
import json
from typing import Any

import pytest
from django.test import Client
from prometheus_client.parser import text_string_to_metric_families as parse_text

from dockmesh.alerts.models import Alert, AlertRule, Channel
from dockmesh.backups.models import BackupJob
from dockmesh.core import clock, tally
from dockmesh.deploys.models import Deploy
from dockmesh.fleet.models import AgentCommand, HeartbeatState, Host, Stack
from dockmesh.scheduler import selectors as scheduler
from dockmesh.scheduler import services as leases
from dockmesh.scheduler.models import LEASE
from metrics import elsewhere, rendering
from metrics.exposition import Fragment
from metrics.models import EventCount
from tests.fleet.factories import heartbeat, make_host
from tests.metrics import fleets
from tests.tokens.support import bearer, token_with


@pytest.fixture(autouse=True)
def _settings(db, settings, monkeypatch):
    settings.DOCKMESH_METRICS_AUTH = False
    monkeypatch.setattr(tally, "events", tally.Tally("metrics.EventCount", "event", "result"))


def scraped(name):
    """{sorted label pairs: value} of a family's samples."""
    text = Client().get("/metrics").content.decode()
    return {
        tuple(sorted(sample.labels.items())): sample.value
        for family in parse_text(text)
        for sample in family.samples
        if sample.name == name
    }


def by(label, name):
    return {dict(labels)[label]: value for labels, value in scraped(name).items()}


def rename(row, name):
    Host.objects.filter(pk=row.pk).update(name=name)
    heartbeat_state = HeartbeatState.objects.get(pk=row.pk)
    HeartbeatState.objects.filter(pk=row.pk).update(version=heartbeat_state.version + 1)


# Backups.


def test_a_job_is_born_at_0_and_what_it_never_did_is_absent():
    BackupJob.objects.create(name="nightly", host=fleets.host("a"))
    assert by("result", "dockmesh_backup_runs_total") == {"success": 0, "partial": 0, "failure": 0}
    for what in ("last_attempt", "next_run", "last_verified"):
        assert by("backup_job", f"dockmesh_backup_{what}_timestamp_seconds") == {"nightly": 0}
    for what in ("bytes", "added_bytes", "files"):
        assert scraped(f"dockmesh_backup_last_{what}") == {}


def test_renamed_jobs_hosts_and_repositories_leave_no_series():
    row = fleets.host("a")
    job = BackupJob.objects.create(name="nightly", host=row, success_count=3)
    scraped("dockmesh_backup_info")
    rename(row, "b")
    BackupJob.objects.filter(pk=job.pk).update(name="daily", repository="far", is_enabled=False)
    assert list(scraped("dockmesh_backup_info")) == [
        (("backup_job", "daily"), ("enabled", "false"), ("host", "b"), ("repository", "far"))
    ]
    assert set(by("backup_job", "dockmesh_backup_runs_total")) == {"daily"}
    job.delete()
    assert scraped("dockmesh_backup_info") == scraped("dockmesh_backup_runs_total") == {}


def test_a_job_that_did_not_change_keeps_its_text(monkeypatch):
    row = fleets.host("a")
    for number in range(3):
        BackupJob.objects.create(name=f"job {number}", host=row)
    scraped("dockmesh_backup_info")
    collector: Any = next(each for each in rendering.renderer.collectors if each.name == "backups")
    before = collector._texts.rendered_bytes
    scraped("dockmesh_backup_info")
    assert collector._texts.rendered_bytes == before


# Deploys.


def test_a_stacks_last_deploy_follows_its_host_and_goes_with_the_stack():
    row = fleets.host("a")
    stack = Stack.objects.create(host=row, name="shop", state_changed_at=clock.now())
    assert scraped("dockmesh_stack_last_deploy_timestamp_seconds") == {}
    at = datetime.datetime(2026, 11, 22, 12, 0, 0, 250_000, tzinfo=datetime.UTC)
    Stack.objects.filter(pk=stack.pk).update(last_deploy_at=at, last_deploy_result="success")
    rename(row, "b")
    assert scraped("dockmesh_stack_last_deploy_timestamp_seconds") == {
        (("host", "b"), ("result", "success"), ("stack", "shop")): at.timestamp()
    }
    stack.delete()
    assert scraped("dockmesh_stack_last_deploy_timestamp_seconds") == {}


def test_only_deploys_that_wait_or_run_are_open():
    for status, operation in (("queued", "up"), ("running", "up"), ("success", "up"), ("queued", "preview")):
        Deploy.objects.create(
            stack_name="s", host_name="h", status=status, operation=operation, requested_by="ada",
            requested_at=clock.now(),
        )  # fmt: skip
    assert by("status", "dockmesh_deploys_open") == {"queued": 1, "running": 1}


def test_plain_text_has_no_exemplar_whatever_a_stack_is_called():
    name = ' # {deploy_id="1"} 1 1'
    fragment = Fragment.of(
        f'a{{stack="{name}"}} 1 # {{deploy_id="17"}} 4.25 1763800000.125\nb 2\n'.replace('="1"', '=\\"1\\"')
    )
    assert fragment.without_exemplars().text.decode().splitlines()[0].endswith('"} 1')
    assert fragment.without_exemplars().text.endswith(b'} 1 1"} 1\nb 2\n')
    assert Fragment.of("b 2\n").without_exemplars().text == b"b 2\n"


# Alerts.


def test_open_alerts_are_counted_for_every_rule():
    rule = AlertRule.objects.create(name="r", severity="critical")
    assert by("status", "dockmesh_alerts") == {"pending": 0, "firing": 0}
    for key, status in (("1", "firing"), ("2", "firing"), ("3", "pending"), ("4", "resolved")):
        Alert.objects.create(rule=rule, key=key, severity="critical", status=status, active_since=clock.now())
    assert by("status", "dockmesh_alerts") == {"pending": 1, "firing": 2}
    rule.delete()
    assert scraped("dockmesh_alerts") == {}


def test_a_channel_is_born_at_0_and_its_series_go_with_it():
    channel = Channel.objects.create(name="pager")
    assert by("result", "dockmesh_notifications_total") == {"sent": 0, "failed": 0, "dropped": 0}
    channel.delete()
    assert scraped("dockmesh_notifications_total") == {}


# dockmesh itself.


def test_heartbeats_are_counted_by_how_they_are_answered():
    _, token = make_host("a")

    def beat(body, headers=None):
        Client().post(
            "/api/v1/agents/heartbeat",
            body,
            content_type="application/json",
            headers=headers or bearer(token),
        )

    beat(json.dumps(heartbeat(1, containers=[])))
    beat(json.dumps(heartbeat(1, containers=[])))
    beat("{}")
    beat(json.dumps(heartbeat(2)), {"authorization": "Bearer nonsense"})
    elsewhere.count_refused("POST", "/api/v1/agents/heartbeat", 413)
    tally.events.flush()
    assert by("result", "dockmesh_heartbeats_total") == {
        "accepted": 1, "stale": 1, "inventory_wanted": 0, "refused": 3, "failed": 0
    }  # fmt: skip


def test_scrapes_are_counted_by_how_they_are_answered(settings):
    settings.DOCKMESH_METRICS_AUTH = True
    client = Client()
    for headers in ({}, bearer("nonsense"), bearer(token_with("metrics.read")[1])):
        client.get("/metrics", headers=headers)
    client.get("/metrics", {"collect[]": "x"}, headers=bearer(token_with("metrics.read", name="b")[1]))
    tally.events.flush()
    assert set(EventCount.objects.values_list("event", "result", "count")) == {
        ("scrapes", "success", 1),
        ("scrapes", "refused", 3),
    }


def test_what_the_database_does_not_take_is_kept(monkeypatch):
    tally.events.add(tally.SCRAPES, "success", count=2)

    def refuse(_new):
        raise RuntimeError

    with monkeypatch.context() as broken:
        broken.setattr(tally.events, "_write", refuse)
        with pytest.raises(RuntimeError):
            tally.events.flush()
    tally.events.flush()
    assert EventCount.objects.get().count == 2


def test_open_commands_by_kind_and_the_age_of_the_oldest():
    row = fleets.host("a")
    assert scraped("dockmesh_command_oldest_age_seconds") == {(): 0}
    for number, status in enumerate(["queued", "handed_out", "done", "expired"]):
        command = AgentCommand.objects.create(host=row, kind="deploy", number=number, status=status)
        AgentCommand.objects.filter(pk=command.pk).update(
            created_at=clock.now() - datetime.timedelta(seconds=100 * (number + 1))
        )
    found = scraped("dockmesh_commands_open")
    assert found[("kind", "deploy"), ("status", "queued")] == 1
    assert found[("kind", "deploy"), ("status", "handed_out")] == 1
    assert found[("kind", "backup"), ("status", "queued")] == 0
    assert scraped("dockmesh_command_oldest_age_seconds")[()] == pytest.approx(200, abs=30)


def test_the_replica_that_holds_the_lease_is_the_leader():
    assert scraped("dockmesh_scheduler_leader") == {(): 0}
    leases.acquire(name=LEASE, holder=f"box:1:abc:{scheduler.REPLICA}", seconds=60)
    assert scraped("dockmesh_scheduler_leader") == {(): 1}
    leases.release(name=LEASE, holder=f"box:1:abc:{scheduler.REPLICA}")
    leases.acquire(name=LEASE, holder="box:1:abc:other", seconds=60)
    assert scraped("dockmesh_scheduler_leader") == {(): 0}


def test_the_database_has_a_size():
    assert scraped("dockmesh_database_size_bytes")[()] > 10_000
