"""What the machine uses as a whole: processor, memory, load, and the disk that Docker keeps its data on."""

from __future__ import annotations

import os
import re
from pathlib import Path

from dockmesh.agent.document import JSON
from dockmesh.agent.place import own_container

# Of /proc/stat's first line those that are work: neither idle nor waiting, nor taken by others or counted twice.
_WORK = ("user", "nice", "system", "irq", "softirq")
_COLUMNS = ("user", "nice", "system", "idle", "iowait", "irq", "softirq")


def unknown() -> JSON:
    """What is told of a machine that is not the agent's own."""
    return {
        "cpu_seconds": None,
        "memory_available_bytes": None,
        "load1": None,
        "docker_root_bytes": None,
        "docker_root_free_bytes": None,
    }


def measured(docker_root: str, *, proc: Path = Path("/proc")) -> JSON:
    """What this machine uses; None where the kernel does not tell. `docker_root` is where Docker keeps its data, or ""."""
    size, free = _disk(docker_root) if docker_root else (None, None)
    return {
        "cpu_seconds": _cpu_seconds(_read(proc / "stat")),
        "memory_available_bytes": _available(_read(proc / "meminfo")),
        "load1": _load(_read(proc / "loadavg")),
        "docker_root_bytes": size,
        "docker_root_free_bytes": free,
    }


def _read(path: Path) -> str:
    try:
        return path.read_text(errors="replace")
    except OSError:
        return ""


def _cpu_seconds(text: str) -> float | None:
    fields = text.partition("\n")[0].split()
    if len(fields) <= len(_COLUMNS) or fields[0] != "cpu":
        return None
    ticks = dict(zip(_COLUMNS, map(int, fields[1:])))
    return round(sum(ticks[name] for name in _WORK) / os.sysconf("SC_CLK_TCK"), 6)


def _available(text: str) -> int | None:
    found = re.search(r"^MemAvailable:\s+(\d+) kB$", text, re.MULTILINE)
    return int(found[1]) * 1024 if found else None


def _load(text: str) -> float | None:
    found = re.match(r"\d+(\.\d+)?", text)
    return float(found[0]) if found else None


def _disk(docker_root: str) -> tuple[int | None, int | None]:
    """Size, and what is free for everybody. In a container only the volumes are mounted, which lie on the same disk."""
    try:
        found = os.statvfs(f"{docker_root}/volumes" if own_container() else docker_root)
    except OSError:
        return None, None
    return found.f_blocks * found.f_frsize, found.f_bavail * found.f_frsize
