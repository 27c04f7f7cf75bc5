"""The lease and the jobs: one replica runs them, another takes over, one bad job harms no other."""

import datetime
import threading
import time

import pytest
from django.db import DEFAULT_DB_ALIAS, DataError, InterfaceError, OperationalError, connection, connections
from django.db.models.functions import Now

from dockmesh.core.schedule import Failed, PeriodicJob, is_database_away, one_by_one
from dockmesh.scheduler import runner
from dockmesh.scheduler.models import Lease, PeriodicTask
from dockmesh.scheduler.runner import Scheduler
from dockmesh.scheduler.selectors import task_samples
from dockmesh.scheduler.services import acquire, note_run, release


def expire() -> None:
    Lease.objects.update(expires_at=Now() - datetime.timedelta(seconds=1))


@pytest.mark.django_db
def test_one_holder_at_a_time() -> None:
    assert acquire(name="jobs", holder="a", seconds=20)
    assert not acquire(name="jobs", holder="b", seconds=20)
    assert acquire(name="jobs", holder="a", seconds=20)
    assert acquire(name="other", holder="b", seconds=20)


@pytest.mark.django_db
def test_another_takes_over_after_the_lease_ran_out_or_was_given_back() -> None:
    assert acquire(name="jobs", holder="a", seconds=20)
    expire()
    assert acquire(name="jobs", holder="b", seconds=20)
    assert not acquire(name="jobs", holder="a", seconds=20)
    release(name="jobs", holder="a")  # not the holder any more: changes nothing
    assert not acquire(name="jobs", holder="a", seconds=20)
    release(name="jobs", holder="b")
    assert acquire(name="jobs", holder="a", seconds=20)


@pytest.mark.django_db(transaction=True)
def test_of_many_that_try_at_once_one_wins() -> None:
    for is_new in (True, False):
        if not is_new:
            expire()
        won: list[str] = []
        barrier = threading.Barrier(8)

        def attempt(holder: str, won: list[str] = won, barrier: threading.Barrier = barrier) -> None:
            barrier.wait()
            if acquire(name="jobs", holder=holder, seconds=20):
                won.append(holder)
            connection.close()

        threads = [threading.Thread(target=attempt, args=(f"replica-{n}-{is_new}",)) for n in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(won) == 1


def run_for(scheduler: Scheduler, seconds: float) -> threading.Thread:
    def run() -> None:
        scheduler.run()
        connection.close()

    thread = threading.Thread(target=run)
    thread.start()
    time.sleep(seconds)
    return thread


@pytest.mark.django_db(transaction=True)
def test_a_failing_and_a_hanging_job_do_not_stop_the_others(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        "dockmesh.scheduler.runner.is_database_away", lambda error: isinstance(error, InterfaceError)
    )
    runs: list[str] = []
    hang = threading.Event()

    def failing() -> None:
        runs.append("failing")
        raise ValueError("broken job")

    def away() -> None:
        runs.append("away")
        raise InterfaceError("gone\nDETAIL: more")

    def refused() -> None:
        runs.append("refused")
        raise OperationalError("canceling statement due to lock timeout")

    def hanging() -> None:
        runs.append("hanging")
        hang.wait(10)

    def good() -> None:
        runs.append("good")
        Lease.objects.count()
        connection.close()

    jobs = [PeriodicJob(run.__name__, 0.05, run) for run in (failing, away, refused, hanging, good)]
    scheduler = Scheduler(jobs)
    thread = run_for(scheduler, 0.6)
    hang.set()
    scheduler.stop()
    thread.join(10)
    assert not thread.is_alive()
    assert runs.count("hanging") == 1
    for name in ("failing", "away", "refused", "good"):
        assert runs.count(name) > 3, name
    assert "The job failing failed" in caplog.text
    assert "broken job" in caplog.text
    assert "The job away can't reach the database" in caplog.text
    # Waiting for a lock in vain is a fault of that job, told with its traceback.
    assert "The job refused failed" in caplog.text


@pytest.mark.django_db(transaction=True)
def test_a_second_scheduler_waits_and_takes_over(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runner, "RENEW_SECONDS", 0.1)
    runs: list[str] = []
    first = Scheduler([PeriodicJob("job", 0.05, lambda: runs.append("first"))])
    second = Scheduler([PeriodicJob("job", 0.05, lambda: runs.append("second"))])
    first_thread = run_for(first, 0.3)
    second_thread = run_for(second, 0.3)
    assert set(runs) == {"first"}
    assert first.is_holder
    assert not second.is_holder
    first.stop()
    first_thread.join(5)
    stopped_at = len(runs)
    time.sleep(1.3)
    assert set(runs[stopped_at:]) == {"second"}
    second.stop()
    second_thread.join(5)
    assert not second_thread.is_alive()


@pytest.mark.django_db(transaction=True)
def test_a_lease_that_could_not_be_prolonged_ends_the_jobs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runner, "RENEW_SECONDS", 0.05)
    monkeypatch.setattr(runner, "LEASE_SECONDS", 0.3)
    runs: list[float] = []
    scheduler = Scheduler([PeriodicJob("job", 0.02, lambda: runs.append(time.monotonic()))])
    thread = run_for(scheduler, 0.3)
    assert runs

    def away(**_: object) -> bool:
        raise OperationalError("gone")

    monkeypatch.setattr("dockmesh.scheduler.runner.services.acquire", away)
    time.sleep(0.5)
    assert not scheduler.is_holder
    before = len(runs)
    time.sleep(0.2)
    assert len(runs) == before
    scheduler.stop()
    thread.join(5)


