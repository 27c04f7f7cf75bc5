"""dockmesh's own database as a source."""

import datetime
import sqlite3
import stat
import subprocess
import threading
import time
from pathlib import Path
from typing import Any

import pytest
from django.db import connection
from django.db.models.functions import Now

from dockmesh.backups import claims, dumps, reports, services
from dockmesh.backups.models import BackupRun
from dockmesh.deploys import services as deploys
from dockmesh.deploys.models import Deploy
from dockmesh.fleet.models import AgentCommand, HeartbeatState
from dockmesh.scheduler.models import LiveMark
from dockmesh.scheduler.services import mark_live
from tests.deploys.conftest import ANN
from tests.deploys.support import fetch, report
from tests.fleet.factories import make_host
from tests.support import require

pytestmark = pytest.mark.django_db(transaction=True)


def test_the_database_is_copied_for_the_agent_and_the_copy_removed_after(db: None) -> None:
    if connection.vendor == "postgresql":
        require("pg_dump")
    host = make_host("alpha")[0]
    job = services.create_job(actor=ANN, host_id=host.pk, name="own", source_kind="database")
    services.run_now(actor=ANN, job_id=job.pk)
    assert fetch(host) == []
    reports.make_dumps()
    reports.make_dumps()
    [command] = fetch(host)
    folder = Path(command["payload"]["source"]["path"])
    assert folder == dumps.folder(job.pk)
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    [copy] = folder.iterdir()
    if connection.vendor == "sqlite":
        with sqlite3.connect(copy) as opened:
            assert opened.execute("SELECT name FROM backups_backupjob").fetchall() == [("own",)]
            assert opened.execute("SELECT count(*) FROM scheduler_livemark").fetchall() == [(0,)]
    else:
        listed = subprocess.run(
            [require("pg_restore"), "--list", copy], capture_output=True, text=True, check=True
        )
        assert "backups_backupjob" in listed.stdout
    report(host, command["id"])
    assert BackupRun.objects.get().status == "success"
    assert not folder.exists()


def test_a_copy_that_nobody_waits_for_is_cleared(db: None) -> None:
    host = make_host("alpha")[0]
    waiting = services.create_job(actor=ANN, host_id=host.pk, name="waiting", source_kind="database")
    services.run_now(actor=ANN, job_id=waiting.pk)
    for job_id in (waiting.pk, waiting.pk + 1):
        dumps.folder(job_id).mkdir(parents=True)
    reports.sweep_dumps()
    assert dumps.folder(waiting.pk).exists()
    assert not dumps.folder(waiting.pk + 1).exists()
    host.delete()
    reports.sweep_dumps()
    assert not list(dumps.folder(0).parent.iterdir())


@pytest.mark.skipif(connection.vendor != "sqlite", reason="of SQLite's online backup")
def test_a_copy_ends_while_others_keep_writing(db: None) -> None:
    host = make_host("alpha")[0]
    stop = threading.Event()
    wrote = []

    def write() -> None:
        try:
            while not stop.is_set():
                HeartbeatState.objects.filter(host=host).update(sequence=len(wrote))
                wrote.append(1)
        finally:
            connection.close()

    writer = threading.Thread(target=write)
    writer.start()
    try:
        copy = dumps.make(7) / "dockmesh.sqlite3"
    finally:
        stop.set()
        writer.join()
    assert len(wrote) > 1
    with sqlite3.connect(copy) as opened:
        assert opened.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        assert opened.execute("SELECT count(*) FROM fleet_host").fetchall() == [(1,)]
    dumps.remove(7)


def due_copy(name: str = "own") -> BackupRun:
    host = make_host(f"of-{name}")[0]
    job = services.create_job(actor=ANN, host_id=host.pk, name=name, source_kind="database")
    return services.run_now(actor=ANN, job_id=job.pk)


def test_a_long_copy_whose_lease_has_moved_is_made_once(db: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """The next holder of the lease finds the run waiting still, and claimed; also after a claim's own time."""
    made, may_end = [], threading.Event()

    def make(job_id: int) -> None:
        made.append(job_id)
        assert may_end.wait(20)

    monkeypatch.setattr(dumps, "make", make)
    monkeypatch.setattr(claims, "CLAIM", datetime.timedelta(seconds=1.5))
    monkeypatch.setattr(claims, "PROLONG_SECONDS", 0.2)
    run = due_copy()

    def first() -> None:
        reports.make_dumps()
        connection.close()

    holder = threading.Thread(target=first)
    holder.start()
    try:
        for _ in range(10):
            time.sleep(0.25)
            reports.make_dumps()
        assert made == [run.job_id]
    finally:
        may_end.set()
        holder.join()
    reports.make_dumps()
    assert AgentCommand.objects.count() == 1
    run.refresh_from_db()
    assert run.command_id is not None


def test_what_a_dead_replica_had_claimed_is_taken_over(db: None, monkeypatch: pytest.MonkeyPatch) -> None:
    run = due_copy()
    monkeypatch.setattr(dumps, "make", lambda job_id: None)
    with claims.held(run.pk) as claim:
        assert claim
        reports.make_dumps()
        assert AgentCommand.objects.count() == 0
        BackupRun.objects.update(dump_claimed_until=Now() - datetime.timedelta(seconds=1))
        reports.make_dumps()
        # What the one before still says is nobody's any more.
        reports._dumped(run.pk, claim, "too late")
    assert AgentCommand.objects.count() == 1
    assert BackupRun.objects.get().error == ""


def test_whatever_goes_wrong_with_a_copy_ends_its_run_and_none_other(
    db: None, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    bad, good = due_copy("bad"), due_copy("good")

    def make(job_id: int) -> None:
        if job_id == bad.job_id:
            raise UnicodeDecodeError("utf-8", b"\xfc", 0, 1, "invalid start byte")

    monkeypatch.setattr(dumps, "make", make)
    reports.make_dumps()
    bad.refresh_from_db()
    good.refresh_from_db()
    assert (bad.status, bad.error) == ("failure", "The database could not be copied: UnicodeDecodeError.")
    assert good.command_id is not None
    assert "invalid start byte" in caplog.text


def both() -> list[Any]:
    return [*Deploy.objects.all(), *BackupRun.objects.all()]


def test_what_had_not_ended_in_a_copy_ends_when_it_is_put_in_place(db: None) -> None:
    host = make_host("alpha")[0]
    stack = deploys.create_stack(
        actor=ANN, host_id=host.pk, name="shop", compose_file="services: {web: {image: nginx}}"
    )
    deploys.request_deploy(actor=ANN, stack_id=stack.pk)
    volumes = services.create_job(actor=ANN, host_id=host.pk, name="volumes", stack_name="shop")
    services.run_now(actor=ANN, job_id=volumes.pk)
    fetch(host)
    due_copy()
    mark_live()
    reports.settle_restored()
    assert {each.is_open for each in both()} == {True}
    LiveMark.objects.all().delete()
    reports.settle_restored()
    assert {(each.status, each.error) for each in both()} == {("failure", reports.RESTORED)}
    assert fetch(host) == []
    reports.make_dumps()
    assert AgentCommand.objects.exclude(status="expired").count() == 0
    services.run_now(actor=ANN, job_id=volumes.pk)
    reports.settle_restored()
    assert len(fetch(host)) == 1
