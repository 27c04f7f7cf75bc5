"""Counts what is answered without Django's handler, as its middleware would have counted it.

Its seconds begin when the request was there whole: the wait for the others of its batch is part of them.
"""

from collections.abc import Sequence
from functools import cache, lru_cache
from itertools import groupby
from operator import attrgetter

from django.urls import Resolver404, resolve
from django_prometheus.middleware import Metrics

from dockmesh.core import tally
from dockmesh.core.answered import Answered
from dockmesh.fleet.ingest import batch
from metrics import requests


@cache
def _view_and_template(path: str) -> tuple[str, str]:
    match = resolve(path)
    return match.view_name, requests.template(match.route)


class _Counters:
    """django-prometheus's counters for one sort of answers: finding them anew costs more than counting."""

    def __init__(self, view: str, method: str, status: str, scheme: str) -> None:
        of = Metrics.get_instance()
        self._counters = [
            of.requests_total,
            of.responses_total,
            of.requests_by_method.labels(method=method),
            of.requests_by_transport.labels(transport=scheme),
            of.requests_by_view_transport_method.labels(view=view, transport=scheme, method=method),
            of.responses_by_status.labels(status=status),
            of.responses_by_status_view_method.labels(status=status, view=view, method=method),
            of.responses_by_charset.labels(charset="utf-8"),
        ]
        self._seconds = (
            of.requests_latency_before,
            of.requests_latency_by_view_method.labels(view=view, method=method),
        )
        self._of = of

    def add(self, number: int) -> None:
        """So many answers more."""
        for counter in self._counters:
            counter.inc(number)

    def observe(self, received_bytes: int, sent_bytes: int | None, seconds: float) -> None:
        """One of them; `sent_bytes` is None of one that is a stream."""
        for histogram in self._seconds:
            histogram.observe(seconds)
        self._of.requests_body_bytes.observe(received_bytes)
        if sent_bytes is None:
            self._of.responses_streaming.inc()
        else:
            self._of.responses_body_bytes.observe(sent_bytes)


_counters = lru_cache(maxsize=64)(_Counters)


def count(path: str, answers: Sequence[Answered]) -> None:
    """Requests to the API that were posted and answered with 200, and django-prometheus's metrics."""
    view, template = _view_and_template(path)
    requests.counter.add("POST", template, 200, count=len(answers))
    for scheme, group in groupby(sorted(answers, key=attrgetter("scheme")), attrgetter("scheme")):
        counters, alike = _counters(view, "POST", "200", scheme), list(group)
        counters.add(len(alike))
        for each in alike:
            counters.observe(each.received_bytes, each.sent_bytes, each.seconds)


def count_scrape(status: int, *, scheme: str, sent_bytes: int | None, seconds: float) -> None:
    """A GET of /metrics, in django-prometheus's metrics."""
    view, _ = _view_and_template(requests.METRICS_PATH)
    counters = _counters(view, "GET", str(status), scheme)
    counters.add(1)
    counters.observe(0, sent_bytes, seconds)


def count_refused(method: str, path: str, status: int) -> None:
    """A request to the API that the server could not read: too large, cut short, no HTTP."""
    if path == batch.PATH:
        tally.events.add(tally.HEARTBEATS, "refused")
    if not path.startswith(requests.API_PREFIX):
        return
    try:
        template = requests.template(resolve(path).route)
    except Resolver404:
        template = requests.UNMATCHED
    requests.counter.add(requests.method_label(method), template, status)
