"""The short way of a scrape: a GET of /metrics with nothing unusual about it, answered without Django's handler.

What its middleware does for a scrape is done here by the same functions: the client's own address, the name in the
Host header, the headers of every answer, django-prometheus's counts. The answer is the view's.
"""

import logging
import time
from collections.abc import Iterable
from typing import Any

from django.conf import settings
from django.core.exceptions import SuspiciousOperation
from django.db import close_old_connections
from django.http import HttpResponse, QueryDict

from dockmesh.core.hosts import is_allowed
from dockmesh.core.http import client
from dockmesh.core.problems import problem_answer
from dockmesh.core.shortways import Environ, StartResponse
from dockmesh.web.middleware import add_headers
from metrics import elsewhere, views

logger = logging.getLogger(__name__)

# A request with any of these is not ordinary.
_UNUSUAL = ("SCRIPT_NAME", "HTTP_CONTENT_ENCODING", "HTTP_TRANSFER_ENCODING", "HTTP_X_REQUESTED_WITH")
_NO_QUERY = QueryDict()


def application(environ: Environ, start_response: StartResponse) -> Iterable[bytes] | None:
    """The answer to an ordinary scrape; None of any other request."""
    if not _is_ordinary(environ):
        return None
    try:
        query = _query(environ)
    except SuspiciousOperation:
        return None
    close_old_connections()
    start = environ.get("dockmesh.arrived", time.monotonic())
    environ["REMOTE_ADDR"], scheme = client(
        environ["REMOTE_ADDR"],
        forwarded_for=environ.get("HTTP_X_FORWARDED_FOR", ""),
        forwarded_proto=environ.get("HTTP_X_FORWARDED_PROTO", ""),
    )
    try:
        answer = views.answer("GET", environ, query)
    except Exception:
        logger.exception("A scrape failed.")
        answer = problem_answer(500, "Something went wrong.")
    add_headers(answer)
    start_response(f"{answer.status_code} {answer.reason_phrase}", list(answer.items()))
    content = answer.content if isinstance(answer, HttpResponse) else None
    elsewhere.count_scrape(
        answer.status_code,
        scheme=scheme or environ["wsgi.url_scheme"],
        sent_bytes=None if content is None else len(content),
        seconds=time.monotonic() - start,
    )
    return _stream(answer, environ) if content is None else [content]


def _is_ordinary(environ: Environ) -> bool:
    return (
        environ["REQUEST_METHOD"] == "GET"
        and environ.get("CONTENT_LENGTH", "") in ("", "0")
        and not any(environ.get(name) for name in _UNUSUAL)
        and is_allowed(environ.get("HTTP_HOST") or environ["SERVER_NAME"], tuple(settings.ALLOWED_HOSTS))
    )


def _query(environ: Environ) -> QueryDict:
    text = environ.get("QUERY_STRING", "")
    return QueryDict(text.encode("latin-1")) if text else _NO_QUERY  # as WSGI gives bytes


def _stream(answer: Any, environ: Environ) -> Iterable[bytes]:
    wrapper = environ.get("wsgi.file_wrapper")
    stream: Iterable[bytes] = wrapper(answer.file_to_stream, answer.block_size) if wrapper else answer
    return stream
