"""The launcher: a new version runs on trial, and the old one comes back unless the server hears it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from dockmesh.agent import launcher
from tests.support import PATIENCE

# What stands in for versions of the agent. Each writes its name into `log` when it starts.
_BEGIN = """
import os, pathlib, sys, time
folder = pathlib.Path(os.environ["DOCKMESH_LAUNCH_FOLDER"])
trial, error = os.environ.get("DOCKMESH_LAUNCH_TRIAL", ""), os.environ.get("DOCKMESH_LAUNCH_ERROR", "")
with (folder / "log").open("a") as log:
    log.write(f"{NAME} {' '.join(sys.argv[1:])} trial={trial} error={error}\\n")
def heard():
    (folder / "heard").write_text(f"{os.getpid()}\\n")
def until_stopped():
    while True:
        time.sleep(0.05)
"""
OLD_THAT_UPDATES = """
heard()
if error or trial:
    until_stopped()
(folder / "fetched").rename(folder / "agent-new.pyz")
(folder / "next.pyz").symlink_to("agent-new.pyz")
sys.exit(75)
"""
HEARD = "heard()\nuntil_stopped()\n"
SILENT = "until_stopped()\n"
CRASHES = "raise SystemExit(1)\n"
HEARD_AS_ANOTHER = "(folder / 'heard').write_text(str(os.getppid()))\nuntil_stopped()\n"
DEAF = "import signal\nsignal.signal(signal.SIGTERM, signal.SIG_IGN)\nuntil_stopped()\n"


def write(folder: Path, name: str, code: str) -> Path:
    path = folder / ("fetched" if name == "new" else f"agent-{name}.pyz")
    path.write_text(f"NAME = {name!r}\n{_BEGIN}\n{code}")
    return path


class Run:
    def __init__(self, folder: Path, *, trial_seconds: float) -> None:
        self.folder = folder
        code = (
            "import pathlib, sys\nfrom dockmesh.agent import launcher\nlauncher.STOP_SECONDS = launcher.STEADY_SECONDS = 0.5\n"
            f"sys.exit(launcher.Launcher(pathlib.Path({str(folder)!r}), ['run'], trial_seconds={trial_seconds}).run())"
        )
        self.process = subprocess.Popen([sys.executable, "-c", code], stderr=subprocess.PIPE, text=True)

    @property
    def log(self) -> list[str]:
        log = self.folder / "log"
        return log.read_text().splitlines() if log.exists() else []

    @property
    def current(self) -> str:
        return os.readlink(self.folder / "dockmesh-agent.pyz")

    def wait_for(self, condition: Callable[[], bool]) -> None:
        deadline = time.monotonic() + PATIENCE * 10
        while not condition():
            assert time.monotonic() < deadline, (self.log, self.current)
            time.sleep(0.02)

    def stop(self) -> int:
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(PATIENCE * 10)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "agent"
    folder.mkdir()
    launcher.point_to(folder / "dockmesh-agent.pyz", write(folder, "old", OLD_THAT_UPDATES))
    return folder


@pytest.fixture
def start(folder: Path) -> Iterator[Callable[..., Run]]:
    runs: list[Run] = []

    def go(*, trial_seconds: float = 30.0) -> Run:
        runs.append(Run(folder, trial_seconds=trial_seconds))
        return runs[-1]

    yield go
    for run in runs:
        if run.process.poll() is None:
            run.stop()
        run.process.stderr.close()  # type: ignore[union-attr]


def test_a_new_version_that_is_heard_takes_the_place_of_the_old_one(
    folder: Path, start: Callable[..., Run]
) -> None:
    write(folder, "new", HEARD)
    run = start()
    run.wait_for(lambda: run.current == "agent-new.pyz")
    run.wait_for(lambda: not (folder / "agent-old.pyz").exists())
    assert run.log == ["old run trial= error=", "new run trial=1 error="]
    assert not (folder / "next.pyz").is_symlink()
    assert run.stop() == 0


@pytest.mark.parametrize(
    ("code", "trial_seconds", "why"),
    [
        (CRASHES, 30.0, "the new version ended by itself (exit code 1) before the server heard it"),
        (
            "this is no Python",
            30.0,
            "the new version ended by itself (exit code 1) before the server heard it",
        ),
        (
            "heard()\ntime.sleep(0.2)\nsys.exit(1)",
            30.0,
            "the new version ended by itself (exit code 1) right after the server heard it",
        ),
        (SILENT, 1.0, "the server did not hear the new version within 1 s"),
        (HEARD_AS_ANOTHER, 1.0, "the server did not hear the new version within 1 s"),
        (DEAF, 1.0, "the server did not hear the new version within 1 s"),
    ],
)
def test_the_old_version_comes_back(
    folder: Path, start: Callable[..., Run], code: str, trial_seconds: float, why: str
) -> None:
    write(folder, "new", code)
    run = start(trial_seconds=trial_seconds)
    run.wait_for(lambda: run.log[-1:] == [f"old run trial= error={why}"])
    assert run.current == "agent-old.pyz"
    assert not (folder / "agent-new.pyz").exists()
    assert not (folder / "next.pyz").is_symlink()


def test_a_trial_that_the_machine_did_not_survive_is_over(folder: Path, start: Callable[..., Run]) -> None:
    new = write(folder, "lost", HEARD)
    (folder / "next.pyz").symlink_to(new.name)
    write(folder, "old", HEARD)
    run = start()
    run.wait_for(lambda: run.log == ["old run trial= error="])
    run.wait_for(lambda: not new.exists())
    assert run.current == "agent-old.pyz"


def test_a_stop_in_the_middle_of_a_trial_is_a_stop(folder: Path, start: Callable[..., Run]) -> None:
    write(folder, "new", SILENT)
    run = start()
    run.wait_for(lambda: len(run.log) == 2)
    assert run.stop() == 0
    assert len(run.log) == 2
    assert run.current == "agent-old.pyz"


def test_an_update_without_a_file_leaves_the_version_that_is_there(
    folder: Path, start: Callable[..., Run]
) -> None:
    write(
        folder,
        "old",
        "heard()\nif (folder / 'log').read_text().count('old') > 1: until_stopped()\nsys.exit(75)\n",
    )
    run = start()
    run.wait_for(lambda: run.log[1:] == ["old run trial= error=the new version is not there"])
    assert run.current == "agent-old.pyz"


@pytest.mark.parametrize("code", [0, 2, 3, 4])
def test_the_agents_exit_code_is_the_launchers(folder: Path, start: Callable[..., Run], code: int) -> None:
    write(folder, "old", f"sys.exit({code})\n")
    assert start().process.wait(PATIENCE * 10) == code
