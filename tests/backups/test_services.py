"""Backup jobs and runs: due, missed, counted once, and what /metrics shows of them."""

import datetime
from typing import Any

import pytest

from dockmesh.audit.models import AuditEntry
from dockmesh.backups import dumps, reports, selectors, services
from dockmesh.backups.models import BackupJob, BackupRun
from dockmesh.core import clock
from dockmesh.core.errors import Conflict, InvalidInput, NotFound
from dockmesh.core.schedule import Failed
from dockmesh.fleet import commands
from dockmesh.fleet.models import AgentCommand, HeartbeatState, Host
from tests.deploys.conftest import ANN
from tests.deploys.support import fetch, progress, report
from tests.fleet.factories import make_host

pytestmark = pytest.mark.django_db

START = datetime.datetime(2026, 11, 22, 12, 0, tzinfo=datetime.UTC)


def job_samples():
    return [selectors.job_sample(row) for row in selectors.job_rows().values()]


class Clock:
    """The server's time, moved by the test."""

    def __init__(self) -> None:
        self.now = START

    def set(self, text: str) -> None:
        self.now = datetime.datetime.fromisoformat(text).replace(tzinfo=datetime.UTC)


@pytest.fixture
def time(monkeypatch: pytest.MonkeyPatch) -> Clock:
    moved = Clock()
    monkeypatch.setattr(clock, "now", lambda: moved.now)
    return moved


def make_job(host: Host, name: str = "nightly", **values: Any) -> BackupJob:
    values = {"source_kind": "volumes", "stack_name": "shop", "volumes": ["rows"], **values}
    return services.create_job(actor=ANN, host_id=host.pk, name=name, **values)


def seen(host: Host, moment: datetime.datetime) -> None:
    HeartbeatState.objects.filter(host=host).update(last_seen_at=moment)


def finish(host: Host, **how: Any) -> BackupRun:
    [command] = fetch(host)
    report(host, command["id"], **how)
    return BackupRun.objects.get(command_id=AgentCommand.objects.get(uuid=command["id"]).pk)


def test_a_backup_runs_and_its_end_is_what_metrics_show(host: Host, time: Clock) -> None:
    job = make_job(host, keep_last=3, is_verified=True)
    [sample] = job_samples()
    assert (sample.name, sample.last_run_timestamp, sample.last_duration_seconds) == ("nightly", 0.0, None)

    run = services.run_now(actor=ANN, job_id=job.pk)
    [command] = fetch(host)
    assert command["kind"] == "backup"
    assert command["payload"] == {
        "job": job.snapshot_tag,
        "repository": "default",
        "source": {"type": "volumes", "stack": "shop", "volumes": ["rows"]},
        "keep": {"last": 3, "daily": 7, "weekly": 4, "monthly": 6},
        "verify": True,
        "is_known": False,
        "least_files": 1,
        "takes_partial": True,
        "wants_snapshots": True,
        "lock": "repository:default",
        "timeout_seconds": 21600,
    }
    progress(host, command["id"], "10 %\n")
    run.refresh_from_db()
    assert (run.status, run.output) == ("running", "10 %\n")

    time.set("2026-11-22 12:05")
    report(
        host, command["id"], seconds=42.5, output="done\n",
        snapshot_id="abcdef12" * 8, bytes_added=10, bytes_processed=2**40, files=3,
    )  # fmt: skip
    run.refresh_from_db()
    assert (run.status, run.snapshot_id, run.bytes_processed, run.files) == (
        "success",
        "abcdef12" * 8,
        2**40,
        3,
    )
    [sample] = job_samples()
    assert sample.last_run_timestamp == START.timestamp() + 300
    assert sample.last_duration_seconds == 42.5
    assert list(AuditEntry.objects.order_by("sequence").values_list("action", "actor_name")) == [
        ("backup_job.created", "ann"),
        ("backup.requested", "ann"),
        ("backup.succeeded", "alpha"),
    ]


