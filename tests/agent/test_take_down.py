"""Stop, restart and removal find what runs, whatever the files say; with the real Compose on the real Engine."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest

from dockmesh.agent.commands import Run
from dockmesh.agent.deploy import Deployer
from dockmesh.agent.process import Cancellation
from tests.integration.dockerd import DockerEngine, compose_file

pytestmark = pytest.mark.integration

PAIR = compose_file({"web": "sleep 600", "db": "sleep 600"})
BROKEN = 'services:\n  web:\n    image: busybox\n    ports: ["nonsense:x"]\n'


class Stacks:
    """Carries out deploys of the stack `shop` as the agent would."""

    def __init__(self, folder: Path, engine: DockerEngine) -> None:
        self.folder = folder
        self._engine = engine
        self._deployer = Deployer(folder, docker_host=engine.host)

    def run(self, operation: str, **payload: Any) -> str:
        """The output of a command that succeeds."""
        run = Run("1", "deploy", {"operation": operation, "stack": "shop", **payload}, Cancellation())
        run.deadline = time.monotonic() + 60
        self._deployer(run)
        return run.output.text()

    def states(self) -> dict[str, str]:
        with self._engine.client() as client:
            return {
                c.labels["com.docker.compose.service"]: c.status for c in client.containers.list(all=True)
            }

    def started_at(self) -> dict[str, str]:
        with self._engine.client() as client:
            return {c.name: c.attrs["State"]["StartedAt"] for c in client.containers.list()}


@pytest.fixture
def stacks(tmp_path: Path, docker_engine: DockerEngine) -> Stacks:
    return Stacks(tmp_path / "stacks", docker_engine)


@pytest.mark.parametrize(
    "payload",
    [
        {"compose_file": BROKEN},
        {"compose_file": ""},
        {},
        {"compose_file": compose_file({"renamed": "sleep 600"})},
        {"compose_file": "include: [gone.yaml]\n", "project_directory": "/no/such/folder"},
    ],
    ids=["broken", "blank", "no-file", "renamed", "include-gone"],
)
def test_no_file_keeps_a_stack_from_being_stopped_and_removed(
    stacks: Stacks, payload: dict[str, Any]
) -> None:
    stacks.run("up", compose_file=PAIR)
    stacks.run("stop", **payload)
    assert stacks.states() == {"web": "exited", "db": "exited"}
    stacks.run("restart", **payload)
    assert stacks.states() == {"web": "running", "db": "running"}
    stacks.run("down", **payload)
    assert stacks.states() == {}
    assert not (stacks.folder / "shop").exists()


def test_what_never_ran_is_stopped_and_removed_without_a_word_of_failure(stacks: Stacks) -> None:
    for payload in ({}, {"compose_file": PAIR}):
        for operation in ("stop", "restart", "down"):
            stacks.run(operation, **payload)
    assert stacks.states() == {}


def test_another_stack_is_left_alone(stacks: Stacks, docker_engine: DockerEngine) -> None:
    stacks.run("up", compose_file=PAIR)
    stacks.run("up", stack="shop-2", compose_file=compose_file({"other": "sleep 600"}))
    stacks.run("stop")
    assert stacks.states() == {"web": "exited", "db": "exited", "other": "running"}
    stacks.run("down")
    assert stacks.states() == {"other": "running"}


def test_several_files_and_a_folder_of_its_own(stacks: Stacks, tmp_path: Path) -> None:
    home = tmp_path / "home"
    (home / "data").mkdir(parents=True)
    first = compose_file({"web": "cat /data/word > /data/copy; sleep 600"})
    second = "services:\n  web:\n    volumes: ['./data:/data']\n    environment: {A: '${A}'}\n"
    (home / "data" / "word").write_text("hello")
    files = [{"path": "compose.yaml", "content": first}, {"path": "override.yaml", "content": second}]
    where = {"files": files, "env_file": "A=1\n", "project_directory": str(home)}
    stacks.run("up", **where)
    deadline = time.monotonic() + 20
    while not (home / "data" / "copy").exists():
        assert time.monotonic() < deadline
        time.sleep(0.05)
    assert sorted(path.name for path in home.iterdir()) == ["data"]
    assert sorted(path.name for path in (stacks.folder / "shop").iterdir()) == [
        "compose.2.yaml",
        "compose.yaml",
    ]
    stacks.run("stop", **where)
    assert stacks.states() == {"web": "exited"}
    stacks.run("up", compose_file=first, project_directory=str(home))
    assert [path.name for path in (stacks.folder / "shop").iterdir()] == ["compose.yaml"]
    stacks.run("down", **where)
    assert (home / "data" / "word").read_text() == "hello"
    assert not (stacks.folder / "shop").exists()
