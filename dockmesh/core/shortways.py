"""Paths whose ordinary requests are answered without Django's handler and middleware: these cost more than a small answer."""

from collections.abc import Callable, Iterable
from typing import Any

Environ = dict[str, Any]
StartResponse = Callable[..., Any]
Application = Callable[[Environ, StartResponse], Iterable[bytes]]
ShortWay = Callable[[Environ, StartResponse], Iterable[bytes] | None]
"""A WSGI application that leaves a request alone by None: before it has begun to answer, and with `environ` as it was."""

_ways: dict[str, ShortWay] = {}


def register(path: str, way: ShortWay) -> None:
    """Requests of exactly this path are given to `way` first, from any thread."""
    _ways[path] = way


def with_short_ways(application: Application) -> Application:
    """The application that answers what no short way takes by `application`."""

    def answer(environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
        way = _ways.get(environ["PATH_INFO"])
        answered = None if way is None else way(environ, start_response)
        return application(environ, start_response) if answered is None else answered

    return answer
