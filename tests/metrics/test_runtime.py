"""The process's own metrics: what is read past prometheus_client's objects is what these say."""

import random

import pytest
from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    Info,
    Summary,
    disable_created_metrics,
)

from metrics.collectors import runtime
from metrics.exposition import Page
from tests.metrics import twin

disable_created_metrics()


@pytest.fixture
def registry(monkeypatch):
    found = CollectorRegistry()
    monkeypatch.setattr(runtime, "REGISTRY", found)
    return found


def page(collector):
    return b"".join(Page(collector.sections()).body(openmetrics=False, gzip=False).chunks).decode()


def slowly(registry):
    """The same page, of what prometheus_client collects."""
    families = []
    for metric in registry.collect():
        suffix = {"counter": "_total", "info": "_info"}.get(metric.type, "")
        samples = [twin.TwinSample(sample.name, sample.labels, sample.value) for sample in metric.samples]
        kind = "gauge" if metric.type == "info" else metric.type
        families.append(twin.TwinFamily(metric.name + suffix, kind, metric.documentation, samples))
    return twin.page(families, openmetrics=False).decode()


def test_whatever_is_counted_the_page_is_as_the_library_collects_it(registry):
    dice = random.Random(5)
    plain, asked = (
        Counter("plain", "Plain.", registry=registry),
        Counter("asked", "Asked.", ["a", "b"], registry=registry),
    )
    gauge, called = (
        Gauge("gauge", "Gauge.", ["a"], registry=registry),
        Gauge("called", "Called.", registry=registry),
    )
    seconds = Histogram("seconds", "Seconds.", ["a"], registry=registry, buckets=(0.1, 2, 50))
    size = Histogram("size", "Size.", registry=registry)
    Info("about", "About.", registry=registry).info({"version": "1"})
    summary = Summary("summary", "Summary.", ["a"], registry=registry)
    called.set_function(lambda: plain._value.get() / 3)
    collector = runtime.RuntimeCollector()
    assert page(collector) == slowly(registry)
    for _ in range(60):
        label = dice.choice(['x"', "y\n", "z%s", "\\", "w", "v", "u"])
        what = dice.randrange(7)
        if what == 0:
            plain.inc(dice.choice([1, 0.5, 1e-9, 1e20]))
        elif what == 1:
            asked.labels(a=label, b="%").inc()
        elif what == 2:
            gauge.labels(label).set(dice.choice([-1, 0.25, float("inf"), float("-inf"), float("nan")]))
        elif what == 3:
            seconds.labels(label).observe(dice.choice([0, 0.05, 0.1, 3.7, 1e9]))
        elif what == 4:
            size.observe(dice.random() * 20)
        elif what == 5:
            summary.labels(label).observe(dice.random())
        elif dice.random() < 0.3:
            gauge.clear()
        assert page(collector) == slowly(registry)


def test_what_did_not_change_is_the_very_same_text(registry):
    seconds = Histogram("seconds", "Seconds.", ["a"], registry=registry)
    for label in range(20):
        seconds.labels(str(label)).observe(1)
    collector = runtime.RuntimeCollector()
    (before,) = collector.sections() or ()
    seconds.labels("7").observe(1)
    (after,) = collector.sections() or ()
    assert sum(new is not old for new, old in zip(after.fragments, before.fragments, strict=True)) == 1
