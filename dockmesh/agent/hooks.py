"""What happens around the reading of a backup: commands of the job, and the stack's containers at rest."""

from __future__ import annotations

import contextlib
import json
import logging
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from dockmesh.agent import engine, mounts
from dockmesh.agent.commands import CommandError, Run
from dockmesh.agent.process import Cancellation, environment, run
from dockmesh.agent.state import write_private

log = logging.getLogger("dockmesh.agent")

DEFAULT_SECONDS = 300.0
# How long the command after the backup may take when the agent stops.
LAST_SECONDS = 8.0
# And when the job's time limit is over: less than the server waits for a result after it.
OVERTIME_SECONDS = 45.0
_SHORTEST_ANSWER_SECONDS = 30.0
_DOCKERS_FILES = ("/etc/hostname", "/etc/hosts", "/etc/resolv.conf")


class Hooks:
    """Around one backup. Payload: before_command, after_command, hook_timeout_seconds, stop_stack."""

    def __init__(self, command: Run, *, folder: Path, docker_host: str, may_run_commands: bool) -> None:
        self._command = command
        self._folder = folder
        self._docker_host = docker_host
        self._before = command.text("before_command", "")
        self._after = command.text("after_command", "")
        self._stack = command.text("stop_stack", "")
        seconds = command.payload.get("hook_timeout_seconds", DEFAULT_SECONDS)
        self._seconds = float(seconds) if isinstance(seconds, (int, float)) else DEFAULT_SECONDS
        self.result = "failure"
        if (self._before or self._after) and not may_run_commands:
            raise CommandError("this agent runs no commands of backup jobs: agent.toml says commands = false")

    @contextlib.contextmanager
    def around(self) -> Iterator[None]:
        """Before, the block, after: the containers are started and the command after is run whatever happens."""
        try:
            self._run("before", self._before, self._command.deadline, self._command.cancelled)
            with self._stopped():
                yield
        finally:
            self._run("after", self._after, self._last_moment(), Cancellation())

    def _last_moment(self) -> float:
        """Until when the command after may run: it also gets its turn when the time is over, or the agent stops."""
        now = time.monotonic()
        if self._command.cancelled.is_set():
            return now + LAST_SECONDS
        return max(self._command.deadline, now + OVERTIME_SECONDS)

    def _run(self, when: str, text: str, deadline: float, cancelled: Cancellation) -> None:
        if not text:
            return
        output = self._command.output
        output.line(f"The command {when} the backup:")
        ended = run(
            ["sh", "-c", text],
            env=environment(
                {
                    "DOCKER_HOST": self._docker_host,
                    "DOCKMESH_BACKUP_RESULT": self.result if when == "after" else "",
                }
            ),
            on_output=output.write,
            deadline=min(deadline, time.monotonic() + self._seconds),
            cancelled=cancelled,
        )
        if ended.reason or ended.exit_code != 0:
            what = ended.reason or f"ended with exit code {ended.exit_code}"
            raise CommandError(f"the command {when} the backup: {what}", exit_code=ended.exit_code)

    @contextlib.contextmanager
    def _stopped(self) -> Iterator[None]:
        if not self._stack:
            yield
            return
        note = self._folder / f"{self._command.command_id}.json"
        try:
            try:
                self._stop(note)
            except engine.FAILURES as error:
                reason = engine.explain(error, self._docker_host)
                raise CommandError(f"the containers of {self._stack!r} can't be stopped: {reason}") from None
            yield
        finally:
            self._start(note)

    def _stop(self, note: Path) -> None:
        with _client(self._docker_host, self._seconds) as client:
            running = client.api.containers(
                filters={"label": f"com.docker.compose.project={self._stack}", "status": "running"}
            )
            # An agent that is a container of this stack goes on.
            own = _own_places()
            running = [item for item in running if item["Id"] not in own]
            # The newest first, since they depend on the older ones.
            running.sort(key=lambda item: item.get("Created", 0), reverse=True)
            self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            # Before the first is stopped: an agent that dies meanwhile starts them when it is back.
            write_private(note, json.dumps([item["Id"] for item in running]))
            until = time.monotonic() + self._seconds
            for item in running:
                if time.monotonic() > until or self._command.cancelled.is_set():
                    raise CommandError(
                        f"the containers of {self._stack!r} did not stop within the time for it"
                    )
                client.api.stop(item["Id"])
            self._command.output.line(f"Stopped {len(running)} containers of {self._stack!r}.")

    def _start(self, note: Path) -> None:
        if not note.exists():
            return
        left = start_again(note, self._docker_host, self._seconds)
        if left:
            raise CommandError(f"containers of {self._stack!r} could not be started again: {left}")
        self._command.output.line(f"The containers of {self._stack!r} are started again.")


def start_all_again(folder: Path, docker_host: str) -> None:
    """At the agent's start: what an earlier run stopped for a backup and did not start again."""
    for note in folder.glob("*.json"):
        left = start_again(note, docker_host, DEFAULT_SECONDS)
        if left:
            log.error("Containers that were stopped for a backup can't be started again: %s", left)
        else:
            log.warning("Started the containers again that were stopped for a backup which was interrupted")


def start_again(note: Path, docker_host: str, seconds: float) -> str:
    """Start the containers of a note; empty, and the note gone, where all run, else what was wrong."""
    try:
        identities = json.loads(note.read_text())
    except (OSError, ValueError):
        identities = []
    wrong = []
    try:
        with _client(docker_host, seconds) as client:
            # Stopped the newest first, started the oldest first.
            for identity in reversed(identities):
                try:
                    client.api.start(identity)
                except engine.FAILURES as error:
                    if getattr(getattr(error, "response", None), "status_code", 0) != 404:
                        wrong.append(f"{identity[:12]}: {engine.explain(error, docker_host)}")
    except engine.FAILURES as error:
        wrong.append(engine.explain(error, docker_host))
    if not wrong:
        note.unlink(missing_ok=True)
    return "; ".join(wrong)


@contextlib.contextmanager
def _client(docker_host: str, seconds: float) -> Iterator[Any]:
    # A stop is answered once the container is down.
    client = engine.connect(docker_host, timeout=max(seconds, _SHORTEST_ANSWER_SECONDS))
    try:
        yield client
    finally:
        client.close()


def _own_places() -> str:
    """In a container, where its /etc/hosts and the like come from: a folder with the container's id in its name."""
    return " ".join(mount.root for mount in mounts.read() if mount.path in _DOCKERS_FILES)
