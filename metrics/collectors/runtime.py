"""What the answering process knows of itself: `django_*`, `process_*` and `python_*`.

These live in prometheus_client's default registry, and only these; they are written by the same rules
as everything else, so that filtering, compressing and both formats work alike.
"""

import logging
from collections import defaultdict
from collections.abc import Mapping, Sequence
from functools import lru_cache

from prometheus_client import REGISTRY
from prometheus_client.metrics_core import Metric
from prometheus_client.samples import Sample

from metrics import multiprocess
from metrics.exposition import Family, Fragment, Kind, Section, escape, number
from metrics.groups import Group

logger = logging.getLogger(__name__)

_KINDS: dict[str, Kind] = {
    "counter": "counter",
    "gauge": "gauge",
    "histogram": "histogram",
    "summary": "summary",
    "info": "info",
}


class _MetricLines:
    """One metric's lines: kept up to the values while its series are the same."""

    def __init__(self) -> None:
        self._series: list[tuple[str, dict[str, str]]] = []
        self._format = ""

    def fragment(self, samples: Sequence[Sample]) -> Fragment:
        """The text of these samples."""
        # `_created` is OpenMetrics's time of birth; text 0.0.4 would need a family of its own for it.
        shown = [sample for sample in samples if not sample.name.endswith("_created")]
        series = [(sample.name, sample.labels) for sample in shown]
        if series != self._series:
            lines = (_prefix(name, labels).replace("%", "%%") + " %s\n" for name, labels in series)
            self._series, self._format = series, "".join(lines)
        return Fragment.of(self._format % tuple([number(sample.value) for sample in shown]))


class RuntimeCollector:
    """No query. Summed over the processes where `PROMETHEUS_MULTIPROC_DIR` is set."""

    name = "process"
    groups = frozenset({Group.SERVER})

    def __init__(self) -> None:
        self._lines: defaultdict[str, _MetricLines] = defaultdict(_MetricLines)

    def sections(self) -> Sequence[Section] | None:
        """One section for each metric, in the order of registration; None if it failed."""
        try:
            metrics = list(REGISTRY.collect())
            if multiprocess.is_on():
                metrics = multiprocess.summed(metrics)
            return [self._section(metric) for metric in metrics]
        except Exception:
            logger.exception("The process's own metrics could not be read.")
            return None

    def _section(self, metric: Metric) -> Section:
        family = _family(metric.name, metric.type, metric.documentation)
        return Section(family, [self._lines[family.name].fragment(metric.samples)])


@lru_cache(maxsize=1024)
def _family(name: str, kind: str, documentation: str) -> Family:
    suffix = {"counter": "_total", "info": "_info"}.get(kind, "")
    return Family(name + suffix, _KINDS.get(kind, "unknown"), documentation)


def _prefix(sample_name: str, labels: Mapping[str, str]) -> str:
    """The line up to its value."""
    if not labels:
        return sample_name
    return sample_name + "{" + ",".join(f'{name}="{escape(value)}"' for name, value in labels.items()) + "}"
