"""What goes wrong, as a page for people and as a problem for programs."""

from __future__ import annotations

import sys

from django.contrib import messages
from django.core.exceptions import DisallowedHost
from django.db.utils import InterfaceError, OperationalError
from django.http import HttpRequest, HttpResponse
from django.middleware.csrf import REASON_BAD_ORIGIN
from django.shortcuts import redirect, render
from django.template.loader import render_to_string
from django.urls import Resolver404, resolve

from dockmesh.audit.services import ChainChanged
from dockmesh.core import busy, keptforms
from dockmesh.core.hosts import ADVICE
from dockmesh.core.pages import Action, FormPage, page_of_button
from dockmesh.core.problems import problem_answer
from dockmesh.web.account_views import VisitorFormPage, sign_in_keeping
from tokens import refusals
from tokens.principals import principal_of

BAD_ORIGIN = REASON_BAD_ORIGIN.partition(" - ")[0]

TEXTS = {
    400: ("This request can't be read", "The browser sent something the server does not take."),
    403: (
        "Not for your role",
        "Your role lacks the permission that this page needs. An administrator can change that.",
    ),
    404: ("Nothing is here", "The address is wrong, or what was here has been removed."),
    500: (
        "Something broke",
        "It is the server's fault, and its log says what happened. Nothing was half-saved.",
    ),
    503: (
        "The database does not answer",
        "Nothing is lost. This page works again as soon as the database does.",
    ),
}


def _is_for_programs(request: HttpRequest) -> bool:
    return request.path_info.startswith(("/api/", "/metrics"))


def _answer(
    request: HttpRequest, status: int, *, with_frame: bool = False, title: str = "", advice: str = ""
) -> HttpResponse:
    usual_title, text = TEXTS[status]
    title = title or usual_title
    if _is_for_programs(request):
        return problem_answer(status, advice or f"{title}.")
    text = advice or text
    context = {"status": status, "title": title, "text": text}
    if with_frame and principal_of(request) is not None:
        return render(request, "web/error_framed.html", context, status=status)
    # Without the request's context: whatever broke must not break its own page.
    return HttpResponse(render_to_string("web/error.html", context), status=status)


def bad_request(request: HttpRequest, exception: Exception | None = None) -> HttpResponse:
    """400; says nothing of the request, but which setting a name has to be in that isn't allowed."""
    return _answer(request, 400, advice=ADVICE if isinstance(exception, DisallowedHost) else "")


def forbidden(request: HttpRequest, exception: Exception | None = None) -> HttpResponse:
    """403, within the frame of the pages that the user may see. Django admin's is noted here, others where they arise."""
    if request.path_info.startswith("/admin/"):
        _note(request, "Django admin")
    return _answer(request, 403, with_frame=True)


def _note(request: HttpRequest, why: str) -> None:
    principal = principal_of(request)
    if principal is None:
        refusals.note_visitor(str(request.META.get("REMOTE_ADDR", "")), why=why, path=request.path)
    else:
        refusals.note(principal, why=why, path=request.path)


def _form_again(request: HttpRequest, reason: str) -> HttpResponse | None:
    """The form with what was typed, or the page of the button, where they are ours and somebody signed in anew meanwhile."""
    page = getattr(request.resolver_match and request.resolver_match.func, "view_class", None)
    # Django looks at the origin first, where a browser names it.
    is_own = "HTTP_ORIGIN" in request.META and not reason.startswith(BAD_ORIGIN)
    if not is_own or not isinstance(page, type) or issubclass(page, VisitorFormPage):
        return None
    if issubclass(page, Action):
        goal = page_of_button(request) or "web:overview"
        messages.warning(request, "You have signed in anew meanwhile. Nothing was done: press it again.")
        return redirect(goal)
    if not issubclass(page, FormPage):
        return None
    kept = page.kept_of(request)
    if principal_of(request) is None:
        return sign_in_keeping(request, kept)
    keptforms.put(request, kept)
    return redirect(request.get_full_path()) if kept else None


def csrf_failure(request: HttpRequest, reason: str = "") -> HttpResponse:
    """403 of a form whose protection did not hold: most often a page left open for long."""
    _note(request, "CSRF")
    if _is_for_programs(request):
        return problem_answer(403, "The CSRF token is missing or wrong.")
    if answer := _form_again(request, reason):
        return answer
    context = {
        "status": 403,
        "title": "This form has expired",
        "text": "Go back, load the page anew and send it again. Cookies must be allowed.",
    }
    return HttpResponse(render_to_string("web/error.html", context), status=403)


def not_found(request: HttpRequest, exception: Exception | None = None) -> HttpResponse:
    """404; a page's address without its last slash leads to the page."""
    if request.method in ("GET", "HEAD") and not _is_for_programs(request) and not request.path.endswith("/"):
        try:
            resolve(f"{request.path_info}/")
        except Resolver404:
            pass
        else:
            query = request.META.get("QUERY_STRING", "")
            path = "/" + request.path.lstrip("/")
            return redirect(f"{path}/{'?' + query if query else ''}", permanent=True)
    return _answer(request, 404, with_frame=True)


def server_error(request: HttpRequest) -> HttpResponse:
    """500; or 503 where it is the database that is away, full or locked."""
    error = sys.exc_info()[1]
    if isinstance(error, ChainChanged):
        return _answer(request, 503, advice=error.detail)
    if isinstance(error, (OperationalError, InterfaceError)):
        detail, seconds = busy.in_words(error)
        if busy.is_busy(error):
            response = _answer(request, 503, title="The server is busy", advice=detail)
        else:
            response = _answer(request, 503)
        response.headers["Retry-After"] = seconds
        return response
    return _answer(request, 500)
