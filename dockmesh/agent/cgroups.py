"""What each container uses, read from the kernel's own files: cgroup v1 or v2, and /proc for the network.

Works where the agent sees the cgroups and processes of its host. A container whose cgroup it doesn't see, as where the
agent runs in a container itself, is left to the Engine (`stats.py`).
"""

from __future__ import annotations

import os
import re
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from typing import NamedTuple, Union

# As Docker's two cgroup drivers and Podman's name the folder of a container.
_FOLDER = re.compile(r"(?:docker-|libpod-|cri-containerd-)?([0-9a-f]{64})(?:\.scope)?")
_DEEPEST, _MOST_FOLDERS = 12, 20_000
# Below a container's own folder, as where systemd or another Engine runs in it.
_DEEPEST_WITHIN, _MOST_PROCESSES = 3, 500
_LARGEST = 2**63 - 1
# What cgroup v1 says without a limit is the largest number of whole pages.
_NO_LIMIT = 2**60
_TICKS_PER_SECOND = os.sysconf("SC_CLK_TCK")


# Bytes received and sent, errors of both.
Four = tuple[Union[int, None], Union[int, None], Union[int, None], Union[int, None]]
UNTOLD: Four = (None, None, None, None)


class NotVisible(Exception):
    """The agent sees the container's cgroup or its processes not at all."""


class Used(NamedTuple):
    """What a container uses: counters since it was started, and what it holds now. None: the kernel does not tell."""

    cpu_user_seconds: float | None = None
    cpu_system_seconds: float | None = None
    cpu_throttled_seconds: float | None = None
    memory_working_set_bytes: int | None = None
    memory_limit_bytes: int | None = None
    network_receive_bytes: int | None = None
    network_transmit_bytes: int | None = None
    network_receive_errors: int | None = None
    network_transmit_errors: int | None = None
    block_read_bytes: int | None = None
    block_written_bytes: int | None = None
    pids: int | None = None


@dataclass
class _Place:
    """Where a container's cgroup is, below the root or each controller, and a process of it that is known to be its own."""

    path: str
    process: str = ""


class Cgroups:
    """The cgroups below `root`; `proc` is where the processes are."""

    def __init__(self, root: str = "/sys/fs/cgroup", proc: str = "/proc") -> None:
        self._root = root
        self._proc = proc
        self._is_v2 = os.path.exists(f"{root}/cgroup.controllers")
        self._places: dict[str, _Place] = {}
        self._looked_for: set[str] = set()

    @property
    def sees_any(self) -> bool:
        """Whether the cgroup of any container that was looked for is to be seen."""
        return bool(self._places)

    def look_for(self, identities: Collection[str]) -> None:
        """Find where these containers' cgroups are, and forget all others."""
        wanted = set(identities)
        self._places = {each: place for each, place in self._places.items() if each in wanted}
        if wanted - self._places.keys() - self._looked_for:
            top = self._root if self._is_v2 else f"{self._root}/memory"
            for path in _folders(top):
                found = _FOLDER.fullmatch(os.path.basename(path))
                if found and found[1] in wanted:
                    self._places.setdefault(found[1], _Place(path[len(top) :]))
        self._looked_for = wanted

    def read(self, identity: str, *, has_own_network: bool) -> Used | None:
        """What the container uses; None for one that has ended. Raises NotVisible."""
        place = self._places.get(identity)
        if place is None:
            raise NotVisible
        folder = f"{self._root}{place.path}" if self._is_v2 else f"{self._root}/memory{place.path}"
        processes = _processes(folder)
        if not processes:
            return None
        network = self._network(place, processes) if has_own_network else UNTOLD
        return Used(
            *(self._v2(folder) if self._is_v2 else self._v1(place.path)),
            *network,
            *(self._block_v2(folder) if self._is_v2 else self._block_v1(place.path)),
            _number(
                _text(
                    f"{folder}/pids.current" if self._is_v2 else self._in("pids", place.path, "pids.current")
                )
            ),
        )

    def _v2(self, folder: str) -> tuple[float | None, float | None, float | None, int | None, int | None]:
        cpu = _table(_text(f"{folder}/cpu.stat"))
        return (
            _seconds(cpu.get("user_usec"), 1e6),
            _seconds(cpu.get("system_usec"), 1e6),
            _seconds(cpu.get("throttled_usec"), 1e6),
            working_set(
                _number(_text(f"{folder}/memory.current")),
                _table(_text(f"{folder}/memory.stat")).get("inactive_file"),
            ),
            _number(_text(f"{folder}/memory.max")),
        )

    def _v1(self, path: str) -> tuple[float | None, float | None, float | None, int | None, int | None]:
        cpu = _table(_text(self._in("cpuacct", path, "cpuacct.stat")))
        throttled = _table(_text(self._in("cpu", path, "cpu.stat"))).get("throttled_time")
        memory = _table(_text(self._in("memory", path, "memory.stat")))
        limit = _number(_text(self._in("memory", path, "memory.limit_in_bytes")))
        return (
            _seconds(cpu.get("user"), _TICKS_PER_SECOND),
            _seconds(cpu.get("system"), _TICKS_PER_SECOND),
            _seconds(throttled, 1e9),
            working_set(
                _number(_text(self._in("memory", path, "memory.usage_in_bytes"))),
                memory.get("total_inactive_file"),
            ),
            limit if limit is not None and limit < _NO_LIMIT else None,
        )

    def _in(self, controller: str, path: str, name: str) -> str:
        return f"{self._root}/{controller}{path}/{name}"

    def _block_v2(self, folder: str) -> tuple[int | None, int | None]:
        text = _text(f"{folder}/io.stat")
        if text is None:
            return None, None
        numbers = re.findall(r"\b(rbytes|wbytes)=(\d+)", text)
        return _sum(numbers, "rbytes"), _sum(numbers, "wbytes")

    def _block_v1(self, path: str) -> tuple[int | None, int | None]:
        name = "blkio.throttle.io_service_bytes"
        text = _text(self._in("blkio", path, f"{name}_recursive")) or _text(self._in("blkio", path, name))
        numbers = re.findall(r"^\S+ (Read|Write) (\d+)$", text or "", re.MULTILINE)
        # Newer kernels count nothing on a disk until somebody has set a limit on it.
        return (_sum(numbers, "Read"), _sum(numbers, "Write")) if numbers else (None, None)

    def _network(self, place: _Place, processes: list[str]) -> Four:
        """Of all interfaces of the container's name space but its loopback."""
        if place.process not in processes:
            place.process = self._first_process(processes)
        text = _text(f"{self._proc}/{place.process}/net/dev")
        if text is None:
            place.process = ""
            return UNTOLD
        received = sent = receive_errors = transmit_errors = 0
        for line in text.splitlines()[2:]:
            name, _, rest = line.partition(":")
            fields = rest.split()
            if name.strip() != "lo" and len(fields) > 10:
                received, receive_errors = received + int(fields[0]), receive_errors + int(fields[2])
                sent, transmit_errors = sent + int(fields[8]), transmit_errors + int(fields[10])
        return amount(received), amount(sent), amount(receive_errors), amount(transmit_errors)

    def _first_process(self, processes: list[str]) -> str:
        """The container's first process: the others may be in a name space of their own. Raises NotVisible."""
        if processes[0] == "0":
            raise NotVisible  # of another name space than the agent's
        firsts = []
        for process in processes[:_MOST_PROCESSES]:
            found = re.search(r"^NSpid:(.*)$", _text(f"{self._proc}/{process}/status") or "", re.MULTILINE)
            levels = found[1].split() if found else []
            if levels and levels[-1] == "1":
                firsts.append((len(levels), process))
        return min(firsts)[1] if firsts else processes[0]