def test_a_failed_backup_leaves_the_last_success_and_shows_its_duration(host: Host, time: Clock) -> None:
    job = make_job(host)
    services.run_now(actor=ANN, job_id=job.pk)
    finish(host, seconds=10.0)
    time.set("2026-11-23 12:00")
    seen(host, time.now)
    services.run_now(actor=ANN, job_id=job.pk)
    run = finish(
        host, result="failure", seconds=2.0, error="no such repository", snapshot_id="nonsense; rm -rf"
    )
    assert (run.status, run.error, run.snapshot_id) == ("failure", "no such repository", "")
    [sample] = job_samples()
    assert (sample.last_run_timestamp, sample.last_duration_seconds) == (START.timestamp(), 2.0)
    job.refresh_from_db()
    assert job.last_status == "failure"


def test_the_same_result_fifty_times_counts_once(host: Host) -> None:
    job = make_job(host)
    services.run_now(actor=ANN, job_id=job.pk)
    [command] = fetch(host)
    assert [report(host, command["id"]) for _ in range(50)] == [True] + [False] * 49
    assert AuditEntry.objects.filter(action="backup.succeeded").count() == 1


@pytest.mark.parametrize("bad", [-1, True, 1.5, "7", None, [1]])
def test_numbers_that_are_none_are_left_out(host: Host, bad: object) -> None:
    services.run_now(actor=ANN, job_id=make_job(host).pk)
    run = finish(host, bytes_added=bad, files=5)
    assert (run.status, run.bytes_added, run.files) == ("success", None, 5)


def test_scheduled_runs_start_at_their_time(host: Host, time: Clock) -> None:
    job = make_job(host, schedule="0 3 * * *", time_zone="Europe/Berlin")
    assert job.next_run_at == datetime.datetime(2026, 11, 23, 2, 0, tzinfo=datetime.UTC)
    services.start_due()
    assert not BackupRun.objects.exists()
    for day in (23, 24):
        time.set(f"2026-11-{day} 02:00:04")
        seen(host, time.now)
        services.start_due()
        services.start_due()
        run = finish(host)
        assert (run.cause, run.requested_by) == ("schedule", "dockmesh")
        assert run.scheduled_for == datetime.datetime(2026, 11, day, 2, 0, tzinfo=datetime.UTC)
    assert BackupRun.objects.count() == 2
    job.refresh_from_db()
    assert job.next_run_at == datetime.datetime(2026, 11, 25, 2, 0, tzinfo=datetime.UTC)
    assert job.last_success_at == time.now


def test_a_run_missed_while_the_host_was_away_is_made_up_once(host: Host, time: Clock) -> None:
    make_job(host, schedule="0 * * * *")
    seen(host, time.now)
    time.set("2026-11-22 18:30")  # six runs were due, the host is silent since 12:00
    services.start_due()
    assert not BackupRun.objects.exists()
    seen(host, time.now)
    services.start_due()
    services.start_due()
    run = finish(host)
    assert (run.cause, BackupRun.objects.count()) == ("missed", 1)
    assert run.scheduled_for == datetime.datetime(2026, 11, 22, 13, 0, tzinfo=datetime.UTC)
    services.start_due()
    assert BackupRun.objects.count() == 1


def test_a_scheduled_run_that_was_never_fetched_is_due_again(host: Host, time: Clock) -> None:
    job = make_job(host, schedule="0 * * * *")
    time.set("2026-11-22 13:00:03")
    seen(host, time.now)
    services.start_due()
    AgentCommand.objects.update(created_at=time.now)
    time.set("2026-11-22 13:30")
    commands.expire_overdue()
    assert BackupRun.objects.get().status == "failure"
    seen(host, time.now)
    services.start_due()
    run = finish(host)
    assert (run.cause, run.status) == ("missed", "success")
    job.refresh_from_db()
    assert job.next_run_at == datetime.datetime(2026, 11, 22, 14, 0, tzinfo=datetime.UTC)


