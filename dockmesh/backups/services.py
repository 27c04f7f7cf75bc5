"""Writing backup jobs and runs.

The order of locks is the fleet's: the host's heartbeat state first, then the job, its runs, then the audit log's head.
"""

from __future__ import annotations

import contextlib
import datetime
import hashlib
import re
import unicodedata
from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING, Any

from django.db import IntegrityError, transaction
from django.db.models import F, QuerySet

from dockmesh.audit.actions import Action
from dockmesh.audit.services import SYSTEM, Actor, record
from dockmesh.backups import dumps
from dockmesh.backups.models import BackupJob, BackupRun
from dockmesh.backups.schedule import MOST_JITTER_SECONDS, clean_schedule, clean_time_zone, next_of
from dockmesh.core import clock, schedule
from dockmesh.core.errors import Conflict, InvalidInput, NotFound
from dockmesh.core.text import MAX_LABEL_BYTES, clean_name, clean_number
from dockmesh.fleet import commands, selectors
from dockmesh.fleet import services as fleet
from dockmesh.fleet.abilities import no_such_repository, why_not
from dockmesh.fleet.selectors import hosts_in_status
from dockmesh.fleet.states import HostStatus

if TYPE_CHECKING:
    from dockmesh.fleet.models import Host

Kind = BackupRun.Kind
Status = BackupRun.Status
Cause = BackupRun.Cause
SourceKind = BackupJob.SourceKind
OPEN = [Status.QUEUED, Status.RUNNING]
# These help a run that waits, so they may run beside it.
BESIDE = [Kind.SNAPSHOTS, Kind.UNLOCK]

KEEPS = ("keep_last", "keep_daily", "keep_weekly", "keep_monthly")
MOST_KEPT = 1000
# How much later than its schedule says a job may be due: what can't be started is tried again in an hour.
LATE = datetime.timedelta(hours=1)
LEAST_TIMEOUT_SECONDS, MOST_TIMEOUT_SECONDS = 60, 24 * 3600
MAX_VOLUMES = 50
MAX_PATHS = 20
MAX_EXCLUDES = 100
LONGEST_EXCLUDE = 500
LONGEST_COMMAND = 2000
# What an agent says in its heartbeats if it knows more than agents of the first version did.
OPTIONS = "backup-options"
# What of a job says which files it has.
SOURCE_COLUMNS = (
    "source_kind", "stack_name", "volumes", "path", "paths", "excludes", "is_one_file_system", "repository",
)  # fmt: skip
REPOSITORY = re.compile(r"[\w.@+-]{1,64}\Z")
VOLUME = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9_.-]{0,199}\Z")
SNAPSHOT = re.compile(r"(latest|[0-9a-f]{8,64})\Z")


@transaction.atomic
def create_job(*, actor: Actor, host_id: int, name: object, **values: object) -> BackupJob:
    """Make a job; `values` are columns of `BackupJob`, what is missing has the model's default.

    Raises `InvalidInput` that names the field, `Conflict` for a name that is taken or a host that makes no backups,
    `NotFound` for the host.
    """
    host = selectors.hosts().filter(pk=host_id).first()
    if host is None:
        raise NotFound("There is no such host.")
    job = BackupJob(host=host, name=_free_name(name), created_at=clock.now())
    _apply(job, values)
    _refuse_repository(job)
    _refuse_unable(host)
    refuse_old_agent(host, _options_of(job))
    _save(job, force_insert=True)
    _record(actor, Action.BACKUP_JOB_CREATED, job, {"host": host.name, **_described(job)})
    return job


@transaction.atomic
def change_job(*, actor: Actor, job_id: int, **values: object) -> BackupJob:
    """Change columns of a job; its host stays. Raises as `create_job` does."""
    job = _locked(job_id)
    before = {"name": job.name, **_described(job)}
    repository = job.repository
    name = values.pop("name", job.name)
    if name != job.name:
        job.name = _free_name(name)
    _apply(job, values)
    if job.repository != repository:
        _refuse_repository(job)
    after = {"name": job.name, **_described(job)}
    changes = {key: after[key] for key in after if after[key] != before[key]}
    if changes:
        refuse_old_agent(job.host, _options_of(job))
        if changes.keys() & set(SOURCE_COLUMNS):
            # The last run's number of files says nothing of another source.
            job.last_files = None
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
    """Back up now, whatever the schedule says.

    Raises `Conflict` while another run of the job has not ended, or where its host can't do it.
    """
    job = _locked(job_id)
    refuse_old_agent(job.host, _options_of(job))
    return _start(actor, job, Kind.BACKUP, Cause.REQUEST)


