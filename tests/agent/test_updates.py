"""The agent's own update, with real files of the agent, the launcher as a process, and a server that hands out what the
test says."""

from __future__ import annotations

import hashlib
import io
import os
import signal
import subprocess
import sys
import time
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from dockmesh.agent import launcher
from dockmesh.fleet import agent_files
from tests.integration.stubserver import ENROLLMENT_TOKEN, Reply, Request, StubServer
from tests.support import PATIENCE, python

UPDATE = 7
MAIN = "dockmesh/agent/__main__.py"
BROKEN = b"raise ImportError('no module named left')\n"
# It tells its version like any other, and is never heard.
DEAF = b"""
import sys, time
if "run" in sys.argv:
    time.sleep(600)
sys.exit(0)
"""


def variant(note: str, main: bytes | None = None) -> bytes:
    """The agent's file with other bytes, and, if given, another `main`."""
    buffer = io.BytesIO()
    with (
        zipfile.ZipFile(io.BytesIO(agent_files.pyz().content)) as given,
        zipfile.ZipFile(buffer, "w") as made,
    ):
        for name in given.namelist():
            made.writestr(name, main if main is not None and name == MAIN else given.read(name))
        made.writestr("note", note)
    return buffer.getvalue()


def sum_of(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def build_of(content: bytes) -> str:
    return sum_of(content)[:16]


OLD, NEW = variant("old"), variant("new")


class Host:
    """A machine on which the old agent runs by its launcher."""

    def __init__(self, server: StubServer, folder: Path) -> None:
        self.server = server
        self.folder = folder / "opt"
        self.state = folder / "state"
        self.folder.mkdir()
        launcher.point_to(self.folder / launcher.CURRENT, launcher.write_version(self.folder, OLD))
        self._log = folder / "log"
        self.process: subprocess.Popen[bytes] | None = None

    def start(self, *, trial_seconds: float = 60.0) -> None:
        code = (
            "import pathlib, sys\nfrom dockmesh.agent import launcher\n"
            "launcher.STOP_SECONDS, launcher.STEADY_SECONDS = 1.0, 0.5\n"
            f"sys.exit(launcher.Launcher(pathlib.Path({str(self.folder)!r}), sys.argv[1:], trial_seconds={trial_seconds}).run())"
        )
        arguments = ["run", f"--server={self.server.url}", f"--enrollment-token={ENROLLMENT_TOKEN}"]
        arguments += [f"--state-dir={self.state}", "--name=node-1", "--docker-host=unix:///nowhere.sock"]
        clean = {
            name: value for name, value in os.environ.items() if not name.startswith(("DOCKMESH_", "DOCKER_"))
        }
        with self._log.open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-c", code, *arguments],
                env=clean, stdout=log, stderr=log, start_new_session=True,
            )  # fmt: skip

    @property
    def log(self) -> str:
        return self._log.read_text()

    def lose_power(self) -> None:
        assert self.process is not None
        os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()

    def stop(self) -> int:
        assert self.process is not None
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(PATIENCE * 20)

    def close(self) -> None:
        if self.process is not None and self.process.poll() is None:
            self.lose_power()

    def heard(self, content: bytes, *, after: float = 0.0) -> dict[str, Any]:
        """The first heartbeat of an agent of that file."""
        return self.server.wait_for(
            lambda request: request.path == "heartbeat" and said(request) == build_of(content),
            seconds=30,
            after=after,
        ).body

    def ask(self, content: bytes, *, sha256: str = "") -> None:
        """Hand out the file, and have the agent take it."""
        self.server.files["/agent/dockmesh-agent.pyz"] = content
        payload = {"sha256": sha256 or sum_of(content), "version": "9", "lock": "agent-update"}
        self.server.hand({"id": UPDATE, "kind": "agent-update", "payload": payload})

    def result(self) -> dict[str, Any]:
        return self.server.wait_for(
            lambda request: request.path == f"commands/{UPDATE}/result", seconds=40
        ).body

    @property
    def current(self) -> str:
        return os.readlink(self.folder / launcher.CURRENT)


def said(request: Request) -> str:
    return str(request.body["agent"].get("build", ""))


@pytest.fixture
def host(server: StubServer, tmp_path: Path) -> Iterator[Host]:
    host = Host(server, tmp_path)
    yield host
    host.close()


def is_old(host: Host) -> bool:
    files = sorted(path.name for path in host.folder.glob("*.pyz"))
    return host.current == f"agent-{build_of(OLD)}.pyz" and files == sorted([host.current, launcher.CURRENT])


