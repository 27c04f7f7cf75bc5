"""Reading backups, for other rooms."""

from dataclasses import dataclass

from dockmesh.backups.models import BackupJob


@dataclass(frozen=True)
class JobSample:
    """What /metrics shows of a job. Times in Unix seconds, durations in seconds, None where absent."""

    name: str
    last_run_timestamp: float | None
    last_duration_seconds: float | None


def job_samples() -> list[JobSample]:
    """All jobs by name: 0 for an enabled job that has never succeeded; one query."""
    rows = BackupJob.objects.order_by("name").values_list(
        "name", "is_enabled", "last_success_at", "last_duration_seconds"
    )
    return [
        JobSample(name, success.timestamp() if success else (0.0 if is_enabled else None), duration)
        for name, is_enabled, success, duration in rows
    ]
