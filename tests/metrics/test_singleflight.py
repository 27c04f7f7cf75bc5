"""Scrapes that arrive together share one rendering, and none sees what is older than itself."""

import itertools
import threading
import time

import pytest

from metrics import singleflight as flight_module
from metrics.singleflight import SingleFlight, TimedOut
from tests.support import PATIENCE


class Slow:
    """A rendering that the test holds open: counts its calls."""

    def __init__(self):
        self.calls = 0
        self.began = threading.Semaphore(0)
        self.go = threading.Semaphore(0)

    def __call__(self, _parts):
        self.calls += 1
        call = self.calls
        self.began.release()
        assert self.go.acquire(timeout=PATIENCE * 10)
        return call


ONE = frozenset({"one"})
OTHER = frozenset({"other"})


def ask(singleflight, since=None, parts=ONE):
    return singleflight.result(parts, since=time.monotonic() if since is None else since, timeout_seconds=10)


def until(holds):
    deadline = time.monotonic() + PATIENCE * 10
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.001)


def start(singleflight, results, parts=ONE):
    since = time.monotonic()
    thread = threading.Thread(target=lambda: results.append(ask(singleflight, since, parts)))
    thread.start()
    return thread


def test_those_who_come_while_one_is_under_way_share_the_next_one():
    slow = Slow()
    singleflight = SingleFlight(slow)
    first, later = [], []
    threads = [start(singleflight, first)]
    assert slow.began.acquire(timeout=PATIENCE * 10)
    threads += [start(singleflight, later) for _ in range(19)]
    slow.go.release()
    slow.go.release()
    for thread in threads:
        thread.join(10)
    assert first == [1]
    assert later == [2] * 19
    assert slow.calls == 2


def test_whoever_arrived_before_a_rendering_began_takes_it_though_it_is_over():
    calls = iter(range(10))
    singleflight = SingleFlight(lambda _parts: next(calls))
    arrived = time.monotonic()
    assert ask(singleflight) == 0
    assert ask(singleflight, since=arrived) == 0
    assert ask(singleflight) == 1


def test_one_after_the_other_each_gets_its_own():
    calls = iter(range(10))
    singleflight = SingleFlight(lambda _parts: next(calls))
    assert [ask(singleflight) for _ in range(3)] == [0, 1, 2]


def test_a_failure_is_shared_and_the_next_one_starts_anew():
    answers = iter([ValueError("first"), None])

    def make(_parts):
        answer = next(answers)
        if answer is not None:
            raise answer
        return "second"

    singleflight = SingleFlight(make)
    arrived = time.monotonic()
    for _ in range(2):
        with pytest.raises(ValueError, match="first"):
            ask(singleflight, since=arrived)
    assert ask(singleflight) == "second"


def test_whoever_cannot_wait_so_long_is_told():
    slow = Slow()
    singleflight = SingleFlight(slow)
    first = []
    thread = start(singleflight, first)
    assert slow.began.acquire(timeout=PATIENCE * 10)
    with pytest.raises(TimedOut):
        singleflight.result(ONE, since=time.monotonic(), timeout_seconds=0.01)
    slow.go.release()
    thread.join(10)
    assert first == [1]
    slow.go.release()
    assert ask(singleflight) == 2


def test_an_old_result_is_let_go():
    calls = iter(range(10))
    singleflight = SingleFlight(lambda _parts: next(calls))
    arrived = time.monotonic()
    assert ask(singleflight) == 0
    singleflight.forget(older_than_seconds=60)
    assert ask(singleflight, since=arrived) == 0
    singleflight.forget(older_than_seconds=0)
    assert ask(singleflight, since=arrived) == 1


def start_coming(singleflight, results):
    """Asks as a scrape does; returns when it is there."""

    def run():
        with singleflight.coming():
            results.append(ask(singleflight))

    thread = threading.Thread(target=run)
    thread.start()
    until(lambda: singleflight._asking)
    return thread


def test_a_rendering_waits_for_who_is_about_to_ask(monkeypatch):
    monkeypatch.setattr(flight_module, "GATHER_SECONDS", 10)
    calls = itertools.count(1)
    singleflight = SingleFlight(lambda _parts: next(calls))
    results = []
    with singleflight.coming():
        first = start_coming(singleflight, results)
        results.append(ask(singleflight))
    first.join(10)
    assert results == [1, 1]


def test_it_does_not_wait_for_who_is_turned_away(monkeypatch):
    monkeypatch.setattr(flight_module, "GATHER_SECONDS", 10)
    singleflight = SingleFlight(lambda _parts: "made")
    results = []
    with singleflight.coming():
        first = start_coming(singleflight, results)
        assert results == []
    first.join(5)
    assert results == ["made"]


def test_it_waits_for_a_moment_only():
    singleflight = SingleFlight(lambda _parts: "made")
    with singleflight.coming(), singleflight.coming():
        assert ask(singleflight) == "made"


# Some want other parts.


def test_however_wants_differ_those_who_wait_share_one_rendering_of_all_of_them():
    slow, made = Slow(), []

    def make(parts):
        made.append(parts)
        return slow(parts)

    singleflight = SingleFlight(make)
    first, later = [], []
    threads = [start(singleflight, first)]
    assert slow.began.acquire(timeout=PATIENCE * 10)
    threads += [start(singleflight, later, (ONE, OTHER, ONE | OTHER)[number % 3]) for number in range(18)]
    until(lambda: len(singleflight._asking) == 19)
    slow.go.release()
    slow.go.release()
    for thread in threads:
        thread.join(10)
    assert (first, later) == ([1], [2] * 18)
    assert made == [ONE, ONE | OTHER]


def test_nobody_makes_more_than_is_asked_for():
    made = []
    singleflight = SingleFlight(made.append)
    for parts in (ONE, ONE | OTHER, OTHER):
        ask(singleflight, parts=parts)
    assert made == [ONE, ONE | OTHER, OTHER]


def test_a_rendering_of_more_serves_who_wants_less_and_not_the_other_way_round():
    calls = itertools.count(1)
    singleflight = SingleFlight(lambda _parts: next(calls))
    arrived = time.monotonic()
    assert ask(singleflight, arrived, ONE | OTHER) == 1
    assert ask(singleflight, arrived, OTHER) == 1
    assert ask(singleflight, parts=OTHER) == 2
    assert ask(singleflight, arrived, ONE | OTHER) == 1
    assert ask(singleflight, arrived, OTHER) == 2


def test_what_is_kept_is_bounded():
    singleflight = SingleFlight(lambda parts: parts)
    for _ in range(3):
        for parts in (ONE, OTHER, ONE | OTHER, ONE):
            ask(singleflight, parts=parts)
    assert len(singleflight._flown) == 2
