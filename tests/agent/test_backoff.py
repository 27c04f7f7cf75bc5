"""Waiting before another try."""

from dockmesh.agent.backoff import Backoff


def test_waits_double_up_to_the_longest() -> None:
    backoff = Backoff(first=1, longest=30, draw=lambda: 1.0)
    assert [backoff.failed() for _ in range(7)] == [1, 2, 4, 8, 16, 30, 30]


def test_the_jitter_takes_up_to_half_of_the_wait() -> None:
    assert Backoff(first=8, draw=lambda: 0.0).failed() == 4


def test_a_success_starts_again_from_the_first_wait() -> None:
    backoff = Backoff(first=1, draw=lambda: 1.0)
    backoff.failed()
    backoff.failed()
    backoff.succeeded()
    assert backoff.failed() == 1


def test_the_server_can_ask_for_a_longer_wait_but_not_for_days() -> None:
    backoff = Backoff(first=1, draw=lambda: 1.0)
    assert backoff.failed(retry_after=42) == 42
    assert backoff.failed(retry_after=0) == 2
    assert backoff.failed(retry_after=1e9) == 600


def test_a_thousand_failures_do_not_overflow() -> None:
    backoff = Backoff(draw=lambda: 1.0)
    assert [backoff.failed() for _ in range(2000)][-1] == 30
