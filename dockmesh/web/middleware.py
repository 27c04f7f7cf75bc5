"""What every answer carries: the browser's limits on what a page may do."""

from __future__ import annotations

from collections.abc import Callable

from django.http import HttpRequest, HttpResponse
from django.http.response import HttpResponseBase

GetResponse = Callable[[HttpRequest], HttpResponse]

CONTENT_SECURITY_POLICY = (
    "default-src 'self'; object-src 'none'; base-uri 'none'; frame-ancestors 'none'; form-action 'self'"
)

# On every answer, unless a view has set its own.
HEADERS = {
    "Content-Security-Policy": CONTENT_SECURITY_POLICY,
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=(), payment=(), usb=()",
}


# Pages and the API's answers.
NEVER_KEPT = ("text/html", "application/json", "application/problem+json")


def add_headers(response: HttpResponseBase) -> None:
    """Set those that a view has not set itself."""
    headers = response.headers
    for name, value in HEADERS.items():
        headers.setdefault(name, value)
    if headers.get("Content-Type", "").startswith(NEVER_KEPT):
        # It shows what its user may see: no cache may keep it, nor "back" show it after sign-out.
        headers.setdefault("Cache-Control", "no-store")


class SecurityHeaders:
    """Sets the security headers that a view has not set itself, and `Secure` on cookies sent by https."""

    def __init__(self, get_response: GetResponse) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        response = self.get_response(request)
        add_headers(response)
        if request.is_secure():
            for cookie in response.cookies.values():
                cookie["secure"] = True
        return response