@transaction.atomic
def restore(
    *,
    actor: Actor,
    job_id: int,
    snapshot_id: object,
    target_path: object,
    paths: object = (),
    host_id: int | None = None,
) -> BackupRun:
    """Restore a snapshot of the job, or only some paths of it, below a path of its host or of another.

    Files keep their whole path below it. Another host needs a repository of the same name in its agent.toml.
    """
    job = _locked(job_id, host_id)
    host = job.host if host_id is None else selectors.hosts().get(pk=host_id)
    chosen = _clean_paths("paths", list(paths) if isinstance(paths, tuple) else paths)
    refuse_old_agent(host, ["restore of chosen paths"] if chosen else [])
    return _start(
        actor,
        job,
        Kind.RESTORE,
        Cause.REQUEST,
        snapshot_id=_clean_snapshot(snapshot_id),
        target_path=_clean_path("target_path", target_path),
        paths=chosen,
        host=host,
    )


@transaction.atomic
def operate(*, actor: Actor, job_id: int, kind: Kind) -> BackupRun:
    """Retention alone, free space now, list the snapshots, or make the job's repository."""
    job = _locked(job_id)
    refuse_old_agent(job.host, [kind.value] if kind != Kind.SNAPSHOTS else [])
    if kind == Kind.RETENTION and not any(getattr(job, column) for column in KEEPS):
        raise Conflict("The job keeps every snapshot: there is nothing for its retention to do.")
    return _start(actor, job, kind, Cause.REQUEST)


@transaction.atomic
def unlock(*, actor: Actor, job_id: int, remove_all: bool = False, confirm: object = "") -> BackupRun:
    """Remove the locks of the job's repository that nobody holds; with `remove_all` all locks, which destroys what
    another run is doing at that moment: `confirm` must then be the repository's name."""
    job = _locked(job_id)
    refuse_old_agent(job.host, [Kind.UNLOCK.value])
    if remove_all and confirm != job.repository:
        raise InvalidInput(
            "confirm", f"must be the repository's name, {job.repository}: other runs may hold its locks."
        )
    return _start(actor, job, Kind.UNLOCK, Cause.REQUEST, is_remove_all=remove_all)


@transaction.atomic
def cancel(*, actor: Actor, run_id: int) -> BackupRun:
    """End a run: at once if no agent has it yet, else as soon as its agent has stopped it."""
    run = BackupRun.objects.select_related("job__host", "host").filter(pk=run_id).first()
    if run is None:
        raise NotFound("There is no such run.")
    host = run.host or (run.job.host if run.job else None)
    if host is None:
        raise Conflict("The run has ended already.")
    fleet.lock_host(host.pk)
    run = BackupRun.objects.select_for_update(of=("self",)).get(pk=run_id)
    if not run.is_open:
        raise Conflict("The run has ended already.")
    if run.cancelled_by:
        return run
    run.cancelled_by = actor.name
    if run.command_id is None or commands.cancel(run.command_id):
        run.status, run.finished_at, run.error = Status.CANCELLED, clock.now(), f"Cancelled by {actor.name}."
    else:
        refuse_old_agent(host, ["cancel"])
        commands.ask_to_end(host_id=host.pk, command_id=run.command_id)
    run.save()
    record(
        actor=actor,
        action=Action.BACKUP_CANCELLED,
        target_kind="backup_job",
        target_id=run.job_id or "",
        target_name=run.job_name,
        changes={"host": run.host_name, "kind": run.kind, "run": run.pk},
    )
    return run


def refuse_old_agent(host: Host, options: Collection[str]) -> None:
    """Raises `Conflict` that names what this host's agent is known not to do."""
    known = host.agent_info.get("capabilities")
    if options and known and OPTIONS not in known:
        raise Conflict(f"The agent of {host.name} is too old for: {', '.join(options)}. Update it.")


