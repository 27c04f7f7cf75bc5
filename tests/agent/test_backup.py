"""Backups by the agent with the real restic, of volumes of the real Docker Engine."""

from __future__ import annotations

import json
import os
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from dockmesh.agent.commands import CommandError
from dockmesh.agent.restic import job_tag, snapshot_id
from dockmesh.agent.sources import find_volumes
from tests.integration.agent_process import AgentProcess
from tests.integration.dockerd import DockerEngine, compose_file
from tests.integration.stubserver import StubServer
from tests.support import require

StartAgent = Callable[..., AgentProcess]
Order = Callable[..., dict[str, Any]]

PASSWORD = "correct-horse-battery"


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """A repository that is not made yet, in an agent.toml."""
    require("restic")
    (tmp_path / "password").write_text(PASSWORD + "\n")
    (tmp_path / "agent.toml").write_text(
        f'[repositories.local]\nrepository = "{tmp_path}/repository"\npassword_file = "{tmp_path}/password"\n'
        f'[repositories.wrong]\nrepository = "{tmp_path}/repository"\npassword_file = "{tmp_path}/agent.toml"\n'
    )
    return tmp_path / "repository"


@pytest.fixture
def order(repository: Path, server: StubServer, start_agent: StartAgent) -> Order:
    """Gives the agent a command and waits for its result."""
    server.interval = 1
    return make_order(server, start_agent, repository, "unix:///nonexistent/docker.sock")


def make_order(server: StubServer, start_agent: StartAgent, repository: Path, docker_host: str) -> Order:
    start_agent(f"--docker-host={docker_host}", f"--config={repository.parent}/agent.toml")
    first = server.wait_for(lambda r: r.path == "heartbeat").body
    assert first["agent"]["capabilities"][-2:] == ["backup", "backup-options"]
    assert first["agent"]["repositories"] == ["local", "wrong"]
    count = iter(range(1, 100))

    def give(kind: str, **payload: Any) -> dict[str, Any]:
        command_id = next(count)
        usual = {"repository": "local", "job": "nightly", "timeout_seconds": 120, "lock": "job:nightly"}
        server.commands = [{"id": command_id, "kind": kind, "payload": usual | payload}]
        return server.wait_for(lambda r: r.path == f"commands/{command_id}/result", seconds=60).body

    return give


def restic(repository: Path, *arguments: str) -> str:
    env = {**os.environ, "RESTIC_REPOSITORY": str(repository), "RESTIC_PASSWORD": PASSWORD}
    return subprocess.run(
        ["restic", "--no-cache", *arguments], env=env, check=True, capture_output=True, text=True
    ).stdout


@pytest.fixture
def data(tmp_path: Path) -> Path:
    folder = tmp_path / "data"
    (folder / "sub").mkdir(parents=True)
    (folder / "file").write_bytes(os.urandom(3_000_000))
    (folder / "sub" / "ünïcode name").write_text("hello")
    (folder / "link").symlink_to("file")
    return folder


@pytest.mark.integration
def test_a_volume_is_backed_up_changed_and_restored(
    docker_engine: DockerEngine, server: StubServer, start_agent: StartAgent, repository: Path, tmp_path: Path
) -> None:
    server.interval = 1
    file = tmp_path / "docker-compose.yml"
    file.write_text(compose_file({"db": "echo one > /data/row; sleep 600"}, volumes={"db": "rows"}))
    docker_engine.compose("shop", file, "up", "-d")
    order = make_order(server, start_agent, repository, docker_engine.host)
    source = {"type": "volumes", "stack": "shop", "volumes": ["rows"]}

    first = order("backup", source=source, keep={"last": 5}, verify=True)
    assert (first["result"], first["error"]) == ("success", "")
    assert first["files"] == 1
    assert first["bytes_processed"] == 4
    assert first["bytes_added"] > 0
    assert first["duration_seconds"] > 0
    assert first["files_verified"] == first["files_same_as_source"] == 1
    assert "is new; making it" in first["output"]
    (found,) = json.loads(restic(repository, "snapshots", "--json"))
    assert found["id"].startswith(first["snapshot_id"])
    assert found["tags"] == ["dockmesh-job=nightly"]
    assert found["hostname"] == "node-1"

    with docker_engine.client() as client:
        container = client.containers.get("shop-db-1")
        volume = Path(client.volumes.get("shop_rows").attrs["Mountpoint"])
        assert container.exec_run(["sh", "-c", "echo two > /data/row"]).exit_code == 0
    second = order("backup", source={"type": "volumes", "stack": "shop", "volumes": []})
    assert second["result"] == "success"
    assert second["snapshot_id"] != first["snapshot_id"]

    target = tmp_path / "restored"
    restored = order("restore", snapshot_id=first["snapshot_id"], target_path=str(target))
    assert (restored["result"], restored["error"]) == ("success", "")
    assert (target / str(volume / "row").lstrip("/")).read_text() == "one\n"
    back = order("restore", snapshot_id=first["snapshot_id"], target_path="/")
    assert (back["result"], back["error"]) == ("success", "")
    assert (volume / "row").read_text() == "one\n"

    missing = order("backup", source={"type": "volumes", "stack": "shop", "volumes": ["nope"]})
    assert missing["error"] == "volume 'nope' of stack 'shop' is not on this host"


