"""The fleet at a glance."""

from __future__ import annotations

from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.views.decorators.gzip import gzip_page
from django.views.decorators.http import require_safe

from dockmesh.core import clock
from dockmesh.web import guide
from dockmesh.web import overview as overviews
from tokens.decorators import page_permission
from tokens.permissions import Permission
from tokens.principals import principal_of


@require_safe
@gzip_page
@page_permission(Permission.FLEET_READ)
def overview(request: HttpRequest) -> HttpResponse:
    """How the fleet is, what is wrong, what happened. `?part=live` is the part that refreshes itself."""
    principal = principal_of(request)
    permissions = principal.permissions if principal else frozenset()
    now = clock.now()
    read = overviews.read(now, may_see_audit=Permission.AUDIT_READ in permissions)
    may_manage = Permission.FLEET_MANAGE in permissions
    context = {
        "now": now,
        "overview": read,
        "may_manage": may_manage,
        "may_see_audit": Permission.AUDIT_READ in permissions,
        "guide": guide.read(request, has_host=bool(read.hosts)) if may_manage else None,
    }
    if request.GET.get("part") == "live":
        response = render(request, "web/parts/overview.html", context)
        response.headers["X-Dockmesh-Part"] = "live"
        return response
    return render(request, "web/overview.html", context)
