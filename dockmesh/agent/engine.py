"""Reads the Docker Engine: all containers, and each change as its event comes.

`EngineWatcher` is a thread of its own, so that an Engine that hangs never holds up a heartbeat; the loop
takes the latest `Snapshot`.
"""

import logging
import os
import platform
import threading
import time
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from typing import Any

import docker
import docker.errors
import requests

from dockmesh.agent.backoff import Backoff
from dockmesh.agent.document import (
    JSON,
    MAX_CONTAINERS,
    Snapshot,
    System,
    container,
    digest,
    ordered,
)
from dockmesh.agent.text import ERROR_BYTES, clean

log = logging.getLogger("dockmesh.agent")

# A burst of events (a stack that starts) is read once, this long after its first event.
DEBOUNCE_SECONDS = 0.2
# How long an Engine may take for an answer before it counts as not answering.
ANSWER_SECONDS = 10
# The list is read this often even without events, so that a hanging Engine is noticed.
PROBE_SECONDS = 10.0
# Every container is inspected anew this often, in case an event was lost.
FULL_READ_SECONDS = 300.0

EVENTS = (
    "create", "start", "die", "pause", "unpause", "restart", "rename", "oom", "destroy", "update",
    "health_status",
)  # fmt: skip
# What ends the reading of the Engine; the SDK lets requests' and the socket's own errors through.
FAILURES = (
    docker.errors.DockerException,
    requests.exceptions.RequestException,
    OSError,
    ValueError,
    KeyError,
)


def connect(docker_host: str, *, timeout: float = ANSWER_SECONDS) -> docker.DockerClient:
    """A client of the Engine; raises one of FAILURES where it can't be reached."""
    tls = None
    if docker_host.startswith("tcp://") and os.environ.get("DOCKER_TLS_VERIFY"):
        folder = os.environ.get("DOCKER_CERT_PATH") or os.path.expanduser("~/.docker")
        tls = docker.tls.TLSConfig(
            client_cert=(f"{folder}/cert.pem", f"{folder}/key.pem"), ca_cert=f"{folder}/ca.pem", verify=True
        )
    return docker.DockerClient(base_url=docker_host, version="auto", timeout=timeout, tls=tls)


def explain(error: BaseException, docker_host: str) -> str:
    """One line that says why the Engine can't be read and what to do about it."""
    path = docker_host.removeprefix("unix://") if docker_host.startswith("unix://") else ""
    chain: BaseException | None = error
    seen: list[BaseException] = []
    while chain is not None and chain not in seen:
        seen.append(chain)
        chain = chain.__cause__ or chain.__context__
    text = " ".join(f"{type(item).__name__} {item}" for item in seen)
    if path and ("FileNotFoundError" in text or not os.path.exists(path)):
        return f"{path} is not there: is Docker running on this host?"
    if path and ("PermissionError" in text or "Permission denied" in text):
        return f"{path}: permission denied; run the agent as root or as a member of the group docker"
    if path and ("ConnectionRefusedError" in text or "Connection refused" in text):
        return f"{path} refuses connections: Docker is not running"
    if "timed out" in text.lower() or "Timeout" in text:
        return f"Docker did not answer within {ANSWER_SECONDS} s"
    return clean(f"Docker can't be read: {seen[0]}", limit=ERROR_BYTES)


def local_system() -> System:
    """This machine, as far as it can be told without Docker."""
    try:
        memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (ValueError, OSError):
        memory = 0
    return System(
        platform.system().lower(), platform.machine(), platform.release(), os.cpu_count() or 0, memory
    )


def system(info: dict[str, Any]) -> System:
    """The machine that the Engine runs on, from its GET /info."""
    return System(
        os=str(info.get("OSType") or "linux"),
        arch=str(info.get("Architecture") or ""),
        kernel=str(info.get("KernelVersion") or ""),
        cpus=int(info.get("NCPU") or 0),
        memory_bytes=int(info.get("MemTotal") or 0),
    )


class Inventory:
    """The containers of one Engine; inspects only those that an event named or the list shows changed."""

    def __init__(self, client: docker.DockerClient) -> None:
        self._api = client.api
        self._known: dict[str, JSON] = {}

    def read(self, *, changed: Iterable[str] | None) -> tuple[JSON, ...]:
        """All containers; `changed` are the ids to inspect again, None for all."""
        listed = self._api.containers(all=True)
        if len(listed) > MAX_CONTAINERS:
            raise TooManyContainers(len(listed))
        again = set(changed) if changed is not None else None
        current: dict[str, JSON] = {}
        for item in listed:
            identity = item["Id"]
            known = self._known.get(identity)
            if again is None or known is None or identity in again or known["state"] != item.get("State"):
                known = self._inspect(item)
            if known is not None:
                current[identity] = known
        self._known = current
        return ordered(current.values())

    def _inspect(self, item: dict[str, Any]) -> JSON | None:
        try:
            return container(self._api.inspect_container(item["Id"]))
        except docker.errors.NotFound:
            return None  # removed since it was listed
        except docker.errors.APIError as error:
            # A container that Docker itself can't inspect must not hide all others.
            log.warning("Docker can't inspect container %.12s: %s", item["Id"], clean(error, limit=300))
            return container(_from_list(item))


