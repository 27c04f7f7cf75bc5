"""The newest place of the chain that this server knows by itself: a file in the data folder.

Whoever can write the database can put the head back to an earlier one, whose signature is genuine. What was written
here after the commit of the last entry tells that. Each data folder knows its own: of several replicas one may be behind
the others, so the place must be in the chain, not at its end. Without the file, as after the loss of the data folder, the
chain is taken as it is found.
"""

import contextlib
import datetime
import fcntl
import json
import logging
import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from django.conf import settings
from django.db import connection

from dockmesh.core import clock

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Place:
    """An entry's number and hash, and where it is known when it was written."""

    sequence: int
    digest: str
    at: datetime.datetime | None = field(default=None, compare=False)


def read() -> Place | None:
    """The place; None where nothing is known."""
    try:
        found = json.loads(_path().read_text(encoding="ascii"))
        at = datetime.datetime.fromisoformat(found["at"])
        return Place(int(found["sequence"]), str(found["entry_hash"]), at)
    except FileNotFoundError:
        return None
    except (OSError, ValueError, TypeError, KeyError) as error:
        logger.error("%s can't be read, so the audit chain is taken as it is found: %s", _path(), error)
        return None


def remember(place: Place) -> None:
    """Note a place whose entry was committed, unless a later one is known. A file that can't be written is logged."""
    try:
        _make_durable()
        with _locked():
            before = read()
            if before is None or before.sequence < place.sequence:
                _write(place)
    except OSError as error:
        logger.error("the place of the last audit entry could not be noted in %s: %s", _path(), error)


def replace(place: Place) -> None:
    """Note a place also where a later one is known; raises `OSError`."""
    with _locked():
        _write(place)


def forget() -> None:
    """Know nothing: the chain is taken as it is found."""
    _path().unlink(missing_ok=True)


def _path() -> Path:
    return Path(settings.DOCKMESH_DATA_DIR) / "audit_head"


@contextlib.contextmanager
def _locked() -> Iterator[None]:
    handle = os.open(_path().parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)


def _write(place: Place) -> None:
    temporary = _path().with_name("audit_head.new")
    handle = os.open(temporary, os.O_CREAT | os.O_WRONLY | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    with os.fdopen(handle, "w", encoding="ascii") as file:
        at = (place.at or clock.now()).isoformat()
        json.dump({"sequence": place.sequence, "entry_hash": place.digest, "at": at}, file)
    temporary.replace(_path())


def _make_durable() -> None:
    """SQLite's last commits may be lost with the power (`synchronous=NORMAL`); what is known here must not be ahead."""
    if connection.vendor != "sqlite":
        return
    with contextlib.suppress(FileNotFoundError):
        handle = os.open(f"{connection.settings_dict['NAME']}-wal", os.O_RDWR | os.O_CLOEXEC)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
