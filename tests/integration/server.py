"""A real dockmesh server in a process of its own, for tests that talk to it over HTTP.

with DockmeshServer(tmp_path) as server:
    token = server.createtoken("prometheus", permissions=["metrics.read"])
    requests.get(server.url + "/metrics", headers={"Authorization": f"Bearer {token}"})
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Sequence
from functools import cache
from pathlib import Path

from tests.support import PATIENCE

ROOT = Path(__file__).resolve().parents[2]
_LISTENS = re.compile(r"listens on (http://\S+?)/?$", re.MULTILINE)


@cache
def _migrated() -> Path:
    """A database on which all migrations have been applied."""
    folder = Path(os.environ["DOCKMESH_DATA_DIR"]) / "migrated"
    environment = {name: value for name, value in os.environ.items() if not name.startswith("DOCKMESH_")}
    subprocess.run(
        [sys.executable, str(ROOT / "manage.py"), "migrate", "--verbosity", "0"],
        cwd=ROOT, env=environment | {"DOCKMESH_DATA_DIR": str(folder)}, check=True,
    )  # fmt: skip
    return folder / "dockmesh.sqlite3"


class DockmeshServer:
    """`manage.py serve` on a free port of 127.0.0.1.

    Without `database_url` it uses SQLite in `data_dir`, which has been migrated elsewhere unless `is_new`: that is
    two seconds of a processor. `environment` adds to the server's variables.
    """

    def __init__(
        self,
        data_dir: Path,
        environment: dict[str, str] | None = None,
        *,
        database_url: str = "",
        arguments: Sequence[str] = (),
        is_new: bool = False,
    ) -> None:
        self.data_dir = data_dir
        self._is_migrated = not is_new and not database_url
        self.log_path = data_dir.with_name(f"{data_dir.name}-{id(self):x}.log")
        self.environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith("DOCKMESH_")},
            "DOCKMESH_DATA_DIR": str(data_dir),
            **({"DOCKMESH_DATABASE_URL": database_url} if database_url else {}),
            **(environment or {}),
        }
        self.url = ""
        self._arguments = list(arguments)
        self._port = 0
        self.process: subprocess.Popen[bytes] | None = None

    def start(self, *, wait: bool = True) -> None:
        """Start it; a second start uses the same port."""
        if self._is_migrated and not self.data_dir.exists():
            self.data_dir.mkdir(mode=0o700)
            shutil.copy(_migrated(), self.data_dir)
        begin = self.log_path.stat().st_size if self.log_path.exists() else 0
        with self.log_path.open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, str(ROOT / "manage.py"), "serve", "--bind", f"127.0.0.1:{self._port}",
                 *self._arguments],
                cwd=ROOT, env=self.environment, stdout=log, stderr=subprocess.STDOUT,
            )  # fmt: skip
        deadline = time.monotonic() + PATIENCE * 30
        while not (found := _LISTENS.search(self.log_path.read_text()[begin:])):
            self._check(deadline)
        self.url = found[1]
        self._port = int(self.url.rpartition(":")[2])
        if wait:
            self.wait_until_ready()

    def wait_until_ready(self, seconds: float = 30) -> None:
        deadline = time.monotonic() + PATIENCE * seconds
        while self.readyz() != 200:
            self._check(deadline)

    def _check(self, deadline: float) -> None:
        assert self.process is not None
        if self.process.poll() is not None or time.monotonic() > deadline:
            raise RuntimeError(f"the server did not start:\n{self.log}")
        time.sleep(0.05)

    def readyz(self) -> int:
        """The status of /readyz; 0 when nobody answers."""
        try:
            with urllib.request.urlopen(self.url + "/readyz", timeout=5) as answer:
                return int(answer.status)
        except urllib.error.HTTPError as error:
            return error.code
        except OSError:
            return 0

    @property
    def log(self) -> str:
        return self.log_path.read_text(errors="replace")

    def children(self) -> list[int]:
        """The pids of the web process and of the scheduler, in the order of their start."""
        assert self.process is not None
        pid = self.process.pid
        return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]

    def manage(self, *arguments: str) -> str:
        """Run a management command on the same data; returns what it printed."""
        done = subprocess.run(
            [sys.executable, str(ROOT / "manage.py"), *arguments],
            cwd=ROOT,
            env=self.environment,
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            raise RuntimeError(f"{arguments[0]} failed with {done.returncode}: {done.stderr}")
        return done.stdout.strip()

    def createtoken(self, name: str, *, role: str = "", permissions: Sequence[str] = ()) -> str:
        options = ["--role", role] if role else []
        for permission in permissions:
            options += ["--permission", permission]
        return self.manage("createtoken", "--name", name, *options)

    def enrollmenttoken(self) -> str:
        return self.manage("enrollmenttoken")

    def stop(self) -> int:
        """SIGTERM, then wait; returns the exit code."""
        assert self.process is not None
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        return self.process.wait(35)

    def kill(self) -> None:
        """SIGKILL of the whole, as a crash of the machine would."""
        assert self.process is not None
        self.process.kill()
        self.process.wait(5)

    def __enter__(self) -> DockmeshServer:
        self.start()
        return self

    def __exit__(self, *unused: object) -> None:
        if self.process is not None and self.process.poll() is None:
            self.stop()