def test_a_missed_run_that_was_never_fetched_is_due_again_too(host: Host, time: Clock) -> None:
    """However often the host comes back too short to fetch it."""
    make_job(host, schedule="0 * * * *")
    for begin, end in (("13:20", "13:45"), ("13:50", "14:15"), ("14:20", "14:45")):
        time.set(f"2026-11-22 {begin}")
        seen(host, time.now)
        services.start_due()
        AgentCommand.objects.filter(status="queued").update(created_at=time.now)
        time.set(f"2026-11-22 {end}")
        commands.expire_overdue()
    assert list(BackupRun.objects.values_list("cause", "status")) == [("missed", "failure")] * 3
    seen(host, time.now)
    services.start_due()
    assert (finish(host).cause, BackupRun.objects.filter(status="success").count()) == ("missed", 1)
    services.start_due()
    assert BackupRun.objects.count() == 4


def test_a_run_that_takes_longer_than_its_rhythm_is_not_overtaken(host: Host, time: Clock) -> None:
    make_job(host, schedule="* * * * *")
    for minute in range(1, 6):
        time.set(f"2026-11-22 12:0{minute}:01")
        seen(host, time.now)
        services.start_due()
    assert BackupRun.objects.count() == 1
    finish(host)
    services.start_due()
    assert BackupRun.objects.count() == 2


def test_a_disabled_job_is_never_due_but_runs_on_request(host: Host, time: Clock) -> None:
    job = make_job(host, schedule="0 * * * *", is_enabled=False)
    time.set("2026-11-22 14:00")
    seen(host, time.now)
    services.start_due()
    assert not BackupRun.objects.exists()
    assert job_samples()[0].last_run_timestamp is None
    services.run_now(actor=ANN, job_id=job.pk)
    services.change_job(actor=ANN, job_id=job.pk, is_enabled=True)
    job.refresh_from_db()
    assert job.next_run_at == datetime.datetime(2026, 11, 22, 15, 0, tzinfo=datetime.UTC)


def test_one_run_of_a_job_at_a_time(host: Host) -> None:
    job = make_job(host)
    services.run_now(actor=ANN, job_id=job.pk)
    for refused in (
        lambda: services.run_now(actor=ANN, job_id=job.pk),
        lambda: services.restore(actor=ANN, job_id=job.pk, snapshot_id="latest", target_path="/tmp/x"),
        lambda: services.verify(actor=ANN, job_id=job.pk),
        lambda: services.remove_job(actor=ANN, job_id=job.pk),
    ):
        with pytest.raises(Conflict):
            refused()
    assert BackupRun.objects.count() == 1


def test_runs_in_one_repository_of_a_host_wait_for_each_other(host: Host) -> None:
    for name, repository in (("one", "a"), ("two", "a"), ("three", "b")):
        services.run_now(actor=ANN, job_id=make_job(host, name, repository=repository).pk)
    assert [command["payload"]["repository"] for command in fetch(host)] == ["a", "b"]


def test_a_restore_and_a_verification_do_not_count_as_backups(host: Host) -> None:
    job = make_job(host)
    services.restore(actor=ANN, job_id=job.pk, snapshot_id="ab" * 32, target_path="/srv/restored")
    [command] = fetch(host)
    assert command["kind"] == "restore"
    assert (command["payload"]["snapshot_id"], command["payload"]["target_path"]) == (
        "ab" * 32,
        "/srv/restored",
    )
    report(host, command["id"])
    services.verify(actor=ANN, job_id=job.pk)
    [command] = fetch(host)
    assert (command["kind"], command["payload"]["snapshot_id"]) == ("verify", "latest")
    report(host, command["id"], result="failure")
    job.refresh_from_db()
    assert (job.last_success_at, job.last_duration_seconds, job.last_status) == (None, None, "")
    assert list(BackupRun.objects.order_by("pk").values_list("kind", "status")) == [
        ("restore", "success"),
        ("verify", "failure"),
    ]


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("snapshot_id", "--target=/"),
        ("snapshot_id", ""),
        ("snapshot_id", None),
        ("target_path", "relative"),
        ("target_path", "/a/../../etc"),
        ("target_path", "/a\x00b"),
        ("target_path", ""),
    ],
)
def test_a_bad_restore_names_its_field(host: Host, field: str, value: object) -> None:
    job = make_job(host)
    given: dict[str, Any] = {"snapshot_id": "latest", "target_path": "/srv", field: value}
    with pytest.raises(InvalidInput) as caught:
        services.restore(actor=ANN, job_id=job.pk, **given)
    assert list(caught.value.errors) == [field]
    assert not BackupRun.objects.exists()


