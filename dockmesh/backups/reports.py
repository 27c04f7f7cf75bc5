"""What the agents say of their runs, and what the scheduler looks after."""

import datetime
import logging
from collections.abc import Mapping
from typing import Any

from django.db import transaction
from django.db.models import F

from dockmesh.audit.actions import Action
from dockmesh.audit.services import SYSTEM, Actor, record
from dockmesh.backups import claims, dumps
from dockmesh.backups.models import BackupJob, BackupRun
from dockmesh.backups.services import OPEN, SNAPSHOT, enqueue, least_files
from dockmesh.core import clock, schedule
from dockmesh.core.errors import NotFound
from dockmesh.core.output import appended
from dockmesh.fleet import commands
from dockmesh.fleet import services as fleet
from dockmesh.fleet.commands import Command, CommandProgress, CommandResult
from dockmesh.scheduler.services import is_restored, mark_live

logger = logging.getLogger(__name__)

Kind = BackupRun.Kind
Status = BackupRun.Status
Cause = BackupRun.Cause
RESTORED = "Not known: the database was restored from a copy in which this had not ended."
JOB_GONE = "The job or its host was removed while this was under way."
MOST_UNREADABLE = 50
MOST_SNAPSHOTS = 500
MOST_COUNTED = 2**31
NUMBERS = ("bytes_added", "bytes_processed", "files")


def prepare(command: Command) -> Mapping[str, Any]:
    """The command as the agent gets it; the run counts as running from here on."""
    run = _open_run(command)
    if run is not None and run.status == Status.QUEUED:
        run.status = Status.RUNNING
        run.started_at = clock.now()
        run.save(update_fields=["status", "started_at"])
    return {key: value for key, value in command.payload.items() if key != "run"}


def take_progress(command: Command, progress: CommandProgress) -> None:
    """Add what the run wrote meanwhile."""
    run = _open_run(command)
    if run is not None and progress.output:
        run.output = appended(run.output, progress.output)
        run.save(update_fields=["output"])


def take_result(command: Command, result: CommandResult) -> None:
    """End the run as the agent says."""
    run = _open_run(command)
    if run is None:
        return
    run.duration_seconds = result.duration_seconds
    run.exit_code = result.exit_code
    run.output = appended("", result.output)
    snapshot_id = result.document.get("snapshot_id")
    if isinstance(snapshot_id, str) and SNAPSHOT.match(snapshot_id):
        run.snapshot_id = snapshot_id
    for field in NUMBERS:
        value = result.document.get(field)
        if isinstance(value, int) and not isinstance(value, bool) and value >= 0:
            setattr(run, field, value)
    status, error = _outcome(run, result)
    if isinstance(result.document.get("snapshots"), list) and run.job_id is not None:
        _keep_snapshots(run.job_id, result.document["snapshots"])
    _finish(run, Actor("agent", str(command.host_id), run.host_name), status=status, error=error)


def _outcome(run: BackupRun, result: CommandResult) -> tuple[Status, str]:
    """What the report means, and the sentence that says why it is no success."""
    document = result.document
    if not result.is_success:
        error = result.error or "The agent gave no reason."
        return (
            (Status.CANCELLED, f"Cancelled by {run.cancelled_by}.")
            if run.cancelled_by
            else (Status.FAILURE, error)
        )
    if run.kind != Kind.BACKUP or run.job is None:
        return Status.SUCCESS, ""
    least = least_files(run.job)
    if run.files is not None and run.files < least:
        # Newer agents see that themselves, before their retention.
        return (
            Status.FAILURE,
            f"The snapshot has {run.files} files; the job's limit asks for {least} at least.",
        )
    if document.get("is_partial") is not True:
        return Status.SUCCESS, ""
    names = document.get("unreadable")
    run.unreadable = [str(name)[:300] for name in names[:MOST_UNREADABLE]] if isinstance(names, list) else []
    count = document.get("unreadable_count")
    run.unreadable_count = count if isinstance(count, int) and 0 < count < MOST_COUNTED else 1
    what = "1 file" if run.unreadable_count == 1 else f"{run.unreadable_count} files"
    return Status.PARTIAL, f"{what} could not be read: {'; '.join(run.unreadable[:3])}"


def _keep_snapshots(job_id: int, listed: list[Any]) -> None:
    """The job's snapshots as the agent has just listed them; what is none is left out."""
    snapshots = []
    for item in listed[:MOST_SNAPSHOTS]:
        identity = item.get("id") if isinstance(item, dict) else None
        if not isinstance(identity, str) or not SNAPSHOT.match(identity):
            continue
        paths, tags = item.get("paths"), item.get("tags")
        snapshots.append(
            {
                "id": identity,
                "time": str(item.get("time"))[:40],
                "hostname": str(item.get("hostname"))[:200],
                "paths": [str(path)[:1000] for path in paths[:20]] if isinstance(paths, list) else [],
                "is_doubtful": isinstance(tags, list) and any("doubtful" in str(tag) for tag in tags),
            }
        )
    BackupJob.objects.filter(pk=job_id).update(snapshots=snapshots, snapshots_read_at=clock.now())


def take_timeout(command: Command, reason: str) -> None:
    """End the run as a failure. One that its host never fetched is due again, when the host is back."""
    run = _open_run(command)
    if run is None:
        return
    # A run that somebody asked for answers no moment of the schedule.
    if run.started_at is None and run.job is not None and run.scheduled_for:
        BackupJob.objects.filter(pk=run.job.pk, is_enabled=True).update(next_run_at=run.scheduled_for)
    _give_up(run, reason)


def close_lost() -> None:
    """The scheduler's job: end what has no command any more, since its host or job was removed."""
    schedule.one_by_one(BackupRun.objects.filter(status__in=OPEN), _close_if_lost, what="The look after")


