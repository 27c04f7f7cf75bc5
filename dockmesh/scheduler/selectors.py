"""How the periodic jobs fare."""

from dataclasses import dataclass

from dockmesh.core.schedule import jobs
from dockmesh.scheduler.models import PeriodicTask


@dataclass(frozen=True)
class TaskSample:
    """A job: when it last ran whole (Unix seconds; 0: never yet), and how many faults there ever were."""

    name: str
    last_success_timestamp: float
    failures: int


def task_samples() -> list[TaskSample]:
    """Every job that there is, in the order of their names; one query."""
    rows = {row.name: row for row in PeriodicTask.objects.all()}
    return [_sample(job.name, rows.get(job.name)) for job in jobs()]


def _sample(name: str, row: PeriodicTask | None) -> TaskSample:
    if row is None:
        return TaskSample(name, 0.0, 0)
    return TaskSample(name, row.last_success_at.timestamp() if row.last_success_at else 0.0, row.failures)
