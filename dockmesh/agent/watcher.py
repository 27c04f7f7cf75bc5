"""Watches the Docker Engine: all containers, and each change as its event comes.

`EngineWatcher` is a thread of its own, so that an Engine that hangs never holds up a heartbeat; the loop
takes the latest `Snapshot`. Only the list of containers is needed. What is nice to have (events, inspections, facts of
the machine) is asked for in further threads, and may be refused, hang or end without the host being any the worse.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Collection, Mapping
from dataclasses import replace

from dockmesh.agent.backoff import Backoff
from dockmesh.agent.document import Snapshot, System, digest
from dockmesh.agent.engine import FAILURES, Engine, EngineError, explain, local_system, system
from dockmesh.agent.events import Events
from dockmesh.agent.inspection import Inspector
from dockmesh.agent.inventory import Inventory, TooManyContainers
from dockmesh.agent.tally import Tally
from dockmesh.agent.text import ERROR_BYTES, clean

log = logging.getLogger("dockmesh.agent")

# A burst of events (a stack that starts) is read once, this long after its first event.
DEBOUNCE_SECONDS = 0.2
# The list is read this often even without events, so that a hanging Engine and a silent stream are noticed.
PROBE_SECONDS = 10.0
# The same where no events are to be had.
POLL_SECONDS = 5.0
# Every container is inspected anew this often, in case an event was lost.
FULL_READ_SECONDS = 300.0
# So long the first reading waits for events and for the machine's facts.
FIRST_SECONDS = 2.0
UNKNOWN_SYSTEM = System("", "", "", 0, 0)


class EngineWatcher:
    """Keeps `snapshot` up to date; calls `on_change` when the next heartbeat would say something new."""

    def __init__(
        self,
        docker_host: str,
        tally: Tally,
        *,
        on_change: Callable[[], None],
        on_event: Callable[[object], None] = lambda event: None,
    ) -> None:
        self._docker_host = docker_host
        self._tally = tally
        self._on_change = on_change
        self._on_event = on_event
        self._backoff = Backoff(first=0.5, longest=15.0)
        self._dirty = threading.Event()
        self._stopping = threading.Event()
        self._guard = threading.Lock()
        self._changed: set[str] = set()
        self._first_read = threading.Event()
        self._snapshot = Snapshot(
            reachable=False,
            version="",
            error="Docker has not been read yet",
            system=local_system(),
            containers=None,
        )
        self._thread = threading.Thread(target=self._run, name="engine", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._stopping.set()
        self._dirty.set()

    @property
    def snapshot(self) -> Snapshot:
        return self._snapshot

    def forget_counts(self) -> None:
        """Count anew, for this is another host now."""
        self._tally.forget_all()
        last = self._snapshot
        if last.containers is not None:
            containers = self._tally.anew(last.containers)
            self._snapshot = replace(last, containers=containers, digest=digest(containers))

    def wait_first(self, timeout: float) -> None:
        """Wait until Docker has been read, or found unreadable, for the first time."""
        self._first_read.wait(timeout)

    def _run(self) -> None:
        while not self._stopping.is_set():
            try:
                self._follow()
            except Exception as error:
                if self._stopping.is_set():
                    return
                if not isinstance(error, FAILURES):
                    log.exception("Reading Docker failed in an unexpected way")
                self._publish_failure(explain(error, self._docker_host))
                self._stopping.wait(self._backoff.failed())

    def _follow(self) -> None:
        """Read the Engine for as long as it gives its list."""
        with Engine.open(self._docker_host) as engine:
            # Events first, the list second: what happens in between is in one of them.
            events = Events(engine.another, self._note, self._tally, on_event=self._on_event)
            machine = _Machine(engine.another, lambda: self._note(""))
            inspector = Inspector(engine.another, lambda: self._note(""))
            try:
                began = time.monotonic()
                events.wait_tried(FIRST_SECONDS)
                machine.wait_read(max(began + FIRST_SECONDS - time.monotonic(), 0.0))
                self._read_on(engine, events, machine, inspector)
            finally:
                events.close()
                inspector.close()

    def _read_on(self, engine: Engine, events: Events, machine: _Machine, inspector: Inspector) -> None:
        inventory = Inventory(engine, inspector, self._tally)
        next_full = 0.0
        while not self._stopping.is_set():
            with self._guard:
                self._dirty.clear()
                changed, self._changed = self._changed, set()
            is_full = time.monotonic() >= next_full
            containers, error = _containers(inventory, None if is_full else changed)
            if is_full:
                next_full = time.monotonic() + FULL_READ_SECONDS
                machine.read_if_unknown()
            refusals = (engine.version_refused, machine.refused, events.refused, inspector.refused)
            self._set(
                Snapshot(
                    True,
                    engine.version,
                    error or _limits(refusals),
                    machine.system or self._snapshot.system,
                    containers,
                    digest(containers) if containers is not None else "",
                )
            )
            wait = PROBE_SECONDS if events.is_open else POLL_SECONDS
            if containers is None:
                wait = self._backoff.failed()
            else:
                self._backoff.succeeded()
            if self._dirty.wait(wait):
                self._stopping.wait(DEBOUNCE_SECONDS)

    def _note(self, identity: str) -> None:
        with self._guard:
            if identity:
                self._changed.add(identity)
            self._dirty.set()

    def _publish_failure(self, text: str) -> None:
        last = self._snapshot
        self._set(Snapshot(False, last.version, text, last.system, None))

    def _set(self, snapshot: Snapshot) -> None:
        last, self._snapshot = self._snapshot, snapshot
        is_first = not self._first_read.is_set()
        self._first_read.set()
        if snapshot.error and (is_first or snapshot.error != last.error):
            log.log(logging.ERROR if snapshot.containers is None else logging.WARNING, "%s", snapshot.error)
        if snapshot.containers is not None and (is_first or last.containers is None):
            log.info("Docker %s answers: %d containers", snapshot.version, len(snapshot.containers))
        if snapshot != last:
            self._on_change()


class _Machine:
    """The facts of the Engine's machine, read in a thread: GET /info may hang for a plugin that nobody needs."""

    def __init__(self, connect: Callable[[], Engine], on_read: Callable[[], None]) -> None:
        # None until it is known, or known to be unknowable.
        self.system: System | None = None
        self.refused: EngineError | None = None
        self._connect = connect
        self._on_read = on_read
        self._read = threading.Event()
        self._thread: threading.Thread | None = None
        self.read_if_unknown()

    def wait_read(self, seconds: float) -> None:
        self._read.wait(seconds)

    def read_if_unknown(self) -> None:
        is_known = self.system is not None and self.refused is None
        if not is_known and (self._thread is None or not self._thread.is_alive()):
            self._thread = threading.Thread(target=self._ask, name="machine", daemon=True)
            self._thread.start()

    def _ask(self) -> None:
        try:
            with self._connect() as engine:
                info = engine.get("/info")
            if not isinstance(info, Mapping):
                raise EngineError("/info", 200, "the answer is not an object")
            self.system, self.refused = system(info), None
        except EngineError as error:
            self.system, self.refused = UNKNOWN_SYSTEM, error
        except FAILURES:
            self.system, self.refused = UNKNOWN_SYSTEM, EngineError("/info", 200, "no answer")
        self._read.set()
        self._on_read()


def _containers(
    inventory: Inventory, changed: Collection[str] | None
) -> tuple[tuple[dict[str, object], ...] | None, str]:
    """(the containers, "") or (None, why the Engine, which answers, gives no list that could be sent)."""
    try:
        return inventory.read(changed=changed), ""
    except (TooManyContainers, EngineError) as error:
        return None, clean(f"The containers can't be listed: {error}", limit=ERROR_BYTES)


def _limits(refusals: Collection[EngineError | None]) -> str:
    """What of Docker can't be asked, in one line; empty if all can."""
    texts = [str(error) for error in refusals if error is not None]
    if not texts:
        return ""
    return clean(
        f"Docker is read without what is not allowed or fails: {'; '.join(texts)}", limit=ERROR_BYTES
    )
