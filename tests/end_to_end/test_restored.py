"""A server or an agent that is put back to an older copy: both agree with the next heartbeat, nothing runs twice."""

from __future__ import annotations

import shutil
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.integration.api import until
from tests.integration.dockerd import DockerEngine, compose_file
from tests.integration.test_deploys import Place

pytestmark = pytest.mark.integration

# Takes its time to stop, so that there is something under way for a while.
STUBBORN = compose_file({"web": "trap '' TERM; while :; do sleep 1; done"}).replace("0s", "5s")


@pytest.fixture
def place(tmp_path: Path, docker_engine: DockerEngine) -> Iterator[Place]:
    made = Place(tmp_path, docker_engine, "--verbose")
    try:
        yield made
    finally:
        made.close()


def copied(place: Place, target: Path) -> None:
    """A copy of the database as the server runs, by SQLite's own backup."""
    with (
        sqlite3.connect(place.server.data_dir / "dockmesh.sqlite3") as source,
        sqlite3.connect(target) as copy,
    ):
        source.backup(copy)
    source.close()
    copy.close()


def restored(place: Place, copy: Path) -> None:
    """The server, started with the copy."""
    place.server.stop()
    for file in place.server.data_dir.glob("dockmesh.sqlite3*"):
        file.unlink()
    shutil.copy(copy, place.server.data_dir / "dockmesh.sqlite3")
    place.server.start()


def deployed(place: Place, stack: int, sleeps: str) -> Any:
    """A deploy whose container sleeps so long, ended."""
    file = compose_file({"web": f"sleep {sleeps}"})
    place.api.call("PATCH", f"stacks/{stack}", {"compose_file": file})
    asked = place.api.post(f"stacks/{stack}/deploy", expect=202)
    return place.api.ended(f"deploys/{asked['id']}")


def sleeping(place: Place) -> list[str]:
    with place.engine.client() as client:
        return [each.attrs["Config"]["Cmd"][-1] for each in client.containers.list()]


def test_after_a_restore_of_the_server_the_next_deploy_is_the_next_deploy(
    place: Place, tmp_path: Path
) -> None:
    stack = place.stack("shop", compose_file({"web": "sleep 600"}))
    copied(place, tmp_path / "copy")
    first = deployed(place, stack, "601")
    assert (first["status"], sleeping(place)) == ("success", ["sleep 601"])
    restored(place, tmp_path / "copy")
    second = deployed(place, stack, "602")
    # The same row of the database as the first, and yet carried out.
    assert second["id"] == first["id"]
    assert (second["status"], sleeping(place)) == ("success", ["sleep 602"])
    assert place.agent.log.count("(deploy) received") == 2
    assert place.api.deploys_counted("shop")["success"][0] == 1


@pytest.mark.parametrize("is_agent_restored", [False, True])
def test_what_is_under_way_in_the_copy_is_settled_with_the_next_heartbeat(
    place: Place, tmp_path: Path, is_agent_restored: bool
) -> None:
    stack = place.stack("slow", STUBBORN)
    up = place.api.post(f"stacks/{stack}/deploy", expect=202)
    assert place.api.ended(f"deploys/{up['id']}")["status"] == "success"
    stop = place.api.post(f"stacks/{stack}/stop", expect=202)
    until(lambda: place.api.get(f"deploys/{stop['id']}")["output"], seconds=30, what="output of the stop")
    copied(place, tmp_path / "copy")
    ended = place.api.ended(f"deploys/{stop['id']}")
    assert ended["status"] == "success"
    if is_agent_restored:
        place.agent.stop()
        (place.agent.state_dir / "journal.sqlite3").unlink()
    restored(place, tmp_path / "copy")
    if is_agent_restored:
        place.agent.start()
    again = place.api.ended(f"deploys/{stop['id']}", seconds=30)
    if is_agent_restored:
        assert again["status"] == "failure"
        assert again["error"].startswith("Not known: the agent does not have this command.")
    else:
        assert (again["status"], again["duration_seconds"]) == ("success", ended["duration_seconds"])
    assert place.agent.log.count("(deploy) received") == 2
    assert deployed(place, stack, "603")["status"] == "success"
    assert sleeping(place) == ["sleep 603"]
