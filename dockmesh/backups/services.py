"""Writing backup jobs and runs.

The order of locks is the fleet's: the host's pulse first, then the job, its runs, then the audit log's head.
"""

import datetime
import re
from collections.abc import Mapping
from typing import Any

from django.db import IntegrityError, transaction

from dockmesh.audit.actions import Action
from dockmesh.audit.services import SYSTEM, Actor, record
from dockmesh.backups import dumps
from dockmesh.backups.models import BackupJob, BackupRun
from dockmesh.backups.schedule import clean_schedule, clean_time_zone, next_after
from dockmesh.core import clock, schedule
from dockmesh.core.errors import Conflict, InvalidInput, NotFound
from dockmesh.core.text import MAX_LABEL_BYTES, clean_name
from dockmesh.fleet import commands
from dockmesh.fleet import services as fleet
from dockmesh.fleet.listening import offline_before
from dockmesh.fleet.models import Host

Kind = BackupRun.Kind
Status = BackupRun.Status
Cause = BackupRun.Cause
SourceKind = BackupJob.SourceKind
OPEN = [Status.QUEUED, Status.RUNNING]

KEEPS = ("keep_last", "keep_daily", "keep_weekly", "keep_monthly")
MOST_KEPT = 1000
LEAST_TIMEOUT_SECONDS, MOST_TIMEOUT_SECONDS = 60, 24 * 3600
MAX_VOLUMES = 50
REPOSITORY = re.compile(r"[\w.@+-]{1,64}\Z")
VOLUME = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9_.-]{0,199}\Z")
SNAPSHOT = re.compile(r"(latest|[0-9a-f]{8,64})\Z")


@transaction.atomic
def create_job(*, actor: Actor, host_id: int, name: object, **values: object) -> BackupJob:
    """Make a job; `values` are columns of `BackupJob`, what is missing has the model's default.

    Raises `InvalidInput` that names the field, `Conflict` for a name that is taken, `NotFound` for the host.
    """
    host = Host.objects.filter(pk=host_id).first()
    if host is None:
        raise NotFound("There is no such host.")
    job = BackupJob(host=host, name=_free_name(name), created_at=clock.now())
    _apply(job, values)
    _save(job, force_insert=True)
    _record(actor, Action.BACKUP_JOB_CREATED, job, {"host": host.name, **_described(job)})
    return job


@transaction.atomic
def change_job(*, actor: Actor, job_id: int, **values: object) -> BackupJob:
    """Change columns of a job; its host stays. Raises as `create_job` does."""
    job = _locked(job_id)
    before = {"name": job.name, **_described(job)}
    name = values.pop("name", job.name)
    if name != job.name:
        job.name = _free_name(name)
    _apply(job, values)
    after = {"name": job.name, **_described(job)}
    changes = {key: after[key] for key in after if after[key] != before[key]}
    if changes:
        _save(job)
        _record(actor, Action.BACKUP_JOB_CHANGED, job, changes)
    return job


@transaction.atomic
def remove_job(*, actor: Actor, job_id: int) -> None:
    """Remove a job; its snapshots stay in the repository, its runs in the history."""
    job = _locked(job_id)
    _refuse_second(job)
    job_id = job.pk
    job.delete()
    job.pk = job_id
    _record(actor, Action.BACKUP_JOB_REMOVED, job, {"host": job.host.name})


@transaction.atomic
def run_now(*, actor: Actor, job_id: int) -> BackupRun:
    """Back up now, whatever the schedule says; raises `Conflict` while another run of the job has not ended."""
    job = _locked(job_id)
    return _start(actor, job, Kind.BACKUP, Cause.REQUEST)


@transaction.atomic
def restore(*, actor: Actor, job_id: int, snapshot_id: object, target_path: object) -> BackupRun:
    """Restore a snapshot of the job below a path of its host; files keep their whole path below it."""
    job = _locked(job_id)
    snapshot = _clean_snapshot(snapshot_id)
    target = _clean_path("target_path", target_path)
    return _start(actor, job, Kind.RESTORE, Cause.REQUEST, snapshot_id=snapshot, target_path=target)


@transaction.atomic
def verify(*, actor: Actor, job_id: int, snapshot_id: object = "latest") -> BackupRun:
    """Restore a snapshot into a temporary place of the job's host, and compare."""
    job = _locked(job_id)
    return _start(actor, job, Kind.VERIFY, Cause.REQUEST, snapshot_id=_clean_snapshot(snapshot_id))


def start_due() -> None:
    """The scheduler's job: start what is due. A host that is away gets its run when it is back, once."""
    now = clock.now()
    due = BackupJob.objects.filter(is_enabled=True, next_run_at__lte=now).exclude(
        host__pulse__last_seen_at__lt=offline_before(now)
    )
    schedule.one_by_one(list(due.order_by("next_run_at")), _start_due, what="The start of the backup job")


