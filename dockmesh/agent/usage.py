"""What the containers and the machine use, measured once for each heartbeat in a thread of its own.

A heartbeat takes what was measured last and never waits for it. Containers are read from the kernel's files
(`cgroups.py`); those whose files the agent doesn't see are asked of the Engine (`stats.py`), each in a thread that
it may block.
"""

from __future__ import annotations

import ipaddress
import logging
import platform
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from urllib.parse import urlsplit

from dockmesh.agent import machine, stats
from dockmesh.agent.cgroups import Cgroups, NotVisible, Used
from dockmesh.agent.disk import DiskWatcher
from dockmesh.agent.document import JSON, Snapshot
from dockmesh.agent.engine import FAILURES, PATIENCE_SECONDS, Engine
from dockmesh.agent.inspection import Inspector, Question
from dockmesh.agent.place import own_container

log = logging.getLogger("dockmesh.agent")

# So long before the heartbeat is due it is measured: time enough for Engines that take a second for an answer.
LEAD_SECONDS = 2.0
# No more often, though a heartbeat comes every second while there are commands.
SHORTEST_INTERVAL_SECONDS = 2.0
# What is older than so many intervals is not sent.
OLDEST_INTERVALS = 2
ANSWER_SECONDS = 5.0
# What was refused, or is not known, is asked for again after this.
AGAIN_SECONDS = 300.0
RUNNING = ("running", "paused")

_QUESTION = Question(
    stats.ask,
    "/containers/{id}/stats",
    "is not measured, for its statistics are not to be had",
    most_for_a_thread=8,
    patience_seconds=2.5,
)


@dataclass(frozen=True)
class _Sample:
    at: float
    host: JSON
    containers: Mapping[str, Used]


