"""Reports the results of commands until the server has acknowledged each."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable

from dockmesh.agent.backoff import Backoff
from dockmesh.agent.client import ServerClient
from dockmesh.agent.document import JSON
from dockmesh.agent.errors import ServerError
from dockmesh.agent.journal import Journal

log = logging.getLogger("dockmesh.agent")

# The server knows the command under another result, or not at all: sending it again can't change that.
_FINAL = frozenset({400, 403, 404, 409, 410, 413, 415, 422})


class Reporter:
    """A thread of its own, so that neither heartbeats nor results wait for each other."""

    def __init__(self, client: ServerClient, journal: Journal, *, token: Callable[[], str]) -> None:
        self._client = client
        self._journal = journal
        self._token = token
        self._backoff = Backoff(first=0.5, longest=30.0)
        self._wake = threading.Event()
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="reporter", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def wake(self) -> None:
        self._wake.set()

    def stop(self, timeout: float) -> None:
        """Try once more to report what is left, then end; what is not acknowledged stays in the journal."""
        self._stopping.set()
        self._wake.set()
        self._thread.join(timeout)

    @property
    def has_work(self) -> bool:
        return bool(self._journal.unacknowledged())

    def _run(self) -> None:
        while True:
            is_last = self._stopping.is_set()
            self._wake.clear()
            wait = self._report_all()
            if is_last:
                return
            if not self._stopping.is_set():
                self._wake.wait(wait)

    def _report_all(self) -> float | None:
        """Send every result that is not acknowledged. Gives the seconds to wait, None for until woken."""
        # Before the journal is read: what a new enrollment has made nobody's goes out under no new token.
        token = self._token()
        for command_id, result in self._journal.unacknowledged():
            try:
                self._report(command_id, result, token)
            except ServerError as error:
                log.warning("The result of command %s can't be reported: %s", command_id, error)
                return self._backoff.failed(retry_after=error.retry_after)
            self._backoff.succeeded()
        return None

    def _report(self, command_id: str, result: JSON, token: str) -> None:
        try:
            self._client.post(f"commands/{command_id}/result", result, token=token)
        except ServerError as error:
            if error.status not in _FINAL:
                raise
            log.error("The server does not take the result of command %s: %s", command_id, error)
        self._journal.acknowledge(command_id)
