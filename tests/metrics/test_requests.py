"""Requests to the API are counted by method, route template and status, and the counts last."""

import threading

import pytest
from django.db import DatabaseError
from django.http import HttpResponse
from django.test import Client
from django.urls import include, path, re_path

from dockmesh.core.tally import Tally
from metrics import requests
from metrics.models import ApiRequestCount
from metrics.requests import template


def _view(request, **_arguments):
    return HttpResponse(status=int(request.GET.get("status", "200")))


_api = [
    path("hosts", _view),
    path("hosts/<int:pk>", _view),
    path("agents/commands/<int:id>/result", _view),
    re_path(r"^old/(?P<name>[a-z]+)/$", _view),
]
urlpatterns = [path("api/v1/", include(_api)), path("page/", _view)]


@pytest.fixture
def client(settings, db):
    settings.ROOT_URLCONF = "tests.metrics.test_requests"
    return Client()


def counts():
    requests.counter.flush()
    return {
        (row.method, row.path, row.status): row.count for row in ApiRequestCount.objects.filter(count__gt=0)
    }


def test_paths_are_route_templates(client):
    client.get("/api/v1/hosts")
    client.get("/api/v1/hosts/1")
    client.get("/api/v1/hosts/2")
    client.delete("/api/v1/hosts/2?status=204")
    client.post("/api/v1/agents/commands/7/result")
    client.get("/api/v1/old/abc/")
    assert counts() == {
        ("GET", "/api/v1/hosts", 200): 1,
        ("GET", "/api/v1/hosts/{id}", 200): 2,
        ("DELETE", "/api/v1/hosts/{id}", 204): 1,
        ("POST", "/api/v1/agents/commands/{id}/result", 200): 1,
        ("GET", "/api/v1/old/{name}/", 200): 1,
    }


def test_pages_are_not_the_api(client):
    client.get("/page/")
    assert counts() == {}


def test_random_paths_are_one_series(client):
    for number in range(200):
        client.get(f"/api/v1/nothing/{number}")
    assert counts() == {("GET", "unmatched", 404): 200}


def test_unknown_methods_are_one_series(client):
    for method in ("FOO123", "BAR", "TRACE"):
        client.generic(method, "/api/v1/hosts")
    assert set(counts()) == {("other", "/api/v1/hosts", 405)}


def test_a_request_that_is_refused_before_it_is_routed_has_its_path(client):
    client.post("/api/v1/hosts", b"x", content_type="application/json", headers={"content-encoding": "gzip"})
    client.generic("FOO123", "/api/v1/nowhere")
    assert set(counts()) == {("POST", "/api/v1/hosts", 415), ("other", "unmatched", 405)}


def test_a_bad_host_header_is_counted_too(client):
    client.get("/api/v1/hosts", headers={"host": "evil"})
    assert sum(counts().values()) == 1


def test_flushing_adds_to_what_is_there(db):
    counter = Tally("metrics.ApiRequestCount", "method", "path", "status")
    for _ in range(3):
        counter.add("GET", "/api/v1/hosts", 200)
        counter.flush()
    counter.flush()
    assert ApiRequestCount.objects.get(path="/api/v1/hosts").count == 3


def test_what_the_database_refuses_is_kept_for_the_next_time(db, monkeypatch):
    counter = Tally("metrics.ApiRequestCount", "method", "path", "status")
    counter.add("GET", "/api/v1/hosts", 200)

    def refuse(_counts):
        counter.add("GET", "/api/v1/hosts", 200)
        raise DatabaseError

    with monkeypatch.context() as patch:
        patch.setattr(counter, "_write", refuse)
        with pytest.raises(DatabaseError):
            counter.flush()
    counter.flush()
    assert ApiRequestCount.objects.get(path="/api/v1/hosts").count == 2


def test_flushing_is_one_statement_in_one_transaction(db, django_assert_num_queries):
    counter = Tally("metrics.ApiRequestCount", "method", "path", "status")
    for number in range(50):
        counter.add("GET", f"/api/v1/{number}", 200)
    with django_assert_num_queries(3):  # savepoint, insert, release: the test itself is in a transaction
        counter.flush()


def test_no_increment_is_lost_between_threads(db):
    counter = Tally("metrics.ApiRequestCount", "method", "path", "status")

    def run():
        for _ in range(1000):
            counter.add("GET", "/api/v1/hosts", 200)

    threads = [threading.Thread(target=run) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    counter.flush()
    assert ApiRequestCount.objects.get(path="/api/v1/hosts").count == 8000


@pytest.mark.parametrize(
    ("route", "text"),
    [
        ("api/v1/hosts", "/api/v1/hosts"),
        ("api/v1/hosts/<int:pk>", "/api/v1/hosts/{id}"),
        ("api/v1/hosts/<name>/x", "/api/v1/hosts/{name}/x"),
        (r"^api/(?P<pk>[^/.]+)/?$", "/api/{id}/?"),
    ],
)
def test_a_route_becomes_a_template(route, text):
    assert template(route) == text