def _start_due(found: BackupJob) -> None:
    try:
        _start_if_due(found.pk)
    except InvalidInput as error:
        _note_no_schedule(found.pk, error.detail)
        raise


@transaction.atomic
def _note_no_schedule(job_id: int, reason: str) -> None:
    """A failed run says so, once an hour, for as long as the job has a time zone that this machine doesn't know."""
    job, now = _locked(job_id), clock.now()
    BackupRun.objects.create(
        job=job,
        job_name=job.name,
        host_name=job.host.name,
        repository=job.repository,
        status=Status.FAILURE,
        cause=Cause.SCHEDULE,
        requested_by=SYSTEM.name,
        requested_at=now,
        scheduled_for=job.next_run_at,
        finished_at=now,
        error=reason,
        timeout_seconds=job.timeout_seconds,
    )
    BackupJob.objects.filter(pk=job_id).update(
        next_run_at=now + datetime.timedelta(hours=1), last_status=Status.FAILURE
    )
    _record(SYSTEM, Action.BACKUP_FAILED, job, {"host": job.host.name, "kind": Kind.BACKUP, "error": reason})


@transaction.atomic
def _start_if_due(job_id: int) -> None:
    now = clock.now()
    try:
        job = _locked(job_id)
    except NotFound:
        return
    if not job.is_enabled or job.next_run_at is None or job.next_run_at > now:
        return
    if job.runs.filter(status__in=OPEN).exists():
        return  # due until that one has ended
    scheduled_for = job.next_run_at
    job.next_run_at = next_after(job.schedule, job.time_zone, now)
    job.save(update_fields=["next_run_at"])
    # The scheduler looks every few seconds; what is later than that waited for the host or the server.
    is_missed = now - scheduled_for > datetime.timedelta(minutes=2)
    cause = Cause.MISSED if is_missed else Cause.SCHEDULE
    _start(SYSTEM, job, Kind.BACKUP, cause, scheduled_for=scheduled_for)


def _start(actor: Actor, job: BackupJob, kind: Kind, cause: Cause, **columns: Any) -> BackupRun:
    _refuse_second(job)
    run = BackupRun.objects.create(
        job=job,
        job_name=job.name,
        host_name=job.host.name,
        repository=job.repository,
        kind=kind,
        cause=cause,
        requested_by=actor.name,
        requested_at=clock.now(),
        timeout_seconds=job.timeout_seconds,
        **columns,
    )
    if not (kind == Kind.BACKUP and job.source_kind == SourceKind.DATABASE):
        enqueue(job, run)
    # A dump of the database is made first, by the scheduler; `enqueue` follows.
    changes: dict[str, Any] = {"host": job.host.name, "kind": kind.value, "run": run.pk}
    if kind == Kind.RESTORE:
        changes |= {"snapshot_id": run.snapshot_id, "target_path": run.target_path}
    _record(actor, Action.BACKUP_REQUESTED, job, changes)
    return run


def enqueue(job: BackupJob, run: BackupRun) -> None:
    """Hand the run to the host's agent, in the caller's transaction."""
    run.command_id = commands.enqueue(
        host_id=job.host_id,
        kind=run.kind,
        payload={"run": run.pk, **_payload(job, run)},
        lock=f"repository:{run.repository}",
        timeout_seconds=run.timeout_seconds,
    )
    run.save(update_fields=["command_id"])


def _payload(job: BackupJob, run: BackupRun) -> Mapping[str, Any]:
    payload: dict[str, Any] = {"job": job.snapshot_tag, "repository": run.repository}
    if run.kind != Kind.BACKUP:
        payload["snapshot_id"] = run.snapshot_id
        if run.kind == Kind.RESTORE:
            payload["target_path"] = run.target_path
        return payload
    if job.source_kind == SourceKind.VOLUMES:
        source: dict[str, Any] = {"type": "volumes", "stack": job.stack_name, "volumes": job.volumes}
    elif job.source_kind == SourceKind.PATH:
        source = {"type": "path", "path": job.path}
    else:
        source = {"type": "path", "path": str(dumps.folder(job.pk))}
    keep = {column.removeprefix("keep_"): getattr(job, column) for column in KEEPS}
    return {**payload, "source": source, "keep": keep, "verify": job.is_verified}


def _apply(job: BackupJob, values: Mapping[str, object]) -> None:
    """Set the given columns, checked; what belongs together is checked together."""
    given = dict(values)
    schedule_before = (job.schedule, job.time_zone, job.is_enabled)
    for field, clean in _CLEANERS.items():
        if field in given:
            setattr(job, field, clean(field, given.pop(field)))
    if given:
        raise InvalidInput(next(iter(given)), "is no field here.")
    _check_source(job)
    if job.pk is None or (job.schedule, job.time_zone, job.is_enabled) != schedule_before:
        job.next_run_at = next_after(job.schedule, job.time_zone, clock.now()) if job.is_enabled else None


