"""Reading backups, for other rooms."""

import datetime
from dataclasses import dataclass

from dockmesh.backups.models import BackupJob, BackupRun
from dockmesh.core.compiled import CompiledQuery


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
    rows = BackupJob.objects.filter(is_enabled=True).order_by("name")
    return [
        JobHealth(pk, name, host_id, created_at, success, _trouble(last_status, unreadable))
        for pk, name, host_id, created_at, success, last_status, unreadable in rows.values_list(
            "id", "name", "host_id", "created_at", "last_success_at", "last_status", "last_unreadable"
        )
    ]


def _trouble(last_status: str, unreadable: int) -> str:
    if last_status == BackupRun.Status.FAILURE:
        return "The last run failed."
    if last_status == BackupRun.Status.PARTIAL:
        what = "1 file" if unreadable == 1 else f"{unreadable} files"
        return f"The last run was partial: {what} could not be read."
    return ""
