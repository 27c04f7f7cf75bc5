"""What a run's end means: partial, too few files, gone, cancelled; and what may run beside a run."""

import datetime
from typing import Any

import pytest

from dockmesh.audit.models import AuditEntry
from dockmesh.backups import services
from dockmesh.backups.models import BackupJob, BackupRun
from dockmesh.backups.selectors import job_health
from dockmesh.core import clock
from dockmesh.core.errors import Conflict, InvalidInput
from dockmesh.fleet import commands
from dockmesh.fleet.models import AgentCommand, Host
from tests.backups.test_services import finish, make_job
from tests.deploys.conftest import ANN
from tests.deploys.support import fetch, report
from tests.fleet.factories import make_host

pytestmark = pytest.mark.django_db

NEW = {"capabilities": ["deploy", "backup", "backup-options"]}
OLD = {"capabilities": ["deploy", "backup"]}


def back_up(host: Host, job: BackupJob, **how: Any) -> BackupRun:
    services.run_now(actor=ANN, job_id=job.pk)
    run = finish(host, **how)
    job.refresh_from_db()
    return run


def payload_of(host: Host, job: BackupJob) -> dict[str, Any]:
    """What the agent of the job's next run would get."""
    services.run_now(actor=ANN, job_id=job.pk)
    [command] = fetch(host)
    report(host, command["id"], result="failure")
    return dict(command["payload"])


def test_a_partial_backup_counts_alerts_and_names_what_could_not_be_read(host: Host) -> None:
    job = make_job(host)
    run = back_up(
        host, job, exit_code=3, snapshot_id="ab" * 32, files=9,
        is_partial=True, unreadable=["/v/key: permission denied", "x" * 900], unreadable_count=70,
    )  # fmt: skip
    assert (run.status, run.unreadable_count, len(run.unreadable)) == ("partial", 70, 2)
    assert run.error.startswith("70 files could not be read: /v/key: permission denied; xxx")
    assert len(run.unreadable[1]) == 300
    assert (job.last_status, job.last_success_at, job.last_files) == ("partial", run.finished_at, 9)
    [health] = job_health()
    ended = f"{run.finished_at:%Y-%m-%d %H:%M:%S} UTC"
    assert health.trouble == f"The last run {ended} was partial: 70 files could not be read."
    assert AuditEntry.objects.filter(action="backup.partial").count() == 1
    back_up(host, job, files=9)
    assert job_health()[0].trouble == ""
    failed = back_up(host, job, result="failure")
    ended = f"{failed.finished_at:%Y-%m-%d %H:%M:%S} UTC"
    assert job_health()[0].trouble == f"The last run failed {ended}: {failed.error}"
    assert (job.success_count, job.partial_count, job.failure_count) == (1, 1, 1)


def test_a_success_without_the_files_is_a_failure(host: Host) -> None:
    job = make_job(host)
    assert back_up(host, job, files=0).status == "failure"
    assert job.last_success_at is None
    assert back_up(host, job, files=101).status == "success"
    assert payload_of(host, job)["least_files"] == 51
    few = back_up(host, job, files=50)
    assert (few.status, few.error) == (
        "failure",
        "The snapshot has 50 files; the job's limit asks for 51 at least.",
    )
    assert job.last_files == 101
    services.change_job(actor=ANN, job_id=job.pk, least_files_percent=0)
    assert back_up(host, job, files=1).status == "success"


def test_the_number_of_files_says_nothing_of_another_source(host: Host) -> None:
    job = make_job(host)
    back_up(host, job, files=100)
    services.change_job(actor=ANN, job_id=job.pk, excludes=["*.log"])
    assert payload_of(host, job)["least_files"] == 1


def test_the_agent_is_told_that_the_repository_held_snapshots(host: Host) -> None:
    job = make_job(host)
    other = make_job(host, "other")
    assert payload_of(host, job)["is_known"] is False
    back_up(host, job)
    assert job.proven_repository == "default"
    assert payload_of(host, job)["is_known"] is True
    assert payload_of(host, other)["is_known"] is True
    services.change_job(actor=ANN, job_id=job.pk, repository="elsewhere")
    assert payload_of(host, job)["is_known"] is False


def test_an_old_agent_is_refused_what_it_would_leave_out(host: Host) -> None:
    Host.objects.update(agent_info=OLD)
    for values in ({"excludes": ["*.tmp"]}, {"before_command": "true"}, {"is_stack_stopped": True}):
        with pytest.raises(Conflict, match="The agent of alpha is too old for: "):
            make_job(host, **values)
    job = make_job(host)
    with pytest.raises(Conflict, match="prune"):
        services.operate(actor=ANN, job_id=job.pk, kind=BackupRun.Kind.PRUNE)
    back_up(host, job)
    Host.objects.update(agent_info=NEW)
    services.change_job(actor=ANN, job_id=job.pk, excludes=["*.tmp"])
    assert payload_of(host, job)["excludes"] == ["*.tmp"]


