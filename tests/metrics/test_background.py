"""What runs beside the requests: it writes the counts, and nothing that goes wrong ends it."""

from typing import Any

import pytest
from django.db import OperationalError, connection

from metrics import background, rendering, requests
from metrics.models import ApiRequestCount


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
