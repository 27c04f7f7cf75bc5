"""Counts what is answered without Django's handler, as its middleware would have counted it.

Its seconds begin when the request was there whole: the wait for the others of its batch is part of them.
"""

from collections import Counter
from collections.abc import Sequence
from functools import cache

from django.urls import Resolver404, resolve
from django_prometheus.middleware import Metrics

from dockmesh.core import tally
from dockmesh.core.answered import Answered
from dockmesh.fleet.ingest import batch
from metrics import requests

_METHOD, _STATUS = "POST", "200"


@cache
def _view_and_template(path: str) -> tuple[str, str]:
    match = resolve(path)
    return match.view_name, requests.template(match.route)


def count(path: str, answers: Sequence[Answered]) -> None:
    """Requests to the API, and django-prometheus's metrics."""
    view, template = _view_and_template(path)
    number = len(answers)
    requests.counter.add(_METHOD, template, int(_STATUS), number)
    of = Metrics.get_instance()
    of.requests_total.inc(number)
    of.responses_total.inc(number)
    of.requests_by_method.labels(method=_METHOD).inc(number)
    for scheme, times in Counter(each.scheme for each in answers).items():
        of.requests_by_transport.labels(transport=scheme).inc(times)
        of.requests_by_view_transport_method.labels(view=view, transport=scheme, method=_METHOD).inc(times)
    of.responses_by_status.labels(status=_STATUS).inc(number)
    of.responses_by_status_view_method.labels(status=_STATUS, view=view, method=_METHOD).inc(number)
    of.responses_by_charset.labels(charset="utf-8").inc(number)
    latency = of.requests_latency_by_view_method.labels(view=view, method=_METHOD)
    for each in answers:
        of.requests_body_bytes.observe(each.received_bytes)
        of.responses_body_bytes.observe(each.sent_bytes)
        of.requests_latency_before.observe(each.seconds)
        latency.observe(each.seconds)


def count_refused(method: str, path: str, status: int) -> None:
    """A request to the API that the server could not read: too large, cut short, no HTTP."""
    if path == batch.PATH:
        tally.events.add((tally.HEARTBEATS, "refused"))
    if not path.startswith(requests.API_PREFIX):
        return
    try:
        template = requests.template(resolve(path).route)
    except Resolver404:
        template = requests.UNMATCHED
    requests.counter.add(requests.method_label(method), template, status)
