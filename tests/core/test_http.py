"""The client's address, methods, compressed bodies, and a database that is away."""

import ipaddress
import logging

import pytest
from django.core.exceptions import PermissionDenied
from django.db import InterfaceError, OperationalError
from django.http import HttpRequest, HttpResponse
from django.test import Client, RequestFactory, override_settings
from django.urls import include, path

from dockmesh.core import http

TRUSTED = (ipaddress.ip_network("10.0.0.0/8"), ipaddress.ip_network("fd00::/8"))


@pytest.mark.parametrize(
    ("peer", "forwarded_for", "expected"),
    [
        ("192.0.2.1", "203.0.113.9", "192.0.2.1"),  # not a proxy: the header means nothing
        ("10.0.0.1", "", "10.0.0.1"),
        ("10.0.0.1", "203.0.113.9", "203.0.113.9"),
        ("10.0.0.1", "6.6.6.6, 203.0.113.9", "203.0.113.9"),  # the client forged the left part
        ("10.0.0.1", "6.6.6.6, 203.0.113.9, 10.0.0.2", "203.0.113.9"),
        ("10.0.0.1", "10.0.0.3, 10.0.0.2", "10.0.0.3"),
        ("10.0.0.1", "203.0.113.9, nonsense", "10.0.0.1"),
        ("10.0.0.1", "203.0.113.9:5123", "203.0.113.9"),
        ("::ffff:10.0.0.1", "203.0.113.9", "203.0.113.9"),
        ("fd00::1", "[2001:db8::1]:443", "2001:db8::1"),
        ("unix", "203.0.113.9", "unix"),
    ],
)
def test_client_address(peer: str, forwarded_for: str, expected: str) -> None:
    assert http.client_address(peer, forwarded_for, TRUSTED) == expected


def show(request: HttpRequest) -> HttpResponse:
    forwarded = [name for name in request.META if "FORWARDED" in name]
    return HttpResponse(f"{request.META['REMOTE_ADDR']} {request.scheme} {forwarded}")


def database_away(request: HttpRequest) -> HttpResponse:
    raise OperationalError("connection to server at 10.9.8.7 failed\nIs the server running?")


def connection_closed(request: HttpRequest) -> HttpResponse:
    raise InterfaceError("connection already closed")


def refused(request: HttpRequest) -> HttpResponse:
    raise PermissionDenied


def broken(request: HttpRequest) -> HttpResponse:
    raise RuntimeError("a mistake of ours")


urlpatterns = [
    path("show", show),
    path("refused", refused),
    path("broken", broken),
    path("api/v1/away", database_away),
    path("page", connection_closed),
    # Where the error pages lead.
    path("", include("dockmesh.web.urls")),
]
handler500 = "dockmesh.web.error_views.server_error"
FORGED = {"X-Forwarded-For": "6.6.6.6", "X-Forwarded-Proto": "https", "Forwarded": "for=6.6.6.6"}


@override_settings(ROOT_URLCONF=__name__)
def test_forwarded_headers_of_strangers_are_dropped(client: Client) -> None:
    assert client.get("/show", headers=FORGED).content == b"127.0.0.1 http []"


@override_settings(ROOT_URLCONF=__name__, DOCKMESH_TRUSTED_PROXIES=(ipaddress.ip_network("127.0.0.0/8"),))
def test_forwarded_headers_of_a_trusted_proxy_count(client: Client) -> None:
    assert client.get("/show", headers=FORGED).content == b"6.6.6.6 https []"


@pytest.mark.parametrize("method", ["TRACE", "FOO123", "CONNECT"])
@pytest.mark.parametrize("where", ["/", "/metrics", "/api/v1/hosts", "/no/such/page", "/static/x.css"])
def test_unknown_methods_are_405(client: Client, method: str, where: str) -> None:
    answer = client.generic(method, where)
    assert answer.status_code == 405
    assert "GET" in answer.headers["Allow"]


def test_a_compressed_body_is_415(client: Client) -> None:
    answer = client.post(
        "/api/v1/hosts", b"\x1f\x8b", content_type="application/json", headers={"Content-Encoding": "gzip"}
    )
    assert answer.status_code == 415


@override_settings(ROOT_URLCONF=__name__)
@pytest.mark.parametrize(
    ("where", "content_type"), [("/api/v1/away", "application/problem+json"), ("/page", "text/html")]
)
def test_an_unavailable_database_is_503_without_a_traceback(
    client: Client, caplog: pytest.LogCaptureFixture, where: str, content_type: str
) -> None:
    with caplog.at_level(logging.WARNING):
        answer = client.get(where)
    assert answer.status_code == 503
    assert int(answer.headers["Retry-After"]) > 0
    assert answer.headers["Content-Type"].startswith(content_type)
    assert b"10.9.8.7" not in answer.content
    assert not any(record.exc_info for record in caplog.records)
    assert "the database is unavailable" in caplog.text


@override_settings(ROOT_URLCONF=__name__)
def test_a_refused_request_is_not_logged_twice_and_a_failed_one_has_its_traceback(client: Client) -> None:
    client.raise_request_exception = False
    logged: list[logging.LogRecord] = []

    class Keeping(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            logged.append(record)

    handler = Keeping()
    logging.getLogger("django").addHandler(handler)
    try:
        for where in ("/no/such/page", "/api/v1/no/such", "/refused"):
            assert 400 <= client.get(where).status_code < 500
        assert logged == []
        assert client.get("/broken").status_code == 500
    finally:
        logging.getLogger("django").removeHandler(handler)
    assert [(record.levelname, record.name) for record in logged] == [("ERROR", "django.request")]
    assert logged[0].exc_info


def test_the_address_is_the_peers_without_settings(rf: RequestFactory) -> None:
    seen: list[str] = []

    def view(request: HttpRequest) -> HttpResponse:
        seen.append(request.META["REMOTE_ADDR"])
        return HttpResponse()

    http.ClientAddress(view)(rf.get("/", headers=FORGED))
    assert seen == ["127.0.0.1"]
