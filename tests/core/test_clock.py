"""The time is the database's, without a question for each request."""

from __future__ import annotations

import datetime

import pytest
from django.db import connection

from dockmesh.core import clock

HOUR = datetime.timedelta(hours=1)


@pytest.fixture
def wrong_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    """This machine's clock is an hour ahead."""

    class Ahead(datetime.datetime):
        @classmethod
        def now(cls, tz: datetime.tzinfo | None = None) -> datetime.datetime:  # type: ignore[override]
            return datetime.datetime.now(tz) + HOUR

    class Module:
        datetime, timedelta, UTC = Ahead, datetime.timedelta, datetime.UTC

    monkeypatch.setattr(clock, "datetime", Module)
    monkeypatch.setattr(clock, "_behind", datetime.timedelta(0))


@pytest.mark.django_db
def test_a_replica_whose_clock_is_wrong_goes_by_the_databases(wrong_clock: None) -> None:
    here = datetime.datetime.now(datetime.UTC)
    assert clock.now() - here > HOUR / 2
    clock.agree()
    gone_wrong = abs(clock.now() - here)
    if connection.vendor == "postgresql":
        assert gone_wrong < HOUR / 2
    else:
        # SQLite is on this machine, and so is its clock.
        assert gone_wrong > HOUR / 2


@pytest.mark.django_db
def test_the_time_costs_no_query(django_assert_num_queries: object) -> None:
    clock.agree()
    with django_assert_num_queries(0):  # type: ignore[operator]
        clock.now()


@pytest.mark.django_db
@pytest.mark.skipif(connection.vendor != "postgresql", reason="SQLite's clock is this machine's")
def test_an_answer_that_took_long_says_nothing(wrong_clock: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(clock, "LONGEST_ROUND_TRIP", datetime.timedelta(0))
    here = datetime.datetime.now(datetime.UTC)
    clock.agree()
    assert clock.now() - here > HOUR / 2
