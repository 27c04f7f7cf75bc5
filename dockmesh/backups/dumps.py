"""dockmesh's own database as something to back up.

The scheduler writes a consistent copy into the data folder, and the agent of the job's host backs up that
folder. So the host has to be the machine that runs dockmesh, or one that sees the data folder under the same path;
on any other one the folder is not there, and the run fails and says so. The copy is removed once the run has ended.

A copy has no row in the table of `LiveMark`, by which a server that starts with it knows that it was restored.
"""

import os
import shutil
import sqlite3
import subprocess
from collections.abc import Collection
from pathlib import Path

from django.conf import settings
from django.db import connection
from psycopg.conninfo import make_conninfo
from psycopg.pq import Conninfo

from dockmesh.core.text import LINE_CONTROLS
from dockmesh.scheduler.selectors import LIVE_MARKS

DUMP_TIMEOUT_SECONDS = 3600


class DumpError(Exception):
    """The copy could not be made; the text is for the user."""


def folder(job_id: int) -> Path:
    """Where the job's copy lies while its run is under way."""
    return Path(settings.DOCKMESH_DATA_DIR) / "dumps" / f"job-{job_id}"


def make(job_id: int) -> Path:
    """Write the copy and give its folder; raises `DumpError`."""
    target = folder(job_id)
    remove(job_id)
    target.mkdir(mode=0o700, parents=True)
    try:
        if connection.vendor == "sqlite":
            _copy_sqlite(target / "dockmesh.sqlite3")
        else:
            _dump_postgresql(target / "dockmesh.pgdump")
    except BaseException:
        remove(job_id)
        raise
    return target


def remove(job_id: int) -> None:
    """Remove the copy, if there is one."""
    shutil.rmtree(folder(job_id), ignore_errors=True)


def sweep(job_ids: Collection[int]) -> None:
    """Remove the copies of all jobs but these: what a killed process or a removed host has left behind."""
    kept = {folder(job_id).name for job_id in job_ids}
    for found in folder(0).parent.glob("job-*"):
        if found.name not in kept:
            shutil.rmtree(found, ignore_errors=True)


def _copy_sqlite(target: Path) -> None:
    # SQLite's online backup in one step: consistent, and in WAL mode nobody waits for it. In several steps it
    # would begin anew with every write in between, so that under steady heartbeats it might never end.
    source = sqlite3.connect(f"file:{connection.settings_dict['NAME']}?mode=ro", uri=True, timeout=20)
    copy = sqlite3.connect(target)
    try:
        source.backup(copy)
        copy.execute(f"DELETE FROM {LIVE_MARKS}")  # noqa: S608 - a fixed name
        copy.commit()
    except sqlite3.Error as error:
        raise DumpError(f"The database could not be copied: {error}.") from None
    finally:
        copy.close()
        source.close()
    target.chmod(0o600)


def _dump_postgresql(target: Path) -> None:
    program = shutil.which("pg_dump")
    if program is None:
        raise DumpError("pg_dump is not installed where dockmesh's scheduler runs.")
    source = _connection_source()
    environment = {**os.environ, "PGPASSWORD": source.pop("password")} if "password" in source else None
    try:
        done = subprocess.run(  # noqa: S603 - a fixed list
            [
                program,
                "--format=custom",
                "--no-password",
                f"--exclude-table-data=*.{LIVE_MARKS}",
                f"--file={target}",
                f"--dbname={make_conninfo(**source)}",
            ],
            env=environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=DUMP_TIMEOUT_SECONDS,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise DumpError(f"pg_dump: {type(error).__name__}.") from None
    if done.returncode != 0:
        # In the language and the encoding of wherever the message comes from.
        said = LINE_CONTROLS.sub("\ufffd", done.stderr.decode("utf-8", "replace")).strip()[-500:]
        raise DumpError(f"pg_dump ended with exit code {done.returncode}: {said}")


def _connection_source() -> dict[str, str]:
    """What the server itself connects with, as far as it is libpq's: `DOCKMESH_DATABASE_URL` with all its options."""
    known = {option.keyword.decode() for option in Conninfo.get_defaults()}
    given = connection.get_connection_params()
    source = {name: str(value) for name, value in given.items() if name in known and value is not None}
    if "sslpassword" in source:
        # There is no variable for it, and the list of processes shows arguments to everybody on the machine.
        raise DumpError(
            "sslpassword can't be given to pg_dump safely: use a key without one, readable by dockmesh alone."
        )
    return source
