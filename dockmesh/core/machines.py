"""Requests of machines: scrapes and agents. They come by the thousand, and never have a session.

Their paths are spared what only browsers need. Everything that guards a request (the client's address, the
Host header, methods, bodies, security headers) stays; their views authenticate by bearer token and are exempt
from CSRF protection anyway, which guards sessions.
"""

from typing import Any

from django.contrib.auth.middleware import AuthenticationMiddleware
from django.contrib.messages.middleware import MessageMiddleware
from django.contrib.sessions.middleware import SessionMiddleware
from django.http import HttpRequest
from django.http.response import HttpResponseBase
from django_prometheus.middleware import PrometheusAfterMiddleware

METRICS_PATH = "/metrics"
AGENTS_PREFIX = "/api/v1/agents/"


def is_machine(request: HttpRequest) -> bool:
    """Whether the path is one that only machines ask for."""
    path = request.path_info
    return path == METRICS_PATH or path.startswith(AGENTS_PREFIX)


class _BrowsersOnly:
    """Mixed into a middleware of Django's: machines pass it by."""

    get_response: Any

    def __call__(self, request: HttpRequest) -> HttpResponseBase:
        if is_machine(request):
            answer: HttpResponseBase = self.get_response(request)
            return answer
        return super().__call__(request)  # type: ignore[misc,no-any-return]


class Sessions(_BrowsersOnly, SessionMiddleware):
    """Sessions for browsers."""


class Authentication(_BrowsersOnly, AuthenticationMiddleware):
    """`request.user` for browsers."""


class Messages(_BrowsersOnly, MessageMiddleware):
    """One-time messages for browsers."""


class RequestMetrics(PrometheusAfterMiddleware):  # type: ignore[misc]
    """django-prometheus's counters, with their children kept: finding one anew costs more than counting."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._children: dict[tuple[Any, ...], Any] = {}
        # There from the start, so that somebody who tries paths makes no series.
        nothing = {"view": "<unnamed view>", "method": "GET"}
        self.label_metric(self.metrics.requests_latency_by_view_method, None, **nothing)
        self.label_metric(self.metrics.responses_by_status, None, status="404")
        self.label_metric(self.metrics.responses_by_status_view_method, None, status="404", **nothing)

    def label_metric(self, metric: Any, request: Any, response: Any = None, **labels: Any) -> Any:
        """The metric's child with these labels."""
        key = (metric, *labels.values())
        child = self._children.get(key)
        if child is None:
            child = self._children[key] = super().label_metric(metric, request, response, **labels)
        return child
