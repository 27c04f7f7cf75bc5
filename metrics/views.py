"""`/metrics`: who may read it, in which format, and what happens when it can't be had."""

import math
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from django.conf import settings
from django.db import Error
from django.http import HttpRequest, HttpResponse, QueryDict, StreamingHttpResponse
from django.http.response import HttpResponseBase
from django.views.decorators.csrf import csrf_exempt

from dockmesh.core import tally
from dockmesh.core.postgresql.base import waits_limited_to
from dockmesh.core.problems import problem_answer
from metrics import rendering, scrapelog
from metrics.exposition import Body, ChunkFile, Page
from metrics.groups import Groups, UnknownGroup, chosen
from metrics.negotiation import accepts_gzip, choose_format
from metrics.singleflight import TimedOut
from tokens import bearer
from tokens.permissions import Permission
from tokens.principals import Principal

Meta = Mapping[str, Any]

_RETRY_AFTER = {"Retry-After": "5"}
_LONGEST_SECONDS = 30.0
_AUTHENTICATION_SECONDS = 4.0
FILE_BLOCK_BYTES = 1 << 16


@csrf_exempt
def metrics(request: HttpRequest) -> HttpResponseBase:
    """The exposition. GET and HEAD; bearer token with `metrics.read` unless DOCKMESH_METRICS_AUTH is off."""
    method = str(request.method)
    answered = answer(method, request.META, request.GET)
    return _response(method, answered) if isinstance(answered, Exposition) else answered


@dataclass(frozen=True, slots=True)
class Exposition:
    """A page that was asked for: the headers that are its own, and the body."""

    headers: Mapping[str, str]
    body: Body


def answer(method: str, meta: Meta, query: QueryDict) -> Exposition | HttpResponse:
    """The answer to a scrape, or why there is none; `meta` is as WSGI has it, with the client's own address."""
    scraped = _scraped(method, meta, query)
    status = 200 if isinstance(scraped, Exposition) else scraped.status_code
    tally.events.add(tally.SCRAPES, _result(status))
    return scraped


def _result(status: int) -> str:
    if status == 200:
        return "success"
    return "refused" if status < 500 else "unavailable"


def _scraped(method: str, meta: Meta, query: QueryDict) -> Exposition | HttpResponse:
    start = time.monotonic()
    if method not in ("GET", "HEAD"):
        return problem_answer(405, "GET or HEAD.", headers={"Allow": "GET, HEAD"})
    timeout = _timeout_seconds(meta)
    try:
        with rendering.renderer.coming():
            principal = _authenticated(meta)
            groups = chosen(query.getlist("collect[]"), query.getlist("exclude[]"))
            names = frozenset(query.getlist("name[]")) or None
            page = _page(groups, names, _arrival(meta, start), timeout)
    except bearer.Refused as refused:
        return _refusal(meta, refused)
    except UnknownGroup as unknown:
        return problem_answer(400, str(unknown), errors={unknown.parameter: [str(unknown)]})
    except (Error, rendering.DatabaseAway):
        return _unavailable("The database is not available.")
    except TimedOut:
        return _unavailable("No answer would be ready before the scrape times out.")
    exposition = _exposition(meta, page, names)
    seconds = time.monotonic() - start
    if seconds > timeout:
        return _unavailable("The answer was not ready before the scrape timed out.")
    scrapelog.log.add(
        token_name=principal.name if principal else "",
        address=_address(meta),
        user_agent=_user_agent(meta),
        seconds=seconds,
        size=exposition.body.length,
    )
    return exposition


def _authenticated(meta: Meta) -> Principal | None:
    """The token's principal, None where no token is asked for; raises `Refused`, or `django.db.Error`."""
    if not settings.DOCKMESH_METRICS_AUTH:
        return None
    with waits_limited_to(_AUTHENTICATION_SECONDS):
        return bearer.authenticate(
            meta.get("HTTP_AUTHORIZATION"),
            address=_address(meta),
            user_agent=_user_agent(meta),
            permission=Permission.METRICS_READ,
        )


def _page(groups: Groups, names: frozenset[str] | None, since: float, timeout_seconds: float) -> Page:
    try:
        return rendering.renderer.page(groups, names, since=since, timeout_seconds=timeout_seconds)
    except rendering.DatabaseAway:
        if settings.DOCKMESH_METRICS_AUTH:
            raise
        return rendering.renderer.page_without_database(groups)


def _exposition(meta: Meta, page: Page, names: frozenset[str] | None) -> Exposition:
    form = choose_format(meta.get("HTTP_ACCEPT", ""))
    is_gzip = accepts_gzip(meta.get("HTTP_ACCEPT_ENCODING", ""))
    body = page.body(openmetrics=form.is_openmetrics, gzip=is_gzip, names=names)
    headers = {
        "Content-Type": form.content_type,
        "Content-Length": str(body.length),
        "Vary": "Accept, Accept-Encoding, Authorization",
        "Cache-Control": "no-store",
    }
    return Exposition(headers | {"Content-Encoding": "gzip"} if is_gzip else headers, body)


def _response(method: str, exposition: Exposition) -> HttpResponseBase:
    chunks, headers = exposition.body.chunks, dict(exposition.headers)
    if method == "HEAD":
        return HttpResponse(headers=headers)
    if len(chunks) == 1:
        return HttpResponse(chunks[0], headers=headers)
    # Joined, a large page would be in memory once more for each scraper in the server's buffers.
    answer = StreamingHttpResponse(chunks, headers=headers)
    answer.file_to_stream = ChunkFile(chunks)  # type: ignore[attr-defined]
    answer.block_size = FILE_BLOCK_BYTES  # type: ignore[attr-defined]
    return answer


def _refusal(meta: Meta, refused: bearer.Refused) -> HttpResponse:
    scrapelog.log.add(
        token_name=refused.token_name,
        address=_address(meta),
        refusal=refused.reason.value,
        user_agent=_user_agent(meta),
    )
    return bearer.refusal_response(refused)


def _unavailable(detail: str) -> HttpResponse:
    return problem_answer(503, detail, headers=_RETRY_AFTER)


def _timeout_seconds(meta: Meta) -> float:
    """How long the scraper will wait; a header that makes no sense is as good as none."""
    try:
        seconds = float(meta.get("HTTP_X_PROMETHEUS_SCRAPE_TIMEOUT_SECONDS", ""))
    except ValueError:
        return _LONGEST_SECONDS
    return min(seconds, _LONGEST_SECONDS) if math.isfinite(seconds) and seconds > 0 else _LONGEST_SECONDS


def _arrival(meta: Meta, start: float) -> float:
    """When the server had the request whole: dockmesh's own says so, since it may have waited for a thread."""
    arrived = meta.get("dockmesh.arrived", start)
    return float(arrived)


def _address(meta: Meta) -> str:
    return str(meta.get("REMOTE_ADDR", ""))


def _user_agent(meta: Meta) -> str:
    return str(meta.get("HTTP_USER_AGENT", ""))
