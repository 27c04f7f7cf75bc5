"""Counts how often containers are restarted, end and are killed for memory, by their names.

What Docker's events tell is counted as it comes, so that five ends between two heartbeats are five. Docker itself counts
the restarts of each container, from 0 whenever somebody starts it; what that number has grown by since the container was
last looked at are restarts, also if nobody looked for long. What else has happened while no events came (this program
did not run) is seen from when a container last ended: one end, and one for each restart, which count as the last one
did, or as errors while the container runs again.

Docker may tell that a container was killed for memory only after it told of the end. So an end with 137 that nobody has asked
Docker for waits a moment before it counts as harmless.

The counts are in a file, and nothing is told that is not in it: what is told never falls. `epoch` is the name of that
file's beginning.
"""

from __future__ import annotations

import contextlib
import json
import logging
import re
import sqlite3
import threading
import time
import uuid
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from signal import Signals
from typing import Any

from dockmesh.agent import timestamps
from dockmesh.agent.document import JSON
from dockmesh.agent.text import clean

log = logging.getLogger("dockmesh.agent")

# So long the counts of a name are kept that no container has any more.
KEPT_SECONDS = 30 * 86400.0
# An event of an end that was seen already comes at most so long after it.
LATE_SECONDS = 1.0
MAX_WAITING = 100_000
# So long after an end with 137 Docker may still tell that it was for memory.
UNDECIDED_SECONDS = 5.0

_UP = frozenset({"running", "paused"})
_ENDED = frozenset({"exited", "dead"})
_HARMLESS = frozenset({0, 137, 143})
_KILLED = 137
_SIGNAL = re.compile(r"(?:SIG)?([A-Z0-9]+)([+-]\d{1,2})?")
_SCHEMA = """
CREATE TABLE IF NOT EXISTS epoch (name TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS count (name TEXT PRIMARY KEY, value TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS container (id TEXT PRIMARY KEY, value TEXT NOT NULL);
"""


@dataclass
class _Count:
    """Of a name; `gone_at` is when it was first found that no container has it, 0 while one has."""

    restarts: int = 0
    successes: int = 0
    errors: int = 0
    oom_kills: int = 0
    gone_at: float = 0.0


@dataclass
class _Seen:
    """What was last known of a container."""

    name: str
    restart_count: int = 0
    state: str = "created"
    finished_at: str | None = None
    is_oom_killed: bool = False
    undecided: int = 0
    """Ends with 137 that may yet turn out to be for memory."""


@dataclass
class _Run:
    """What events have told of a container since it was last looked at, and since it was last started."""

    stream: int = 0
    """Since when its events are known without a gap; 0 for never."""
    ends: int = 0
    oom_kills: int = 0
    restarts: int = 0
    was_killed: bool = False
    is_out_of_memory: bool = False
    has_ended_by_itself: bool = False
    seen_until: float = 0.0


@dataclass(frozen=True)
class _Event:
    action: str
    identity: str
    name: str
    exit_code: int
    at: float


