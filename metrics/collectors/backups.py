"""Backup jobs: their last successful run, and how long the last one took."""

from dockmesh.backups import selectors
from metrics import families as f
from metrics.collectors.base import Found, Scrape
from metrics.exposition import Piece, sample_lines
from metrics.groups import Group


class BackupsCollector:
    """One query."""

    name = "backups"
    reads_database = True
    groups = frozenset({Group.FLEET})

    def collect(self, scrape: Scrape) -> Found:
        """What a job has not done yet has no sample."""
        jobs = selectors.job_samples()
        runs = [((job.name,), job.last_run_timestamp) for job in jobs if job.last_run_timestamp is not None]
        durations = [
            ((job.name,), job.last_duration_seconds) for job in jobs if job.last_duration_seconds is not None
        ]
        return {
            f.BACKUP_LAST_RUN: [Piece.of(sample_lines(f.BACKUP_LAST_RUN, runs))],
            f.BACKUP_LAST_DURATION: [Piece.of(sample_lines(f.BACKUP_LAST_DURATION, durations))],
        }
