"""How the periodic tasks of the scheduler fare."""

from dockmesh.scheduler import selectors
from metrics import families as f
from metrics.collectors.base import Collector, Found, Scrape
from metrics.exposition import KeptLines


class TasksCollector(Collector):
    """One query; every task that there is, also before its first run."""

    name = "tasks"
    families = (f.PERIODIC_TASK_LAST_SUCCESS, f.PERIODIC_TASK_FAILURES)
    queries = (selectors.TASKS,)
    is_of_queries_alone = True

    def __init__(self) -> None:
        self._successes = KeptLines(f.PERIODIC_TASK_LAST_SUCCESS)
        self._failures = KeptLines(f.PERIODIC_TASK_FAILURES)

    def collect(self, scrape: Scrape) -> Found:
        """When each last ran whole, and how many faults it ever had."""
        found = selectors.task_samples()
        successes = (((task.name,), task.last_success_timestamp) for task in found)
        failures = (((task.name,), task.failures) for task in found)
        return {
            f.PERIODIC_TASK_LAST_SUCCESS: self._successes.fragments(successes),
            f.PERIODIC_TASK_FAILURES: self._failures.fragments(failures),
        }