class Tally:
    """Takes the events as they come and the containers as they are read; `told` is what is in the file."""

    def __init__(self, path: Path) -> None:
        self._guard = threading.Lock()
        self._waiting: list[_Event] = []
        self._taken: list[_Event] = []
        # The stream of events that is open, by its number; 0 for none.
        self._stream = self._streams = 0
        self._runs: dict[str, _Run] = {}
        self._looked: dict[str, JSON] = {}
        self._epoch = self._kept_epoch = ""
        self._is_first = True
        self._counts: dict[str, _Count] = {}
        self._told: dict[str, _Count] = {}
        self._seen: dict[str, _Seen] = {}
        # Until when the ends of a container may be undecided.
        self._undecided_until: dict[str, float] = {}
        self._changed_names: set[str] = set()
        self._changed_containers: set[str] = set()
        self._is_failing = False
        self._open(path)

    def opened(self) -> None:
        """From now on every event comes."""
        with self._guard:
            self._streams += 1
            self._stream = self._streams

    def closed(self) -> None:
        """None comes any more."""
        with self._guard:
            self._stream = 0

    def event(self, event: object) -> None:
        """One event, whatever it is of."""
        found = _read(event)
        if found is not None:
            with self._guard:
                if len(self._waiting) < MAX_WAITING:
                    self._waiting.append(found)

    def forget_all(self) -> None:
        """Begin anew: this is another host now."""
        with self._guard:
            self._epoch = uuid.uuid4().hex
            self._changed_names |= self._counts.keys()
            self._counts = {}
            self._told = {}
            for identity in self._undecided_until:
                self._seen[identity].undecided = 0
            self._undecided_until = {}
            self._save()

    def begin(self) -> None:
        """Before the containers are read: what comes from now on may not show in them yet."""
        with self._guard:
            self._taken += self._waiting
            self._waiting = []

    def count(self, containers: Sequence[JSON], whole: Iterable[str]) -> tuple[JSON, ...]:
        """The containers as they were just read, each with the counts of its name.

        `whole` are the ids of those that were inspected, whenever that was.
        """
        with self._guard:
            by_id = {str(item["id"]): item for item in containers}
            events, self._taken = self._taken, []
            late = {event.identity for event in events if event.action == "oom"}
            for event in events:
                self._take(event, by_id.get(event.identity), has_oom=event.identity in late)
            for identity in whole:
                if identity in by_id:
                    self._look(identity, by_id[identity])
            for identity in self._seen.keys() - by_id.keys():
                self._forget(identity)
            for identity in [key for key, end in self._undecided_until.items() if time.monotonic() >= end]:
                self._decide(identity, is_oom=False)
            self._runs = {identity: run for identity, run in self._runs.items() if identity in by_id}
            self._looked = by_id
            self._mind_names({str(item["name"]) for item in containers})
            self._is_first = False
            self._save()
            return self._with_counts(containers)

    def anew(self, containers: Sequence[JSON]) -> tuple[JSON, ...]:
        """The same containers with the counts of now."""
        with self._guard:
            return self._with_counts(containers)

    def _with_counts(self, containers: Sequence[JSON]) -> tuple[JSON, ...]:
        return tuple(
            {**item, "oom_killed": self._is_killed(item), "counts": self._of(str(item["name"]))}
            for item in containers
        )

    def _is_killed(self, item: JSON) -> bool:
        """As Docker says; it never does where the kernel's word came after the end, but for the event."""
        run = self._runs.get(str(item["id"]))
        is_ended = item["state"] not in _UP and item["exit_code"] == _KILLED
        return bool(item["oom_killed"]) or (is_ended and run is not None and run.is_out_of_memory)

    def _of(self, name: str) -> JSON:
        count = self._told.get(name, _Count())
        return {
            "epoch": self._epoch,
            "restarts": count.restarts,
            "successes": count.successes,
            "errors": count.errors,
            "oom_kills": count.oom_kills,
        }

    def _take(self, event: _Event, item: JSON | None, *, has_oom: bool) -> None:
        run = self._runs.setdefault(event.identity, _Run())
        if event.action == "create":
            run.stream = self._stream
            self._seen[event.identity] = _Seen(event.name)
            self._changed_containers.add(event.identity)
        elif event.action == "kill":
            run.was_killed = True
        elif event.action == "oom":
            # One that an inspection has told is not counted again.
            if not run.is_out_of_memory:
                self._add(event.name, oom_kills=1)
                run.oom_kills += 1
            is_late = self._decide(event.identity, is_oom=True)
            if is_late:
                self._seen[event.identity].is_oom_killed = True
            # The end before it was started again says nothing of what runs now.
            run.is_out_of_memory = not (is_late and item is not None and item["state"] in _UP)
        elif event.action == "start":
            run.restarts += run.has_ended_by_itself
            run.was_killed = run.is_out_of_memory = run.has_ended_by_itself = False
        elif event.action == "die":
            run.has_ended_by_itself = not run.was_killed
            if event.at >= run.seen_until:
                run.ends += 1
                self._take_end(event, run, item, has_oom=has_oom)
        elif event.action == "destroy" and event.identity in self._seen:
            self._forget(event.identity)

    def _take_end(self, event: _Event, run: _Run, item: JSON | None, *, has_oom: bool) -> None:
        is_oom = event.exit_code == _KILLED and (run.is_out_of_memory or has_oom)
        # The event of it may be late, or never come.
        if event.exit_code == _KILLED and not is_oom and item is not None:
            is_oom = bool(item["oom_killed"]) and item["state"] not in _UP
            if is_oom:
                run.is_out_of_memory = True
                run.oom_kills += 1
                self._add(event.name, oom_kills=1)
        if event.exit_code == _KILLED and not is_oom and not run.was_killed and event.identity in self._seen:
            self._leave_undecided(event.identity, 1)
            return
        is_harmless = not is_oom and _is_harmless(event.exit_code, item["stop_signal"] if item else "")
        self._add(event.name, successes=int(is_harmless), errors=int(not is_harmless))

    def _leave_undecided(self, identity: str, ends: int) -> None:
        self._seen[identity].undecided += ends
        self._undecided_until[identity] = time.monotonic() + UNDECIDED_SECONDS
        self._changed_containers.add(identity)

    def _decide(self, identity: str, *, is_oom: bool) -> bool:
        """Count the ends of a container that were undecided; whether there were any."""
        self._undecided_until.pop(identity, None)
        seen = self._seen.get(identity)
        if seen is None or not seen.undecided:
            return False
        # Of several the last one was for memory.
        self._add(seen.name, errors=int(is_oom), successes=seen.undecided - is_oom)
        seen.undecided = 0
        self._changed_containers.add(identity)
        return True

    def _look(self, identity: str, item: JSON) -> None:
        run = self._runs.setdefault(identity, _Run())
        if self._looked.get(identity) is item and run.stream == self._stream > 0:
            return
        now = _Seen(
            str(item["name"]),
            int(item["restart_count"]),
            str(item["state"]),
            item["finished_at"],
            bool(item["oom_killed"]),
        )
        before = self._seen.get(identity)
        if before is None and self._is_first:
            before = now  # what was before anybody counted
        elif before is None:
            before = _Seen(now.name)
        if identity in self._seen:
            self._look_for_late_kill(identity, before, now, run, int(item["exit_code"]))
        now.undecided = before.undecided
        restarts = now.restart_count - before.restart_count
        if restarts < 0:  # somebody has started it
            restarts = max(now.restart_count, run.restarts)
        self._add(now.name, restarts=restarts)
        if not self._stream or run.stream != self._stream:
            missed = self._bridge(
                before, now, run, restarts, str(item["stop_signal"]), int(item["exit_code"])
            )
            if missed:
                self._seen[identity] = now
                self._leave_undecided(identity, missed)
        run.stream = self._stream
        run.ends = run.oom_kills = run.restarts = 0
        if now.state not in _UP:
            # Whoever starts it now is not its policy, or Docker has counted that already.
            run.has_ended_by_itself = False
        if now != before or identity not in self._seen:
            self._seen[identity] = now
            self._changed_containers.add(identity)

    def _look_for_late_kill(
        self, identity: str, before: _Seen, now: _Seen, run: _Run, exit_code: int
    ) -> None:
        """Count an end that was seen already, and only now is said to be for memory."""
        is_same_end = now.finished_at == before.finished_at and {before.state, now.state} <= _ENDED
        if not is_same_end or exit_code != _KILLED:
            return
        if before.is_oom_killed or not now.is_oom_killed:
            now.is_oom_killed = before.is_oom_killed
            return
        if not self._decide(identity, is_oom=True):
            # It was told as harmless, which is not taken back.
            self._add(now.name, errors=1)
        if not run.is_out_of_memory:
            self._add(now.name, oom_kills=1)
        run.is_out_of_memory = True

    def _bridge(
        self, before: _Seen, now: _Seen, run: _Run, restarts: int, stop_signal: str, exit_code: int
    ) -> int:
        """Count what happened while no events came; of how many ends it is not decided yet how they count."""
        has_finished = now.finished_at is not None and now.finished_at != before.finished_at
        has_ended = has_finished and now.state in _ENDED
        exits = max(restarts + has_ended, int(has_finished and now.state != "restarting"))
        missed = max(exits - run.ends, 0)
        is_up = now.state in _UP
        is_oom = now.is_oom_killed and not is_up
        is_harmless = not is_up and not is_oom and _is_harmless(exit_code, stop_signal)
        is_undecided = is_harmless and exit_code == _KILLED
        oom_kills = missed if is_oom else int(is_up and now.is_oom_killed and not before.is_oom_killed)
        self._add(
            now.name,
            successes=missed if is_harmless and not is_undecided else 0,
            errors=0 if is_harmless else missed,
            oom_kills=max(oom_kills - run.oom_kills, 0),
        )
        if missed and now.finished_at is not None:
            run.seen_until = timestamps.parse(now.finished_at).timestamp() + LATE_SECONDS
        return missed if is_undecided else 0

    def _forget(self, identity: str) -> None:
        self._decide(identity, is_oom=False)
        seen = self._seen.pop(identity)
        run = self._runs.pop(identity, None)
        if run is not None:
            self._add(seen.name, restarts=run.restarts)
        self._changed_containers.add(identity)

    def _add(self, name: str, **more: int) -> None:
        if name and any(more.values()):
            count = self._counts.setdefault(name, _Count())
            for key, number in more.items():
                setattr(count, key, getattr(count, key) + number)
            self._changed_names.add(name)

    def _mind_names(self, present: set[str]) -> None:
        now = time.time()
        for name, count in list(self._counts.items()):
            if (name in present) == (count.gone_at == 0):
                if count.gone_at and now - count.gone_at > KEPT_SECONDS:
                    del self._counts[name]
                    self._changed_names.add(name)
                continue
            count.gone_at = 0.0 if name in present else now
            self._changed_names.add(name)

    # ---- the file

    def _open(self, path: Path) -> None:
        try:
            self._db = _database(path)
            self._load()
        except (sqlite3.Error, OSError, ValueError, TypeError) as error:
            log.warning("%s can't be read: %s; containers' restarts and exits are counted anew", path, error)
            try:
                path.unlink(missing_ok=True)
                self._db = _database(path)
            except (sqlite3.Error, OSError):
                self._db = _database(None)
            self._load()

    def _load(self) -> None:
        epoch = self._db.execute("SELECT name FROM epoch").fetchone()
        self._kept_epoch = epoch[0] if epoch else ""
        self._epoch = self._kept_epoch or uuid.uuid4().hex
        self._counts = {
            name: _Count(**json.loads(value))
            for name, value in self._db.execute("SELECT name, value FROM count")
        }
        self._seen = {
            identity: _Seen(**json.loads(value))
            for identity, value in self._db.execute("SELECT id, value FROM container")
        }
        until = time.monotonic() + UNDECIDED_SECONDS
        self._undecided_until = {identity: until for identity, seen in self._seen.items() if seen.undecided}
        self._is_first = not self._seen
        self._told = {name: _Count(**asdict(count)) for name, count in self._counts.items()}

    def _save(self) -> None:
        is_new_epoch = self._epoch != self._kept_epoch
        if not (self._changed_names or self._changed_containers or is_new_epoch):
            return
        try:
            self._write()
        except sqlite3.Error as error:
            # What is not kept is not told, and tried again.
            if not self._is_failing:
                log.warning("Counts of restarts and exits can't be kept: %s", error)
            self._is_failing = True
            return
        self._is_failing = False
        self._kept_epoch = self._epoch
        for name in self._changed_names:
            self._told.pop(name, None)
            if name in self._counts:
                self._told[name] = _Count(**asdict(self._counts[name]))
        self._changed_names.clear()
        self._changed_containers.clear()

    def _write(self) -> None:
        self._db.execute("BEGIN IMMEDIATE")
        try:
            self._db.execute("DELETE FROM epoch")
            self._db.execute("INSERT INTO epoch (name) VALUES (?)", (self._epoch,))
            self._db.executemany(
                "DELETE FROM count WHERE name = ?", [(each,) for each in self._changed_names]
            )
            self._db.executemany("INSERT INTO count VALUES (?, ?)", _texts(self._counts, self._changed_names))
            self._db.executemany(
                "DELETE FROM container WHERE id = ?", [(each,) for each in self._changed_containers]
            )
            self._db.executemany(
                "INSERT INTO container VALUES (?, ?)", _texts(self._seen, self._changed_containers)
            )
            self._db.execute("COMMIT")
        except sqlite3.Error:
            if self._db.in_transaction:
                self._db.execute("ROLLBACK")
            raise


