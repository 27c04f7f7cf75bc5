"""A bare Debian 12 with systemd as its process 1, in name spaces of its own and on this machine's network.

Its root is the one that `.ci/versions` makes, with what the test changes laid over it and thrown away afterwards.
"""

from __future__ import annotations

import os
import re
import subprocess
import tempfile
import time
from pathlib import Path

from tests.integration.versions import folder
from tests.support import PATIENCE, missing, require

_HIERARCHY = Path("/sys/fs/cgroup/systemd")

# Runs within the name spaces: $1 is the root, $2 Docker's socket.
_BOOT = """
set -eu
mount -t proc proc "$1/proc"
# Its services shall set nothing of this machine's kernel.
mount --bind "$1/proc/sys" "$1/proc/sys"
mount -o remount,bind,ro "$1/proc/sys"
for each in run tmp dev sys; do mount -t tmpfs tmpfs "$1/$each"; done
for each in null zero full random urandom tty; do touch "$1/dev/$each"; mount --bind "/dev/$each" "$1/dev/$each"; done
mkdir -p "$1/dev/pts" "$1/dev/shm" "$1/sys/fs/cgroup"
mount -t tmpfs tmpfs "$1/sys/fs/cgroup"
mkdir "$1/sys/fs/cgroup/systemd"
mount -t cgroup -o none,name=systemd cgroup "$1/sys/fs/cgroup/systemd"
touch "$1/run/docker.sock"
mount --bind "$2" "$1/run/docker.sock"
hostname bare
cd "$1"
exec chroot . /usr/bin/env -i container=other PATH=/usr/sbin:/usr/bin:/sbin:/bin /lib/systemd/systemd --system
"""


def root_of_a_machine() -> Path:
    """Where `.ci/versions` has put it; without it the test is skipped, in CI it fails."""
    found = folder() / "machine"
    if not (found / "complete").exists():
        missing("the root of a bare machine is not there: .ci/versions makes it")
    return found / "root"


class Machine:
    """Boots with `start`; `run` runs a command line in it."""

    def __init__(self, docker_socket: Path) -> None:
        if os.geteuid() != 0 or not _HIERARCHY.is_dir():
            missing("a machine takes root, and systemd's own hierarchy of control groups")
        self._lower = root_of_a_machine()
        self._socket = docker_socket
        self._folder = Path(tempfile.mkdtemp(prefix="dmm", dir="/tmp"))
        self.root = self._folder / "root"
        self._group = _HIERARCHY / self._folder.name
        self._process: subprocess.Popen[bytes] | None = None
        self._pid = 0

    def start(self) -> None:
        upper, work = self._folder / "upper", self._folder / "work"
        for each in (upper, work, self.root):
            each.mkdir()
        options = f"lowerdir={self._lower},upperdir={upper},workdir={work}"
        subprocess.run(["mount", "-t", "overlay", "overlay", "-o", options, self.root], check=True)
        self._group.mkdir()
        self._process = subprocess.Popen(
            [
                "sh", "-c", 'echo $$ > "$1/cgroup.procs"; shift; exec "$@"', "-", str(self._group),
                require("unshare"), "--mount", "--pid", "--ipc", "--uts", "--cgroup", "--fork", "--kill-child",
                "--propagation", "private", "sh", "-c", _BOOT, "-", str(self.root), str(self._socket),
            ],
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True,
        )  # fmt: skip
        deadline = time.monotonic() + PATIENCE * 30
        while not self._is_up():
            assert self._process.poll() is None, "the machine did not start"
            assert time.monotonic() < deadline, "the machine does not come up"
            time.sleep(0.1)

    def _is_up(self) -> bool:
        assert self._process is not None
        children = Path(f"/proc/{self._process.pid}/task/{self._process.pid}/children")
        found = re.match(r"\d+", children.read_text())
        self._pid = int(found[0]) if found else 0
        if not self._pid or Path(f"/proc/{self._pid}/comm").read_text() != "systemd\n":
            return False
        return (
            self.run("systemctl is-system-running --quiet || systemctl is-active --quiet multi-user.target")[
                0
            ]
            == 0
        )

    def run(self, line: str) -> tuple[int, str]:
        """(exit code, what it wrote) of a command line."""
        enter = ["nsenter", f"--target={self._pid}", "--mount", "--pid", "--ipc", "--uts", "--root", "--wd"]
        done = subprocess.run(
            [*enter, "env", "-i", "PATH=/usr/sbin:/usr/bin:/sbin:/bin", "sh", "-c", line],
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False,
            timeout=PATIENCE * 100,
        )  # fmt: skip
        return done.returncode, done.stdout

    def files(self) -> set[str]:
        """What is there where an agent is installed."""
        _, found = self.run(
            "find /opt /etc/dockmesh /etc/systemd/system /var/lib/dockmesh-agent -mindepth 1 2>/dev/null"
        )
        return set(found.split())

    def close(self) -> None:
        """Stop it, and leave nothing behind."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
        deadline = time.monotonic() + PATIENCE * 10
        while self._group.exists() and time.monotonic() < deadline:
            subprocess.run(
                ["find", self._group, "-depth", "-type", "d", "-exec", "rmdir", "{}", ";"],
                capture_output=True, check=False,
            )  # fmt: skip
            time.sleep(0.05)
        subprocess.run(["umount", "--lazy", self.root], capture_output=True, check=False)
        subprocess.run(["rm", "-rf", self._folder], check=False)
