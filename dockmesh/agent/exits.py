"""The last exits of each container name, on disk, for whoever asks why a container keeps going away."""

from __future__ import annotations

import contextlib
import logging
import sqlite3
import threading
import time
from collections.abc import Mapping
from datetime import datetime, timezone
from pathlib import Path

from dockmesh.agent.document import JSON
from dockmesh.agent.text import clean

log = logging.getLogger("dockmesh.agent")

KEPT = 20
# Of all names together: `docker run --rm` makes new ones each time.
MOST_ROWS = 20_000
_TIDY_EVERY = 500

_SCHEMA = """
CREATE TABLE IF NOT EXISTS exits (
    position INTEGER PRIMARY KEY,
    name TEXT NOT NULL,
    at REAL NOT NULL,
    exit_code INTEGER NOT NULL,
    oom_killed INTEGER NOT NULL
);
CREATE INDEX IF NOT EXISTS exits_by_name ON exits (name, position);
"""


class Exits:
    """Takes Docker's events as they come. Only a history: what can't be written is not known, and that is all."""

    def __init__(self, path: Path) -> None:
        self._guard = threading.Lock()
        self._out_of_memory: set[str] = set()
        self._since_tidied = 0
        self._db: sqlite3.Connection | None = None
        try:
            path.touch(mode=0o600)
            self._db = sqlite3.connect(path, check_same_thread=False, isolation_level=None)
            self._db.execute("PRAGMA synchronous = OFF")
            self._db.executescript(_SCHEMA)
        except (sqlite3.Error, OSError) as error:
            log.warning("The history of exits can't be kept in %s: %s", path, error)
            self._db = None

    def event(self, event: object) -> None:
        """Take an event of whatever kind."""
        if not isinstance(event, Mapping) or event.get("Type", "container") != "container":
            return
        action = event.get("Action") or event.get("status")
        actor = event.get("Actor")
        attributes = actor.get("Attributes") if isinstance(actor, Mapping) else None
        if not isinstance(attributes, Mapping):
            return
        identity = str(actor.get("ID") if isinstance(actor, Mapping) else "")
        if action == "oom":
            self._out_of_memory.add(identity)
        elif action == "start":
            self._out_of_memory.discard(identity)
        elif action == "die":
            was_oom = identity in self._out_of_memory
            self._out_of_memory.discard(identity)
            nanoseconds = event.get("timeNano")
            at = nanoseconds / 1e9 if isinstance(nanoseconds, int) else time.time()
            with contextlib.suppress(ValueError):
                code = int(str(attributes.get("exitCode")))
                self._add(clean(attributes.get("name")), at, code, was_oom)

    def of(self, name: str) -> list[JSON]:
        """The last exits of that name, the newest first: `at`, `exit_code`, `oom_killed`."""
        if self._db is None:
            return []
        with self._guard, contextlib.suppress(sqlite3.Error):
            rows = self._db.execute(
                "SELECT at, exit_code, oom_killed FROM exits WHERE name = ? ORDER BY position DESC LIMIT ?",
                (name, KEPT),
            ).fetchall()
            return [
                {
                    "at": datetime.fromtimestamp(at, timezone.utc).isoformat(),
                    "exit_code": code,
                    "oom_killed": bool(oom),
                }
                for at, code, oom in rows
            ]
        return []

    def _add(self, name: str, at: float, code: int, was_oom: bool) -> None:
        if self._db is None:
            return
        with self._guard, contextlib.suppress(sqlite3.Error):
            self._db.execute(
                "INSERT INTO exits (name, at, exit_code, oom_killed) VALUES (?, ?, ?, ?)",
                (name, at, code, was_oom),
            )
            self._db.execute(
                "DELETE FROM exits WHERE name = ? AND position <= (SELECT position FROM exits"
                " WHERE name = ? ORDER BY position DESC LIMIT 1 OFFSET ?)",
                (name, name, KEPT),
            )
            self._since_tidied += 1
            if self._since_tidied >= _TIDY_EVERY:
                self._since_tidied = 0
                self._db.execute(
                    "DELETE FROM exits WHERE position <= (SELECT max(position) FROM exits) - ?", (MOST_ROWS,)
                )