def _texts(values: Mapping[str, _Count | _Seen], keys: Iterable[str]) -> list[tuple[str, str]]:
    """What is nothing is left out: so a file can be read by the version before."""
    return [
        (
            key,
            json.dumps(
                {name: value for name, value in asdict(values[key]).items() if value or name == "name"}
            ),
        )
        for key in keys
        if key in values
    ]


def _database(path: Path | None) -> sqlite3.Connection:
    if path is not None:
        path.touch(mode=0o600)
    db = sqlite3.connect(path or ":memory:", check_same_thread=False, isolation_level=None)
    db.execute("PRAGMA synchronous = FULL")
    db.executescript(_SCHEMA)
    return db


def _read(event: object) -> _Event | None:
    """What of an event counts; None for all others."""
    if not isinstance(event, Mapping):
        return None
    action = event.get("Action") or event.get("status")
    if event.get("Type", "container") != "container" or action not in (
        "create",
        "start",
        "die",
        "kill",
        "oom",
        "destroy",
    ):
        return None
    actor = event.get("Actor")
    actor = actor if isinstance(actor, Mapping) else {}
    attributes: Any = actor.get("Attributes")
    attributes = attributes if isinstance(attributes, Mapping) else {}
    identity = actor.get("ID") or event.get("id")
    if not isinstance(identity, str):
        return None
    nanoseconds = event.get("timeNano")
    at = nanoseconds / 1e9 if isinstance(nanoseconds, int) else time.time()
    return _Event(action, identity, clean(attributes.get("name")), _code(attributes.get("exitCode")), at)


def _code(text: object) -> int:
    try:
        return int(str(text))
    except ValueError:
        return 0


def _is_harmless(exit_code: int, stop_signal: str) -> bool:
    """As the server judges it: contract section 6."""
    return exit_code in _HARMLESS or (exit_code > 128 and _number(stop_signal) == exit_code - 128)


def _number(signal: str) -> int | None:
    if signal.isascii() and signal.isdecimal():
        return int(signal[:4])
    found = _SIGNAL.fullmatch(signal.upper())
    with contextlib.suppress(KeyError):
        return Signals["SIG" + found[1]].value + int(found[2] or 0) if found else None
    return None
