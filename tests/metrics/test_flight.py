"""Scrapes that arrive together share one rendering, and none sees what is older than itself."""

import threading

import pytest

from metrics.flight import Flight, TimedOut


class Slow:
    """A rendering that the test holds open: counts its calls."""

    def __init__(self):
        self.calls = 0
        self.began = threading.Semaphore(0)
        self.go = threading.Semaphore(0)

    def __call__(self):
        self.calls += 1
        call = self.calls
        self.began.release()
        assert self.go.acquire(timeout=10)
        return call


def start(flight, results, **options):
    thread = threading.Thread(target=lambda: results.append(flight.result(timeout_seconds=10)))
    thread.start()
    return thread


def wait_until_gathered(flight):
    while flight._gathering is None:
        threading.Event().wait(0.001)


def test_those_who_come_while_one_is_under_way_share_the_next_one():
    slow = Slow()
    flight = Flight(slow)
    first, later = [], []
    threads = [start(flight, first)]
    assert slow.began.acquire(timeout=10)
    threads += [start(flight, later) for _ in range(19)]
    wait_until_gathered(flight)
    threading.Event().wait(0.05)
    slow.go.release()
    slow.go.release()
    for thread in threads:
        thread.join(10)
    assert first == [1]
    assert later == [2] * 19
    assert slow.calls == 2


def test_one_after_the_other_each_gets_its_own():
    calls = iter(range(10))
    flight = Flight(lambda: next(calls))
    assert [flight.result(timeout_seconds=1) for _ in range(3)] == [0, 1, 2]


def test_a_failure_is_shared_and_the_next_one_starts_anew():
    answers = iter([ValueError("first"), None])

    def make():
        answer = next(answers)
        if answer is not None:
            raise answer
        return "second"

    flight = Flight(make)
    with pytest.raises(ValueError, match="first"):
        flight.result(timeout_seconds=1)
    assert flight.result(timeout_seconds=1) == "second"


def test_whoever_cannot_wait_so_long_is_told():
    slow = Slow()
    flight = Flight(slow)
    first = []
    thread = start(flight, first)
    assert slow.began.acquire(timeout=10)
    with pytest.raises(TimedOut):
        flight.result(timeout_seconds=0.01)
    slow.go.release()
    thread.join(10)
    assert first == [1]
    slow.go.release()
    assert flight.result(timeout_seconds=1) == 2
