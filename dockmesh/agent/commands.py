"""Carries out the commands that the server hands out: each at most once, one at a time for each lock."""

from __future__ import annotations

import logging
import threading
import time
import uuid
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from dockmesh.agent.document import JSON, MAX_PROGRESS_BYTES, Progress
from dockmesh.agent.journal import Journal, failure
from dockmesh.agent.output import Output
from dockmesh.agent.process import Cancellation
from dockmesh.agent.text import ERROR_BYTES, clean

if TYPE_CHECKING:
    from typing import TypeGuard  # Python 3.10

log = logging.getLogger("dockmesh.agent")

CANCELLED = "cancelled"
MAX_PARALLEL = 4
# What somebody waits for before a page is carried out beside the others, so many at a time.
BESIDE = frozenset({"container-action", "container-inspect", "container-logs"})
MAX_BESIDE = 8
DEFAULT_TIMEOUT_SECONDS = 3600.0
LONGEST_TIMEOUT_SECONDS = 24 * 3600.0


class CommandError(Exception):
    """The command can't be carried out or went wrong; the text is the result's `error`.

    `details` are what is worth reporting all the same, such as a snapshot that was made.
    """

    def __init__(self, message: str, *, exit_code: int | None = None, details: JSON | None = None) -> None:
        super().__init__(message)
        self.exit_code = exit_code
        self.details = details or {}


@dataclass
class Run:
    """One command being carried out, as its executor sees it."""

    command_id: str
    kind: str
    payload: Mapping[str, Any]
    cancelled: Cancellation
    output: Output = field(default_factory=Output)
    is_forgotten: bool = False
    started: float = 0.0
    deadline: float = 0.0

    @property
    def lock(self) -> str:
        """Commands with the same lock run one after the other; without one, a command is its own."""
        lock = self.payload.get("lock")
        if isinstance(lock, str) and lock:
            return lock
        # Two Compose runs on one stack's files would trip over each other whoever forgot the lock.
        return f"stack:{self.payload.get('stack')}" if self.kind == "deploy" else f"command:{self.command_id}"

    def text(self, key: str, default: str | None = None) -> str:
        """A text of the payload; raises CommandError where it is missing (without a default) or no text."""
        value = self.payload.get(key, default)
        if not isinstance(value, str):
            raise CommandError(f"payload: {key} must be a text")
        return value


# Gives the result's keys that go beyond `failure()`'s, `exit_code` included; raises CommandError.
Executor = Callable[[Run], JSON]


