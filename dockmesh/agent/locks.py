"""Locks of a restic repository: who holds them, and which of them are ours and dead.

`restic unlock` takes a lock for dead when its host name is ours and its process is not to be seen; the same host name
in another PID namespace is another run, alive. So each restic that may lock is written down here, with the ids of
the locks that appeared while it ran, and holds an flock on a file of its own for as long as it lives: whoever gets that
flock knows that it is no more, in any namespace and after a restart of the machine.
"""

from __future__ import annotations

import fcntl
import json
import os
import socket
import time
import uuid
from collections.abc import Collection, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from datetime import datetime, timezone
from pathlib import Path

from dockmesh.agent import timestamps
from dockmesh.agent.document import JSON, docker_time
from dockmesh.agent.state import write_private
from dockmesh.agent.text import clean

# restic refreshes a lock every five minutes and takes one that is older than this for stale, whoever holds it.
STALE_SECONDS = 30 * 60
# A lock is written after its process was started; clocks step.
_SLACK_SECONDS = 5.0


@dataclass(frozen=True)
class Lock:
    """A lock as the repository has it; `time` in Unix seconds."""

    id: str
    time: float
    is_exclusive: bool
    host: str
    user: str
    pid: int

    @property
    def is_stale(self) -> bool:
        """Whether restic itself would remove it by its age alone."""
        return time.time() - self.time > STALE_SECONDS

    def __str__(self) -> str:
        since = datetime.fromtimestamp(self.time, timezone.utc)
        kind = "an exclusive lock" if self.is_exclusive else "a lock"
        return (
            f"{self.user}@{self.host} (process {self.pid}) holds {kind} since {since:%Y-%m-%d %H:%M:%S} UTC"
        )


def read_lock(identity: str, document: JSON) -> Lock | None:
    """A lock from what `restic cat lock` prints; None where that is none."""
    moment = docker_time(document.get("time"))
    pid = document.get("pid")
    if moment is None or not isinstance(pid, int):
        return None
    return Lock(
        identity,
        timestamps.parse(moment).timestamp(),
        document.get("exclusive") is True,
        clean(document.get("hostname")),
        clean(document.get("username")),
        pid,
    )


@dataclass
class Process:
    """A restic that we started. `locks` are ids that appeared in the repository while it ran."""

    repository: str
    host: str
    started_at: float
    pid: int = 0
    locks: list[str] = field(default_factory=list)

    def may_own(self, lock: Lock) -> bool:
        return (
            lock.id in self.locks
            and (lock.pid, lock.host) == (self.pid, self.host)
            and lock.time >= self.started_at - _SLACK_SECONDS
        )


class Entry:
    """One restic of ours in the book. `descriptor` is for the child to inherit: its flock is the sign of life."""

    def __init__(self, book: LockBook, path: Path, repository: str) -> None:
        self.is_orderly = False  # whether the process ended by itself, and so removed its own locks
        self._book = book
        self._path = path
        self.process = Process(repository, socket.gethostname(), time.time())
        self.descriptor = os.open(self._path.with_suffix(".alive"), os.O_RDWR | os.O_CREAT, 0o600)
        fcntl.flock(self.descriptor, fcntl.LOCK_EX)
        self._write()

    def begun(self, pid: int) -> None:
        self.process.pid = pid
        self._write()

    def saw(self, identities: Collection[str]) -> None:
        """These locks are there now, and were not before the process began."""
        fresh = sorted(set(identities) - set(self.process.locks))
        if fresh:
            self.process.locks += fresh
            self._write()

    def close(self) -> None:
        """The process is no more."""
        os.close(self.descriptor)
        if self.is_orderly:
            self._book.forget(self._path)

    def _write(self) -> None:
        write_private(self._path, json.dumps(asdict(self.process)))


class LockBook:
    """The book, in a folder of the state folder."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)

    def dead(self, repository: str) -> list[tuple[Path, Process]]:
        """Our processes on this repository that are no more, and may have left a lock."""
        return [(path, process) for path, process in self._dead() if process.repository == repository]

    def forget(self, path: Path) -> None:
        """Nothing is left of this one."""
        path.unlink(missing_ok=True)
        path.with_suffix(".alive").unlink(missing_ok=True)

    def repositories_with_dead(self) -> set[str]:
        """The repositories in which a process of ours may have left a lock."""
        return {process.repository for _, process in self._dead()}

    def begin(self, repository: str) -> Entry:
        return Entry(self, self._folder / f"{uuid.uuid4()}.json", repository)

    def has_older(self, moment: float) -> bool:
        """Whether a process that was started before this moment (Unix seconds) still lives."""
        return any(not is_dead and process.started_at < moment for _, process, is_dead in self._entries())

    def _dead(self) -> Iterator[tuple[Path, Process]]:
        return ((path, process) for path, process, is_dead in self._entries() if is_dead)

    def _entries(self) -> Iterator[tuple[Path, Process, bool]]:
        for path in self._folder.glob("*.json"):
            try:
                process = Process(**json.loads(path.read_text()))
                descriptor = os.open(path.with_suffix(".alive"), os.O_RDWR)
            except FileNotFoundError:
                continue  # just ended
            except (OSError, ValueError, TypeError):
                self.forget(path)
                continue
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                is_dead = True
            except BlockingIOError:
                is_dead = False
            finally:
                os.close(descriptor)
            yield path, process, is_dead


def removable(locks: Sequence[Lock], dead: Sequence[Process]) -> list[Lock]:
    """The locks that hold nobody: too old by restic's own rule, or provably of a dead process of ours.

    Where two locks could be a process's, since another PID namespace has the same number, neither is.
    """
    found = [lock for lock in locks if lock.is_stale]
    for process in dead:
        owned = [lock for lock in locks if process.may_own(lock)]
        if len(owned) == 1 and owned[0] not in found:
            found += owned
    return found


def unlock_removes_only(removed: Sequence[Lock], locks: Sequence[Lock]) -> bool:
    """Whether `restic unlock` would remove these locks and no other, and bother no other process.

    It looks for the processes of fresh locks with our host name, by a signal.
    """
    host = socket.gethostname()
    suspected = [lock for lock in locks if lock.host == host and not lock.is_stale]
    return all(lock in removed and not os.path.exists(f"/proc/{lock.pid}") for lock in suspected)
