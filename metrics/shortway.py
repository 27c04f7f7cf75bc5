"""The short way of a scrape: a GET of /metrics with nothing unusual about it, answered without Django's handler.

What its middleware does for a scrape is done here by the same functions: the client's own address, the name in the
Host header, the headers of every answer, django-prometheus's counts. The answer is the view's.
"""

import logging
import time
from collections.abc import Iterable, Sequence

from django.conf import settings
from django.core.exceptions import SuspiciousOperation
from django.db import connection
from django.http import QueryDict

from dockmesh.core.hosts import is_allowed
from dockmesh.core.http import client
from dockmesh.core.problems import problem_answer
from dockmesh.core.shortways import Environ, StartResponse
from dockmesh.web.middleware import HEADERS, add_headers
from metrics import elsewhere, views
from metrics.exposition import ChunkFile

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
    connection.close_if_unusable_or_obsolete()
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
    if isinstance(answer, views.Exposition):
        status, sent_bytes = 200, answer.body.length if len(answer.body.chunks) == 1 else None
        start_response("200 OK", [*answer.headers.items(), *HEADERS.items()])
        body = _body(answer.body.chunks, environ)
    else:
        status, sent_bytes = answer.status_code, len(answer.content)
        add_headers(answer)
        start_response(f"{status} {answer.reason_phrase}", list(answer.items()))
        body = [answer.content]
    elsewhere.count_scrape(
        status,
        scheme=scheme or environ["wsgi.url_scheme"],
        sent_bytes=sent_bytes,
        seconds=time.monotonic() - start,
    )
    return body


def _is_ordinary(environ: Environ) -> bool:
    return (
        environ["REQUEST_METHOD"] == "GET"
        and environ.get("CONTENT_LENGTH", "") in ("", "0")
        and not [name for name in _UNUSUAL if environ.get(name)]
        and is_allowed(environ.get("HTTP_HOST") or environ["SERVER_NAME"], tuple(settings.ALLOWED_HOSTS))
    )


def _query(environ: Environ) -> QueryDict:
    text = environ.get("QUERY_STRING", "")
    return QueryDict(text.encode("latin-1")) if text else _NO_QUERY  # as WSGI gives bytes


def _body(chunks: Sequence[bytes], environ: Environ) -> Iterable[bytes]:
    wrapper = environ.get("wsgi.file_wrapper")
    if len(chunks) == 1 or wrapper is None:
        return chunks
    file: Iterable[bytes] = wrapper(ChunkFile(chunks), views.FILE_BLOCK_BYTES)
    return file
