"""A stack's containers are at rest while its volumes are read, and run again whatever happens."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from dockmesh.agent import hooks, mounts
from dockmesh.agent.commands import CommandError, Run
from dockmesh.agent.hooks import Hooks
from dockmesh.agent.process import Cancellation
from tests.integration.dockerd import DockerEngine, compose_file

pytestmark = pytest.mark.integration


@pytest.fixture
def shop(docker_engine: DockerEngine, tmp_path: Path) -> Iterator[DockerEngine]:
    """A stack of two services that run and one that was stopped by hand."""
    file = tmp_path / "compose.yaml"
    file.write_text(compose_file(dict.fromkeys(("db", "web", "off"), "sleep 600")))
    docker_engine.compose("shop", file, "up", "-d")
    docker_engine.compose("shop", file, "stop", "off")
    yield docker_engine
    docker_engine.compose("shop", file, "down")


def states(engine: DockerEngine) -> dict[str, str]:
    with engine.client() as client:
        return {
            item.labels["com.docker.compose.service"]: item.status
            for item in client.containers.list(all=True)
        }


def around(engine: DockerEngine, folder: Path, **payload: Any) -> Hooks:
    command = Run(
        "c1", "backup", {"stop_stack": "shop", "hook_timeout_seconds": 30, **payload}, Cancellation()
    )
    command.deadline = time.monotonic() + 60
    return Hooks(command, folder=folder, docker_host=engine.host, may_run_commands=True)


def test_what_ran_runs_again_and_what_did_not_does_not(shop: DockerEngine, tmp_path: Path) -> None:
    before = {"db": "running", "web": "running", "off": "exited"}
    assert states(shop) == before
    for error in (None, RuntimeError, CommandError):
        expected = pytest.raises(error, match="the backup failed") if error else contextlib.nullcontext()
        with expected, around(shop, tmp_path / "stopped").around():
            assert states(shop) == {"db": "exited", "web": "exited", "off": "exited"}
            if error:
                raise error("the backup failed")
        assert states(shop) == before
    assert list((tmp_path / "stopped").iterdir()) == []


def test_an_agent_that_was_killed_starts_them_when_it_is_back(shop: DockerEngine, tmp_path: Path) -> None:
    stopped = around(shop, tmp_path / "stopped")._stopped()
    stopped.__enter__()
    assert states(shop)["db"] == "exited"
    hooks.start_all_again(tmp_path / "stopped", shop.host)
    assert states(shop) == {"db": "running", "web": "running", "off": "exited"}
    assert list((tmp_path / "stopped").iterdir()) == []


def test_a_command_that_fails_leaves_them_running(shop: DockerEngine, tmp_path: Path) -> None:
    with (
        pytest.raises(CommandError, match="the command before the backup"),
        around(shop, tmp_path / "stopped", before_command="exit 1").around(),
    ):
        pytest.fail("the backup must not begin")
    assert states(shop)["db"] == "running"


def test_an_agent_in_a_container_of_the_stack_goes_on(
    shop: DockerEngine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with shop.client() as client:
        own = client.containers.list(filters={"label": "com.docker.compose.service=web"})[0].id
    root = f"/var/lib/docker/containers/{own}/hostname"
    monkeypatch.setattr(mounts, "read", lambda: [mounts.Mount("8:1", root, "/etc/hostname", "ext4")])
    with around(shop, tmp_path / "stopped").around():
        assert states(shop) == {"db": "exited", "web": "running", "off": "exited"}
