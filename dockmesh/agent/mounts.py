"""What is mounted where, as the agent sees it and as the host does."""

from __future__ import annotations

import os
import re
import socket
import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

# What is mounted below a folder without being anybody's data.
_NO_DATA = frozenset(
    {"autofs", "binfmt_misc", "bpf", "cgroup", "cgroup2", "debugfs", "devpts", "devtmpfs", "fusectl", "hugetlbfs",
     "mqueue", "nsfs", "proc", "pstore", "securityfs", "sysfs", "tracefs"}
)  # fmt: skip
_ESCAPE = re.compile(r"\\([0-7]{3})")


@dataclass(frozen=True)
class Mount:
    """A line of mountinfo: the file system `device`, of which the part below `root` is seen at `path`."""

    device: str
    root: str
    path: str
    kind: str


def read(pid: str = "self") -> list[Mount]:
    """The mounts that a process sees, in their order; none where that can't be read."""
    try:
        with open(f"/proc/{pid}/mountinfo", encoding="utf-8", errors="surrogateescape") as file:
            return [_mount(line) for line in file]
    except OSError:
        return []


def is_mount_point(path: str) -> bool:
    """Whether something is mounted right there, as the agent sees it."""
    return any(mount.path == path for mount in read())


def covering(path: str, mounts: Sequence[Mount]) -> Mount | None:
    """The mount that shows `path`: the longest, of several at one place the last."""
    found = None
    for mount in mounts:
        if is_below(path, mount.path) and (found is None or len(mount.path) >= len(found.path)):
            found = mount
    return found


def is_below(path: str, folder: str) -> bool:
    return path == folder or path.startswith(folder.rstrip("/") + "/")


def hidden(path: str, docker_host: str) -> str:
    """The host's mount at, above or below `path` that the agent does not see; empty where there is none.

    A mount namespace that was made before something was mounted goes on showing the empty folder underneath.
    """
    own = read()
    here = _shown(path, own)
    for other in _others(docker_host):
        # Where the host has what we see as `path`, and whether it still shows it there.
        places = [
            _join(mount.path, os.path.relpath(here[1], mount.root))
            for mount in other
            if mount.device == here[0] and is_below(here[1], mount.root)
        ]
        shown = [place for place in places if _shown(place, other) == here]
        over = covering(places[0], other) if places and not shown else None
        if over is not None:
            return over.path
        for place in shown:
            for mount in other:
                if mount.path == place or not is_below(mount.path, place) or mount.kind in _NO_DATA:
                    continue
                seen_at = _join(path, os.path.relpath(mount.path, place))
                if _shown(seen_at, own) != _shown(mount.path, other):
                    return mount.path
    return ""


def _shown(path: str, mounts: Sequence[Mount]) -> tuple[str, str]:
    """The file system that is seen at `path`, and the path within it."""
    mount = covering(path, mounts)
    return (mount.device, _join(mount.root, os.path.relpath(path, mount.path))) if mount else ("", path)


def _others(docker_host: str) -> Iterator[list[Mount]]:
    """The mounts of the first process and of Docker, where they are other ones than ours."""
    for pid in dict.fromkeys(("1", engine_pid(docker_host))):
        try:
            is_same = os.readlink(f"/proc/{pid}/ns/mnt") == os.readlink("/proc/self/ns/mnt")
        except OSError:
            continue
        if not is_same:
            yield read(pid)


def engine_pid(docker_host: str) -> str:
    """The process behind Docker's socket, as this PID namespace numbers it; 0 where it can't be told."""
    if not docker_host.startswith("unix://"):
        return "0"
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
            connection.settimeout(2)
            connection.connect(docker_host.removeprefix("unix://"))
            size = struct.calcsize("3i")
            credentials = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, size)
            return str(struct.unpack("3i", credentials)[0])
    except OSError:
        return "0"


def _mount(line: str) -> Mount:
    before, _, after = line.rstrip("\n").partition(" - ")
    fields = before.split(" ")
    return Mount(fields[2], _plain(fields[3]), _plain(fields[4]), after.split(" ")[0])


def _plain(text: str) -> str:
    return _ESCAPE.sub(lambda found: chr(int(found[1], 8)), text)


def _join(folder: str, relative: str) -> str:
    return os.path.normpath(os.path.join(folder, relative))
