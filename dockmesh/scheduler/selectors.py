"""How the periodic jobs fare, and who runs them."""

import datetime
import secrets
from dataclasses import dataclass

from django.db.models.functions import Now

from dockmesh.core.compiled import CompiledQuery
from dockmesh.core.schedule import jobs
from dockmesh.scheduler.models import LEASE, Lease, LiveMark, PeriodicTask

# This replica: made in the supervisor, before it forks the web process and the scheduler.
LIVE_MARKS = LiveMark._meta.db_table  # the table, which a copy must not take along
REPLICA = secrets.token_hex(8)

HOLDER = CompiledQuery(lambda: Lease.objects.filter(name=LEASE, expires_at__gt=Now()).values_list("holder"))


def is_leader() -> bool:
    """Whether this replica's scheduler runs the periodic jobs, by the database's clock; one query."""
    return any(holder.endswith(f":{REPLICA}") for (holder,) in HOLDER.rows())


TASKS = CompiledQuery(lambda: PeriodicTask.objects.values_list("name", "last_success_at", "failures"))


@dataclass(frozen=True)
class TaskSample:
    """A job: when it last ran whole (Unix seconds; 0: never yet), and how many faults there ever were."""

    name: str
    last_success_timestamp: float
    failures: int


def task_samples() -> list[TaskSample]:
    """Every job that there is, in the order of their names; one query."""
    rows = {name: (at, failures) for name, at, failures in TASKS.rows()}
    return [_sample(job.name, *rows.get(job.name, (None, 0))) for job in jobs()]


def _sample(name: str, last_success_at: datetime.datetime | None, failures: int) -> TaskSample:
    return TaskSample(name, last_success_at.timestamp() if last_success_at else 0.0, failures)
