"""Scrapes and agents pass by what only browsers need, and by nothing that guards a request."""

import pytest
from django.test import Client

from tests.tokens.support import bearer, token_with, user_with


@pytest.fixture
def signed_in(db):
    client = Client()
    client.force_login(user_with("metrics.read", "fleet.read"))
    return client


def test_a_session_is_no_credential_for_a_scrape(signed_in):
    assert signed_in.get("/metrics").status_code == 401


def test_a_session_is_no_credential_for_a_heartbeat(signed_in):
    answer = signed_in.post("/api/v1/agents/heartbeat", data="{}", content_type="application/json")
    assert answer.status_code == 401


def test_pages_and_the_rest_of_the_api_keep_their_sessions(signed_in):
    assert signed_in.get("/settings/metrics/").status_code == 200
    assert signed_in.get("/api/v1/hosts").status_code == 200


@pytest.mark.parametrize("path", ["/metrics", "/api/v1/agents/heartbeat"])
def test_machines_have_the_same_guards_as_browsers(db, path):
    _, text = token_with("metrics.read")
    client = Client()
    answer = client.get(path, headers=bearer(text))
    assert answer["X-Content-Type-Options"] == "nosniff"
    assert "Set-Cookie" not in answer
    assert client.get(path, headers={**bearer(text), "host": "evil.example"}).status_code == 400
    assert client.generic("FOO123", path, headers=bearer(text)).status_code == 405
    assert client.post(path, headers={**bearer(text), "content-encoding": "gzip"}).status_code == 415


def test_a_scrape_is_counted_by_django_prometheus(db):
    _, text = token_with("metrics.read")
    client = Client()
    for _ in range(2):
        page = client.get("/metrics", headers=bearer(text)).content.decode()
    lines = [line for line in page.splitlines() if line.startswith("django_http_responses_total_by_status")]
    assert any('view="metrics:metrics"' in line and 'status="200"' in line for line in lines)
