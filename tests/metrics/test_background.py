"""What runs beside the requests: it writes the counts, and nothing that goes wrong ends it."""

import time
from typing import Any

import pytest
from django.db import OperationalError, connection

from dockmesh.fleet.selectors import objects
from metrics import background, rendering, requests
from metrics.groups import ALL
from metrics.models import ApiRequestCount
from tests.metrics import fleets


@pytest.mark.parametrize(
    "error", [OperationalError("away"), rendering.DatabaseAway(), RuntimeError("broken")]
)
def test_whatever_goes_wrong_is_logged_and_the_thread_goes_on(db, caplog, monkeypatch, error):
    # The test's own connection is the one that would be given up.
    monkeypatch.setattr(connection, "close", lambda: None)

    def fail():
        raise error

    background._attempt("a try", fail)
    assert "a try" in caplog.text


def test_the_text_is_made_ahead(db):
    background._warm_up()
    collector: Any = rendering.renderer.collectors[0]
    assert collector.texts.store.fragments(0) == []


def test_each_thing_is_made_ahead_some_hosts_at_a_time_and_a_scrape_between_gets_all(db, monkeypatch):
    asked = []
    monkeypatch.setattr("metrics.collectors.objects.HOSTS_AHEAD", 2)
    read = objects.host_objects

    def noted(ids):
        asked.append(list(ids))
        return read(ids)

    monkeypatch.setattr(objects, "host_objects", noted)
    hosts = [fleets.host(f"host-{number}").pk for number in range(5)]
    renderer = rendering.renderer
    assert renderer.make_ahead(timeout_seconds=10)
    text = b"".join(page_of(renderer, ALL).body(openmetrics=False, gzip=False).chunks).decode()
    assert text.count("\ndockmesh_host_up{") == 5
    assert "objects_ahead" not in text
    assert asked == [hosts[:2], hosts[2:]]
    assert not renderer.make_ahead(timeout_seconds=10)


def test_nothing_is_left_for_the_first_scrape(db, monkeypatch):
    monkeypatch.setattr("metrics.collectors.objects.HOSTS_AHEAD", 2)
    for number in range(5):
        fleets.host(f"host-{number}")
    background._warm_up()
    monkeypatch.setattr(objects, "host_objects", lambda ids: pytest.fail(f"{ids} were not made ahead"))
    page_of(rendering.renderer, ALL)


def test_text_that_nobody_asks_for_is_let_go_and_made_again_when_somebody_does(db, monkeypatch):
    fleets.host("a")
    background._warm_up()
    collector = rendering.renderer._each_by_name
    rendering.renderer.rest()
    assert collector.texts.store.versions
    monkeypatch.setattr("metrics.collectors.objects.UNWANTED_SECONDS", 0.0)
    rendering.renderer.rest()
    assert not collector.texts.store.versions
    text = b"".join(page_of(rendering.renderer, ALL).body(openmetrics=False, gzip=False).chunks)
    assert text.count(b"\ndockmesh_host_up{") == 1


def test_making_ahead_ends_where_it_fails(db, monkeypatch):
    def fail(_ids):
        raise RuntimeError("broken")

    fleets.host("a")
    monkeypatch.setattr(objects, "host_objects", fail)
    background._warm_up()


def page_of(renderer, groups):
    return renderer.page(groups, since=time.monotonic(), timeout_seconds=10)


def test_counts_are_written(db):
    requests.counter.add("GET", "/api/v1/hosts", 200)
    background.flush()
    assert ApiRequestCount.objects.get(path="/api/v1/hosts").count == 1


def test_an_unreachable_database_keeps_the_counts(db, monkeypatch, caplog):
    monkeypatch.setattr(connection, "close", lambda: None)

    def refuse(_counts):
        raise OperationalError("away")

    requests.counter.add("GET", "/api/v1/hosts", 200)
    with monkeypatch.context() as patch:
        patch.setattr(requests.counter, "_write", refuse)
        background.flush()
    assert "tried again" in caplog.text
    background.flush()
    assert ApiRequestCount.objects.get(path="/api/v1/hosts").count == 1