def _options_of(job: BackupJob) -> list[str]:
    """What the job asks for beyond what the first agents did; they would leave it out without a word."""
    asked = {
        "several paths": len(job_paths(job)) > 1,
        "excludes": job.excludes,
        "one file system": job.is_one_file_system,
        "commands before and after": job.before_command or job.after_command,
        "stopping the stack": job.is_stack_stopped,
    }
    return [name for name, is_asked in asked.items() if is_asked]


def job_paths(job: BackupJob) -> list[str]:
    """The paths of a job of the kind `path`."""
    return list(dict.fromkeys([*([job.path] if job.path else []), *job.paths]))


def least_files(job: BackupJob) -> int:
    """How many files a run must have to count: the limit's part of the last one's, and at least one."""
    return max(1, -(-(job.last_files or 0) * job.least_files_percent // 100))


@transaction.atomic
def verify(*, actor: Actor, job_id: int, snapshot_id: object = "latest") -> BackupRun:
    """Read a snapshot out of the repository on the job's host, and compare it with its list and the source; raises as `run_now` does."""
    job = _locked(job_id)
    return _start(actor, job, Kind.VERIFY, Cause.REQUEST, snapshot_id=_clean_snapshot(snapshot_id))


def start_due() -> None:
    """The scheduler's job: start what is due. A host that is away gets its run when it is back, once."""
    now = clock.now()
    due = BackupJob.objects.filter(is_enabled=True, next_run_at__lte=now).exclude(
        hosts_in_status(HostStatus.OFFLINE, prefix="host__")
    )
    schedule.one_by_one(list(due.order_by("next_run_at")), _start_due, what="The start of the backup job")


def _start_due(found: BackupJob) -> None:
    try:
        _start_if_due(found.pk)
    except (InvalidInput, Conflict) as error:
        _note_no_start(found.pk, error.detail)
        raise


@transaction.atomic
def _note_no_start(job_id: int, reason: str) -> None:
    """A failed run says so, once an hour, for as long as the job can't be started: by a time zone that this machine
    doesn't know, an agent that is too old."""
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
        next_run_at=now + LATE,
        last_status=Status.FAILURE,
        last_attempt_at=now,
        failure_count=F("failure_count") + 1,
    )
    _record(SYSTEM, Action.BACKUP_FAILED, job, {"host": job.host.name, "kind": Kind.BACKUP, "error": reason})


def look_at_schedules() -> None:
    """The scheduler's job: no job waits for a moment that was named while the clock was far ahead."""
    now = clock.now()
    waiting = BackupJob.objects.filter(is_enabled=True, next_run_at__gt=now + LATE).exclude(schedule="")
    schedule.one_by_one(list(waiting), _bring_forward, what="The schedule of the backup job")


def _bring_forward(found: BackupJob) -> None:
    with contextlib.suppress(InvalidInput, NotFound):  # by its time zone; its next start says so
        named = next_of_job(found, clock.now())
        if named is None or found.next_run_at is None or found.next_run_at <= named + LATE:
            return
        with transaction.atomic():
            job = _locked(found.pk)
            if job.is_enabled and job.next_run_at == found.next_run_at:
                job.next_run_at = next_of_job(job, clock.now())
                job.save(update_fields=["next_run_at"])


@transaction.atomic
def _start_if_due(job_id: int) -> None:
    now = clock.now()
    try:
        job = _locked(job_id)
    except NotFound:
        return
    if not job.is_enabled or job.next_run_at is None or job.next_run_at > now:
        return
    if _open_runs(job).exists():
        return  # due until that one has ended
    refuse_old_agent(job.host, _options_of(job))
    scheduled_for = job.next_run_at
    job.next_run_at = next_of_job(job, now)
    job.save(update_fields=["next_run_at"])
    # The scheduler looks every few seconds; what is later than that waited for the host or the server.
    is_missed = now - scheduled_for > datetime.timedelta(minutes=2)
    cause = Cause.MISSED if is_missed else Cause.SCHEDULE
    _start(SYSTEM, job, Kind.BACKUP, cause, scheduled_for=scheduled_for)


def next_of_job(job: BackupJob, moment: datetime.datetime) -> datetime.datetime | None:
    """When the job's schedule names the next run after this moment."""
    return next_of(
        job.schedule, job.time_zone, moment, jitter_seconds=job.jitter_seconds, seed=job.snapshot_tag
    )


def _start(
    actor: Actor, job: BackupJob, kind: Kind, cause: Cause, *, host: Host | None = None, **columns: Any
) -> BackupRun:
    if kind not in BESIDE:
        _refuse_second(job)
    host = host or job.host
    _refuse_unable(host)
    if reason := no_such_repository(host, job.repository):
        raise Conflict(reason)
    run = BackupRun.objects.create(
        job=job,
        job_name=job.name,
        host=host,
        host_name=host.name,
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
    changes: dict[str, Any] = {"host": host.name, "kind": kind.value, "run": run.pk}
    if kind == Kind.RESTORE:
        changes |= {"snapshot_id": run.snapshot_id, "target_path": run.target_path}
        changes |= {"paths": run.paths} if run.paths else {}
    if kind == Kind.UNLOCK:
        changes |= {"repository": run.repository, "remove_all": run.is_remove_all}
    _record(actor, Action.BACKUP_REQUESTED, job, changes)
    return run


def enqueue(job: BackupJob, run: BackupRun) -> None:
    """Hand the run to the host's agent, in the caller's transaction."""
    run.command_id = commands.enqueue(
        host_id=run.host_id or job.host_id,
        kind=run.kind,
        payload={"run": run.pk, **_payload(job, run)},
        lock="" if run.kind in BESIDE else f"repository:{run.repository}",
        timeout_seconds=run.timeout_seconds,
    )
    run.save(update_fields=["command_id"])


def _payload(job: BackupJob, run: BackupRun) -> Mapping[str, Any]:
    """What the agent gets. Agents of the first version know no key but job to verify, snapshot_id and target_path."""
    payload: dict[str, Any] = {"job": job.snapshot_tag, "repository": run.repository}
    if run.kind in (Kind.RESTORE, Kind.VERIFY):
        payload["snapshot_id"] = run.snapshot_id
        if run.kind == Kind.RESTORE:
            payload["target_path"] = run.target_path
            if run.paths:
                payload["paths"] = run.paths
    keep = {column.removeprefix("keep_"): getattr(job, column) for column in KEEPS}
    if run.kind == Kind.RETENTION:
        payload["keep"] = keep
    if run.kind == Kind.UNLOCK:
        payload["remove_all"] = run.is_remove_all
    if run.kind != Kind.BACKUP:
        return payload
    is_known = BackupJob.objects.filter(host_id=job.host_id, proven_repository=run.repository).exists()
    payload |= {"source": _source(job), "keep": keep, "verify": job.is_verified}
    payload |= {
        "is_known": is_known,
        "least_files": least_files(job),
        "takes_partial": True,
        "wants_snapshots": True,
    }
    if job.excludes:
        payload["excludes"] = job.excludes
    if job.is_one_file_system:
        payload["one_file_system"] = True
    if job.is_stack_stopped:
        payload["stop_stack"] = job.stack_name
    for key in ("before_command", "after_command"):
        if getattr(job, key):
            payload[key] = getattr(job, key)
    if payload.keys() & {"stop_stack", "before_command", "after_command"}:
        payload["hook_timeout_seconds"] = job.hook_timeout_seconds
    return payload


def _source(job: BackupJob) -> Mapping[str, Any]:
    if job.source_kind == SourceKind.VOLUMES:
        return {"type": "volumes", "stack": job.stack_name, "volumes": job.volumes}
    if job.source_kind == SourceKind.DATABASE:
        return {"type": "path", "path": str(dumps.folder(job.pk))}
    paths = job_paths(job)
    return {"type": "path", "path": paths[0], **({"paths": paths} if len(paths) > 1 else {})}


def _apply(job: BackupJob, values: Mapping[str, object]) -> None:
    """Set the given columns, checked; what belongs together is checked together."""
    given = dict(values)
    schedule_before = (job.schedule, job.time_zone, job.jitter_seconds, job.is_enabled)
    for field, clean in _CLEANERS.items():
        if field in given:
            setattr(job, field, clean(field, given.pop(field)))
    if given:
        raise InvalidInput(next(iter(given)), "is no field here.")
    _check_source(job)
    if job.pk is None or (job.schedule, job.time_zone, job.jitter_seconds, job.is_enabled) != schedule_before:
        job.next_run_at = next_of_job(job, clock.now()) if job.is_enabled else None


def _check_source(job: BackupJob) -> None:
    if job.source_kind != SourceKind.VOLUMES:
        job.stack_name, job.volumes, job.is_stack_stopped = "", [], False
    elif not job.stack_name:
        raise InvalidInput("stack_name", "is needed: the stack whose volumes are backed up.")
    if job.source_kind != SourceKind.PATH:
        job.path, job.paths = "", []
    elif not job_paths(job):
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
        return clean_number(field, value, least=least, most=most)

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


def _clean_paths(field: str, value: object) -> list[str]:
    if not isinstance(value, list) or len(value) > MAX_PATHS:
        raise InvalidInput(field, f"must be a list of at most {MAX_PATHS} absolute paths.")
    return list(dict.fromkeys(_clean_path(field, path) for path in value))


def _clean_excludes(field: str, value: object) -> list[str]:
    if not isinstance(value, list) or len(value) > MAX_EXCLUDES:
        raise InvalidInput(field, f"must be a list of at most {MAX_EXCLUDES} patterns.")
    return list(dict.fromkeys(clean_name(field, pattern, most=LONGEST_EXCLUDE) for pattern in value))


def _clean_command(field: str, value: object) -> str:
    """A shell's command, of several lines perhaps."""
    if not isinstance(value, str) or len(value) > LONGEST_COMMAND:
        raise InvalidInput(field, f"must be a text of at most {LONGEST_COMMAND} characters.")
    text = value.replace("\r\n", "\n").strip()
    if any(unicodedata.category(char) in ("Cc", "Cs") and char not in "\n\t" for char in text):
        raise InvalidInput(field, "must have no control characters but line ends and tabs.")
    return text


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
    "paths": _clean_paths,
    "excludes": _clean_excludes,
    "is_one_file_system": _clean_flag,
    "before_command": _clean_command,
    "after_command": _clean_command,
    "is_stack_stopped": _clean_flag,
    "hook_timeout_seconds": _clean_number(1, 3600),
    "least_files_percent": _clean_number(0, 100),
    "repository": _clean_word(REPOSITORY, "must be the name of a repository in the agent's agent.toml."),
    "schedule": lambda field, value: clean_schedule(value, field=field),
    "time_zone": lambda field, value: clean_time_zone(value, field=field),
    "jitter_seconds": _clean_number(0, MOST_JITTER_SECONDS),
    "is_enabled": _clean_flag,
    "is_verified": _clean_flag,
    "timeout_seconds": _clean_number(LEAST_TIMEOUT_SECONDS, MOST_TIMEOUT_SECONDS),
    **dict.fromkeys(KEEPS, _clean_number(0, MOST_KEPT)),
}


def _described(job: BackupJob) -> dict[str, Any]:
    """A job as the audit log has it: of a command, which may hold a secret, only that it is another one."""
    described = {field: getattr(job, field) for field in _CLEANERS}
    for field in ("before_command", "after_command"):
        if described[field]:
            described[field] = f"sha256:{hashlib.sha256(described[field].encode()).hexdigest()[:16]}"
    return described


def _locked(job_id: int, other_host_id: int | None = None) -> BackupJob:
    """The job with its host locked, and another host as well, always in the same order."""
    host_id = BackupJob.objects.filter(pk=job_id).values_list("host_id", flat=True).first()
    if host_id is None:
        raise NotFound("There is no such backup job.")
    for locked_id in sorted({host_id, other_host_id or host_id}):
        fleet.lock_host(locked_id)
    jobs = BackupJob.objects.select_for_update(of=("self",)).select_related("host").defer("snapshots")
    job = jobs.filter(pk=job_id).first()
    if job is None:
        raise NotFound("There is no such backup job.")
    return job


def _open_runs(job: BackupJob) -> QuerySet[BackupRun]:
    return job.runs.filter(status__in=OPEN).exclude(kind__in=BESIDE)


def _refuse_unable(host: Host) -> None:
    if reason := why_not(host, "backup"):
        raise Conflict(reason)


def _refuse_repository(job: BackupJob) -> None:
    if reason := no_such_repository(job.host, job.repository):
        raise InvalidInput("repository", f"can't be used. {reason}")


def _refuse_second(job: BackupJob) -> None:
    running = _open_runs(job).first()
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
