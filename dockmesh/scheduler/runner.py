"""The scheduler process: one thread keeps the lease, each job has a thread of its own.

So a job that hangs or fails stops neither the others nor the lease.
"""

import logging
import os
import secrets
import socket
import threading
import time

from django.db import DatabaseError, InterfaceError, close_old_connections, connection

from dockmesh.core import clock
from dockmesh.core.postgresql.base import REQUEST_SECONDS, waits_limited_to
from dockmesh.core.schedule import Failed, PeriodicJob, is_database_away, jobs
from dockmesh.scheduler import services
from dockmesh.scheduler.models import LEASE
from dockmesh.scheduler.selectors import REPLICA

logger = logging.getLogger(__name__)

LEASE_SECONDS = 20.0  # another replica takes over after this and one RENEW_SECONDS at the latest
RENEW_SECONDS = 5.0
STOP_SECONDS = 20.0  # for jobs under way
SELDOM_SECONDS = 30.0  # jobs that run less often than this don't keep their connection in between
NOTE_SECONDS = 10.0  # that all is well is written so often at most; a fault at once


class Scheduler:
    """Runs `periodic_jobs` while it holds the lease, until `stop`."""

    def __init__(self, periodic_jobs: list[PeriodicJob] | None = None, *, holder: str = "") -> None:
        self._jobs = jobs() if periodic_jobs is None else periodic_jobs
        self._holder = holder or f"{socket.gethostname()[:80]}:{os.getpid()}:{secrets.token_hex(4)}:{REPLICA}"
        self._held_until = 0.0
        self._stopping = threading.Event()
        self._changed = threading.Condition()

    @property
    def is_holder(self) -> bool:
        """Whether this process may run jobs now."""
        return time.monotonic() < self._held_until

    def run(self) -> None:
        """Returns after `stop`, when the jobs under way have ended or `STOP_SECONDS` have passed."""
        threads = [
            threading.Thread(target=self._run_job, args=(job,), name=f"job-{job.name}", daemon=True)
            for job in self._jobs
        ]
        for thread in threads:
            thread.start()
        while not self._stopping.is_set():
            self._renew()
            self._stopping.wait(RENEW_SECONDS)
        deadline = time.monotonic() + STOP_SECONDS
        for thread in threads:
            thread.join(max(0.0, deadline - time.monotonic()))
        if self.is_holder:
            try:
                services.release(name=LEASE, holder=self._holder)
            except (DatabaseError, InterfaceError):
                logger.warning("The scheduler's lease could not be given back; it runs out by itself")
        connection.close()

    def stop(self) -> None:
        """End `run`; safe to call from a signal handler."""
        self._stopping.set()

    def _renew(self) -> None:
        asked = time.monotonic()
        was_holder = self.is_holder
        try:
            with waits_limited_to(REQUEST_SECONDS):
                close_old_connections()
                clock.agree()
                is_ours = services.acquire(name=LEASE, holder=self._holder, seconds=LEASE_SECONDS)
        except (DatabaseError, InterfaceError) as error:
            logger.warning("The scheduler can't reach the database: %s", str(error).splitlines()[0])
            connection.close()
            return
        self._held_until = asked + LEASE_SECONDS if is_ours else 0.0
        if is_ours and not was_holder:
            logger.info("This scheduler runs the periodic jobs now")
        if is_ours:
            with self._changed:
                self._changed.notify_all()

    def _run_job(self, job: PeriodicJob) -> None:
        due, notes = time.monotonic(), _Notes(job.name)
        while not self._stopping.wait(max(0.0, due - time.monotonic())):
            if self._may_run():
                due = max(due + job.every_seconds, time.monotonic())
                self._run_once(job, notes)
        connection.close()

    def _may_run(self) -> bool:
        """Whether this process holds the lease; waits a moment for it."""
        with self._changed:
            return self._changed.wait_for(lambda: self.is_holder, timeout=1.0)

    def _run_once(self, job: PeriodicJob, notes: "_Notes") -> None:
        failures = 1
        try:
            close_old_connections()
            job.run()
            failures = 0
        except Failed as failed:
            failures = failed.count
        except Exception as error:
            if is_database_away(error):
                logger.warning(
                    "The job %s can't reach the database: %s", job.name, str(error).splitlines()[:1]
                )
                connection.close()
            else:
                logger.exception("The job %s failed", job.name)
        try:
            notes.add(failures)
        except (DatabaseError, InterfaceError):
            connection.close()  # What is not noted now is with the next run.
        finally:
            if job.every_seconds >= SELDOM_SECONDS:
                connection.close()


class _Notes:
    """How one job fares, on its way to the database; of its own thread."""

    def __init__(self, task: str) -> None:
        self._task = task
        self._failures = 0
        self._noted_at = -NOTE_SECONDS

    def add(self, failures: int) -> None:
        self._failures += failures
        if self._failures or time.monotonic() - self._noted_at >= NOTE_SECONDS:
            services.note_run(task=self._task, is_whole=not failures, failures=self._failures)
            self._failures, self._noted_at = 0, time.monotonic()
