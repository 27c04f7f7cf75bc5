"""Reading backups, for other rooms."""

import datetime
from dataclasses import dataclass

from django.db import connection
from django.db.models import OuterRef, Subquery

from dockmesh.backups.models import BackupJob, BackupRun
from dockmesh.core.compiled import CompiledQuery, Statement, as_datetime
from dockmesh.fleet import causes, sql


@dataclass(frozen=True, slots=True)
class JobSample:
    """What /metrics shows of a job. Times in Unix seconds, durations in seconds, None where absent."""

    name: str
    host: str
    repository: str
    is_enabled: bool
    last_run_timestamp: float | None
    """0 while an enabled job has never succeeded."""
    last_duration_seconds: float | None
    successes: int
    partials: int
    failures: int
    last_attempt_timestamp: float
    """0 while never, as the next two."""
    next_run_timestamp: float
    last_verified_timestamp: float
    last_bytes: int | None
    last_added_bytes: int | None
    last_files: int | None
    last_unreadable: int
    """Files that the last backup could not read; 0 unless it was partial."""


def _jobs() -> Statement:
    # With all its digits, which neither JSON nor SQLite's own text of a number has.
    duration = {
        "postgresql": "j.last_duration_seconds::text",
        "sqlite": "printf('%!.17g', j.last_duration_seconds)",
    }[connection.vendor]
    return Statement(
        f"""
SELECT j.id, j.name, h.name, j.repository, CAST(j.is_enabled AS integer), j.last_success_at,
       CASE WHEN j.last_duration_seconds IS NOT NULL THEN {duration} END,
       j.success_count, j.partial_count, j.failure_count, j.last_attempt_at, j.next_run_at, j.last_verified_at,
       j.last_bytes, j.last_added_bytes, j.last_files,
       CASE WHEN j.last_status = 'partial' THEN j.last_unreadable ELSE 0 END
  FROM backups_backupjob j JOIN fleet_host h ON h.id = j.host_id
 ORDER BY j.id
""",  # noqa: S608 (constants)
        columns=17,
    )


JOBS = CompiledQuery(_jobs)


def job_rows() -> dict[int, sql.Row]:
    """All jobs in the order of their ids, as they come from the database; `job_sample` reads one; one query."""
    return {row[0]: row for row in JOBS.rows()}


def job_sample(row: sql.Row) -> JobSample:
    """What a row of `job_rows` says."""
    (
        _, name, host, repository, is_enabled, success, duration, successes, partials, failures, attempt, due,
        verified, size, added, files, unreadable,
    ) = row  # fmt: skip
    last_run = as_datetime(success)
    return JobSample(
        name=name,
        host=host,
        repository=repository,
        is_enabled=bool(is_enabled),
        last_run_timestamp=last_run.timestamp() if last_run else (0.0 if is_enabled else None),
        last_duration_seconds=None if duration is None else float(duration),
        successes=successes,
        partials=partials,
        failures=failures,
        last_attempt_timestamp=_timestamp(attempt),
        next_run_timestamp=_timestamp(due),
        last_verified_timestamp=_timestamp(verified),
        last_bytes=size,
        last_added_bytes=added,
        last_files=files,
        last_unreadable=unreadable,
    )


def _timestamp(value: datetime.datetime | str | None) -> float:
    moment = as_datetime(value)
    return moment.timestamp() if moment else 0.0


@dataclass(frozen=True)
class JobHealth:
    """What an alert rule looks at: an enabled job, its last success, and what is wrong with its last backup.

    `trouble` is a sentence for the user, empty where all is well; a partial backup is trouble as well.
    """

    id: int
    name: str
    host_id: int
    created_at: datetime.datetime
    last_success_at: datetime.datetime | None
    trouble: str


def job_health() -> list[JobHealth]:
    """All enabled jobs by name; one query."""
    newest = (
        BackupRun.objects.filter(
            job=OuterRef("pk"), kind=BackupRun.Kind.BACKUP, status=OuterRef("last_status")
        )
        .order_by("-id")
        .values("error")[:1]
    )
    rows = BackupJob.objects.filter(is_enabled=True).annotate(error=Subquery(newest)).order_by("name")
    return [
        JobHealth(pk, name, host_id, created_at, success, _trouble(status, unreadable, attempt_at, error))
        for pk, name, host_id, created_at, success, status, unreadable, attempt_at, error in rows.values_list(
            "id",
            "name",
            "host_id",
            "created_at",
            "last_success_at",
            "last_status",
            "last_unreadable",
            "last_attempt_at",
            "error",
        )
    ]


def _trouble(status: str, unreadable: int, attempt_at: datetime.datetime | None, error: str | None) -> str:
    at = f" {causes.when(attempt_at)}" if attempt_at else ""
    if status == BackupRun.Status.FAILURE:
        return f"The last run failed{at}" + (f": {error[:500].rstrip()}" if error else ".")
    if status == BackupRun.Status.PARTIAL:
        what = "1 file" if unreadable == 1 else f"{unreadable} files"
        return f"The last run{at} was partial: {what} could not be read."
    return ""
