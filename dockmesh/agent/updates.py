"""The agent's own update: the new file is fetched, checked and handed to the launcher, which tries it.

The command stays open in the journal while the agents change: the new one reports it as a success once the launcher
has let it in, the old one as a failure if it has to run again.
"""

from __future__ import annotations

import hashlib
import logging
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from dockmesh.agent import VERSION, launcher
from dockmesh.agent.client import ServerClient
from dockmesh.agent.commands import CommandError, Run
from dockmesh.agent.document import JSON
from dockmesh.agent.errors import ServerError
from dockmesh.agent.journal import Journal, failure
from dockmesh.agent.process import environment
from dockmesh.agent.text import clean

log = logging.getLogger("dockmesh.agent")

KIND = "agent-update"
MAX_BYTES = 64 * 1024 * 1024
# How much of a file's SHA-256 tells its builds apart.
BUILD_CHARACTERS = 16
_PATH = f"/agent/{launcher.CURRENT}"
_CHECK_SECONDS = 60.0
_POLL_SECONDS = 0.5
_PROMOTION_SECONDS = 30.0
INTERRUPTED = "the agent was stopped before its new version ran"


def own_file() -> Path | None:
    """The zipapp that this is, None where it is no such file."""
    path = Path(__file__).resolve().parents[2]
    return path if path.is_file() else None


def build() -> str:
    """What tells this file from others of the same version; empty where the agent is no such file."""
    file = own_file()
    return hashlib.sha256(file.read_bytes()).hexdigest()[:BUILD_CHARACTERS] if file else ""


@dataclass(frozen=True)
class Launched:
    """What the launcher has told this agent. `folder` is None where no launcher has started it."""

    folder: Path | None
    is_trial: bool
    error: str

    @classmethod
    def of(cls, environ: Mapping[str, str]) -> Launched:
        folder = environ.get(launcher.FOLDER_VARIABLE, "")
        return cls(
            Path(folder) if folder else None,
            environ.get(launcher.TRIAL_VARIABLE) == "1",
            environ.get(launcher.ERROR_VARIABLE, ""),
        )


class Updates:
    """The executor of `agent-update`, and what became of one."""

    def __init__(
        self,
        launched: Launched,
        client: ServerClient,
        journal: Journal,
        *,
        pause_others: Callable[[str], bool],
        stop: Callable[[], None],
        on_result: Callable[[], None],
    ) -> None:
        self._launched = launched
        self._client = client
        self._journal = journal
        self._pause_others = pause_others
        self._stop = stop
        self._on_result = on_result
        self._is_heard = False
        self._open: list[str] = []
        # The agent is to end so that the launcher starts what was fetched.
        self.is_handing_over = False

    def begin(self) -> list[str]:
        """Settle what an agent before this one has left open; gives the commands that stay so until the trial is over."""
        left = self._journal.begun(KIND)
        if self._launched.is_trial:
            self._open = left
            return left
        for command_id in left:
            self._journal.finish(command_id, failure(self._launched.error or INTERRUPTED))
        return []

    @property
    def why_not(self) -> str:
        """Why this agent can't replace itself, in a sentence; empty where it can."""
        folder, file = self._launched.folder, own_file()
        if file is None:
            return "it does not run from the file that the server hands out"
        if folder is None:
            in_container = Path("/.dockerenv").exists()
            return (
                "it runs in a container: build its image anew" if in_container else "it was started by hand"
            )
        if not os.access(folder, os.W_OK):
            return f"it may not write into {folder}"
        return ""

    def accepted(self) -> None:
        """The server has taken a heartbeat: tell the launcher, and once it has let this version in, the server."""
        folder = self._launched.folder
        if self._is_heard or folder is None:
            return
        self._is_heard = True
        try:
            (folder / launcher.HEARD).write_text(f"{os.getpid()}\n", encoding="ascii")
        except OSError as error:
            log.warning("%s can't be written: %s", folder / launcher.HEARD, error.strerror)
            return
        if self._open:
            threading.Thread(target=self._report, args=(folder,), name="update", daemon=True).start()

    def carry_out(self, run: Run) -> JSON:
        """Payload: `sha256`, of the file that the server hands out."""
        refusal, folder = self.why_not, self._launched.folder
        if refusal or folder is None:
            raise CommandError(f"this agent can't update itself: {refusal}")
        expected = run.text("sha256")
        if expected.startswith(build()):
            run.output.line(f"The agent is this very version already ({VERSION}).")
            return {"is_changed": False}
        file = self._fetched(folder, expected)
        try:
            self._check(file)
            run.output.line(f"Fetched and checked: {file.name}. It takes over once nothing else runs here.")
            launcher.point_to(folder / launcher.NEXT, file)
            while not self._pause_others(run.command_id):
                if run.cancelled.wait(_POLL_SECONDS):
                    raise CommandError(run.cancelled.reason)
                if time.monotonic() >= run.deadline:
                    raise CommandError("other commands ran all the time; the agent is as it was")
        except BaseException:
            (folder / launcher.NEXT).unlink(missing_ok=True)
            file.unlink(missing_ok=True)
            raise
        log.info("Update: %s takes over", file.name)
        # It is reported by whichever agent runs afterwards.
        run.is_forgotten = True
        self.is_handing_over = True
        self._stop()
        return {}

    def _fetched(self, folder: Path, expected: str) -> Path:
        try:
            content = self._client.download(_PATH, limit=MAX_BYTES)
        except ServerError as error:
            raise CommandError(f"the new version can't be fetched: {error}") from None
        found = hashlib.sha256(content).hexdigest()
        if found != expected:
            raise CommandError(
                f"what the server hands out has the SHA-256 {found[:16]}…, and {expected[:16]}… was asked for"
            )
        try:
            return launcher.write_version(folder, content)
        except OSError as error:
            raise CommandError(f"{folder} can't be written: {error.strerror}") from None

    def _check(self, file: Path) -> None:
        """Whether it starts at all; that needs no interruption."""
        try:
            done = subprocess.run(  # noqa: S603 - what was fetched and checked
                [sys.executable, str(file), "--version"],
                env=environment(),
                stdin=subprocess.DEVNULL,
                capture_output=True,
                timeout=_CHECK_SECONDS,
                check=False,
            )
        except (OSError, subprocess.TimeoutExpired) as error:
            raise CommandError(f"the new version does not start: {error}") from None
        if done.returncode != 0:
            words = done.stderr.decode("utf-8", "replace").strip().splitlines()
            raise CommandError(
                f"the new version does not start: {clean(words[-1] if words else done.returncode, limit=300)}",
                exit_code=done.returncode,
            )

    def _report(self, folder: Path) -> None:
        own, until = own_file(), time.monotonic() + _PROMOTION_SECONDS
        while time.monotonic() < until:
            if (folder / launcher.CURRENT).resolve() == own:
                for command_id in self._open:
                    result = {**failure(""), "result": "success", "exit_code": 0, "is_changed": True}
                    self._journal.finish(command_id, result)
                self._on_result()
                return
            time.sleep(_POLL_SECONDS / 5)
