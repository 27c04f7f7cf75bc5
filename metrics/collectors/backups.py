"""Backup jobs: their runs by result, the last ones, and the next."""

from collections.abc import Iterable, Sequence

from dockmesh.backups import selectors
from dockmesh.backups.selectors import JobSample
from metrics import families as f
from metrics.collectors.base import Collector, Found, Scrape
from metrics.exposition import TextStore, sample_lines

_GROUP_BITS = 5
_FAMILIES = (
    f.BACKUP_LAST_RUN,
    f.BACKUP_LAST_DURATION,
    f.BACKUP_INFO,
    f.BACKUP_RUNS,
    f.BACKUP_LAST_ATTEMPT,
    f.BACKUP_NEXT_RUN,
    f.BACKUP_LAST_VERIFIED,
    f.BACKUP_LAST_BYTES,
    f.BACKUP_LAST_ADDED_BYTES,
    f.BACKUP_LAST_FILES,
    f.BACKUP_LAST_UNREADABLE,
)


class BackupsCollector(Collector):
    """One query; the text of a job is made when its row has changed."""

    name = "backups"
    families = _FAMILIES
    queries = (selectors.JOBS,)
    is_of_queries_alone = True

    def __init__(self) -> None:
        self._texts = TextStore(len(_FAMILIES), group_bits=_GROUP_BITS)

    def collect(self, scrape: Scrape) -> Found:
        """What a job has not done yet has no sample."""
        rows = selectors.job_rows()
        self._texts.refresh(rows, lambda ids: ((key, _texts(selectors.job_sample(rows[key]))) for key in ids))
        return {family: self._texts.fragments(column) for column, family in enumerate(_FAMILIES)}


def _texts(job: JobSample) -> Sequence[bytes]:
    """The lines of a job in each of the families."""
    info = (job.name, job.host, job.repository, "true" if job.is_enabled else "false")
    results = (("success", job.successes), ("partial", job.partials), ("failure", job.failures))
    samples: Sequence[Iterable[tuple[Sequence[str], float | None]]] = (
        [((job.name,), job.last_run_timestamp)],
        [((job.name,), job.last_duration_seconds)],
        [(info, 1)],
        [((job.name, result), count) for result, count in results],
        [((job.name,), job.last_attempt_timestamp)],
        [((job.name,), job.next_run_timestamp)],
        [((job.name,), job.last_verified_timestamp)],
        [((job.name,), job.last_bytes)],
        [((job.name,), job.last_added_bytes)],
        [((job.name,), job.last_files)],
        [((job.name,), job.last_unreadable)],
    )
    return [
        sample_lines(family, [(labels, value) for labels, value in of_family if value is not None]).encode()
        for family, of_family in zip(_FAMILIES, samples, strict=True)
    ]
