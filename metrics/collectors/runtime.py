"""What the answering process knows of itself: `django_*`, `process_*` and `python_*`.

These live in prometheus_client's default registry, and only these; they are written by the same rules
as everything else, so that filtering, compressing and both formats work alike.
"""

import logging
from collections.abc import Iterable, Sequence
from functools import lru_cache

from prometheus_client import REGISTRY
from prometheus_client.metrics_core import Metric
from prometheus_client.samples import Sample

from metrics import multiprocess
from metrics.exposition import Family, Kind, Piece, Section, escape, number
from metrics.groups import Group

logger = logging.getLogger(__name__)

_KINDS: dict[str, Kind] = {
    "counter": "counter",
    "gauge": "gauge",
    "histogram": "histogram",
    "summary": "summary",
    "info": "info",
}


class RuntimeCollector:
    """No query. Summed over the processes where `PROMETHEUS_MULTIPROC_DIR` is set."""

    name = "process"
    groups = frozenset({Group.SERVER})

    def sections(self) -> Sequence[Section] | None:
        """One section for each metric, in the order of registration; None if it failed."""
        try:
            metrics = list(REGISTRY.collect())
            if multiprocess.is_on():
                metrics = multiprocess.summed(metrics)
            return [_section(metric) for metric in metrics]
        except Exception:
            logger.exception("The process's own metrics could not be read.")
            return None


def _section(metric: Metric) -> Section:
    family = _family(metric.name, metric.type, metric.documentation)
    return Section(family, [Piece.of(_lines(metric.samples))])


@lru_cache(maxsize=1024)
def _family(name: str, kind: str, documentation: str) -> Family:
    suffix = {"counter": "_total", "info": "_info"}.get(kind, "")
    return Family(name + suffix, _KINDS.get(kind, "unknown"), documentation)


def _lines(samples: Iterable[Sample]) -> str:
    return "".join(
        f"{_prefix(sample.name, tuple(sample.labels.items()))} {number(sample.value)}\n"
        for sample in samples
        # OpenMetrics's time of birth; text 0.0.4 would need a family of its own for it.
        if not sample.name.endswith("_created")
    )


@lru_cache(maxsize=16384)
def _prefix(sample_name: str, labels: tuple[tuple[str, str], ...]) -> str:
    """The line up to its value: the same series come at every scrape."""
    if not labels:
        return sample_name
    return sample_name + "{" + ",".join(f'{name}="{escape(value)}"' for name, value in labels) + "}"
