"""A real Docker Engine of the test's own, and Compose stacks on it; nothing is downloaded."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import tarfile
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path
from typing import Any

import docker

from tests.support import missing, require

IMAGE = "busybox:latest"
READY_SECONDS = 120
STOP_SECONDS = 30


class DockerEngine:
    """`dockerd` with its own containerd, data and socket, and the image `busybox:latest`.

    No bridge and no iptables: containers run with `network_mode: none`.
    """

    def __init__(self) -> None:
        # A short path: the containerd socket below it must stay under 108 characters.
        self.root = Path(tempfile.mkdtemp(prefix="dme", dir="/tmp"))
        self.socket = self.root / "d.sock"
        self.log = self.root / "dockerd.log"
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def host(self) -> str:
        return f"unix://{self.socket}"

    @property
    def env(self) -> dict[str, str]:
        """The environment for docker and docker-compose to speak to this Engine."""
        return {**os.environ, "DOCKER_HOST": self.host}

    def start(self) -> None:
        """Start, or start again after `stop`; containers and volumes are kept."""
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                [
                    "dockerd",
                    "--storage-driver=vfs",
                    "--iptables=false",
                    "--ip6tables=false",
                    "--bridge=none",
                    f"--data-root={self.root}/data",
                    f"--exec-root={self.root}/exec",
                    f"--pidfile={self.root}/d.pid",
                    f"--host={self.host}",
                ],
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        deadline = time.monotonic() + READY_SECONDS
        while time.monotonic() < deadline:
            if self._process.poll() is not None:
                break
            try:
                with self.client() as client:
                    client.ping()
                return
            except Exception:
                time.sleep(0.1)
        raise AssertionError(f"dockerd is not ready:\n{self.log.read_text()[-3000:]}")

    def stop(self) -> None:
        """Stop the Engine, as `systemctl stop docker` would."""
        process, self._process = self._process, None
        if process is None or process.poll() is not None:
            return
        process.terminate()
        try:
            process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()

    def pause(self) -> None:
        """Freeze dockerd: its socket takes connections and answers nothing."""
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        assert self._process is not None
        self._process.send_signal(signal.SIGCONT)

    def close(self) -> None:
        """Remove all containers, stop, and leave nothing behind."""
        if self._process is not None:
            self.remove_all()
        self.stop()
        # dockerd mounts its data root and the containers' name spaces; it leaves both when it ends.
        mounts = Path("/proc/self/mounts").read_text().splitlines()
        for target in reversed([line.split()[1] for line in mounts]):
            if target.startswith(f"{self.root}/"):
                subprocess.run(["umount", "--lazy", target], check=False, capture_output=True)
        shutil.rmtree(self.root, ignore_errors=True)

    @contextmanager
    def client(self) -> Iterator[docker.DockerClient]:
        client = docker.DockerClient(base_url=self.host, version="auto", timeout=90)
        try:
            yield client
        finally:
            client.close()

    def remove_all(self) -> None:
        """Remove every container and every volume."""
        with self.client() as client:
            for container in client.containers.list(all=True, ignore_removed=True):
                container.remove(force=True)
            for volume in client.volumes.list():
                volume.remove(force=True)

    def run(self, *command: str, **options: Any) -> docker.models.containers.Container:
        """Start a container of the image in the background."""
        with self.client() as client:
            return client.containers.run(
                IMAGE, list(command), detach=True, **{"network_mode": "none", "init": False, **options}
            )

    def import_busybox(self) -> None:
        """Make the image from Debian's busybox-static: its one program and a link for each applet."""
        busybox = require("busybox")
        applets = subprocess.run(
            [busybox, "--list"], capture_output=True, text=True, check=True
        ).stdout.split()
        buffer = BytesIO()
        with tarfile.open(fileobj=buffer, mode="w") as tar:
            for folder in ("bin", "etc", "tmp", "data"):
                entry = tarfile.TarInfo(folder)
                entry.type, entry.mode = tarfile.DIRTYPE, 0o755
                tar.addfile(entry)
            tar.add(busybox, "bin/busybox")
            for applet in applets:
                if applet != "busybox":
                    link = tarfile.TarInfo(f"bin/{applet}")
                    link.type, link.linkname = tarfile.SYMTYPE, "busybox"
                    tar.addfile(link)
        with self.client() as client:
            client.api.import_image_from_data(buffer.getvalue(), repository="busybox", tag="latest")

    def compose(self, project: str, file: Path, *arguments: str, check: bool = True) -> str:
        """Run docker-compose (or the plugin) for a project; gives its output."""
        done = subprocess.run(
            [*compose_command(), "--project-name", project, "--file", str(file), *arguments],
            env=self.env,
            cwd=file.parent,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=240,
        )
        if check and done.returncode != 0:
            raise AssertionError(f"compose {arguments} failed:\n{done.stdout}")
        return done.stdout


def compose_command() -> list[str]:
    if shutil.which("docker") is None:
        return ["docker-compose"]
    plugin = subprocess.run(["docker", "compose", "version"], capture_output=True, check=False)
    return ["docker", "compose"] if plugin.returncode == 0 else ["docker-compose"]


def compose_file(services: dict[str, str], *, volumes: dict[str, str] | None = None) -> str:
    """A Compose file of busybox services: {name: command}; `volumes` gives some a named volume on /data."""
    volumes = volumes or {}
    lines = ['version: "2.4"', "services:"]
    for name, command in services.items():
        lines += [
            f"  {name}:",
            f"    image: {IMAGE}",
            "    network_mode: none",
            "    stop_grace_period: 0s",
            f"    command: ['sh', '-c', {command!r}]",
        ]
        if name in volumes:
            lines.append(f"    volumes: ['{volumes[name]}:/data']")
    if volumes:
        lines += ["volumes:", *(f"  {name}: {{}}" for name in sorted(set(volumes.values())))]
    return "\n".join(lines) + "\n"


def require_docker() -> None:
    """Leave the test unless an Engine can be started here."""
    if os.geteuid() != 0:
        missing("dockerd needs root")
    require("dockerd")
    require("busybox")
    if shutil.which("docker-compose") is None and compose_command() == ["docker-compose"]:
        missing("neither docker-compose nor the plugin docker compose is installed")
