"""What dockmesh is measured against."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

from tests.integration.postgres import free_port
from tests.support import require

ROOT = Path(__file__).resolve().parents[2]


class Pushgateway:
    """Debian's prometheus-pushgateway: a Go server with client_golang that holds the series it was given."""

    def __init__(self) -> None:
        program = require("prometheus-pushgateway")
        port = free_port()
        self.url = f"http://127.0.0.1:{port}"
        self.process = subprocess.Popen(
            [program, f"--web.listen-address=127.0.0.1:{port}", "--log.level=error"],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        _wait(self.url + "/-/ready")

    def hold(self, text: str) -> None:
        """Replace what it serves by the samples of this text page."""
        request = urllib.request.Request(
            self.url + "/metrics/job/bench",
            data=text.encode(),
            method="PUT",
            headers={"Content-Type": "text/plain; version=0.0.4"},
        )
        with urllib.request.urlopen(request, timeout=600) as answer:
            assert answer.status == 200

    def stop(self) -> None:
        self.process.terminate()
        self.process.wait(30)


class Ordinary:
    """`tests/bench/ordinary.py` in a process of its own, on the same database."""

    def __init__(self, environment: dict[str, str]) -> None:
        with socket.create_server(("127.0.0.1", 0)) as listener:
            listener.set_inheritable(True)
            self.url = f"http://127.0.0.1:{listener.getsockname()[1]}"
            self.process = subprocess.Popen(
                [sys.executable, "-m", "tests.bench.ordinary", str(listener.fileno())],
                cwd=ROOT,
                env=environment,
                pass_fds=[listener.fileno()],
                stdout=subprocess.DEVNULL,
            )
        _wait(self.url + "/livez")

    def stop(self) -> None:
        self.process.kill()
        self.process.wait(30)


def samples_of(text: str, prefixes: tuple[str, ...]) -> str:
    """The families of a text page whose names begin like this, with their heads."""
    kept = []
    is_wanted = False
    for line in text.splitlines(keepends=True):
        if line.startswith(("# HELP ", "# TYPE ")):
            is_wanted = line.split(" ", 3)[2].startswith(prefixes)
        if is_wanted:
            kept.append(line)
    return "".join(kept)


def quiet_environment() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if not name.startswith("DOCKMESH_")}


def _wait(url: str) -> None:
    deadline = time.monotonic() + 60
    while True:
        try:
            with urllib.request.urlopen(url, timeout=5):
                return
        except urllib.error.HTTPError:
            return
        except OSError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.05)
