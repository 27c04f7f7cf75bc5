"""Adoption for real: what was started by hand in its own folder keeps its mounts and its data."""

from __future__ import annotations

import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.integration.api import until
from tests.integration.dockerd import DockerEngine, compose_command
from tests.integration.test_deploys import Place

pytestmark = pytest.mark.integration

COMPOSE = """services:
  db:
    image: busybox
    network_mode: none
    restart: unless-stopped
    stop_grace_period: 0s
    volumes:
      - ./data:/data
    command: [sh, -c, "[ -f /data/db ] || { echo fresh database > /data/db; }; sleep 1000"]
"""
BLOCKING = """services:
  web:
    image: busybox
    ports: ["nonsense:x"]
"""


@pytest.fixture(scope="module")
def module_place(
    tmp_path_factory: pytest.TempPathFactory, docker_engine_process: DockerEngine
) -> Iterator[Place]:
    docker_engine_process.remove_all()
    made = Place(tmp_path_factory.mktemp("adoption"), docker_engine_process)
    try:
        made.agent.wait_log("nrolled", seconds=30)
        yield made
    finally:
        made.close()
        docker_engine_process.remove_all()


@pytest.fixture
def place(module_place: Place) -> Iterator[Place]:
    module_place.engine.remove_all()
    yield module_place
    module_place.engine.remove_all()


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A folder with a database in it."""
    home = tmp_path / "home"
    (home / "data").mkdir(parents=True)
    (home / "data" / "db").write_text("years of work\n")
    (home / "compose.yaml").write_text(COMPOSE)
    return home


def by_hand(place: Place, home: Path, project: str, *options: str) -> dict[str, Any]:
    """Start it as its owner would; the discovered stack."""
    subprocess.run(
        [*compose_command(), "--project-name", project, *options, "up", "--detach"],
        cwd=home,
        env={**place.engine.env, "PWD": str(home)},
        check=True,
        capture_output=True,
    )
    [stack] = until(
        lambda: place.api.get(f"stacks?name={project}")["results"],
        seconds=30,
        what=lambda: place.agent.log,
    )
    return dict(stack)


def deploy(place: Place, stack: int, *, status: str = "success") -> dict[str, Any]:
    asked = place.api.post(f"stacks/{stack}/deploy", expect=202)
    ended: dict[str, Any] = place.api.ended(f"deploys/{asked['id']}")
    assert ended["status"] == status, ended
    return ended


def binds(place: Place, project: str) -> dict[str, str]:
    """{service:target: source} of what runs."""
    with place.engine.client() as client:
        return {
            f"{container.labels['com.docker.compose.service']}:{mount['Destination']}": mount["Source"]
            for container in client.containers.list(
                filters={"label": f"com.docker.compose.project={project}"}
            )
            for mount in container.attrs["Mounts"]
        }


def test_what_was_started_by_hand_keeps_its_data_with_nothing_pasted(place: Place, home: Path) -> None:
    stack = by_hand(place, home, "kept")
    before = binds(place, "kept")
    assert before == {"db:/data": str(home / "data")}
    adopted = place.api.post(f"stacks/{stack['id']}/adopt", {}, expect=200)
    assert (adopted["compose_file"], adopted["project_directory"]) == (COMPOSE, str(home))
    deploy(place, stack["id"])
    assert binds(place, "kept") == before
    # Made anew, it still has them.
    place.api.call("PATCH", f"stacks/{stack['id']}", {"compose_file": COMPOSE.replace("1000", "1001")})
    done = deploy(place, stack["id"])
    assert binds(place, "kept") == before
    assert (home / "data" / "db").read_text() == "years of work\n"
    assert sorted(path.name for path in home.iterdir()) == ["compose.yaml", "data"]
    # Rolled back as well.
    first = place.api.get("deploys?status=success&stack=kept")["results"][-1]["id"]
    back = place.api.post(f"deploys/{first}/rollback", expect=202)
    assert place.api.ended(f"deploys/{back['id']}")["status"] == "success"
    assert (binds(place, "kept"), done["project_directory"]) == (before, str(home))
    # A file that Compose refuses keeps nothing from being stopped and removed.
    place.api.call("PATCH", f"stacks/{stack['id']}", {"compose_file": BLOCKING})
    deploy(place, stack["id"], status="failure")
    stop = place.api.post(f"stacks/{stack['id']}/stop", expect=202)
    assert place.api.ended(f"deploys/{stop['id']}")["status"] == "success"
    assert place.running("kept") == set()
    down = place.api.call("DELETE", f"stacks/{stack['id']}", expect=202)
    assert place.api.ended(f"deploys/{down['id']}")["status"] == "success"
    assert (home / "data" / "db").read_text() == "years of work\n"


def test_a_pasted_file_keeps_its_meaning_too(place: Place, home: Path) -> None:
    stack = by_hand(place, home, "pasted")
    before = binds(place, "pasted")
    adopted = place.api.post(f"stacks/{stack['id']}/adopt", {"compose_file": COMPOSE}, expect=200)
    assert adopted["project_directory"] == str(home)
    deploy(place, stack["id"])
    assert binds(place, "pasted") == before
    assert (home / "data" / "db").read_text() == "years of work\n"


def test_several_files_an_env_file_elsewhere_and_all_that_compose_reads(place: Place, home: Path) -> None:
    (home / "compose.yaml").write_text(COMPOSE + "    extends: {file: parts/base.yaml, service: base}\n")
    (home / "parts").mkdir()
    (home / "parts" / "base.yaml").write_text(
        "services:\n  base:\n    image: busybox\n    volumes: ['./base:/base']\n"
    )
    (home / "over.yaml").write_text(
        "services:\n  db:\n    env_file: [own.env]\n    volumes: ['${EXTRA}:/extra', '$PWD/pwd:/pwd']\n"
        "    secrets: [key]\nsecrets:\n  key: {file: ./key}\n"
    )
    (home / "own.env").write_text("OWN=1\n")
    (home / "key").write_text("k")
    elsewhere = home.parent / "elsewhere.env"
    elsewhere.write_text("EXTRA=./extra\nPASSWORD=hunter2-hunter2\n")
    link = home.parent / "link"
    link.symlink_to(home)
    stack = by_hand(
        place, link, "several", "-f", "compose.yaml", "-f", "over.yaml", "--env-file", str(elsewhere)
    )
    before = binds(place, "several")
    assert len(before) == 5
    place.api.post(f"stacks/{stack['id']}/survey", expect=202)
    survey = until(
        lambda: found if (found := place.api.get(f"stacks/{stack['id']}/survey"))["answered_at"] else None,
        seconds=30,
        what=lambda: place.agent.log,
    )
    assert (survey["error"], survey["found"]["compose_error"]) == ("", "")
    assert {f"{row['service']}:{row['target']}": row["after"] for row in survey["found"]["mounts"]} == before
    assert all(row["is_kept"] for row in survey["found"]["mounts"])
    assert [file["env_names"] for file in survey["found"]["env_files"]] == [["EXTRA", "PASSWORD"]]
    assert "hunter2" not in str(survey)
    adopted = place.api.post(f"stacks/{stack['id']}/adopt", {})
    assert len(adopted["override_files"]) == 1
    elsewhere.unlink()
    deploy(place, stack["id"])
    changed = {
        "override_files": [
            {**file, "content": file["content"] + "# made anew\n"} for file in adopted["override_files"]
        ],
        "compose_file": adopted["compose_file"].replace("1000", "1001"),
    }
    place.api.call("PATCH", f"stacks/{stack['id']}", changed)
    deploy(place, stack["id"])
    assert binds(place, "several") == before


def test_a_folder_that_is_gone_is_named_and_the_user_decides(place: Place, home: Path) -> None:
    stack = by_hand(place, home, "gone")
    moved = home.parent / "moved"
    home.rename(moved)
    refused = place.api.post(f"stacks/{stack['id']}/adopt", {"compose_file": COMPOSE}, expect=409)
    assert "./data (bind mount of db)" in refused["detail"]
    assert str(home) in refused["detail"]
    refused = place.api.post(f"stacks/{stack['id']}/adopt", {}, expect=409)
    assert f"db:/data has {home / 'data'}" in refused["detail"]
    wish = {"compose_file": COMPOSE, "project_directory": str(moved)}
    place.api.post(f"stacks/{stack['id']}/adopt", wish, expect=200)
    deploy(place, stack["id"])
    assert binds(place, "gone") == {"db:/data": str(moved / "data")}
    assert (moved / "data" / "db").read_text() == "years of work\n"
    # Gone again: a deploy leaves what runs alone.
    shutil.move(moved, home)
    failed = deploy(place, stack["id"], status="failure")
    assert f"The project directory {moved} is not there" in failed["error"]
    assert place.running("gone") == {"db"}


def test_what_was_changed_on_the_host_since_is_named(place: Place, home: Path) -> None:
    stack = by_hand(place, home, "changed")
    (home / "compose.yaml").write_text(COMPOSE.replace("./data", "./fresh"))
    time.sleep(0.1)
    refused = place.api.post(f"stacks/{stack['id']}/adopt", {}, expect=409)
    assert f"db:/data has {home / 'data'} and would have {home / 'fresh'}" in refused["detail"]
    place.api.post(f"stacks/{stack['id']}/adopt", {"accept_changes": True}, expect=200)


def test_a_stack_of_another_folder_is_not_deployed_onto_an_empty_one(place: Place, home: Path) -> None:
    """As one that was adopted before its folder was kept: the agent itself refuses."""
    stack = by_hand(place, home, "older")
    wish = {"compose_file": COMPOSE.replace("./data", "/tmp"), "env_file": ""}
    place.api.post(f"stacks/{stack['id']}/adopt", wish, expect=200)
    assert place.api.get(f"stacks/{stack['id']}")["project_directory"] == ""
    place.api.call("PATCH", f"stacks/{stack['id']}", {"compose_file": COMPOSE})
    failed = deploy(place, stack["id"], status="failure")
    assert f"db:/data has {home / 'data'}" in failed["error"]
    assert binds(place, "older") == {"db:/data": str(home / "data")}
    place.api.call("PATCH", f"stacks/{stack['id']}", {"project_directory": str(home)})
    deploy(place, stack["id"])
    assert binds(place, "older") == {"db:/data": str(home / "data")}
