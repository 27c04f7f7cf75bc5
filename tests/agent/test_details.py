"""What is told of one container, and the history of exits."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest

from dockmesh.agent.commands import CommandError, Run
from dockmesh.agent.details import Details
from dockmesh.agent.exits import KEPT, Exits
from dockmesh.agent.process import Cancellation
from tests.integration.dockerd import DockerEngine
from tests.integration.prometheus import wait_for


def exits(folder: Path) -> Exits:
    return Exits(folder / "exits.sqlite3")


def event(action: str, name: str = "web", *, code: int | None = None, at: float = 1_700_000_000.0) -> Any:
    attributes = {"name": name} | ({"exitCode": str(code)} if code is not None else {})
    return {
        "Type": "container",
        "Action": action,
        "Actor": {"ID": "a" * 64, "Attributes": attributes},
        "timeNano": int(at * 1e9),
    }


def found(docker_host: str, container: str, history: Exits) -> Any:
    run = Run("1", "container-inspect", {"container": container, "name": "web"}, Cancellation())
    run.deadline = time.monotonic() + 60
    return Details(docker_host, history)(run)["found"]


@pytest.mark.integration
def test_all_that_a_real_engine_knows_and_no_value_of_the_environment(
    docker_engine: DockerEngine, tmp_path: Path
) -> None:
    with docker_engine.client() as client:
        client.volumes.create("details")
        container = client.containers.run(
            "busybox",
            ["sh", "-c", "until [ -e /go ]; do sleep 0.05; done; exit 7"],
            detach=True,
            name="detailed",
            network_mode="none",
            environment={"PASSWORD": "not to be told", "EMPTY": ""},
            labels={"team": "shop", "control": "a\x07b"},
            volumes={"details": {"bind": "/data", "mode": "ro"}, "/tmp": {"bind": "/host", "mode": "rw"}},
            restart_policy={"Name": "no"},
            healthcheck={"test": ["CMD-SHELL", "echo looked; exit 3"], "interval": 10**9 // 10, "retries": 1},
        )

    def has_looked() -> bool:
        container.reload()
        looks = container.attrs["State"]["Health"]["Log"] or []
        return any(each["Output"] for each in looks)

    wait_for(has_looked, what="the first health check")
    container.exec_run(["touch", "/go"])
    container.wait(timeout=60)
    told = found(docker_engine.host, str(container.id), exits(tmp_path))
    assert "not to be told" not in str(told)
    assert {"PASSWORD", "EMPTY"} <= set(told["environment"])
    assert dict(told["labels"]) == {"team": "shop", "control": "a\ufffdb"}
    assert sorted(told["mounts"], key=lambda each: str(each["target"])) == [
        {"type": "volume", "source": "details", "target": "/data", "is_writable": False},
        {"type": "bind", "source": "/tmp", "target": "/host", "is_writable": True},
    ]
    assert [(each["exit_code"], each["oom_killed"]) for each in told["exits"]] == [(7, False)]
    assert ("looked\n", 3) in [(each["output"], each["exit_code"]) for each in told["health"]["looks"]]
    assert told["networks"][0]["name"] == "none"
    assert (told["log_driver"], told["is_terminal"], told["is_agent"]) == ("json-file", False, False)
    assert told["image_id"].startswith("sha256:")
    container.remove(force=True)
    with pytest.raises(CommandError, match="web is gone"):
        found(docker_engine.host, str(container.id), exits(tmp_path))


@pytest.mark.integration
def test_what_docker_and_the_agent_saw_of_one_exit_is_one(
    docker_engine: DockerEngine, tmp_path: Path
) -> None:
    history = exits(tmp_path)
    with docker_engine.client() as client:
        events = client.events(decode=True)
        container = docker_engine.run("sh", "-c", "exit 4", name="once")
        for each in events:
            history.event(each)
            if each.get("Action") == "die":
                break
        events.close()
    wait_for(lambda: history.of("once"), seconds=20, what="the exit")
    told = found(docker_engine.host, str(container.id), history)
    assert [each["exit_code"] for each in told["exits"]] == [4]


def test_the_last_exits_of_each_name_are_kept_across_a_restart(tmp_path: Path) -> None:
    history = exits(tmp_path)
    for number in range(KEPT + 5):
        history.event(event("die", code=number, at=1_700_000_000.0 + number))
    history.event(event("die", "db", code=1))
    known = exits(tmp_path).of("web")
    assert [each["exit_code"] for each in known] == list(range(KEPT + 4, 4, -1))
    assert known[-1]["at"] == "2023-11-14T22:13:25+00:00"
    assert [each["exit_code"] for each in history.of("db")] == [1]
    assert history.of("nobody") == []


def test_a_kill_for_memory_is_told_of_the_run_that_it_was_in(tmp_path: Path) -> None:
    history = exits(tmp_path)
    for each in (event("oom"), event("die", code=137), event("start"), event("die", code=1)):
        history.event(each)
    history.event(event("oom"))
    history.event(event("start"))
    history.event(event("die", code=0))
    assert [(each["exit_code"], each["oom_killed"]) for each in history.of("web")] == [
        (0, False), (1, False), (137, True),
    ]  # fmt: skip


@pytest.mark.parametrize(
    "odd",
    [
        None,
        [],
        {},
        {"Action": "die"},
        {"Action": "die", "Actor": {"Attributes": {"name": "web"}}},
        event("die"),
    ],
)
def test_what_is_no_exit_changes_nothing(tmp_path: Path, odd: Any) -> None:
    history = exits(tmp_path)
    history.event(odd)
    assert history.of("web") == []


def test_a_history_that_can_not_be_kept_harms_nobody(tmp_path: Path) -> None:
    (tmp_path / "exits.sqlite3").write_bytes(b"this is no database, whatever its name is" * 100)
    history = exits(tmp_path)
    history.event(event("die", code=1))
    assert history.of("web") == []


@pytest.mark.parametrize(
    ("inspected", "told"),
    [
        ({}, []),
        ({"FinishedAt": "0001-01-01T00:00:00Z", "Running": True}, []),
        (
            {"FinishedAt": "2026-11-22T12:00:00.5Z", "ExitCode": 3},
            [{"at": "2026-11-22T12:00:00.5Z", "exit_code": 3, "oom_killed": False}],
        ),
        (
            {"FinishedAt": "2026-11-22T12:00:00.5Z", "ExitCode": 0, "Running": True},
            [{"at": "2026-11-22T12:00:00.5Z", "exit_code": None, "oom_killed": False}],
        ),
        (
            {"FinishedAt": "2026-11-22T12:00:00.5Z", "ExitCode": 137, "OOMKilled": True},
            [{"at": "2026-11-22T12:00:00.5Z", "exit_code": 137, "oom_killed": True}],
        ),
    ],
)
def test_an_exit_of_before_the_agent_is_told_as_docker_has_it(
    tmp_path: Path, inspected: Any, told: Any
) -> None:
    details = Details("unix:///nowhere", exits(tmp_path)).found({"Name": "/web", "State": inspected}, {})
    assert details["exits"] == told


def test_an_engine_that_says_next_to_nothing_is_enough(tmp_path: Path) -> None:
    odd = {"Config": None, "HostConfig": [], "Mounts": {}, "NetworkSettings": {"Ports": {"80/tcp": None}}}
    told = Details("unix:///nowhere", exits(tmp_path)).found(odd, {"RepoDigests": None})
    assert told["ports"] == ["80/tcp"]
    assert told["health"] is None
    ports = {"53/udp": [{"HostIp": "::", "HostPort": "5353"}, {"HostIp": "0.0.0.0", "HostPort": "53"}]}
    told = Details("unix:///nowhere", exits(tmp_path)).found({"NetworkSettings": {"Ports": ports}}, {})
    assert told["ports"] == ["[::]:5353 → 53/udp", "0.0.0.0:53 → 53/udp"]
