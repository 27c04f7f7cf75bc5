"""Deploy durations: one series for each stack name and result."""

from collections.abc import Collection, Iterable

from dockmesh.fleet import selectors
from metrics import families as f
from metrics.collectors.base import Found, Scrape
from metrics.collectors.fleet_text import StackRow, StackTexts
from metrics.exposition import StampTexts
from metrics.groups import Group


class DeploysCollector:
    """One query for the versions of all series, and one for those that changed, if any did."""

    name = "deploys"
    reads_database = True
    groups = frozenset({Group.FLEET})

    def __init__(self) -> None:
        self.texts = StackTexts()
        self._stamps = StampTexts()

    def collect(self, scrape: Scrape) -> Found:
        """The histograms are kept by the transaction that ends a deploy."""
        stamps = self._stamps.read(*selectors.stack_series_versions())
        return {f.DEPLOY_DURATION: self.texts.refresh(stamps=stamps, rows=_rows)}


def _rows(series_ids: Collection[int]) -> Iterable[StackRow]:
    for row in selectors.stack_series_rows(series_ids):
        series_id, name, _, success_counts, success_sum, failure_counts, failure_sum = row
        yield StackRow(series_id, name, success_counts, success_sum, failure_counts, failure_sum)
