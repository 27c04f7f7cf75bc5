"""The agent as an operator runs it: a process of its own."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

from tests.support import PATIENCE

REPOSITORY = Path(__file__).parent.parent.parent


class AgentProcess:
    def __init__(self, state_dir: Path, *arguments: str, env: dict[str, str] | None = None) -> None:
        self.state_dir = state_dir
        self.arguments = arguments
        self._env = env or {}
        self._log = state_dir.parent / f"{state_dir.name}.log"
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> AgentProcess:
        # The CLI's configuration is where the tests' Compose is.
        clean = {
            name: value
            for name, value in os.environ.items()
            if not name.startswith(("DOCKMESH_", "DOCKER_")) or name == "DOCKER_CONFIG"
        }
        with self._log.open("ab") as log:
            self.process = subprocess.Popen(
                [
                    sys.executable,
                    "-m",
                    "dockmesh.agent",
                    "run",
                    f"--state-dir={self.state_dir}",
                    *self.arguments,
                ],
                cwd=REPOSITORY,
                env={**clean, **self._env},
                stdout=log,
                stderr=log,
            )
        return self

    def stop(self, *, seconds: float = 20) -> int:
        """SIGTERM; gives the exit code."""
        assert self.process is not None
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        return self.process.wait(PATIENCE * seconds)

    def kill(self) -> None:
        assert self.process is not None
        self.process.kill()
        self.process.wait()

    def wait_exit(self, *, seconds: float = 20) -> int:
        assert self.process is not None
        return self.process.wait(PATIENCE * seconds)

    def close(self) -> None:
        if self.process is not None and self.process.poll() is None:
            self.kill()

    @property
    def log(self) -> str:
        return self._log.read_text() if self._log.exists() else ""

    def wait_log(self, text: str, *, seconds: float = 15) -> None:
        deadline = time.monotonic() + PATIENCE * seconds
        while text not in self.log:
            assert time.monotonic() < deadline, f"{text!r} is not in the agent's log:\n{self.log}"
            time.sleep(0.05)
