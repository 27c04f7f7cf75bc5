"""The short way of a scrape differs from the long one in nothing that a client sees or that is counted."""

import io
import re
from ipaddress import ip_network

import pytest
from django.core.signals import request_finished, request_started
from django.core.wsgi import get_wsgi_application
from django.db import connection
from django_prometheus.middleware import Metrics
from prometheus_client import REGISTRY

from dockmesh.core.shortways import with_short_ways
from metrics import scrapelog, shortway
from metrics.models import ScrapeRecord
from tests.metrics import fleets
from tests.tokens.support import token_with

LONG = get_wsgi_application()


@pytest.fixture(autouse=True)
def _connection_stays(monkeypatch):
    """The connection is in the test's transaction, and would be given up."""
    monkeypatch.setattr(connection, "close_if_unusable_or_obsolete", lambda: None)
    for signal in (request_started, request_finished):
        monkeypatch.setattr(signal, "receivers", [])
        signal.sender_receivers_cache.clear()


def ask(application, **more):
    """(status, headers, body) of a WSGI application."""
    environ = {
        "REQUEST_METHOD": "GET",
        "PATH_INFO": "/metrics",
        "QUERY_STRING": "",
        "SERVER_NAME": "127.0.0.1",
        "SERVER_PORT": "80",
        "SERVER_PROTOCOL": "HTTP/1.1",
        "HTTP_HOST": "127.0.0.1",
        "REMOTE_ADDR": "192.0.2.7",
        "wsgi.url_scheme": "http",
        "wsgi.input": io.BytesIO(),
        **more,
    }
    started = []
    answer = application(environ, lambda status, headers: started.append((status, dict(headers))))
    if answer is None:
        assert started == []
        return None
    body = b"".join(answer)
    ((status, headers),) = started
    return status, headers, body


def settled(answer):
    """Without what differs from scrape to scrape."""
    status, headers, body = answer
    headers.pop("Content-Length", None)
    lines = re.sub(
        rb"^(process_|python_|django_|dockmesh_collector_duration|dockmesh_scrapes).*\n",
        b"",
        body,
        flags=re.M,
    )
    return status, headers, lines


@pytest.fixture
def token(db, monkeypatch):
    monkeypatch.setattr("dockmesh.core.clock.now", lambda: fleets.NOW)
    fleets.small_fleet()
    return token_with("metrics.read", name="scraper")[1]


@pytest.mark.parametrize(
    "asked",
    [
        {},
        {"HTTP_ACCEPT": "application/openmetrics-text;version=1.0.0", "HTTP_USER_AGENT": "Prometheus/3"},
        {"QUERY_STRING": "collect[]=fleet&name[]=dockmesh_hosts_total"},
        {"QUERY_STRING": "collect%5B%5D=n%C3%B6"},
        {"QUERY_STRING": "collect[]=\xc3\xb6"},
        {"HTTP_AUTHORIZATION": ""},
        {"HTTP_AUTHORIZATION": "Bearer nonsense"},
        {"HTTP_X_PROMETHEUS_SCRAPE_TIMEOUT_SECONDS": "1e-9"},
        {"HTTP_X_FORWARDED_FOR": "198.51.100.1", "HTTP_X_FORWARDED_PROTO": "https"},
    ],
)
def test_both_ways_give_the_same(token, asked):
    asked = {"HTTP_AUTHORIZATION": f"Bearer {token}", **asked}
    short, long = ask(shortway.application, **asked), ask(LONG, **asked)
    assert settled(short) == settled(long)


def test_both_ways_refuse_what_the_role_or_the_address_does_not_allow(db):
    _, poor = token_with("fleet.read")
    _, bound = token_with("metrics.read", name="bound", allowed_cidrs=["10.0.0.0/8"])
    for text in (poor, bound):
        short, long = (ask(way, HTTP_AUTHORIZATION=f"Bearer {text}") for way in (shortway.application, LONG))
        assert short[0] == "403 Forbidden"
        assert settled(short) == settled(long)


@pytest.mark.parametrize(
    "asked",
    [
        {"REQUEST_METHOD": "HEAD"},
        {"REQUEST_METHOD": "POST"},
        {"HTTP_HOST": "evil.example"},
        {"HTTP_CONTENT_ENCODING": "gzip"},
        {"CONTENT_LENGTH": "2"},
        {"SCRIPT_NAME": "/below"},
        {"QUERY_STRING": "&".join(["a=b"] * 2000)},
    ],
)
def test_what_is_not_ordinary_goes_the_long_way(token, asked):
    assert ask(shortway.application, HTTP_AUTHORIZATION=f"Bearer {token}", **asked) is None


def test_other_paths_are_djangos(db):
    status, _, _ = ask(with_short_ways(LONG), PATH_INFO="/metrics/")
    assert status.startswith("404")
    assert ask(with_short_ways(LONG))[0].startswith("401")


def test_the_address_behind_a_trusted_proxy_is_the_clients(token, settings):
    settings.DOCKMESH_TRUSTED_PROXIES = (ip_network("192.0.2.0/24"),)
    ask(shortway.application, HTTP_AUTHORIZATION=f"Bearer {token}", HTTP_X_FORWARDED_FOR="198.51.100.1")
    scrapelog.log.flush()
    assert ScrapeRecord.objects.get().address == "198.51.100.1"


def counted():
    """What django-prometheus has counted, but for how long it took."""
    return {
        (sample.name, *sorted(sample.labels.items())): sample.value
        for metric in REGISTRY.collect()
        for sample in metric.samples
        if (sample.name.startswith("django_http_") and "latency" not in sample.name)
        or sample.name.endswith("_count")
    }


def test_both_ways_count_the_same(token):
    assert Metrics.get_instance()
    differences = []
    for way in (shortway.application, LONG):
        ask(way, HTTP_AUTHORIZATION=f"Bearer {token}")
        before = counted()
        for text in (token, "nonsense"):
            ask(way, HTTP_AUTHORIZATION=f"Bearer {text}", QUERY_STRING="name[]=dockmesh_hosts_total")
        after = counted()
        differences.append(
            {key: value - before.get(key, 0) for key, value in after.items() if value != before.get(key)}
        )
    short, long = differences
    assert short == long
    assert len(short) > 10


def test_a_page_in_chunks_is_given_to_the_servers_file_wrapper(token, monkeypatch):
    monkeypatch.setattr("metrics.exposition.page._JOINED_BYTES", 10)
    taken = []

    def wrapper(file, _size):
        taken.append(file)
        return iter(lambda: bytes(file.read()), b"")

    status, headers, body = ask(
        shortway.application, HTTP_AUTHORIZATION=f"Bearer {token}", **{"wsgi.file_wrapper": wrapper}
    )
    assert status == "200 OK"
    assert len(taken) == 1
    assert len(body) == int(headers["Content-Length"])


def test_a_fault_of_ours_is_told_as_such(token, monkeypatch, caplog):
    def fail(*_args):
        raise RuntimeError("broken")

    monkeypatch.setattr("metrics.views.answer", fail)
    status, headers, _ = ask(shortway.application, HTTP_AUTHORIZATION=f"Bearer {token}")
    assert status.startswith("500")
    assert headers["Content-Type"] == "application/problem+json"
    assert "broken" in caplog.text