class CommandRunner:
    """A queue before a few threads. `on_change` is called when a result is there to be reported."""

    def __init__(
        self, executors: Mapping[str, Executor], journal: Journal, *, on_change: Callable[[], None]
    ) -> None:
        # An agent that carries out nothing has nothing to cancel.
        self._executors = {**executors, "cancel": self._cancel} if executors else {}
        self._journal = journal
        self._on_change = on_change
        self._guard = threading.Lock()
        self._is_stopping = False
        self._is_paused = False
        self._waiting: deque[Run] = deque()
        self._running: dict[str, Run] = {}
        self._reported: dict[str, int] = {}  # command id → position of the output that the server has
        self._offered: dict[str, int] = {}  # command id → position that the last progress() reached

    @property
    def is_busy(self) -> bool:
        with self._guard:
            return bool(self._waiting or self._running)

    def submit(self, command: object) -> None:
        """Take a command from the heartbeat's answer, unless it is known already."""
        if not isinstance(command, dict) or not is_command_id(command.get("id")):
            log.error("The server sent a command whose id is no UUID; it is ignored")
            return
        payload = command.get("payload")
        run = Run(
            command_id=command["id"],
            kind=clean(command.get("kind"), limit=64),
            payload=payload if isinstance(payload, dict) else {},
            cancelled=Cancellation(),
        )
        with self._guard:
            # What is not written down is offered again, to whichever agent runs next.
            if self._is_paused:
                return
            is_new = self._journal.begin(run.command_id, run.kind)
            if is_new:
                log.info("Command %s (%s) received", run.command_id, run.kind)
                self._waiting.append(run)
                self._start_ready()
        if not is_new:
            self.asked(run.command_id)

    def asked(self, command_id: object) -> None:
        """The server has no end of this command: tell it once more, or that it is not known here.

        It was told before where the server has been put back to an older copy; it is not known where that was
        done to this host. What runs, waits or is about to be reported is in no need of it.
        """
        if is_command_id(command_id) and self._journal.report_again(command_id):
            log.warning("The server asks how command %s ended", command_id)
            self._on_change()

    def progress(self) -> list[Progress]:
        """What each command has written since the heartbeat that was last accepted."""
        now = time.monotonic()
        report = []
        with self._guard:
            self._offered.clear()
            for run in [*self._running.values(), *self._waiting]:
                if run.is_forgotten:
                    continue
                known = self._reported.get(run.command_id, 0)
                text, self._offered[run.command_id] = run.output.since(known, limit=MAX_PROGRESS_BYTES)
                report.append(Progress(run.command_id, text, now - run.started if run.started else 0.0))
        return report

    def progress_accepted(self) -> None:
        """The server has what the last `progress` gave; the next one begins after it."""
        with self._guard:
            for command_id, position in self._offered.items():
                if command_id in self._running:
                    self._reported[command_id] = position

    def forget_all(self) -> None:
        """After the enrollment as a new host: nothing that was handed out before is begun or reported any more.

        What runs already is let run to its end, since half a deploy is worse than a whole one.
        """
        with self._guard:
            self._waiting.clear()
            self._reported.clear()
            self._offered.clear()
            for run in self._running.values():
                run.is_forgotten = True
            self._journal.forget_all()

    def pause_others(self, command_id: str) -> bool:
        """Take no command any more if this one is all there is to do here; whether it is."""
        with self._guard:
            self._is_paused = list(self._running) == [command_id] and not self._waiting
            return self._is_paused

    def stop(self, timeout: float) -> None:
        """Stop what runs; each ends as a failure in the journal. Gives up waiting after `timeout` seconds."""
        with self._guard:
            self._is_stopping = True
            for run in self._running.values():
                run.cancelled.set()
            for run in self._waiting:
                self._journal.finish(run.command_id, failure("agent stopped before it began"))
            self._waiting.clear()
        until = time.monotonic() + timeout
        while self.is_busy and time.monotonic() < until:
            time.sleep(0.05)

    def _cancel(self, command: Run) -> JSON:
        """The executor of `cancel`. Payload: command, the id of the one to stop."""
        identity = command.text("command")
        with self._guard:
            run = self._running.get(identity)
            if run is None:
                run = next((waiting for waiting in self._waiting if waiting.command_id == identity), None)
            if run is None:
                raise CommandError("the command has ended already, or is not known here")
            log.info("Command %s is cancelled", identity)
            run.cancelled.cancel(CANCELLED)
            self._start_ready()
        return {}

    def _start_ready(self) -> None:
        if self._is_stopping:
            return
        held = {run.lock for run in self._running.values()}
        for run in list(self._waiting):
            # What ends another one, or has been ended, doesn't wait until others have.
            is_at_once = run.kind == "cancel" or run.cancelled.is_set()
            is_beside = run.kind in BESIDE
            running = sum((each.kind in BESIDE) == is_beside for each in self._running.values())
            is_full = running >= (MAX_BESIDE if is_beside else MAX_PARALLEL)
            if not is_at_once and (is_full or run.lock in held):
                continue
            held.add(run.lock)
            self._waiting.remove(run)
            self._running[run.command_id] = run
            threading.Thread(
                target=self._carry_out, args=(run,), name=f"command-{run.command_id}", daemon=True
            ).start()

    def _carry_out(self, run: Run) -> None:
        run.started = time.monotonic()
        result = self._result(run)
        with self._guard:
            if not run.is_forgotten:
                self._journal.finish(run.command_id, result)
        if not run.is_forgotten:
            log.info(
                "Command %s (%s) ended as %s after %.1f s%s",
                run.command_id, run.kind, result["result"], result["duration_seconds"],
                f": {result['error']}" if result["error"] else "",
            )  # fmt: skip
        with self._guard:
            del self._running[run.command_id]
            self._reported.pop(run.command_id, None)
            self._start_ready()
        self._on_change()

    def _result(self, run: Run) -> JSON:
        result = failure("")
        try:
            run.deadline = run.started + _timeout(run.payload.get("timeout_seconds"))
            if run.cancelled.is_set():
                raise CommandError("stopped before it began", details={"is_changed": False})
            executor = self._executors.get(run.kind)
            if executor is None:
                raise CommandError(f"this agent does not carry out {run.kind!r}")
            result |= {"exit_code": 0, **executor(run), "result": "success"}
        except CommandError as error:
            text = clean(run.output.mask(str(error)), limit=ERROR_BYTES)
            result |= {**error.details, "exit_code": error.exit_code, "error": text}
        except Exception as error:
            log.exception("Command %s (%s) failed in an unexpected way", run.command_id, run.kind)
            text = clean(run.output.mask(f"{type(error).__name__}: {error}"), limit=ERROR_BYTES)
            result |= {"error": text}
        result["duration_seconds"] = round(time.monotonic() - run.started, 3)
        result["output"] = run.output.text()
        return result


def is_command_id(value: object) -> TypeGuard[str]:
    """Whether it is a UUID as the server writes them."""
    if not isinstance(value, str):
        return False
    try:
        return str(uuid.UUID(value)) == value
    except ValueError:
        return False


def _timeout(value: object) -> float:
    if value is None:
        return DEFAULT_TIMEOUT_SECONDS
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 < value < float("inf"):
        raise CommandError("payload: timeout_seconds must be a number above 0")
    return min(float(value), LONGEST_TIMEOUT_SECONDS)
