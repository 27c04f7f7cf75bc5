"""`/agent/…`: what a new host fetches. Public, since a host has no credential yet, and no secret is in it."""

from __future__ import annotations

import re
from collections.abc import Callable

from django.http import HttpRequest, HttpResponse, HttpResponseNotModified
from django.views.decorators.csrf import csrf_exempt
from django.views.decorators.http import require_safe

from dockmesh.core import scrapeconfig
from dockmesh.fleet import agent_files, services
from dockmesh.fleet.agent_files import AgentFile

_TOKEN_ID = re.compile(r"[0-9A-Za-z]{12}")


def _public_file(view: Callable[[HttpRequest], HttpResponse]) -> Callable[[HttpRequest], HttpResponse]:
    """GET and HEAD without any credential; the rest is refused as such, not for want of a form's protection."""
    return csrf_exempt(require_safe(view))


@_public_file
def script(request: HttpRequest) -> HttpResponse:
    """The install script, with the address at which this server was asked."""
    return _handed_out(request, _script(request), "text/x-shellscript; charset=utf-8")


@_public_file
def script_sum(request: HttpRequest) -> HttpResponse:
    """Its SHA-256, as `sha256sum --check` reads it."""
    return _sum(request, _script(request))


@_public_file
def pyz(request: HttpRequest) -> HttpResponse:
    """The agent. `?for=` names the enrollment token with which it is fetched, by its id."""
    if _TOKEN_ID.fullmatch(public_id := request.GET.get("for", "")):
        services.note_reached(public_id)
    return _handed_out(request, agent_files.pyz(), "application/zip")


@_public_file
def pyz_sum(request: HttpRequest) -> HttpResponse:
    """Its SHA-256."""
    return _sum(request, agent_files.pyz())


@_public_file
def context(request: HttpRequest) -> HttpResponse:
    """The build context. Docker takes it as such by its type."""
    return _handed_out(request, agent_files.context(), "application/gzip")


@_public_file
def context_sum(request: HttpRequest) -> HttpResponse:
    """Its SHA-256."""
    return _sum(request, agent_files.context())


def _script(request: HttpRequest) -> AgentFile:
    return agent_files.script(scrapeconfig.base_url_of(request))


def _sum(request: HttpRequest, file: AgentFile) -> HttpResponse:
    return _answer(
        request, f"{file.sha256}  {file.name}\n".encode(), f"{file.sha256}-sum", "text/plain; charset=utf-8"
    )


def _handed_out(request: HttpRequest, file: AgentFile, content_type: str) -> HttpResponse:
    return _answer(request, file.content, file.sha256, content_type)


def _answer(request: HttpRequest, content: bytes, tag: str, content_type: str) -> HttpResponse:
    etag = f'"{tag}"'
    known = [each.strip().removeprefix("W/") for each in request.headers.get("If-None-Match", "").split(",")]
    if etag in known or "*" in known:
        response: HttpResponse = HttpResponseNotModified()
    else:
        response = HttpResponse(content, content_type=content_type)
        response.headers["Content-Length"] = str(len(content))
    response.headers["ETag"] = etag
    # Asked for anew each time: a cache that holds the file of the version before would fail the check.
    response.headers["Cache-Control"] = "no-cache"
    return response