@pytest.mark.integration
def test_old_snapshots_of_this_job_only_are_pruned(order: Order, repository: Path, data: Path) -> None:
    source = {"type": "path", "path": str(data)}
    assert order("backup", job="other, job", source=source)["result"] == "success"
    made = []
    for _ in range(3):
        (data / "sub" / "new").write_text(str(time.time()))
        ended = order("backup", source=source, keep={"last": 2, "daily": 0, "weekly": 0, "monthly": 0})
        assert (ended["result"], ended["error"]) == ("success", "")
        made.append(ended["snapshot_id"])
    listed = order("snapshots")["snapshots"]
    assert [item["short_id"] for item in listed] == [made[2], made[1]]
    others = order("snapshots", job="other, job")["snapshots"]
    assert len(others) == 1
    assert others[0]["tags"] == ["dockmesh-job=other%2C job"]
    restic(repository, "check", "--read-data")


@pytest.mark.integration
def test_what_goes_wrong_is_said_and_no_secret_with_it(order: Order, repository: Path, data: Path) -> None:
    source = {"type": "path", "path": str(data)}
    assert order("backup", source=source)["result"] == "success"
    wrong = order("backup", repository="wrong", source=source)
    assert wrong["result"] == "failure"
    assert "not the right one" in wrong["error"]
    unknown = order("backup", repository="elsewhere", source=source)
    assert unknown["error"] == (
        "this host has no repository 'elsewhere' in its agent.toml; it knows: local, wrong"
    )
    gone = order("backup", source={"type": "path", "path": str(data / "gone")})
    assert "is not there" in gone["error"]
    no_docker = order("backup", source={"type": "volumes", "stack": "shop", "volumes": []})
    assert "/nonexistent/docker.sock is not there" in no_docker["error"]
    for payload, text in (
        ({"source": source, "job": ""}, "job must not be empty"),
        ({"source": source, "keep": {"last": -1}}, "keep must have"),
        ({"source": {"type": "all"}}, "source.type must be"),
        ({"source": {"type": "path", "path": "relative"}}, "source.path must be an absolute path"),
    ):
        assert text in order("backup", **payload)["error"]
    assert "snapshot_id must be" in order("restore", snapshot_id="--help", target_path="/x")["error"]
    assert "absolute" in order("restore", snapshot_id="latest", target_path="x")["error"]
    none = order("restore", snapshot_id="deadbeef", target_path=str(data.parent / "x"))
    assert none["result"] == "failure"
    assert PASSWORD not in str([wrong, unknown, none])


def test_a_jobs_tag_survives_restics_comma() -> None:
    assert job_tag("nightly") == "dockmesh-job=nightly"
    assert job_tag("a, b 100%") == "dockmesh-job=a%2C b 100%25"


@pytest.mark.parametrize("value", ["", "abc", "--help", "deadbeef --x", "DEADBEEF", "a" * 65])
def test_a_snapshot_id_can_not_be_an_option(value: str) -> None:
    with pytest.raises(CommandError):
        snapshot_id(value)


def test_volumes_are_found_by_their_compose_name_or_dockers() -> None:
    volumes: list[dict[str, Any]] = [
        {"Name": "shop_rows", "Mountpoint": "/v/1", "Labels": {
            "com.docker.compose.project": "shop", "com.docker.compose.volume": "rows"}},
        {"Name": "named", "Mountpoint": "/v/2", "Labels": {
            "com.docker.compose.project": "shop", "com.docker.compose.volume": "files"}},
        {"Name": "external", "Mountpoint": "/v/3", "Labels": None},
        {"Name": "cache_rows", "Mountpoint": "/v/4", "Labels": {
            "com.docker.compose.project": "cache", "com.docker.compose.volume": "rows"}},
    ]  # fmt: skip

    def found(*names: str) -> list[str]:
        return [volume["Mountpoint"] for volume in find_volumes(volumes, "shop", names)]

    assert found() == ["/v/2", "/v/1"]
    assert found("rows", "files", "external", "named") == ["/v/1", "/v/2", "/v/3", "/v/2"]
    with pytest.raises(CommandError, match="volume 'nope' of stack 'shop'"):
        find_volumes(volumes, "shop", ["nope"])
