"""The agent's main loop: one heartbeat after another."""

from __future__ import annotations

import logging
import random
import time
import uuid
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timezone

from dockmesh.agent.backoff import Backoff
from dockmesh.agent.client import Answer, ServerClient
from dockmesh.agent.commands import CommandRunner
from dockmesh.agent.config import Settings
from dockmesh.agent.document import JSON, AgentInfo, HeartbeatState, Snapshot, heartbeat
from dockmesh.agent.enroll import enroll
from dockmesh.agent.errors import ServerError, StartError
from dockmesh.agent.reporter import Reporter
from dockmesh.agent.state import Credential, StateDir
from dockmesh.agent.stopping import Stopping
from dockmesh.agent.usage import Usage
from dockmesh.agent.watcher import EngineWatcher

log = logging.getLogger("dockmesh.agent")

DEFAULT_INTERVAL_SECONDS = 15.0
LONGEST_INTERVAL_SECONDS = 3600.0
WORK_INTERVAL_SECONDS = 1.0
# Changes come at once, but a container that crashes in a loop must not make a heartbeat each time.
SPACING_SECONDS = 1.0
# A removed host asks again now and then, should it be put back.
REFUSED_SECONDS = 60.0
MAX_ROUND_TRIPS = 64
MAX_STALE = 5
# So long nothing is told of what is used, once the server has refused it.
USAGE_REFUSED_SECONDS = 300.0
# Both together would come near to what the server takes of one heartbeat.
MOST_CONTAINERS_WITH_USAGE = 1000


@dataclass
class _Sent:
    """What the loop remembers between heartbeats."""

    boot_id: str = field(default_factory=lambda: str(uuid.uuid4()))
    sequence: int = 0
    known_digest: str = ""
    known_images: Sequence[JSON] | None = None
    refused_digest: str = ""
    refused_text: str = ""
    no_usage_until: float = 0.0
    stale_in_a_row: int = 0
    is_failing: bool = False
    round_trips: deque[float] = field(default_factory=lambda: deque(maxlen=MAX_ROUND_TRIPS))


