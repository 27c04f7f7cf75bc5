"""Before a start: is the database there, is it one for this code, and who of several replicas prepares it?"""

from __future__ import annotations

import contextlib
import fcntl
import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from django.apps import apps
from django.conf import settings
from django.core.management import call_command
from django.db import DatabaseError, OperationalError, connection
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.migrations.loader import MigrationLoader
from django.db.migrations.recorder import MigrationRecorder

from dockmesh.core.text import in_one_line

WAIT_SECONDS = 60
MIGRATION_LOCK = 0x646F636B6D657368  # any number that every replica agrees on
SAY_EVERY_SECONDS = 10.0
# Characters of what an error of the database says.
MOST_WORDS = 300

Say = Callable[[str], object]


class CannotStart(Exception):
    """Why the database can't be used, in one line for the operator."""


def wait_for_database(say: Say) -> None:
    """Return once the database answers; `say` is told why it does not.

    Only an absent PostgreSQL is waited for, `WAIT_SECONDS` at most. Raises `CannotStart` for what waiting won't mend.
    """
    deadline = time.monotonic() + WAIT_SECONDS
    said = 0.0
    while True:
        try:
            connection.ensure_connection()
            with connection.cursor() as cursor:
                cursor.execute("SELECT 1")
            return
        except OperationalError as error:
            if connection.vendor != "postgresql":
                raise CannotStart(
                    f"the database {_name()} can't be used: {in_one_line(error, most=MOST_WORDS)}"
                ) from None
            if time.monotonic() > deadline:
                raise CannotStart(
                    f"the database can't be reached: {in_one_line(error, most=MOST_WORDS)}"
                ) from None
            if time.monotonic() - said > SAY_EVERY_SECONDS:
                said = time.monotonic()
                say(f"waiting for the database: {in_one_line(error, most=MOST_WORDS)}")
            time.sleep(1)
        except DatabaseError as error:
            raise CannotStart(
                f"the database {_name()} can't be used: {in_one_line(error, most=MOST_WORDS)}"
            ) from None


@contextmanager
def prepared_database(say: Say) -> Iterator[None]:
    """The database, migrated; others that start at the same time wait until the block is left.

    Raises `CannotStart`, with a line for the operator, where the database is a newer version's or refuses.
    """
    with only_one(say):
        try:
            _refuse_newer()
            with _patiently(say):
                call_command("migrate", interactive=False, verbosity=0)
        except DatabaseError as error:
            raise CannotStart(
                f"the database {_name()} can't be prepared: {in_one_line(error, most=MOST_WORDS)}"
            ) from None
        yield


@contextmanager
def only_one(say: Say) -> Iterator[None]:
    """Of several processes that want to prepare the database, one does and the others wait for it, and say so."""
    lock = _advisory_lock() if connection.vendor == "postgresql" else _file_lock()
    with lock as is_held:
        said = time.monotonic() - SAY_EVERY_SECONDS + 2
        while not is_held():
            if time.monotonic() - said > SAY_EVERY_SECONDS:
                said = time.monotonic()
                say("waiting for another process that prepares the database")
            time.sleep(0.1)
        yield


@contextmanager
def _advisory_lock() -> Iterator[Callable[[], bool]]:
    """Held by a transaction of its own, and not by the session: a pooler may give that to somebody else."""
    holder: BaseDatabaseWrapper = connection.copy()
    try:
        with holder.cursor() as cursor:
            cursor.execute("BEGIN")

        def is_held() -> bool:
            with holder.cursor() as cursor:
                cursor.execute("SELECT pg_try_advisory_xact_lock(%s)", [MIGRATION_LOCK])
                return bool(cursor.fetchone()[0])

        yield is_held
        with contextlib.suppress(DatabaseError), holder.cursor() as cursor:
            cursor.execute("ROLLBACK")
    finally:
        holder.close()


@contextmanager
def _file_lock() -> Iterator[Callable[[], bool]]:
    path = settings.DOCKMESH_DATA_DIR / "start.lock"
    try:
        handle = os.open(path, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise CannotStart(f"{path} can't be written: {error.strerror}") from None

    def is_held() -> bool:
        with contextlib.suppress(BlockingIOError):
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return True
        return False

    try:
        yield is_held
    finally:
        os.close(handle)


def _refuse_newer() -> None:
    """Old code on a newer database would write what the new code does not understand, and the other way round."""
    known = set(MigrationLoader(None, ignore_no_migrations=True).disk_migrations or ())
    ours = {app.label for app in apps.get_app_configs()}
    newer = sorted(f"{app}.{name}" for app, name in _applied() - known if app in ours)
    if newer:
        raise CannotStart(
            f"the database is a newer dockmesh's: it has had the migration {newer[-1]}, which this version does not"
            " know. Start that version, or restore the backup that was made before the upgrade"
        )


def _applied() -> set[tuple[str, str]]:
    return set(MigrationRecorder(connection).applied_migrations())


@contextmanager
def _patiently(say: Say) -> Iterator[None]:
    """Say now and then that the block still runs."""
    is_over = threading.Event()

    def tell() -> None:
        while not is_over.wait(SAY_EVERY_SECONDS):
            say("still preparing the database: it works, or waits for a lock of another session")

    thread = threading.Thread(target=tell, daemon=True)
    thread.start()
    try:
        yield
    finally:
        is_over.set()
        thread.join()


def _name() -> str:
    if connection.vendor == "postgresql":
        return "of DOCKMESH_DATABASE_URL"
    return str(connection.settings_dict["NAME"])
