"""Counts requests to the HTTP API."""

import re
from collections.abc import Callable

from django.http import HttpRequest
from django.http.response import HttpResponseBase
from django.urls import Resolver404, resolve

from dockmesh.core.hosts import REFUSED
from dockmesh.core.tally import Tally
from metrics import scrapelog

API_PREFIX = "/api/"
METRICS_PATH = "/metrics"
HOST_REFUSAL = "name not listed: DOCKMESH_ALLOWED_HOSTS or DOCKMESH_BASE_URL has to name it"
UNMATCHED = "unmatched"
OTHER_METHOD = "other"
METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})

# `<int:pk>` and `<name>` in Django's routes, `(?P<name>…)` in regular expressions.
_PARAMETER = re.compile(r"<(?:\w+:)?(\w+)>|\(\?P<(\w+)>[^)]*\)")

Key = tuple[str, str, int]
"""Method, route template, status."""

counter = Tally("metrics.ApiRequestCount", "method", "path", "status")


class CountApiRequests:
    """Middleware: outermost, so that it sees the answers of all others. A scraper whose name for us was refused is noted."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponseBase]) -> None:
        self._get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponseBase:
        """Count the answer, whatever it is."""
        response = self._get_response(request)
        if request.path_info.startswith(API_PREFIX):
            counter.add(method_label(request.method), path_label(request), response.status_code)
        elif request.path_info == METRICS_PATH and REFUSED in request.META:
            scrapelog.log.add(
                token_name="",
                address=str(request.META["REMOTE_ADDR"]),
                refusal=HOST_REFUSAL,
                user_agent=request.headers.get("User-Agent", ""),
            )
        return response


def method_label(method: str | None) -> str:
    """The method, or `other`: clients must not be able to make series."""
    return method if method in METHODS else OTHER_METHOD


def path_label(request: HttpRequest) -> str:
    """The route's template, like `/api/v1/hosts/{id}`; `unmatched` where no route fits."""
    match = request.resolver_match
    if match is None:
        # Refused before it was routed: its method, its encoding, the database.
        try:
            match = resolve(request.path_info)
        except Resolver404:
            return UNMATCHED
    return template(match.route)


def template(route: str) -> str:
    """A Django route as OpenAPI writes it."""
    plain = route.replace("^", "").removesuffix("$").removesuffix("\\Z")
    return "/" + _PARAMETER.sub(lambda found: _placeholder(found[1] or found[2]), plain)


def _placeholder(name: str) -> str:
    return "{id}" if name == "pk" else "{" + name + "}"