def test_an_agent_that_vanishes_ends_the_run_as_a_failure(host: Host) -> None:
    job = make_job(host)
    run = services.run_now(actor=ANN, job_id=job.pk)
    [command] = fetch(host)
    AgentCommand.objects.update(handed_out_at=clock.now() - datetime.timedelta(days=1))
    commands.expire_overdue()
    run.refresh_from_db()
    assert (run.status, run.error) == ("failure", commands.NO_RESULT)
    with pytest.raises(Conflict):
        report(host, command["id"])
    assert job_samples()[0].last_run_timestamp == 0.0


def test_a_host_that_is_removed_ends_its_runs(host: Host) -> None:
    run = services.run_now(actor=ANN, job_id=make_job(host).pk)
    host.delete()
    reports.close_lost()
    run.refresh_from_db()
    assert (run.status, run.error, run.job_id, run.job_name) == ("failure", reports.JOB_GONE, None, "nightly")


def test_a_removed_job_leaves_no_series_and_its_history_stays(host: Host) -> None:
    job = make_job(host)
    services.run_now(actor=ANN, job_id=job.pk)
    finish(host)
    services.remove_job(actor=ANN, job_id=job.pk)
    assert job_samples() == []
    assert BackupRun.objects.get().job_name == "nightly"
    assert AuditEntry.objects.filter(action="backup_job.removed", target_name="nightly").count() == 1


def test_a_renamed_job_keeps_its_snapshots(host: Host) -> None:
    job = make_job(host)
    tag = job.snapshot_tag
    services.change_job(actor=ANN, job_id=job.pk, name="weekly", keep_last=9)
    job.refresh_from_db()
    assert (job.name, job.snapshot_tag) == ("weekly", tag)
    entry = AuditEntry.objects.get(action="backup_job.changed")
    assert entry.changes == {"name": "weekly", "keep_last": 9}
    services.change_job(actor=ANN, job_id=job.pk, name="weekly")
    assert AuditEntry.objects.filter(action="backup_job.changed").count() == 1


def test_a_name_is_once(host: Host) -> None:
    make_job(host)
    with pytest.raises(Conflict):
        make_job(make_host("beta")[0])
    other = make_job(host, "other")
    with pytest.raises(Conflict):
        services.change_job(actor=ANN, job_id=other.pk, name="nightly")


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("name", "a\nb"),
        ("source_kind", "tape"),
        ("stack_name", ""),
        ("volumes", ["../x"]),
        ("volumes", "rows"),
        ("volumes", ["v"] * 51),
        ("repository", "a b"),
        ("repository", ""),
        ("schedule", "whenever"),
        ("time_zone", "Moon"),
        ("is_enabled", "yes"),
        ("keep_daily", -1),
        ("keep_daily", True),
        ("timeout_seconds", 1),
        ("surprise", 1),
    ],
)
def test_bad_input_names_its_field_and_stores_nothing(host: Host, field: str, value: Any) -> None:
    with pytest.raises(InvalidInput) as caught:
        make_job(host, **{field: value})
    assert list(caught.value.errors) == [field]
    assert not BackupJob.objects.exists()