def _check_source(job: BackupJob) -> None:
    if job.source_kind != SourceKind.VOLUMES:
        job.stack_name, job.volumes = "", []
    elif not job.stack_name:
        raise InvalidInput("stack_name", "is needed: the stack whose volumes are backed up.")
    if job.source_kind != SourceKind.PATH:
        job.path = ""
    elif not job.path:
        raise InvalidInput("path", "is needed: what is backed up.")


def _free_name(value: object) -> str:
    name = clean_name("name", value)
    if BackupJob.objects.filter(name=name).exists():
        raise _taken(name)
    return name


def _save(job: BackupJob, **how: Any) -> None:
    """Save; of two that take a name at once, the second is refused."""
    try:
        with transaction.atomic():
            job.save(**how)
    except IntegrityError:
        raise _taken(job.name) from None


def _taken(name: str) -> Conflict:
    return Conflict(f"There is a backup job {name} already.", errors={"name": ["is taken."]})


def _clean_word(pattern: re.Pattern[str], says: str) -> Any:
    def clean(field: str, value: object) -> str:
        if not isinstance(value, str) or not pattern.match(value.strip()):
            raise InvalidInput(field, says)
        return value.strip()

    return clean


def _clean_choice(field: str, value: object) -> str:
    if value not in SourceKind.values:
        raise InvalidInput(field, f"must be one of {', '.join(SourceKind.values)}.")
    return str(value)


def _clean_flag(field: str, value: object) -> bool:
    if not isinstance(value, bool):
        raise InvalidInput(field, "must be true or false.")
    return value


def _clean_number(least: int, most: int) -> Any:
    def clean(field: str, value: object) -> int:
        if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
            raise InvalidInput(field, f"must be a whole number from {least} to {most}.")
        return value

    return clean


def _clean_volumes(field: str, value: object) -> list[str]:
    if not isinstance(value, list) or len(value) > MAX_VOLUMES:
        raise InvalidInput(field, f"must be a list of at most {MAX_VOLUMES} names.")
    for name in value:
        if not isinstance(name, str) or not VOLUME.match(name):
            raise InvalidInput(field, "must be names of volumes, as the Compose file has them.")
    return list(dict.fromkeys(value))


def _clean_path(field: str, value: object) -> str:
    path = clean_name(field, value, most=1000)
    if not path.startswith("/") or ".." in path.split("/"):
        raise InvalidInput(field, "must be an absolute path without `..`.")
    return path


def _clean_optional_path(field: str, value: object) -> str:
    return _clean_path(field, value) if value else ""


def _clean_snapshot(value: object) -> str:
    if not isinstance(value, str) or not SNAPSHOT.match(value):
        raise InvalidInput("snapshot_id", "must be `latest` or 8 to 64 hexadecimal digits.")
    return value


_CLEANERS: dict[str, Any] = {
    "source_kind": _clean_choice,
    "stack_name": lambda field, value: clean_name(field, value, most=MAX_LABEL_BYTES) if value else "",
    "volumes": _clean_volumes,
    "path": _clean_optional_path,
    "repository": _clean_word(REPOSITORY, "must be the name of a repository in the agent's agent.toml."),
    "schedule": lambda field, value: clean_schedule(value, field=field),
    "time_zone": lambda field, value: clean_time_zone(value, field=field),
    "is_enabled": _clean_flag,
    "is_verified": _clean_flag,
    "timeout_seconds": _clean_number(LEAST_TIMEOUT_SECONDS, MOST_TIMEOUT_SECONDS),
    **dict.fromkeys(KEEPS, _clean_number(0, MOST_KEPT)),
}


def _described(job: BackupJob) -> dict[str, Any]:
    return {field: getattr(job, field) for field in _CLEANERS}


def _locked(job_id: int) -> BackupJob:
    host_id = BackupJob.objects.filter(pk=job_id).values_list("host_id", flat=True).first()
    if host_id is None:
        raise NotFound("There is no such backup job.")
    fleet.lock_host(host_id)
    job = BackupJob.objects.select_for_update(of=("self",)).select_related("host").filter(pk=job_id).first()
    if job is None:
        raise NotFound("There is no such backup job.")
    return job


def _refuse_second(job: BackupJob) -> None:
    running = job.runs.filter(status__in=OPEN).first()
    if running is not None:
        raise Conflict(f"Run {running.pk} of the job {job.name} has not ended yet.")


def _record(actor: Actor, action: Action, job: BackupJob, changes: Mapping[str, Any]) -> None:
    record(
        actor=actor,
        action=action,
        target_kind="backup_job",
        target_id=job.pk,
        target_name=job.name,
        changes=changes,
    )
