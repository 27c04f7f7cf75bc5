"""What holds for every request, whichever room answers it: the client's address, methods, bodies, a database
that is away."""

import logging
from collections.abc import Callable, Sequence

from django.conf import settings
from django.db import InterfaceError, OperationalError
from django.http import HttpRequest, HttpResponse
from django.http.response import HttpResponseBase
from django.urls import get_resolver

from dockmesh.core import busy
from dockmesh.core.ip import Address, parse_address
from dockmesh.core.problems import problem_answer
from dockmesh.core.text import in_one_line
from dockmesh.env import Network

logger = logging.getLogger(__name__)

GetResponse = Callable[[HttpRequest], HttpResponseBase]

METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")
_FORWARDED = (
    "HTTP_X_FORWARDED_FOR",
    "HTTP_X_FORWARDED_PROTO",
    "HTTP_X_FORWARDED_HOST",
    "HTTP_X_FORWARDED_PORT",
    "HTTP_X_REAL_IP",
    "HTTP_FORWARDED",
)


def client(peer: str, *, forwarded_for: str, forwarded_proto: str) -> tuple[str, str | None]:
    """The address of the client behind `peer`, which connected, and the scheme if a trusted proxy tells it."""
    trusted = settings.DOCKMESH_TRUSTED_PROXIES
    if not trusted or not is_trusted_proxy(peer):
        return peer, None
    scheme = forwarded_proto.rpartition(",")[2].strip().lower()
    return client_address(peer, forwarded_for, trusted), scheme if scheme in ("http", "https") else None


def client_address(peer: str, forwarded_for: str, trusted: Sequence[Network]) -> str:
    """The address of the client behind `peer`, which connected.

    Each proxy appends the address that it saw to X-Forwarded-For, so the list is read from its right end
    for as long as the address reached so far is a trusted proxy's. What is left of that anybody can forge.
    """
    address = _normal(peer)
    if address is None:
        return peer
    for part in reversed(forwarded_for.split(",")):
        if not _is_within(address, trusted):
            break
        before = _normal(part)
        if before is None:
            break
        address = before
    return str(address)


def is_trusted_proxy(peer: str) -> bool:
    """Whether `peer` is one of the proxies that forwarded headers count from."""
    address = _normal(peer)
    return address is not None and _is_within(address, settings.DOCKMESH_TRUSTED_PROXIES)


def _normal(text: str) -> Address | None:
    """The address in `192.0.2.1`, `192.0.2.1:443`, `2001:db8::1` or `[2001:db8::1]:443`; None if there is none."""
    bare = text.strip()
    if bare.startswith("["):
        bare = bare[1:].partition("]")[0]
    elif bare.count(":") == 1:
        bare = bare.partition(":")[0]
    return parse_address(bare)


def _is_within(address: Address, networks: Sequence[Network]) -> bool:
    return any(address.version == network.version and address in network for network in networks)


class ClientAddress:
    """Puts the client's own address and scheme in the place of the proxy's.

    Forwarded headers that don't come from DOCKMESH_TRUSTED_PROXIES are taken out of the request, so that
    nothing behind this can believe them.
    """

    def __init__(self, get_response: GetResponse) -> None:
        self._get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponseBase:
        meta = request.META
        meta["REMOTE_ADDR"], scheme = client(
            str(meta.get("REMOTE_ADDR", "")),
            forwarded_for=meta.get("HTTP_X_FORWARDED_FOR", ""),
            forwarded_proto=meta.get("HTTP_X_FORWARDED_PROTO", ""),
        )
        if scheme is not None:
            meta["wsgi.url_scheme"] = scheme
        for name in _FORWARDED:
            meta.pop(name, None)
        return self._get_response(request)


class RequestRules:
    """Refuses methods that nothing here knows (405) and compressed bodies (415)."""

    def __init__(self, get_response: GetResponse) -> None:
        self._get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponseBase:
        if request.method not in METHODS:
            return problem_answer(
                405, "This method is not allowed here.", headers={"Allow": ", ".join(METHODS)}
            )
        if request.META.get("HTTP_CONTENT_ENCODING", "identity").strip().lower() not in ("", "identity"):
            return problem_answer(
                415, "The body must not be compressed.", headers={"Accept-Encoding": "identity"}
            )
        return self._get_response(request)


class DatabaseAway:
    """Answers 503 when the database is away, full or locked, with one line in the log and no traceback.

    What the answer looks like is the business of the URL configuration's `handler500`.
    """

    def __init__(self, get_response: GetResponse) -> None:
        self._get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponseBase:
        return self._get_response(request)

    def process_exception(self, request: HttpRequest, exception: Exception) -> HttpResponse | None:
        """Called by Django for what a view raised."""
        if not isinstance(exception, OperationalError | InterfaceError):
            return None
        reason = in_one_line(exception, most=200)
        what = busy.in_words(exception)[0].lower().rstrip(".")
        logger.warning("%s %s: %s: %s", request.method, request.path[:200], what, reason)
        response: HttpResponse = get_resolver().resolve_error_handler(500)(request)
        return response
