"""What became of each command, on disk, so that none is carried out twice.

A command is written down before it is begun. One that is found without a result after a restart may have
been carried out in part, so it ends as a failure and is never repeated. A result stays until the server has
acknowledged it.
"""

import json
import sqlite3
import threading
import time
from pathlib import Path

from dockmesh.agent.document import JSON
from dockmesh.agent.errors import StartError

# Acknowledged commands are kept so that one handed out again is known; this many are plenty.
KEPT = 10_000

_SCHEMA = """
CREATE TABLE IF NOT EXISTS command (
    id INTEGER PRIMARY KEY,
    kind TEXT NOT NULL,
    state TEXT NOT NULL CHECK (state IN ('begun', 'finished', 'acknowledged')),
    received_at REAL NOT NULL,
    result TEXT NOT NULL DEFAULT ''
)
"""


class Journal:
    """Opens the journal, making it if needed; raises StartError where that is not possible."""

    def __init__(self, path: Path) -> None:
        self._guard = threading.Lock()
        try:
            path.touch(mode=0o600)
            self._db = sqlite3.connect(path, check_same_thread=False, isolation_level=None)
            self._db.execute("PRAGMA journal_mode = DELETE")
            # What is written here is on disk before the command begins.
            self._db.execute("PRAGMA synchronous = FULL")
            self._db.execute(_SCHEMA)
        except (sqlite3.Error, OSError) as error:
            raise StartError(
                f"{path} can't be used: {error}; move it away to start with an empty journal"
            ) from None

    def begin(self, command_id: int, kind: str) -> bool:
        """Write a command down before it is carried out. False if it is known already: leave it alone."""
        with self._guard:
            cursor = self._db.execute(
                "INSERT OR IGNORE INTO command (id, kind, state, received_at) VALUES (?, ?, 'begun', ?)",
                (command_id, kind, time.time()),
            )
            return cursor.rowcount == 1

    def finish(self, command_id: int, result: JSON) -> None:
        """Keep the result until it is acknowledged. The first one counts."""
        with self._guard:
            self._db.execute(
                "UPDATE command SET state = 'finished', result = ? WHERE id = ? AND state = 'begun'",
                (json.dumps(result), command_id),
            )

    def acknowledge(self, command_id: int) -> None:
        with self._guard:
            self._db.execute(
                "UPDATE command SET state = 'acknowledged', result = '' WHERE id = ?", (command_id,)
            )
            self._db.execute(
                "DELETE FROM command WHERE state = 'acknowledged' AND id NOT IN"
                " (SELECT id FROM command ORDER BY id DESC LIMIT ?)",
                (KEPT,),
            )

    def unacknowledged(self) -> list[tuple[int, JSON]]:
        """Results that the server has not acknowledged, oldest first."""
        with self._guard:
            rows = self._db.execute(
                "SELECT id, result FROM command WHERE state = 'finished' ORDER BY id"
            ).fetchall()
        return [(row[0], json.loads(row[1])) for row in rows]

    def fail_interrupted(self) -> list[int]:
        """At the start: end what an earlier run began and did not finish. Gives the commands' ids."""
        with self._guard:
            rows = self._db.execute("SELECT id FROM command WHERE state = 'begun' ORDER BY id").fetchall()
        for (command_id,) in rows:
            self.finish(command_id, failure("agent restarted while it ran"))
        return [row[0] for row in rows]

    def forget_all(self) -> None:
        """After the enrollment as a new host: the old commands are nobody's any more, and ids may come again."""
        with self._guard:
            self._db.execute("DELETE FROM command")

    def close(self) -> None:
        with self._guard:
            self._db.close()


def failure(error: str, *, output: str = "", exit_code: int | None = None, seconds: float = 0.0) -> JSON:
    """The result of a command that failed."""
    return {
        "result": "failure",
        "duration_seconds": seconds,
        "exit_code": exit_code,
        "output": output,
        "error": error,
    }
