"""What the answering process knows of itself: `django_*`, `process_*` and `python_*`.

These live in prometheus_client's default registry, and only these; they are written by the same rules
as everything else, so that filtering, compressing and both formats work alike.
"""

import logging
from collections import defaultdict
from collections.abc import Mapping, Sequence
from functools import lru_cache
from itertools import accumulate
from typing import Any

from prometheus_client import REGISTRY, Counter, Histogram
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector
from prometheus_client.samples import Sample

from metrics import families as f
from metrics import multiprocess
from metrics.collectors.base import Named
from metrics.exposition import Family, Fragment, Kind, Section, escape, number, numbers
from metrics.groups import Group

logger = logging.getLogger(__name__)

_KINDS: dict[str, Kind] = {
    "counter": "counter",
    "gauge": "gauge",
    "histogram": "histogram",
    "summary": "summary",
    "info": "info",
}
# Children of a metric that share a fragment: of histograms some eight kilobytes.
_SHARED_BY = 4


class _MetricLines:
    """One metric's lines: kept up to the values while its series are the same."""

    def __init__(self) -> None:
        self._series: list[tuple[str, dict[str, str]]] = []
        self._format = ""

    def fragment(self, samples: Sequence[Sample]) -> Fragment:
        """The text of these samples."""
        shown = _shown(samples)
        series = [(sample.name, sample.labels) for sample in shown]
        if series != self._series:
            self._series, self._format = series, _format(series)
        return Fragment.of(self._format % tuple([number(sample.value) for sample in shown]))


class _Children:
    """Some children of a counter or histogram, whose values are read where prometheus_client keeps them.

    Its `collect` makes several objects of every sample, and there are thousands of them: a histogram for every page.
    """

    def __init__(self, samples: Sequence[Sample], children: Sequence[Any]) -> None:
        self._format = _format([(sample.name, sample.labels) for sample in _shown(samples)])
        self._buckets = len(children[0]._buckets) if isinstance(children[0], Histogram) else 0
        self._cells = [
            cell
            for child in children
            for cell in ((*child._buckets, child._sum) if self._buckets else (child._value,))
        ]
        self._values: list[float] = []
        self._fragment = Fragment(b"")

    def fragment(self) -> Fragment:
        """Their lines; the very same fragment while no value has changed."""
        values = [cell._value for cell in self._cells]
        if values != self._values:
            shown = self._histograms(values) if self._buckets else values
            self._values, self._fragment = values, Fragment(self._format.encode() % tuple(numbers(shown)))
        return self._fragment

    def _histograms(self, values: Sequence[float]) -> list[float]:
        """Of each the buckets, cumulative; the count, which is the last bucket's; the sum."""
        shown: list[float] = []
        width = self._buckets + 1
        for start in range(0, len(values), width):
            shown += accumulate(values[start : start + self._buckets])
            shown += (shown[-1], values[start + self._buckets])
        return shown


class _OwnMetric:
    """A counter or histogram of this process. A gauge may be a function, and is left to `collect`."""

    def __init__(self, metric: Any) -> None:
        self._metric = metric
        (described,) = metric.describe()
        self._family = _family(described.name, described.type, described.documentation)
        self._known: list[Any] = []
        self._parts: list[_Children] = []

    def section(self) -> Section:
        """Its lines now."""
        children = self._children()
        if children != self._known:
            self._known, self._parts = children, self._laid_out(children)
        return Section(self._family, [part.fragment() for part in self._parts])

    def _children(self) -> list[Any]:
        return list(self._metric._metrics.values()) if self._metric._labelnames else [self._metric]

    def _laid_out(self, children: Sequence[Any]) -> list[_Children]:
        (found,) = self._metric.collect()
        samples, each = _shown(found.samples), 1
        if isinstance(self._metric, Histogram):
            each = len(self._metric._upper_bounds) + 2
        return [
            _Children(
                samples[start * each : (start + _SHARED_BY) * each], children[start : start + _SHARED_BY]
            )
            for start in range(0, len(children), _SHARED_BY)
        ]


class RuntimeCollector(Named):
    """No query. Summed over the processes where `PROMETHEUS_MULTIPROC_DIR` is set."""

    name = "process"
    groups = frozenset({Group.SERVER})

    def __init__(self) -> None:
        self._lines: defaultdict[str, _MetricLines] = defaultdict(_MetricLines)
        self._own: dict[Collector, _OwnMetric | None] = {}

    def has_any(self, names: frozenset[str]) -> bool:
        """Whether any of these may be one of the process's own, which are known only when they are read."""
        return not names <= f.NAMES

    def sections(self) -> Sequence[Section] | None:
        """One section for each metric, in the order of registration; None if it failed."""
        try:
            if multiprocess.is_on():
                return [self._section(metric) for metric in multiprocess.summed(REGISTRY.collect())]
            with REGISTRY._lock:
                collectors = list(REGISTRY._collector_to_names)
            return [section for collector in collectors for section in self._sections(collector)]
        except Exception:
            logger.exception("The process's own metrics could not be read.")
            return None

    def _sections(self, collector: Collector) -> Sequence[Section]:
        if collector not in self._own:
            is_plain = type(collector) in (Counter, Histogram)
            self._own[collector] = _OwnMetric(collector) if is_plain else None
        own = self._own[collector]
        if own is not None:
            return [own.section()]
        return [self._section(metric) for metric in collector.collect()]

    def _section(self, metric: Metric) -> Section:
        family = _family(metric.name, metric.type, metric.documentation)
        return Section(family, [self._lines[family.name].fragment(metric.samples)])


@lru_cache(maxsize=1024)
def _family(name: str, kind: str, documentation: str) -> Family:
    suffix = {"counter": "_total", "info": "_info"}.get(kind, "")
    return Family(name + suffix, _KINDS.get(kind, "unknown"), documentation)


def _shown(samples: Sequence[Sample]) -> list[Sample]:
    """Without `_created`, OpenMetrics's time of birth; text 0.0.4 would need a family of its own for it."""
    return [sample for sample in samples if not sample.name.endswith("_created")]


def _format(series: Sequence[tuple[str, Mapping[str, str]]]) -> str:
    """The lines of these series, each with a place for its value."""
    return "".join(_prefix(name, labels).replace("%", "%%") + " %s\n" for name, labels in series)


def _prefix(sample_name: str, labels: Mapping[str, str]) -> str:
    """The line up to its value."""
    if not labels:
        return sample_name
    return sample_name + "{" + ",".join(f'{name}="{escape(value)}"' for name, value in labels.items()) + "}"