def test_a_jobs_options_reach_the_agent(host: Host) -> None:
    job = make_job(
        host, is_stack_stopped=True, before_command="pg_dump\r\n-f x", after_command="rm x",
        hook_timeout_seconds=60, is_one_file_system=True,
    )  # fmt: skip
    sent = payload_of(host, job)
    assert (sent["stop_stack"], sent["before_command"], sent["after_command"]) == (
        "shop",
        "pg_dump\n-f x",
        "rm x",
    )
    assert (sent["hook_timeout_seconds"], sent["one_file_system"]) == (60, True)
    several = make_job(host, "several", source_kind="path", path="/a", paths=["/b", "/a"])
    assert payload_of(host, several)["source"] == {"type": "path", "path": "/a", "paths": ["/a", "/b"]}
    alone = make_job(host, "alone", source_kind="path", paths=["/c"])
    assert payload_of(host, alone)["source"] == {"type": "path", "path": "/c"}


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("paths", ["relative"]),
        ("paths", "/x"),
        ("excludes", [""]),
        ("excludes", ["x"] * 101),
        ("before_command", "a\x00"),
        ("after_command", "x" * 2001),
        ("hook_timeout_seconds", 0),
        ("least_files_percent", 101),
        ("jitter_seconds", -1),
        ("is_stack_stopped", 1),
    ],
)
def test_a_bad_option_names_its_field(host: Host, field: str, value: Any) -> None:
    with pytest.raises(InvalidInput) as caught:
        make_job(host, **{field: value})
    assert list(caught.value.errors) == [field]


def test_a_run_that_waits_is_cancelled_at_once(host: Host) -> None:
    job = make_job(host)
    run = services.run_now(actor=ANN, job_id=job.pk)
    cancelled = services.cancel(actor=ANN, run_id=run.pk)
    assert (cancelled.status, cancelled.error) == ("cancelled", "Cancelled by ann.")
    assert fetch(host) == []
    with pytest.raises(Conflict):
        services.cancel(actor=ANN, run_id=run.pk)
    job.refresh_from_db()
    assert (job.last_status, job.failure_count) == ("", 0)
    services.run_now(actor=ANN, job_id=job.pk)


def test_a_run_that_runs_is_cancelled_by_its_agent(host: Host) -> None:
    Host.objects.update(agent_info=NEW)
    job = make_job(host)
    run = services.run_now(actor=ANN, job_id=job.pk)
    [command] = fetch(host)
    assert services.cancel(actor=ANN, run_id=run.pk).status == "running"
    services.cancel(actor=ANN, run_id=run.pk)
    cancel = next(item for item in fetch(host) if item["kind"] == "cancel")
    assert cancel["payload"]["command"] == str(command["id"])
    assert AgentCommand.objects.filter(kind="cancel").count() == 1
    report(host, command["id"], result="failure", error="restic backup: stopped")
    report(host, cancel["id"])
    run.refresh_from_db()
    assert (run.status, run.error) == ("cancelled", "Cancelled by ann.")
    job.refresh_from_db()
    assert job.last_status == ""


def test_a_cancelled_run_of_a_host_that_falls_silent_ends_as_cancelled(host: Host) -> None:
    Host.objects.update(agent_info=NEW)
    job = make_job(host)
    run = services.run_now(actor=ANN, job_id=job.pk)
    fetch(host)
    services.cancel(actor=ANN, run_id=run.pk)
    AgentCommand.objects.update(handed_out_at=clock.now() - datetime.timedelta(days=1))
    commands.expire_overdue()
    run.refresh_from_db()
    assert run.status == "cancelled"


def test_locks_and_lists_are_looked_at_beside_a_run_that_waits(host: Host) -> None:
    job = make_job(host)
    services.run_now(actor=ANN, job_id=job.pk)
    services.unlock(actor=ANN, job_id=job.pk)
    services.operate(actor=ANN, job_id=job.pk, kind=BackupRun.Kind.SNAPSHOTS)
    assert [command["kind"] for command in fetch(host)] == ["backup", "unlock", "snapshots"]
    with pytest.raises(Conflict):
        services.operate(actor=ANN, job_id=job.pk, kind=BackupRun.Kind.PRUNE)
    with pytest.raises(InvalidInput):
        services.unlock(actor=ANN, job_id=job.pk, remove_all=True, confirm="nightly")
    services.unlock(actor=ANN, job_id=job.pk, remove_all=True, confirm="default")
    assert fetch(host)[-1]["payload"]["remove_all"] is True
    entry = AuditEntry.objects.filter(action="backup.requested").latest("sequence")
    assert (entry.changes["kind"], entry.changes["remove_all"]) == ("unlock", True)


def test_the_list_of_snapshots_is_kept(host: Host) -> None:
    job = make_job(host)
    item = {
        "id": "ab" * 32,
        "time": "2026-11-26T12:00:00Z",
        "hostname": "alpha",
        "paths": ["/v"],
        "tags": ["x"],
    }
    back_up(
        host, job, files=1, snapshots=[item, {"id": "--help"}, 7, {**item, "tags": ["dockmesh-doubtful=x"]}]
    )
    assert [(found["id"], found["is_doubtful"]) for found in job.snapshots] == [
        ("ab" * 32, False),
        ("ab" * 32, True),
    ]
    assert job.snapshots_read_at is not None


def test_a_restore_of_chosen_paths_to_another_host(host: Host) -> None:
    other = make_host("beta")[0]
    job = make_job(host)
    run = services.restore(
        actor=ANN, job_id=job.pk, snapshot_id="latest", target_path="/srv", paths=["/v/a"], host_id=other.pk
    )
    assert fetch(host) == []
    [command] = fetch(other)
    assert command["payload"]["paths"] == ["/v/a"]
    assert (run.host_name, run.host_id) == ("beta", other.pk)
    report(other, command["id"])
    run.refresh_from_db()
    assert run.status == "success"


def test_retention_that_keeps_everything_has_nothing_to_do(host: Host) -> None:
    job = make_job(host, keep_daily=0, keep_weekly=0, keep_monthly=0)
    with pytest.raises(Conflict):
        services.operate(actor=ANN, job_id=job.pk, kind=BackupRun.Kind.RETENTION)