@transaction.atomic
def _close_if_lost(found: BackupRun) -> None:
    is_waiting_for_dump = found.command_id is None and found.job_id is not None
    if is_waiting_for_dump or commands.is_known(found.command_id):
        return
    run = BackupRun.objects.select_for_update().filter(pk=found.pk, status__in=OPEN).first()
    if run is not None:
        _give_up(run, JOB_GONE)


def sweep_dumps() -> None:
    """The scheduler's job: remove copies of the database that nobody waits for."""
    open_jobs = BackupRun.objects.filter(status__in=OPEN).exclude(job=None).values_list("job__pk", flat=True)
    dumps.sweep(list(open_jobs))


def make_dumps() -> None:
    """The scheduler's job: copy the database for the runs that wait for it, then hand them to their agents."""
    waiting = BackupRun.objects.filter(status=Status.QUEUED, command_id=None).exclude(job=None)
    schedule.one_by_one(waiting, _make_dump, what="The copy of the database for")


def _make_dump(run: BackupRun) -> None:
    assert run.job_id is not None
    with claims.held(run.pk) as claim:
        if claim is None:
            return
        reason = ""
        try:
            dumps.make(run.job_id)
        except (dumps.DumpError, OSError) as error:
            reason = str(error)
        except Exception as error:
            # Or it would be tried, and fail, every few seconds for ever.
            logger.exception("The database could not be copied for %s", run)
            reason = f"The database could not be copied: {type(error).__name__}."
        _dumped(run.pk, claim, reason)


def settle_restored() -> None:
    """Before a start: where the database is a copy that was put in place, end what had not ended in it.

    Nobody knows what became of it; and what was queued then is not to be begun now.
    """
    if not is_restored():
        return
    logger.warning("The database was restored from a copy: what was under way in it ends as not known")
    commands.end_all(RESTORED)
    for run_id in list(BackupRun.objects.filter(status__in=OPEN).values_list("pk", flat=True)):
        with transaction.atomic():
            run = BackupRun.objects.select_for_update().filter(pk=run_id, status__in=OPEN).first()
            if run is not None:
                _give_up(run, RESTORED)
    mark_live()


@transaction.atomic
def _dumped(run_id: int, claim: str, reason: str) -> None:
    host_id = BackupRun.objects.filter(pk=run_id).values_list("job__host_id", flat=True).first()
    if host_id is None:
        return
    try:
        fleet.lock_host(host_id)
    except NotFound:
        return
    run = BackupRun.objects.select_for_update().filter(pk=run_id, status__in=OPEN, dump_claim=claim).first()
    if run is None or run.job is None or run.command_id is not None:
        return
    if reason:
        _give_up(run, reason)
    else:
        enqueue(run.job, run)


def _open_run(command: Command) -> BackupRun | None:
    run_id = command.payload.get("run", 0)
    return BackupRun.objects.select_for_update().filter(pk=run_id, status__in=OPEN).first()


def _give_up(run: BackupRun, reason: str) -> None:
    begun = run.started_at or run.requested_at
    run.duration_seconds = max(0.0, (clock.now() - begun) / datetime.timedelta(seconds=1))
    # Nobody waits for the end of what somebody cancelled.
    status = Status.CANCELLED if run.cancelled_by else Status.FAILURE
    _finish(run, SYSTEM, status=status, error=reason)


def _finish(run: BackupRun, actor: Actor, *, status: Status, error: str) -> None:
    """Once for each run: only open ones get here, and their row is locked."""
    run.status = status
    run.error = error[:2000]
    run.finished_at = clock.now()
    run.save()
    job_id = run.job_id
    if job_id is not None:
        _keep_last(job_id, run)
        if run.kind == Kind.BACKUP:
            # After the commit, since a transaction may be undone; what is left then, `close_lost` clears.
            transaction.on_commit(lambda: dumps.remove(job_id))
    record(
        actor=actor,
        action=_ACTIONS[status],
        target_kind="backup_job",
        target_id=run.job_id or "",
        target_name=run.job_name,
        changes={
            "host": run.host_name,
            "kind": run.kind,
            "run": run.pk,
            "duration_seconds": round(run.duration_seconds or 0.0, 3),
        },
    )


_ACTIONS = {
    Status.SUCCESS: Action.BACKUP_SUCCEEDED,
    Status.PARTIAL: Action.BACKUP_PARTIAL,
    Status.FAILURE: Action.BACKUP_FAILED,
    Status.CANCELLED: Action.BACKUP_FAILED,
}


def _keep_last(job_id: int, run: BackupRun) -> None:
    """What /metrics shows: the time is the server's own, at which the last successful run ended.

    A partial backup's snapshot counts. A run that somebody cancelled says nothing of the job.
    """
    values: dict[str, Any] = {}
    has_snapshot = run.status in (Status.SUCCESS, Status.PARTIAL)
    is_verified = run.kind == Kind.VERIFY or (
        run.kind == Kind.BACKUP and run.job is not None and run.job.is_verified
    )
    if is_verified and has_snapshot:
        values["last_verified_at"] = run.finished_at
    if run.kind == Kind.BACKUP and run.status != Status.CANCELLED:
        counter = f"{run.status}_count"
        values |= {
            "last_status": run.status,
            "last_duration_seconds": run.duration_seconds,
            "last_attempt_at": run.finished_at,
            "last_unreadable": run.unreadable_count,
            counter: F(counter) + 1,
        }
        if has_snapshot:
            values |= {
                "last_success_at": run.finished_at,
                "proven_repository": run.repository,
                "last_files": run.files,
                "last_bytes": run.bytes_processed,
                "last_added_bytes": run.bytes_added,
            }
    if values:
        BackupJob.objects.filter(pk=job_id).update(**values)
