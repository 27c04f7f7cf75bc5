"""Deploys: their durations, those that are open, and the last one of each stack."""

from collections.abc import Collection, Iterable, Sequence

from dockmesh.deploys import selectors as deploys
from dockmesh.fleet import selectors
from metrics import families as f
from metrics.collectors.base import Collector, Found, Scrape
from metrics.collectors.fleet_text import StackRow, StackTexts
from metrics.exposition import KeptLines, TextStore, VersionTexts, sample_lines

_GROUP_BITS = 8


class DeploysCollector(Collector):
    """One query for the versions of all series, and one for those that changed, if any did."""

    name = "deploys"
    families = (f.DEPLOY_DURATION,)
    queries = (selectors.STACK_SERIES_VERSIONS,)
    is_of_queries_alone = True

    def __init__(self) -> None:
        self.texts = StackTexts()
        self._versions = VersionTexts()

    def collect(self, scrape: Scrape) -> Found:
        """The histograms are kept by the transaction that ends a deploy."""
        versions = self._versions.read(*selectors.stack_series_versions())
        return {f.DEPLOY_DURATION: self.texts.refresh(versions=versions, rows=_rows)}


def _rows(series_ids: Collection[int]) -> Iterable[StackRow]:
    for row in selectors.stack_series_rows(series_ids):
        series_id, name, _, success_counts, success_sum, failure_counts, failure_sum, *exemplars = row
        yield StackRow(series_id, name, success_counts, success_sum, failure_counts, failure_sum, *exemplars)


class OpenDeploysCollector(Collector):
    """One query."""

    name = "open_deploys"
    families = (f.DEPLOYS_OPEN,)
    queries = (deploys.OPEN_DEPLOYS,)
    is_of_queries_alone = True

    def __init__(self) -> None:
        self._lines = KeptLines(f.DEPLOYS_OPEN)

    def collect(self, scrape: Scrape) -> Found:
        """Both statuses, also at 0."""
        samples = [((status,), count) for status, count in deploys.open_deploys().items()]
        return {f.DEPLOYS_OPEN: self._lines.fragments(samples)}


class LastDeploysCollector(Collector):
    """One query for the versions of all stacks that were ever deployed, and one for those that changed, if any did."""

    name = "last_deploys"
    families = (f.STACK_LAST_DEPLOY,)
    queries = (selectors.LAST_DEPLOY_VERSIONS,)
    is_of_queries_alone = True

    def __init__(self) -> None:
        self._texts = TextStore(1, group_bits=_GROUP_BITS)
        self._versions = VersionTexts()

    def collect(self, scrape: Scrape) -> Found:
        """A stack that never was deployed has no sample."""
        self._texts.refresh(self._versions.read(*selectors.last_deploy_versions()), _last_deploys)
        return {f.STACK_LAST_DEPLOY: self._texts.fragments(0)}


def _last_deploys(stack_ids: Collection[int]) -> Iterable[tuple[int, Sequence[bytes]]]:
    for stack_id, host, stack, result, milliseconds in selectors.last_deploy_rows(stack_ids):
        sample = ((host, stack, result), milliseconds / 1000)
        yield stack_id, [sample_lines(f.STACK_LAST_DEPLOY, [sample]).encode()]