class Heartbeats:
    """Sends heartbeats until stopped. Everything that it works with is given to it."""

    def __init__(
        self,
        *,
        settings: Settings,
        state: StateDir,
        credential: Credential,
        client: ServerClient,
        watcher: EngineWatcher,
        runner: CommandRunner,
        reporter: Reporter,
        stopping: Stopping,
        agent: Callable[[], AgentInfo],
        on_accepted: Callable[[], None],
        images: Callable[[], Sequence[JSON] | None] = lambda: None,
        usage: Usage | None = None,
    ) -> None:
        self._settings = settings
        self._state = state
        self._credential = credential
        self._client = client
        self._watcher = watcher
        self._runner = runner
        self._reporter = reporter
        self._stopping = stopping
        self._agent = agent
        self._on_accepted = on_accepted
        self._images = images
        self._usage = usage
        self._sent = _Sent()
        self._backoff = Backoff()
        self._interval = DEFAULT_INTERVAL_SECONDS
        self._last_at = 0.0
        self._not_before = 0.0

    @property
    def token(self) -> str:
        return self._credential.agent_token

    @property
    def interval_seconds(self) -> float:
        """The server's; 1 while there are commands."""
        return self._interval

    def run(self) -> None:
        is_wanted = True
        self._stopping.wait_awake(0)  # what woke it before the first heartbeat will be in that
        while not self._stopping.is_set:
            interval = WORK_INTERVAL_SECONDS if self._has_work() else self._interval
            due = max(self._not_before, 0.0 if is_wanted else self._last_at + interval)
            wait = due - time.monotonic()
            if wait > 0:
                is_wanted |= self._stopping.wait_awake(wait)
                continue
            is_wanted = self._beat()

    def _has_work(self) -> bool:
        return self._runner.is_busy or self._reporter.has_work

    def _beat(self) -> bool:
        """Send one heartbeat. True if the next one is wanted as soon as it may be sent."""
        self._last_at = time.monotonic()
        self._not_before = self._last_at + SPACING_SECONDS
        snapshot = self._sendable(self._watcher.snapshot)
        self._sent.sequence += 1
        round_trips = tuple(self._sent.round_trips)
        images = self._images()
        usage = self._used(snapshot)
        document = heartbeat(
            snapshot,
            HeartbeatState(
                boot_id=self._sent.boot_id,
                sequence=self._sent.sequence,
                sent_at=datetime.now(timezone.utc),
                rtt_seconds=round_trips,
                agent=self._agent(),
                progress=self._runner.progress(),
                known_digest=self._sent.known_digest,
                images=images if images != self._sent.known_images else None,
                usage=usage,
            ),
        )
        try:
            answer = self._client.post("heartbeat", document, token=self.token)
        except ServerError as error:
            self._failed(error, snapshot, had_usage=usage is not None)
            return True
        return self._answered(answer, snapshot, len(round_trips), images, had_usage=usage is not None)

    def _used(self, snapshot: Snapshot) -> JSON | None:
        if self._usage is None or time.monotonic() < self._sent.no_usage_until:
            return None
        if snapshot.containers is None:
            return None  # the server takes nothing of it
        is_whole = snapshot.digest != self._sent.known_digest
        if is_whole and len(snapshot.containers) > MOST_CONTAINERS_WITH_USAGE:
            return None
        # With a new inventory the server shows what was told before no more: names in it may be others.
        return self._usage.take(snapshot.containers, is_told_again=is_whole)

    def _sendable(self, snapshot: Snapshot) -> Snapshot:
        """The snapshot, without an inventory that the server has refused: the host then shows why."""
        if snapshot.containers is None or snapshot.digest != self._sent.refused_digest:
            return snapshot
        return replace(snapshot, containers=None, error=self._sent.refused_text)

    def _answered(
        self,
        answer: Answer,
        snapshot: Snapshot,
        sent_round_trips: int,
        images: Sequence[JSON] | None,
        *,
        had_usage: bool,
    ) -> bool:
        status = answer.body.get("status")
        log.debug("Heartbeat %d: %s in %.3f s", self._sent.sequence, status, answer.round_trip_seconds)
        if self._sent.is_failing:
            log.info("%s answers again", self._settings.server)
        self._sent.is_failing = False
        self._backoff.succeeded()
        self._interval = _interval(answer.body.get("heartbeat_interval_seconds"), self._interval)
        is_wanted = False
        if status in ("accepted", "inventory_wanted"):
            self._taken(sent_round_trips)
            self._sent.known_images = images
        else:
            self._stale()
        if status == "accepted" and snapshot.containers is not None:
            self._sent.known_digest = snapshot.digest
            if had_usage and self._usage is not None:
                self._usage.accepted()
        elif status == "inventory_wanted":
            # A server that wants what it was just sent is not asked again before its time.
            if self._sent.known_digest:
                self._not_before = 0.0
                is_wanted = True
            self._sent.known_digest = ""
        self._sent.round_trips.append(answer.round_trip_seconds)
        commands = answer.body.get("commands")
        for command in commands if isinstance(commands, list) else []:
            self._runner.submit(command)
        asked = answer.body.get("asked")
        for command_id in asked if isinstance(asked, list) else []:
            self._runner.asked(command_id)
        return is_wanted

    def _taken(self, sent_round_trips: int) -> None:
        """The server has the heartbeat, be it that it wants the whole inventory as well."""
        self._sent.stale_in_a_row = 0
        for _ in range(sent_round_trips):
            self._sent.round_trips.popleft()
        self._runner.progress_accepted()
        self._on_accepted()

    def _stale(self) -> None:
        self._sent.stale_in_a_row += 1
        if self._sent.stale_in_a_row == MAX_STALE:
            log.warning(
                "The server calls each heartbeat stale: does another agent use a copy of %s?",
                self._state.credential_path,
            )

    def _failed(self, error: ServerError, snapshot: Snapshot, *, had_usage: bool) -> None:
        self._sent.is_failing = True
        had_inventory = snapshot.containers is not None and snapshot.digest != self._sent.known_digest
        if error.status == 401:
            wait = self._refused()
        else:
            if error.status in (400, 413, 422) and had_usage:
                # Without it first: what is used is worth less than the heartbeat.
                self._sent.no_usage_until = time.monotonic() + USAGE_REFUSED_SECONDS
            elif error.status in (400, 413, 422) and had_inventory:
                self._sent.refused_digest = snapshot.digest
                self._sent.refused_text = f"the server refused this host's inventory: {error}"
            wait = self._backoff.failed(retry_after=error.retry_after)
            log.warning("Heartbeat failed: %s; next try in %.0f s", error, wait)
        self._not_before = time.monotonic() + wait

    def _forget_all(self) -> None:
        self._runner.forget_all()
        self._watcher.forget_counts()

    def _refused(self) -> float:
        """The credential is no longer valid: enrol again if there is a fresh token. Gives the seconds to wait."""
        try:
            token = self._settings.enrollment_token()
        except StartError as error:
            log.warning("%s", error)
            token = ""
        if token and not self._credential.was_enrolled_with(token):
            try:
                self._credential = enroll(self._settings, self._state, self._client, token, self._forget_all)
            except ServerError as error:
                log.error("Enrolling again failed: %s", error)
            else:
                self._sent = _Sent()
                return 0.0
        wait = REFUSED_SECONDS * random.uniform(0.75, 1.25)  # noqa: S311 - jitter
        log.error(
            "The server refused this agent's credential: the host was removed or its token revoked."
            " To enrol again, start the agent with a new enrollment token. Next try in %.0f s",
            wait,
        )
        return wait


def _interval(value: object, current: float) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return current
    return (
        min(max(float(value), WORK_INTERVAL_SECONDS), LONGEST_INTERVAL_SECONDS) if value == value else current
    )
