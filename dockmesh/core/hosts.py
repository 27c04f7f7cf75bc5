"""By which names requests may reach the server.

A page on the internet can have a name of its own lead to this server's address and then read it with the visitor's
browser (DNS rebinding). That needs a name, so names have to be listed; an address in the Host header is harmless.
"""

import ipaddress
import logging
import re
import threading
import time
from collections.abc import Callable
from functools import lru_cache

from django.conf import settings
from django.core.exceptions import DisallowedHost
from django.http import HttpRequest
from django.http.response import HttpResponseBase
from django.urls import get_resolver

logger = logging.getLogger(__name__)

REFUSED = "dockmesh.host_refused"
"""In the request's META once its name was refused."""
ADVICE = (
    "This server is not known by the name in the request. DOCKMESH_ALLOWED_HOSTS (or DOCKMESH_BASE_URL) has to"
    " name it; an IP address needs no listing."
)
LOG_SECONDS = 60.0

# As a Compose service may be called, a name may have an underscore.
_HOST = re.compile(r"(\[[0-9a-f:.]+\]|[a-z0-9._-]+)(?::[0-9]*)?")


@lru_cache(maxsize=1024)
def is_allowed(host: str, allowed: tuple[str, ...]) -> bool:
    """Whether a Host header names this server; `allowed` is as `dockmesh.env.parse_hosts` makes it."""
    found = _HOST.fullmatch(host.lower())
    if found is None:
        return False
    name = found[1].removesuffix(".")
    return _is_address(name) or any(
        pattern in ("*", name) or (pattern.startswith(".") and f".{name}".endswith(pattern))
        for pattern in allowed
    )


def _is_address(name: str) -> bool:
    try:
        if name.startswith("["):
            ipaddress.IPv6Address(name[1:-1])
        else:
            ipaddress.IPv4Address(name)
    except ValueError:
        return False
    return True


class AllowedHosts:
    """Refuses a request for a name that isn't allowed, and says what would allow it; never the name.

    What the answer looks like is the business of the URL configuration's `handler400`.
    """

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponseBase]) -> None:
        self._get_response = get_response
        self._lock = threading.Lock()
        self._next_line = 0.0

    def __call__(self, request: HttpRequest) -> HttpResponseBase:
        host = request.META.get("HTTP_HOST") or request.META["SERVER_NAME"]
        if is_allowed(host, tuple(settings.ALLOWED_HOSTS)):
            # Django's own check knows neither addresses nor underscores.
            setattr(request, "get_host", lambda: host)  # noqa: B010
            return self._get_response(request)
        request.META[REFUSED] = True
        self._log(request.META["REMOTE_ADDR"])
        handler: Callable[..., HttpResponseBase] = get_resolver().resolve_error_handler(400)
        return handler(request, exception=DisallowedHost(ADVICE))

    def _log(self, address: str) -> None:
        """A line, but not one for each request of somebody who goes on."""
        with self._lock:
            now = time.monotonic()
            if now < self._next_line:
                return
            self._next_line = now + LOG_SECONDS
        logger.warning("Refused a request from %s: %s", address, ADVICE)
