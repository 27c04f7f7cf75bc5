"""dockmesh's own database as something to back up.

The scheduler writes a consistent copy into the data folder, and the agent of the job's host backs up that
folder. So the host has to be the machine that runs dockmesh, or one that sees the data folder under the same path;
on any other one the folder is not there, and the run fails and says so. The copy is removed once the run has ended.
"""

import os
import shutil
import sqlite3
import subprocess
from collections.abc import Collection
from pathlib import Path

from django.conf import settings
from django.db import connection

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
    known = connection.settings_dict
    names = {
        "PGDATABASE": "NAME",
        "PGHOST": "HOST",
        "PGPORT": "PORT",
        "PGUSER": "USER",
        "PGPASSWORD": "PASSWORD",
    }
    environment = {name: str(known[key]) for name, key in names.items() if known.get(key)}
    environment |= {
        f"PG{name.upper()}": str(value) for name, value in known["OPTIONS"].items() if name.startswith("ssl")
    }
    try:
        done = subprocess.run(  # noqa: S603 - a fixed list
            [program, "--format=custom", "--no-password", f"--file={target}"],
            env={**os.environ, **environment},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=DUMP_TIMEOUT_SECONDS,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise DumpError(f"pg_dump: {type(error).__name__}.") from None
    if done.returncode != 0:
        raise DumpError(f"pg_dump ended with exit code {done.returncode}: {done.stderr.strip()[-500:]}")
