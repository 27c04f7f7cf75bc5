"""The API's series are there before anything happens, so that the first failure counts."""

import json

import pytest
from django.db import OperationalError
from django.test import Client

from dockmesh.web import apidocs
from metrics import rendering, requests, routes

# With what a family's samples cost on the page of a small fleet, this is a tenth of it, compressed.
MOST_SERIES = 700


def samples(client):
    text = client.get("/metrics").content.decode()
    lines = [line for line in text.splitlines() if line.startswith("dockmesh_api_requests_total{")]
    return dict(line.rsplit(" ", 1) for line in lines)


def sample(method, path, status):
    return f'dockmesh_api_requests_total{{method="{method}",path="{path}",status="{status}"}}'


@pytest.fixture
def client(db, settings):
    settings.DOCKMESH_METRICS_AUTH = False
    return Client(raise_request_exception=False)


def test_each_route_has_its_failures_at_0(client):
    found = samples(client)
    for path, methods in apidocs.openapi()["paths"].items():
        for method in methods:
            for status in (500, 503):
                assert found[sample(method.upper(), path, status)] == "0", (method, path)
    assert found[sample("GET", "/api/v1/hosts", 200)] == "0"
    assert found[sample("GET", "/api/v1/hosts/{id}", 404)] == "0"
    assert found[sample("POST", "/api/v1/tokens", 201)] == "0"
    assert found[sample("POST", "/api/v1/agents/heartbeat", 401)] == "0"
    assert sample("GET", "/api/v1/schema", 401) not in found


def test_their_number_is_bounded():
    assert len(routes.born()) <= MOST_SERIES
    assert len(set(routes.born())) == len(routes.born())


def test_the_first_failure_is_an_increase_and_no_new_series(client, monkeypatch):
    before = samples(client)

    def away(*_, **__):
        raise OperationalError("away")

    with monkeypatch.context() as broken:
        broken.setattr("dockmesh.fleet.agent_views.bearer.bearer_of", away)
        answer = client.post("/api/v1/agents/heartbeat", b"{}", content_type="application/json")
    assert answer.status_code == 503
    requests.counter.flush()
    monkeypatch.setattr(rendering, "renderer", rendering.Renderer())
    after = samples(client)
    assert after.keys() == before.keys()
    name = sample("POST", "/api/v1/agents/heartbeat", 503)
    assert (before[name], after[name]) == ("0", "1")


def test_counts_take_the_place_of_the_zeros(client):
    requests.counter.add("GET", "/api/v1/hosts", 503, count=7)
    requests.counter.add("GET", requests.UNMATCHED, 404, count=2)
    requests.counter.flush()
    found = samples(client)
    assert found[sample("GET", "/api/v1/hosts", 503)] == "7"
    assert found[sample("GET", "unmatched", 404)] == "2"
    paths = [json.loads(f'"{line.split(chr(34))[3]}"') for line in found]
    assert paths == sorted(paths)


def test_the_series_do_not_depend_on_what_was_asked_for_before(client):
    before = routes.born.__wrapped__()
    client.get("/api/v1/hosts/1")
    client.head("/api/v1/hosts")
    assert routes.born.__wrapped__() == before
