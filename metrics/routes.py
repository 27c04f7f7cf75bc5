"""The API's routes and the series that each is born with, so that `increase()` sees the first failure of all.

A series that appears with its first event hides it: Prometheus knows no value before, so nothing has increased.
"""

from collections.abc import Iterator, Sequence
from functools import cache
from typing import Any

from django.urls import URLPattern, URLResolver, get_resolver

from metrics.requests import API_PREFIX, Key, template

_SUCCESS = {"get": 200, "put": 200, "patch": 200, "delete": 204}
_WITH_BODY = frozenset({"post", "put", "patch"})
_CREATED = 201
_FAILURES = (500, 503)
_REFUSALS = (401, 403)
_BAD_BODY = 400
_NOT_FOUND = 404


@cache
def born() -> tuple[Key, ...]:
    """Method, path and status of each series that is there at 0."""
    found: dict[Key, None] = {}
    for route, callback in _routes(get_resolver().url_patterns, ""):
        path = template(route)
        if path.startswith(API_PREFIX):
            for method, name in _methods(callback):
                statuses = [*_statuses(method, name, path), *(() if _is_public(callback) else _REFUSALS)]
                found |= dict.fromkeys((method.upper(), path, status) for status in statuses)
    return tuple(found)


def _statuses(method: str, name: str, path: str) -> Iterator[int]:
    yield from _FAILURES
    if method in _SUCCESS:
        yield _SUCCESS[method]
    elif name in ("create", "post") and not path.endswith("}") and path.count("/") == 3:
        yield _CREATED  # a member of a collection; what else POST does is told when it is done
    if method in _WITH_BODY:
        yield _BAD_BODY
    if "{" in path:
        yield _NOT_FOUND


def _methods(callback: Any) -> list[tuple[str, str]]:
    """The methods that a view takes, each with its function's name."""
    actions = getattr(callback, "actions", None)
    if actions:
        # Django REST framework adds `head` to them with the first request: the series would depend on when that was.
        return sorted((method, name) for method, name in actions.items() if method != "head")
    view = getattr(callback, "cls", None) or getattr(callback, "view_class", None)
    methods = getattr(callback, "methods", ())  # a plain function says it itself
    if view is not None:
        methods = [method for method in (*_SUCCESS, "post") if hasattr(view, method)]
    return [(method, method) for method in methods]


def _is_public(callback: Any) -> bool:
    return getattr(getattr(callback, "cls", None), "authentication_classes", None) == ()


def _routes(patterns: Sequence[URLPattern | URLResolver], before: str) -> Iterator[tuple[str, Any]]:
    for pattern in patterns:
        route = before + str(pattern.pattern)
        if isinstance(pattern, URLResolver):
            yield from _routes(pattern.url_patterns, route)
        else:
            yield route, pattern.callback