def working_set(usage: int | None, inactive_file: int | None) -> int | None:
    """Memory as Docker shows it: what can be had back at once from the cache of files is left out."""
    if usage is None or inactive_file is None or inactive_file >= usage:
        return usage
    return usage - inactive_file


def amount(value: object) -> int | None:
    """A number of the protocol, None for anything else."""
    is_number = isinstance(value, int) and not isinstance(value, bool)
    return value if is_number and 0 <= value <= _LARGEST else None  # type: ignore[operator, return-value]


def _folders(top: str) -> Iterator[str]:
    """All folders below, but for those within a container's own, the upper ones first; bounded."""
    level = [top]
    left = _MOST_FOLDERS
    for _ in range(_DEEPEST):
        below = []
        for folder in level:
            try:
                with os.scandir(folder) as entries:
                    names = [entry.name for entry in entries if entry.is_dir(follow_symlinks=False)]
            except OSError:
                continue
            for name in names:
                left -= 1
                if left < 0:
                    return
                yield f"{folder}/{name}"
                if not _FOLDER.fullmatch(name):
                    below.append(f"{folder}/{name}")
        level = below


def _processes(folder: str, depth: int = 0) -> list[str]:
    """The processes of a cgroup, else of those below it; none where it is gone."""
    found = (_text(f"{folder}/cgroup.procs") or "").split()
    if found or depth == _DEEPEST_WITHIN:
        return found
    try:
        with os.scandir(folder) as entries:
            names = sorted(entry.name for entry in entries if entry.is_dir(follow_symlinks=False))
    except OSError:
        return []
    for name in names:
        found = _processes(f"{folder}/{name}", depth + 1)
        if found:
            return found
    return []


def _text(path: str) -> str | None:
    """What is in the file; None where it is not there, not any more, or may not be read."""
    try:
        with open(path, "rb", buffering=0) as file:
            return file.read().decode("ascii", "replace")
    except OSError:
        return None


def _table(text: str | None) -> dict[str, int]:
    """Lines of a name and a number."""
    return {key: int(value) for key, value in re.findall(r"^(\w+) (\d+)$", text or "", re.MULTILINE)}


def _number(text: str | None) -> int | None:
    text = (text or "").strip()
    return amount(int(text)) if text.isdecimal() else None


def _seconds(value: int | None, per_second: float) -> float | None:
    return None if value is None else round(value / per_second, 6)


def _sum(numbers: list[tuple[str, str]], name: str) -> int | None:
    return amount(sum(int(value) for key, value in numbers if key == name))