def _from_list(item: dict[str, Any]) -> dict[str, Any]:
    """What the list of containers tells of one, in the shape of its inspection."""
    return {
        "Id": item["Id"],
        "Name": (item.get("Names") or [""])[0],
        "Config": {"Image": item.get("Image"), "Labels": item.get("Labels")},
        "State": {"Status": item.get("State")},
        "Created": datetime.fromtimestamp(item.get("Created") or 0, UTC).isoformat(),
    }


class TooManyContainers(Exception):
    def __init__(self, count: int) -> None:
        super().__init__(f"{count} containers on this host; at most {MAX_CONTAINERS} can be reported")


class EngineWatcher:
    """Keeps `snapshot` up to date; calls `on_change` when the next heartbeat would say something new."""

    def __init__(self, docker_host: str, *, on_change: Callable[[], None]) -> None:
        self._docker_host = docker_host
        self._on_change = on_change
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
        """Read the Engine for as long as it answers."""
        client = connect(self._docker_host)
        events: _Events | None = None
        try:
            version = str(client.version().get("Version", ""))
            machine = system(client.info())
            # Events first, the list second: what happens in between is in one of them.
            events = _Events(connect(self._docker_host), self._note)
            inventory = Inventory(client)
            next_full = 0.0
            while not self._stopping.is_set():
                with self._guard:
                    self._dirty.clear()
                    changed, self._changed = self._changed, set()
                is_full = time.monotonic() >= next_full
                self._publish(version, machine, inventory, None if is_full else changed)
                if is_full:
                    next_full = time.monotonic() + FULL_READ_SECONDS
                self._backoff.succeeded()
                if self._dirty.wait(PROBE_SECONDS) and not self._stopping.is_set():
                    self._stopping.wait(DEBOUNCE_SECONDS)
                if events.failure is not None:
                    raise events.failure
        finally:
            if events is not None:
                events.close()
            client.close()

    def _note(self, identity: str) -> None:
        with self._guard:
            if identity:
                self._changed.add(identity)
            self._dirty.set()

    def _publish(
        self, version: str, machine: System, inventory: Inventory, changed: Iterable[str] | None
    ) -> None:
        try:
            containers = inventory.read(changed=changed)
        except (TooManyContainers, docker.errors.APIError) as error:
            # The Engine answers, but not with a list that could be sent.
            text = clean(f"The containers can't be listed: {error}", limit=ERROR_BYTES)
            self._set(Snapshot(True, version, text, machine, None))
            return
        self._set(Snapshot(True, version, "", machine, containers, digest(containers)))

    def _publish_failure(self, text: str) -> None:
        last = self._snapshot
        self._set(Snapshot(False, last.version, text, last.system, None))

    def _set(self, snapshot: Snapshot) -> None:
        last, self._snapshot = self._snapshot, snapshot
        is_first = not self._first_read.is_set()
        self._first_read.set()
        if snapshot.error and (is_first or snapshot.error != last.error):
            log.error("%s", snapshot.error)
        elif snapshot.reachable and (is_first or last.error):
            log.info("Docker %s answers: %d containers", snapshot.version, len(snapshot.containers or ()))
        if snapshot != last:
            self._on_change()


class _Events:
    """Follows the event stream in a thread; `failure` is set when the stream ends, for whatever reason."""

    def __init__(self, client: docker.DockerClient, note: Callable[[str], None]) -> None:
        self.failure: Exception | None = None
        self._client = client
        self._note = note
        self._is_closed = False
        self._stream = client.events(decode=True, filters={"type": "container", "event": list(EVENTS)})
        threading.Thread(target=self._run, name="events", daemon=True).start()

    def close(self) -> None:
        self._is_closed = True
        try:
            self._stream.close()
        except FAILURES:
            log.debug("closing the event stream failed", exc_info=True)
        self._client.close()

    def _run(self) -> None:
        try:
            for event in self._stream:
                self._note(str(event.get("id") or ""))
            self.failure = ConnectionError("Docker ended its event stream")
        except Exception as error:
            # Closing the stream makes the SDK's reader fail in ways of its own; nobody waits for it then.
            self.failure = error
        if not self._is_closed:
            self._note("")