def wait_until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE * 10
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_the_new_version_runs_once_the_server_has_heard_it(host: Host) -> None:
    host.start()
    first = host.heard(OLD)
    assert "agent-update" in first["agent"]["capabilities"]
    assert "cannot_update" not in first["agent"]
    host.ask(NEW)
    result = host.result()
    assert (result["result"], result["error"], result["is_changed"]) == ("success", "", True)
    assert host.current == f"agent-{build_of(NEW)}.pyz"
    assert host.heard(NEW)["boot_id"] != first["boot_id"]
    wait_until(lambda: sorted(path.name for path in host.folder.glob("agent-*")) == [host.current])
    assert len(host.server.results(UPDATE)) == 1
    assert host.stop() == 0


def test_what_does_not_even_start_interrupts_nothing(host: Host) -> None:
    host.start()
    first = host.heard(OLD)
    host.ask(variant("broken", BROKEN))
    result = host.result()
    assert result["result"] == "failure"
    assert result["error"] == "the new version does not start: ImportError: no module named left"
    assert is_old(host)
    assert {beat["boot_id"] for beat in host.server.heartbeats()} == {first["boot_id"]}


def test_another_file_than_was_asked_for_is_not_taken(host: Host) -> None:
    host.start()
    host.heard(OLD)
    host.ask(NEW, sha256="ab" * 32)
    result = host.result()
    assert result["error"] == (
        f"what the server hands out has the SHA-256 {build_of(NEW)}…, and {'ab' * 8}… was asked for"
    )
    assert is_old(host)


def test_a_server_that_hands_out_nothing_is_told(host: Host) -> None:
    host.start()
    host.heard(OLD)
    host.server.hand({"id": UPDATE, "kind": "agent-update", "payload": {"sha256": "ab" * 32}})
    assert "can't be fetched" in host.result()["error"]


def test_the_version_that_is_there_already_is_not_changed(host: Host) -> None:
    host.start()
    host.heard(OLD)
    host.ask(OLD)
    result = host.result()
    assert (result["result"], result["is_changed"]) == ("success", False)
    assert is_old(host)


def test_a_version_that_is_not_heard_makes_room_for_the_old_one(host: Host) -> None:
    host.start(trial_seconds=5)
    first = host.heard(OLD)
    host.ask(variant("deaf", DEAF))
    result = host.result()
    assert (result["result"], result["error"]) == (
        "failure", "the server did not hear the new version within 5 s",
    )  # fmt: skip
    assert is_old(host)
    host.server.wait_for(
        lambda request: request.path == "heartbeat" and request.body["boot_id"] != first["boot_id"]
    )


def test_a_server_that_is_gone_meanwhile_finds_the_old_version_again(host: Host) -> None:
    host.start(trial_seconds=5)
    host.heard(OLD)

    def unless_new(request: Request) -> Reply | None:
        is_new = request.path == "heartbeat" and said(request) == build_of(NEW)
        return (503, {"title": "Away"}, {}) if is_new else None

    host.server.reply = unless_new
    host.ask(NEW)
    assert host.result()["error"] == "the server did not hear the new version within 5 s"
    assert is_old(host)


def test_a_machine_that_loses_power_during_the_trial_comes_back_with_the_old_version(host: Host) -> None:
    host.start()
    host.heard(OLD)
    host.ask(variant("deaf", DEAF))
    wait_until(lambda: "takes over" in host.log)
    wait_until(lambda: "Stopping" in host.log)
    time.sleep(0.5)
    host.lose_power()
    at = time.monotonic()
    host.start()
    host.heard(OLD, after=at)
    assert host.result()["error"] == "the agent was stopped before its new version ran"
    assert is_old(host)


@pytest.mark.parametrize("version", ["3.9", ""], ids=["python-3.9", "this-python"])
def test_an_agent_that_was_started_by_hand_says_that_it_can_not(
    server: StubServer, tmp_path: Path, version: str
) -> None:
    program = python(version) if version else sys.executable
    file = tmp_path / "dockmesh-agent.pyz"
    file.write_bytes(OLD)
    clean = {
        name: value for name, value in os.environ.items() if not name.startswith(("DOCKMESH_", "DOCKER_"))
    }
    process = subprocess.Popen(
        [program, str(file), "run", f"--server={server.url}", f"--enrollment-token={ENROLLMENT_TOKEN}",
         f"--state-dir={tmp_path / 'state'}", "--docker-host=unix:///nowhere.sock"],
        env=clean, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    try:
        agent = server.wait_for(lambda request: request.path == "heartbeat", seconds=30).body["agent"]
        assert agent["build"] == build_of(OLD)
        assert agent["cannot_update"] in (
            "it was started by hand", "it runs in a container: build its image anew",
        )  # fmt: skip
        assert "agent-update" not in agent["capabilities"]
    finally:
        process.terminate()
        process.wait()
