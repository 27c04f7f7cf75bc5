"""One request that waits at the server, so that a command reaches the agent at once."""

import logging
import random
import threading
import time
from collections.abc import Callable

from dockmesh.agent.backoff import Backoff
from dockmesh.agent.client import ServerClient
from dockmesh.agent.errors import ServerError

log = logging.getLogger("dockmesh.agent")

# The server lets a request wait for 25 s.
READ_SECONDS = 45.0
# An answer with nothing that came sooner means that the server does not let requests wait, or that another agent has
# the same credential; a failure that came later, that something on the way gave up waiting.
SHORT_SECONDS = 5.0
CUT_SECONDS = 1.0
# A server of before, or a proxy that lets this address through to nobody: it may be updated one day.
NOT_THERE = frozenset({404, 405, 501})
NOT_THERE_SECONDS = 300.0
REFUSED_SECONDS = 60.0


class Waiting:
    """A thread of its own. Whatever becomes of it, commands come with the answers to heartbeats as well."""

    def __init__(
        self, client: ServerClient, *, token: Callable[[], str], submit: Callable[[object], None]
    ) -> None:
        self._client = client
        self._token = token
        self._submit = submit
        self._backoff = Backoff(first=1.0, longest=30.0)
        self._is_told = False
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="waiting", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """Ask no more; a request that waits is not waited for."""
        self._stopping.set()

    def _run(self) -> None:
        while not self._stopping.is_set():
            pause = self._ask()
            if pause > 0:
                self._stopping.wait(pause)

    def _ask(self) -> float:
        """Ask once, hand on what there is, and give the seconds until the next time."""
        token = self._token()
        started = time.monotonic()
        try:
            answer = self._client.post("wait", {}, token=token, read_seconds=READ_SECONDS)
        except ServerError as error:
            return self._failed(error, time.monotonic() - started)
        if self._is_told:
            self._is_told = False
            log.info("Commands come at once again")
        commands = answer.body.get("commands")
        if not isinstance(commands, list) or not commands:
            # Two agents with one credential would chase each other away as fast as they can.
            if answer.round_trip_seconds < SHORT_SECONDS:
                return self._backoff.failed()
            self._backoff.succeeded()
            return 0.0
        self._backoff.succeeded()
        # What was handed to the host that this agent was before it enrolled anew is nobody's.
        if self._token() == token and not self._stopping.is_set():
            for command in commands:
                self._submit(command)
        return 0.0

    def _failed(self, error: ServerError, seconds: float) -> float:
        if not error.status and seconds >= SHORT_SECONDS:
            return CUT_SECONDS * random.uniform(0.5, 1.5)  # noqa: S311 - jitter
        if not self._is_told:
            self._is_told = True
            log.info("Commands come with the heartbeats for now: %s", error)
        if error.status in NOT_THERE:
            return NOT_THERE_SECONDS * random.uniform(0.75, 1.25)  # noqa: S311 - jitter
        if error.status == 401:
            # The heartbeats see to a new credential.
            return REFUSED_SECONDS * random.uniform(0.75, 1.25)  # noqa: S311 - jitter
        return self._backoff.failed(retry_after=error.retry_after)
