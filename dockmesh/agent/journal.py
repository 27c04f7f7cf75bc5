"""What became of each command, on disk, so that none is carried out twice.

A command is written down before it is begun. One that is found without a result after a restart may have
been carried out in part, so it ends as a failure and is never repeated. A result stays until the server has
acknowledged it, and afterwards without its output, should the server be put back to an older copy and ask again.
"""

from __future__ import annotations

import json
import sqlite3
import threading
import time
from collections.abc import Collection
from pathlib import Path

from dockmesh.agent.document import JSON
from dockmesh.agent.errors import StartError

# Acknowledged commands are kept so that one handed out again is known; this many are plenty.
KEPT = 10_000
KEPT_CHARACTERS = 8_500  # of one value of a result: more than the longest error has

_SCHEMA = """
CREATE TABLE IF NOT EXISTS commands (
    position INTEGER PRIMARY KEY,
    id TEXT NOT NULL UNIQUE,
    kind TEXT NOT NULL,
    state TEXT NOT NULL CHECK (state IN ('begun', 'finished', 'acknowledged')),
    received_at REAL NOT NULL,
    result TEXT NOT NULL DEFAULT ''
)
"""
# From the journal of an agent whose commands had numbers.
_TAKE_OVER = """
INSERT OR IGNORE INTO commands (id, kind, state, received_at, result)
SELECT CAST(id AS TEXT), kind, state, received_at, result FROM command ORDER BY received_at
"""

NOT_KNOWN = "this agent does not have the command: it or the server was restored from an older copy"
OUTPUT_REPORTED = "(The output was reported before.)\n"


class Journal:
    """Opens the journal, making it if needed; raises StartError where that is not possible."""

    def __init__(self, path: Path) -> None:
        self._guard = threading.Lock()
        try:
            path.touch(mode=0o600)
            self._db = sqlite3.connect(path, check_same_thread=False, isolation_level=None)
            self._db.execute("PRAGMA journal_mode = DELETE")
            # A survey's result has env files in it: what is taken out of the journal is off the disk.
            self._db.execute("PRAGMA secure_delete = ON")
            # What is written here is on disk before the command begins.
            self._db.execute("PRAGMA synchronous = FULL")
            self._db.execute("BEGIN IMMEDIATE")
            self._db.execute(_SCHEMA)
            if self._db.execute("SELECT 1 FROM sqlite_master WHERE name = 'command'").fetchone():
                self._db.execute(_TAKE_OVER)
                self._db.execute("DROP TABLE command")
            self._db.execute("COMMIT")
        except (sqlite3.Error, OSError) as error:
            raise StartError(
                f"{path} can't be used: {error}; move it away to start with an empty journal"
            ) from None

    def begin(self, command_id: str, kind: str) -> bool:
        """Write a command down before it is carried out. False if it is known already: leave it alone."""
        with self._guard:
            cursor = self._db.execute(
                "INSERT OR IGNORE INTO commands (id, kind, state, received_at) VALUES (?, ?, 'begun', ?)",
                (command_id, kind, time.time()),
            )
            return cursor.rowcount == 1

    def finish(self, command_id: str, result: JSON) -> None:
        """Keep the result until it is acknowledged. The first one counts."""
        with self._guard:
            self._db.execute(
                "UPDATE commands SET state = 'finished', result = ? WHERE id = ? AND state = 'begun'",
                (json.dumps(result), command_id),
            )

    def acknowledge(self, command_id: str) -> None:
        with self._guard:
            row = self._db.execute("SELECT result FROM commands WHERE id = ?", (command_id,)).fetchone()
            if row is None or not row[0]:
                return
            self._db.execute(
                "UPDATE commands SET state = 'acknowledged', result = ? WHERE id = ?",
                (_kept(row[0]), command_id),
            )
            self._db.execute(
                "DELETE FROM commands WHERE state = 'acknowledged' AND position <="
                " (SELECT max(position) FROM commands) - ?",
                (KEPT,),
            )

    def report_again(self, command_id: str) -> bool:
        """Whether there is a result to report that was acknowledged before, or none since the command is not known."""
        with self._guard:
            row = self._db.execute(
                "SELECT state, result FROM commands WHERE id = ?", (command_id,)
            ).fetchone()
            if row is None:
                # Written down, so that it is never begun either.
                self._db.execute(
                    "INSERT INTO commands (id, kind, state, received_at) VALUES (?, '', 'acknowledged', ?)",
                    (command_id, time.time()),
                )
            elif row[0] != "acknowledged":
                return False
            # One that was acknowledged by an agent of before has left no result either.
            known = json.loads(row[1]) if row and row[1] else {**failure(NOT_KNOWN), "is_known": False}
            self._db.execute(
                "UPDATE commands SET state = 'finished', result = ? WHERE id = ?",
                (json.dumps({**known, "is_repeated": True}), command_id),
            )
            return True

    def unacknowledged(self) -> list[tuple[str, JSON]]:
        """Results that the server has not acknowledged, oldest first."""
        with self._guard:
            rows = self._db.execute(
                "SELECT id, result FROM commands WHERE state = 'finished' ORDER BY position"
            ).fetchall()
        return [(row[0], json.loads(row[1])) for row in rows]

    def begun(self, kind: str | None = None) -> list[str]:
        """The commands, all or those of a kind, that were begun and not finished, oldest first."""
        with self._guard:
            rows = self._db.execute(
                "SELECT id, kind FROM commands WHERE state = 'begun' ORDER BY position"
            ).fetchall()
        return [row[0] for row in rows if kind in (None, row[1])]

    def fail_interrupted(self, *, but: Collection[str] = ()) -> list[str]:
        """At the start: end what an earlier run began and did not finish. Gives the commands' ids."""
        interrupted = [command_id for command_id in self.begun() if command_id not in but]
        for command_id in interrupted:
            self.finish(command_id, failure("agent restarted while it ran"))
        return interrupted

    def forget_all(self) -> None:
        """After the enrollment as a new host: the old commands are nobody's any more."""
        with self._guard:
            self._db.execute("DELETE FROM commands")

    def close(self) -> None:
        with self._guard:
            self._db.close()


def _kept(result: str) -> str:
    """What is kept of a result that the server has: not its output, nor whatever else is long, such as a list.

    Nor what a survey found, which are other people's files.
    """
    found = json.loads(result)
    found.pop("found", None)
    if found.get("output"):
        found["output"] = OUTPUT_REPORTED
    return json.dumps(
        {key: value for key, value in found.items() if len(json.dumps(value)) <= KEPT_CHARACTERS}
    )


def failure(error: str, *, output: str = "", exit_code: int | None = None, seconds: float = 0.0) -> JSON:
    """The result of a command that failed."""
    return {
        "result": "failure",
        "duration_seconds": seconds,
        "exit_code": exit_code,
        "output": output,
        "error": error,
    }
