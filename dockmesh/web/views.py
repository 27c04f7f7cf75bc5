"""The fleet at a glance."""

from __future__ import annotations

from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.views.decorators.http import require_safe

from tokens.decorators import page_permission
from tokens.permissions import Permission


@require_safe
@page_permission(Permission.FLEET_READ)
def overview(request: HttpRequest) -> HttpResponse:
    """How the fleet is, what is wrong, what happened."""
    return render(request, "web/overview.html")