def test_a_path_is_needed_where_a_path_is_backed_up(host: Host) -> None:
    with pytest.raises(InvalidInput):
        make_job(host, source_kind="path", path="")
    with pytest.raises(InvalidInput):
        make_job(host, source_kind="path", path="etc")
    job = make_job(host, source_kind="path", path="/etc")
    services.run_now(actor=ANN, job_id=job.pk)
    assert fetch(host)[0]["payload"]["source"] == {"type": "path", "path": "/etc"}
    assert (job.stack_name, job.volumes) == ("", [])


def test_what_is_not_there_is_not_found(db: None) -> None:
    for missing in (
        lambda: services.create_job(actor=ANN, host_id=9, name="x"),
        lambda: services.run_now(actor=ANN, job_id=9),
        lambda: services.remove_job(actor=ANN, job_id=9),
    ):
        with pytest.raises(NotFound):
            missing()


def test_a_dump_that_fails_is_a_failed_run(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(job_id: int) -> None:
        raise dumps.DumpError("The disk is full.")

    monkeypatch.setattr(dumps, "make", refuse)
    job = make_job(host, source_kind="database")
    run = services.run_now(actor=ANN, job_id=job.pk)
    assert fetch(host) == []
    reports.close_lost()
    reports.make_dumps()
    run.refresh_from_db()
    assert (run.status, run.error) == ("failure", "The disk is full.")
    assert not AgentCommand.objects.exists()


def test_a_time_zone_that_is_no_more_fails_its_own_job_only(
    host: Host, time: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    bad = make_job(host, "bad", schedule="0 3 * * *", time_zone="Europe/Berlin")
    good = make_job(host, "good", schedule="30 2 * * *", repository="other")
    BackupJob.objects.filter(pk=bad.pk).update(time_zone="Mars/Phobos")
    seen(host, START.replace(year=2027))
    time.set("2026-11-23T02:31:00")
    with pytest.raises(Failed) as failed:
        services.start_due()
    assert failed.value.count == 1
    assert "The start of the backup job bad failed" in caplog.text
    assert BackupRun.objects.get(job=good).status == "queued"
    run = BackupRun.objects.get(job=bad)
    assert (run.status, run.error) == (
        "failure",
        "time_zone: Mars/Phobos is not known here any more: choose another.",
    )
    bad.refresh_from_db()
    assert bad.last_status == "failure"
    # Not again with every look, but not forgotten either.
    services.start_due()
    time.set("2026-11-23T03:32:00")
    with pytest.raises(Failed):
        services.start_due()
    assert BackupRun.objects.filter(job=bad).count() == 2
    with pytest.raises(InvalidInput, match="Mars/Phobos"):
        services.change_job(actor=ANN, job_id=bad.pk, schedule="0 4 * * *")
    services.change_job(actor=ANN, job_id=bad.pk, time_zone="UTC")
    services.start_due()


@pytest.mark.parametrize(
    ("info", "error", "says"),
    [
        ({"capabilities": ["backup"], "repositories": ["other"]}, InvalidInput, "no repository offsite"),
        ({"capabilities": ["deploy"], "restic_version": ""}, Conflict, "alpha has no restic"),
        ({"capabilities": [], "is_monitor_only": True}, Conflict, "--monitor-only"),
    ],
)
def test_a_job_that_its_host_can_not_carry_out_is_refused_when_it_is_asked_for(
    host: Host, info: dict[str, Any], error: type[Exception], says: str
) -> None:
    job = make_job(host, repository="offsite")
    Host.objects.update(agent_info=info)
    with pytest.raises(error, match=says):
        make_job(host, name="weekly", repository="offsite")
    for ask in (services.run_now, services.verify):
        with pytest.raises(Conflict, match=says):
            ask(actor=ANN, job_id=job.pk)
    # What is known to be missing doesn't keep anybody from mending the job.
    services.change_job(actor=ANN, job_id=job.pk, keep_last=3)