@pytest.mark.django_db(transaction=True)
def test_how_each_job_fares_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runner, "NOTE_SECONDS", 0.0)

    def partly() -> None:
        one_by_one([1, 0, 2, 0], lambda number: 1 / number, what="The item")

    jobs = [PeriodicJob("good", 0.05, lambda: None), PeriodicJob("partly", 60, partly)]
    monkeypatch.setattr("dockmesh.scheduler.selectors.jobs", lambda: [*jobs, PeriodicJob("new", 60, partly)])
    assert [(each.last_success_timestamp, each.failures) for each in task_samples()] == [(0.0, 0)] * 3
    scheduler = Scheduler(jobs)
    thread = run_for(scheduler, 0.6)
    scheduler.stop()
    thread.join(10)
    good, partial, new = task_samples()
    assert good.last_success_timestamp == pytest.approx(time.time(), abs=60)
    assert (good.failures, partial.failures, partial.last_success_timestamp) == (0, 2, 0.0)
    assert (new.name, new.failures) == ("new", 0)


@pytest.mark.django_db
def test_a_fault_does_not_unsay_the_last_whole_run() -> None:
    note_run(task="job", is_whole=True, failures=0)
    at = PeriodicTask.objects.get().last_success_at
    note_run(task="job", is_whole=False, failures=3)
    note_run(task="job", is_whole=False, failures=1)
    row = PeriodicTask.objects.get()
    assert (row.last_success_at, row.failures) == (at, 4)


@pytest.mark.django_db(transaction=True)
def test_one_bad_item_stops_none_of_the_others(caplog: pytest.LogCaptureFixture) -> None:
    done: list[str] = []

    def do(item: str) -> None:
        if item == "wide":
            raise DataError("value too long for type character varying(200)")
        if item == "locked":
            raise OperationalError("canceling statement due to lock timeout")
        done.append(item)

    with pytest.raises(Failed) as failed:
        one_by_one(["wide", "a", "locked", "b"], do, what="The alert rule")
    assert (done, failed.value.count) == (["a", "b"], 2)
    assert "The alert rule wide failed; the others go on" in caplog.text
    assert "value too long" in caplog.text


@pytest.mark.django_db(transaction=True)
def test_a_database_that_is_away_ends_the_round_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    tried: list[int] = []

    def do(item: int) -> None:
        tried.append(item)
        raise OperationalError("server closed the connection unexpectedly")

    monkeypatch.setattr(type(connections[DEFAULT_DB_ALIAS]), "is_usable", lambda self: False)
    with pytest.raises(OperationalError):
        one_by_one([1, 2, 3], do, what="The item")
    assert tried == [1]
    assert not is_database_away(DataError("too long"))
