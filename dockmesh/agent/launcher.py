"""Runs the agent, and lets a new version in only once the server has heard it.

`install` puts this file beside the agent's, as `launch.py`; it stands alone, and no update replaces it: so whatever
an update brings, what ran before can be started again. Beside it are

- `agent-<digest>.pyz`: versions of the agent; one that is there is whole, and never changes,
- `dockmesh-agent.pyz`: a link to the one that runs; it changes only after a trial that went well,
- `next.pyz`: a link to the one that an agent has fetched, before it ends with `EXIT_UPDATE`,
- `heard`: the process id of an agent from the moment on in which the server has taken a heartbeat of it.

A machine that stops in the middle of a trial starts with the version that ran before.
"""

from __future__ import annotations

import hashlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from types import FrameType

EXIT_UPDATE = 75
TRIAL_SECONDS = 60.0
# So long a version that was heard has to stay up before it is let in.
STEADY_SECONDS = 5.0
STOP_SECONDS = 35.0
_POLL_SECONDS = 0.1
CURRENT, NEXT, HEARD = "dockmesh-agent.pyz", "next.pyz", "heard"
# What the agent is told: where this is; that it is on trial; why the version before which it ran was not heard.
FOLDER_VARIABLE = "DOCKMESH_LAUNCH_FOLDER"
TRIAL_VARIABLE = "DOCKMESH_LAUNCH_TRIAL"
ERROR_VARIABLE = "DOCKMESH_LAUNCH_ERROR"


class Launcher:
    """One agent at a time, from `folder`."""

    def __init__(
        self, folder: Path, arguments: Sequence[str], *, trial_seconds: float = TRIAL_SECONDS
    ) -> None:
        self._folder = folder
        self._arguments = arguments
        self._trial_seconds = trial_seconds
        self._is_stopping = False
        self._child: subprocess.Popen[bytes] | None = None

    def run(self) -> int:
        """Until the agent ends by itself or is stopped; gives its exit code."""
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._stop)
        self._forget_next()
        new, error = None, ""
        while True:
            child = self._start(new or self._current(), is_trial=new is not None, error=error)
            error = ""
            if new is not None:
                error = self._why_unheard(child)
                if error:
                    self._end(child)
                    print(f"dockmesh-agent: {error}; the version before runs again", file=sys.stderr)
                else:
                    self._promote(new)
                new = None
                self._forget_next()
                if error and not self._is_stopping:
                    continue
            code = child.wait()
            if self._is_stopping and code == -signal.SIGTERM:
                return 0  # it was stopped before it could see to that itself
            if self._is_stopping or code != EXIT_UPDATE:
                return code if code >= 0 else 128 - code
            new = self._next()
            error = "" if new else "the new version is not there"

    def _start(self, file: Path, *, is_trial: bool, error: str) -> subprocess.Popen[bytes]:
        (self._folder / HEARD).unlink(missing_ok=True)
        told = {FOLDER_VARIABLE: str(self._folder)}
        if is_trial:
            told[TRIAL_VARIABLE] = "1"
        if error:
            told[ERROR_VARIABLE] = error
        command = [sys.executable, str(file), *self._arguments]
        self._child = subprocess.Popen(command, env={**os.environ, **told})  # noqa: S603 - our own file
        if self._is_stopping:
            self._child.terminate()
        return self._child

    def _stop(self, _number: int, _frame: FrameType | None) -> None:
        self._is_stopping = True
        if self._child is not None:
            self._child.terminate()

    def _why_unheard(self, child: subprocess.Popen[bytes]) -> str:
        """Wait for the server to hear the new version, and a moment longer; empty if all went well, else a sentence."""
        until, is_heard = time.monotonic() + self._trial_seconds, False
        while time.monotonic() < until and not self._is_stopping:
            code = child.poll()
            if code is not None:
                when = "right after" if is_heard else "before"
                return f"the new version ended by itself (exit code {code}) {when} the server heard it"
            if not is_heard and self._is_heard(child.pid):
                is_heard, until = True, time.monotonic() + STEADY_SECONDS
            time.sleep(_POLL_SECONDS)
        if is_heard and not self._is_stopping:
            return ""
        if self._is_stopping:
            return "the agent was stopped while its new version was on trial"
        return f"the server did not hear the new version within {self._trial_seconds:.0f} s"

    def _is_heard(self, pid: int) -> bool:
        try:
            return (self._folder / HEARD).read_text(encoding="ascii").strip() == str(pid)
        except (OSError, ValueError):
            return False

    def _end(self, child: subprocess.Popen[bytes]) -> None:
        child.terminate()
        try:
            child.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            child.kill()
            child.wait()

    def _current(self) -> Path:
        return (self._folder / CURRENT).resolve()

    def _next(self) -> Path | None:
        link = self._folder / NEXT
        return link.resolve() if link.exists() else None

    def _forget_next(self) -> None:
        (self._folder / NEXT).unlink(missing_ok=True)
        if not self._current().exists():
            return  # whatever has happened here: what else there is may be needed
        for file in self._folder.glob("agent-*.pyz"):
            if file.resolve() != self._current():
                file.unlink()

    def _promote(self, file: Path) -> None:
        point_to(self._folder / CURRENT, file)


def write_version(folder: Path, content: bytes) -> Path:
    """Write a version of the agent beside the others, whole or not at all."""
    file = folder / f"agent-{hashlib.sha256(content).hexdigest()[:16]}.pyz"
    write_whole(file, content, 0o644)
    return file


def write_whole(path: Path, content: bytes, mode: int) -> None:
    """Write a file whole or not at all, even if the machine stops in between."""
    temporary = path.with_name(f".{path.name}.new")
    temporary.unlink(missing_ok=True)
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    with os.fdopen(descriptor, "wb") as file:
        os.fchmod(file.fileno(), mode)
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)


def point_to(link: Path, file: Path) -> None:
    """Let a link name `file`, which lies beside it: now or not at all, even if the machine stops in between."""
    fresh = link.with_name(f".{link.name}.new")
    fresh.unlink(missing_ok=True)
    fresh.symlink_to(file.name)
    fresh.replace(link)
    folder = os.open(link.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


if __name__ == "__main__":
    sys.exit(Launcher(Path(__file__).resolve().parent, sys.argv[1:]).run())
