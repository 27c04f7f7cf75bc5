"""Light or dark: remembered in a cookie that the server reads, so that no page flashes."""

from __future__ import annotations

from django.http import HttpRequest

COOKIE = "dockmesh_theme"
THEMES = ("light", "dark")
SYSTEM = "system"
YEAR_SECONDS = 365 * 24 * 3600


def theme_of(request: HttpRequest) -> str:
    """The chosen theme, or "" for the system's."""
    chosen = request.COOKIES.get(COOKIE, "")
    return chosen if chosen in THEMES else ""
