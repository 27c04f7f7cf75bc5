"""dockmesh's own database as a source."""

import sqlite3
import stat
import subprocess
import threading
from pathlib import Path

import pytest
from django.db import connection

from dockmesh.backups import dumps, reports, services
from dockmesh.backups.models import BackupRun
from dockmesh.fleet.models import HostPulse
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
    reports.close_lost()
    assert dumps.folder(waiting.pk).exists()
    assert not dumps.folder(waiting.pk + 1).exists()
    host.delete()
    reports.close_lost()
    assert not list(dumps.folder(0).parent.iterdir())


@pytest.mark.skipif(connection.vendor != "sqlite", reason="of SQLite's online backup")
def test_a_copy_ends_while_others_keep_writing(db: None) -> None:
    host = make_host("alpha")[0]
    stop = threading.Event()
    wrote = []

    def write() -> None:
        try:
            while not stop.is_set():
                HostPulse.objects.filter(host=host).update(sequence=len(wrote))
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