class Usage:
    """Threads that measure; `take` gives what the next heartbeat is to tell."""

    def __init__(
        self,
        docker_host: str,
        *,
        snapshot: Callable[[], Snapshot],
        interval: Callable[[], float],
        measures_volumes: bool,
        cgroups: Cgroups | None = None,
    ) -> None:
        self._docker_host = docker_host
        self._snapshot = snapshot
        self._given_interval = interval
        self._cgroups = cgroups or Cgroups()
        self._disk = DiskWatcher(docker_host, measures_volumes=measures_volumes)
        self._engine: Engine | None = None
        self._inspector = Inspector(self._connect, None, _QUESTION)
        self._network_modes: dict[str, str] = {}
        self._docker_root = ""
        self._next_root_at = 0.0
        self._next_ask_at = 0.0
        self._sample: _Sample | None = None
        self._told: tuple[_Sample | None, JSON | None] = (None, None)
        self._taken: tuple[_Sample | None, JSON | None] = (None, None)
        self._was_taken = threading.Event()
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="usage", daemon=True)

    def start(self) -> None:
        self._thread.start()
        self._disk.start()

    def stop(self) -> None:
        """The threads end by themselves when what they wait for is there."""
        self._stopping.set()
        self._was_taken.set()
        self._disk.stop()
        self._inspector.close()

    def take(self, containers: Sequence[JSON] | None, *, is_told_again: bool = False) -> JSON | None:
        """The protocol's `usage` for a heartbeat with these containers; None where nothing new was measured lately.

        `is_told_again`: also what the server has already.
        """
        sample, disk = self._sample, self._disk.latest
        oldest = time.monotonic() - OLDEST_INTERVALS * self._interval
        if sample is None or sample.at < oldest or (sample is self._told[0] and not is_told_again):
            return None
        self._taken = (sample, disk)
        self._was_taken.set()
        ids = [each["id"] for each in containers or () if each["state"] in RUNNING]
        said: JSON = {
            "host": sample.host,
            "containers": [[each, *sample.containers[each]] for each in ids if each in sample.containers],
        }
        if disk is not None and disk is not self._told[1]:
            said["disk"] = disk
        return said

    def accepted(self) -> None:
        """The server has what was taken last."""
        self._told = self._taken

    @property
    def _interval(self) -> float:
        return max(self._given_interval(), SHORTEST_INTERVAL_SECONDS)

    def _run(self) -> None:
        while not self._stopping.is_set():
            try:
                self.measure()
            except Exception:
                log.exception("Measuring what is used failed in an unexpected way")
            if self._was_taken.wait(self._interval):
                interval = self._interval
                self._stopping.wait(interval - min(LEAD_SECONDS, interval / 2))

    def measure(self) -> None:
        """Measure everything once."""
        snapshot = self._snapshot()
        running = [each["id"] for each in snapshot.containers or () if each["state"] in RUNNING]
        self._learn_network_modes(running)
        self._cgroups.look_for(running)
        found: dict[str, Used] = {}
        unseen = []
        for identity in running:
            mode = self._network_modes.get(identity)
            is_own = mode is not None and stats.has_own_network(mode)
            try:
                used = self._cgroups.read(identity, has_own_network=is_own)
            except NotVisible:
                unseen.append(identity)
            else:
                if used is not None:
                    found[identity] = used
        found.update(self._asked(unseen, snapshot.system.memory_bytes))
        host = machine.unknown()
        if self._is_own_machine(snapshot, running):
            host = machine.measured(self._root())
        self._was_taken.clear()
        self._sample = _Sample(time.monotonic(), host, found)

    def _asked(self, identities: Sequence[str], machine_memory: int) -> dict[str, Used]:
        """What the Engine tells of these, as far as it does so in time."""
        if not identities or time.monotonic() < self._next_ask_at:
            return {}
        outcomes = self._inspector.inspect(identities)
        self._inspector.forget_others(identities)
        if self._inspector.refused is not None:
            self._next_ask_at = time.monotonic() + AGAIN_SECONDS
        found = {}
        for identity, answer in outcomes.items():
            if isinstance(answer, Mapping):
                # Not known: as if it were the host's, so that nothing is counted twice.
                mode = self._network_modes.get(identity, "host")
                used = stats.used(answer, network_mode=mode, machine_memory=machine_memory)
                if used is not None:
                    found[identity] = used
        return found

    def _learn_network_modes(self, running: Sequence[str]) -> None:
        known = self._network_modes
        self._network_modes = {each: known[each] for each in running if each in known}
        if len(self._network_modes) == len(running):
            return
        try:
            items = self._get("/containers/json")
        except FAILURES as error:
            log.debug("The containers' networks could not be read: %s", error)
            return
        modes = {
            str(item.get("Id")): item.get("HostConfig")
            for item in (items if isinstance(items, list) else ())
            if isinstance(item, Mapping)
        }
        for identity in running:
            config = modes.get(identity)
            mode = config.get("NetworkMode") if isinstance(config, Mapping) else None
            if identity in modes:
                self._network_modes[identity] = mode if isinstance(mode, str) else ""

    def _is_own_machine(self, snapshot: Snapshot, running: Sequence[str]) -> bool:
        """Whether the Engine runs on the machine that the agent runs on."""
        if snapshot.system.kernel not in ("", platform.release()):
            return False  # as where Docker runs in a virtual machine
        if self._docker_host.startswith("unix://") or self._cgroups.sees_any:
            return True
        own = own_container()
        return _is_loopback(self._docker_host) or (
            bool(own) and any(each.startswith(own) for each in running)
        )

    def _root(self) -> str:
        """Where Docker keeps its data; empty where it doesn't tell."""
        if not self._docker_root and time.monotonic() >= self._next_root_at:
            self._next_root_at = time.monotonic() + AGAIN_SECONDS
            try:
                info = self._get("/info")
                root = info.get("DockerRootDir") if isinstance(info, Mapping) else None
                self._docker_root = root if isinstance(root, str) else ""
            except FAILURES as error:
                log.debug("Docker does not tell where it keeps its data: %s", error)
        return self._docker_root

    def _get(self, path: str) -> object:
        try:
            self._engine = self._engine or Engine.open(self._docker_host, timeout=PATIENCE_SECONDS)
            return self._engine.get(path)
        except FAILURES:
            if self._engine is not None:
                self._engine.close()
            self._engine = None
            raise

    def _connect(self) -> Engine:
        return Engine.open(self._docker_host, timeout=ANSWER_SECONDS)


def _is_loopback(docker_host: str) -> bool:
    name = urlsplit(docker_host).hostname or ""
    try:
        return ipaddress.ip_address(name).is_loopback
    except ValueError:
        return name == "localhost"
