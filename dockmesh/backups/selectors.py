"""Reading backups, for other rooms."""

import datetime
from dataclasses import dataclass

from django.db.models import OuterRef, Subquery

from dockmesh.backups.models import BackupJob, BackupRun
from dockmesh.core.compiled import CompiledQuery
from dockmesh.fleet import causes


@dataclass(frozen=True)
class JobSample:
    """What /metrics shows of a job. Times in Unix seconds, durations in seconds, None where absent."""

    name: str
    last_run_timestamp: float | None
    last_duration_seconds: float | None


_job_samples = CompiledQuery(
    lambda: BackupJob.objects.order_by("name").values_list(
        "name", "is_enabled", "last_success_at", "last_duration_seconds"
    )
)


def job_samples() -> list[JobSample]:
    """All jobs by name: 0 for an enabled job that has never succeeded; one query."""
    return [
        JobSample(name, success.timestamp() if success else (0.0 if is_enabled else None), duration)
        for name, is_enabled, success, duration in _job_samples.rows()
    ]


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
