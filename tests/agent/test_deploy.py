"""Deploys by the agent with the real Compose on the real Docker Engine."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from dockmesh.agent.commands import CommandError, Run
from dockmesh.agent.deploy import Deployer
from dockmesh.agent.process import Cancellation
from tests.integration.agent_process import AgentProcess
from tests.integration.dockerd import DockerEngine, compose_file
from tests.integration.stubserver import Request, StubServer

pytestmark = pytest.mark.integration

StartAgent = Callable[..., AgentProcess]


def deploy(command_id: int, file: str, **payload: Any) -> dict[str, Any]:
    usual = {
        "operation": "up",
        "stack": "shop",
        "compose_file": file,
        "env_file": "",
        "timeout_seconds": 120,
        "lock": "stack:shop",
    }
    return {"id": command_id, "kind": "deploy", "payload": usual | payload}


def result(server: StubServer, command_id: int, *, seconds: float = 60) -> dict[str, Any]:
    return server.wait_for(lambda r: r.path == f"commands/{command_id}/result", seconds=seconds).body


def is_running(command_id: int) -> Callable[[Request], bool]:
    return lambda r: any(item["command_id"] == command_id for item in r.body.get("progress", []))


@pytest.fixture
def agent(docker_engine: DockerEngine, server: StubServer, start_agent: StartAgent) -> AgentProcess:
    server.interval = 1
    started = start_agent(f"--docker-host={docker_engine.host}")
    beat = server.wait_for(lambda r: r.path == "heartbeat")
    assert "deploy" in beat.body["agent"]["capabilities"]
    return started


def states(docker_engine: DockerEngine) -> dict[str, str]:
    with docker_engine.client() as client:
        return {c.labels["com.docker.compose.service"]: c.status for c in client.containers.list(all=True)}


def test_a_stack_is_deployed_changed_restarted_stopped_and_removed(
    agent: AgentProcess, docker_engine: DockerEngine, server: StubServer
) -> None:
    both = compose_file({"web": "sleep 600", "db": "sleep 600"})
    server.commands = [deploy(1, both)]
    up = result(server, 1)
    assert (up["result"], up["exit_code"], up["error"]) == ("success", 0, "")
    assert 0 < up["duration_seconds"] < 60
    assert "shop-web-1" in up["output"]
    assert states(docker_engine) == {"web": "running", "db": "running"}

    server.commands = [deploy(2, compose_file({"web": "sleep 601"}), remove=["db"])]
    assert result(server, 2)["result"] == "success"
    assert states(docker_engine) == {"web": "running"}

    for command_id, operation, expected in (
        (3, "restart", {"web": "running"}),
        (4, "stop", {"web": "exited"}),
        (5, "down", {}),
    ):
        server.commands = [deploy(command_id, compose_file({"web": "sleep 601"}), operation=operation)]
        assert result(server, command_id)["result"] == "success", operation
        assert states(docker_engine) == expected
    assert not (agent.state_dir / "stacks" / "shop").exists()


def test_a_deploy_that_can_not_work_fails_with_composes_own_words(
    agent: AgentProcess, docker_engine: DockerEngine, server: StubServer
) -> None:
    server.commands = [
        deploy(1, compose_file({"web": "sleep 600"}).replace("busybox:latest", "127.0.0.1:1/web")),
        deploy(2, "services: [nonsense", operation="validate", lock=""),
        deploy(3, compose_file({"web": "sleep 600"}), operation="validate", lock=""),
    ]
    failed = result(server, 1)
    assert failed["result"] == "failure"
    assert failed["exit_code"] not in (0, None)
    assert "127.0.0.1:1" in failed["output"]
    assert failed["error"] == "pull: ended with exit code 1; nothing was changed"
    invalid = result(server, 2)
    assert invalid["result"] == "failure"
    assert invalid["output"]
    assert result(server, 3)["result"] == "success"
    assert states(docker_engine) == {}


def test_secrets_of_the_env_file_are_used_masked_and_not_kept(
    agent: AgentProcess, docker_engine: DockerEngine, server: StubServer
) -> None:
    file = compose_file({"web": "sleep 600"}) + "    environment:\n      PASSWORD: ${PASSWORD}\n"
    server.commands = [deploy(1, file, env_file="PASSWORD=hunter2-hunter2\n")]
    assert result(server, 1)["result"] == "success"
    with docker_engine.client() as client:
        assert "PASSWORD=hunter2-hunter2" in client.containers.get("shop-web-1").attrs["Config"]["Env"]
    broken = file + '    ports: ["${PASSWORD}:80"]\n'
    server.commands = [deploy(2, broken, env_file="PASSWORD=hunter2-hunter2\n")]
    failed = result(server, 2)
    assert failed["result"] == "failure"
    assert "******" in failed["output"]
    assert "hunter2" not in str(failed)
    folder = agent.state_dir / "stacks" / "shop"
    assert not (folder / ".env").exists()
    assert folder.stat().st_mode & 0o777 == 0o700
    assert (folder / "compose.yaml").stat().st_mode & 0o777 == 0o600
    for file_ in agent.state_dir.rglob("*"):
        assert not file_.is_file() or b"hunter" not in file_.read_bytes(), file_


def test_output_is_streamed_while_the_deploy_runs_and_heartbeats_come_every_second(
    agent: AgentProcess, docker_engine: DockerEngine, server: StubServer
) -> None:
    server.interval = 30
    server.wait_for(lambda r: r.path == "heartbeat", after=time.monotonic())
    slow = compose_file({"web": "trap '' TERM; while :; do sleep 1; done"}).replace("0s", "4s")
    server.commands = [deploy(1, slow)]
    docker_engine.run("true", name="nudge")  # an event, so that the command is fetched at once
    assert result(server, 1)["result"] == "success"
    asked = time.monotonic()
    server.commands = [deploy(2, slow, operation="stop")]
    docker_engine.run("true", name="nudge2")
    running = server.wait_for(
        lambda r: any(p["command_id"] == 2 and p["output"] for p in r.body.get("progress", [])), after=asked
    )
    assert "topping" in running.body["progress"][0]["output"]
    ended = result(server, 2)
    assert ended["duration_seconds"] > 3
    beats = [r.at for r in server.requests if r.path == "heartbeat" and r.body.get("progress")]
    assert len(beats) >= 3


def test_the_time_limit_ends_a_deploy_as_a_failure(
    agent: AgentProcess, docker_engine: DockerEngine, server: StubServer
) -> None:
    stubborn = compose_file({"web": "trap '' TERM; while :; do sleep 1; done"}).replace("0s", "60s")
    server.commands = [deploy(1, stubborn)]
    assert result(server, 1)["result"] == "success"
    server.commands = [deploy(2, stubborn, operation="stop", timeout_seconds=2)]
    ended = result(server, 2)
    assert ended["result"] == "failure"
    assert "time limit reached" in ended["error"]
    assert 2 <= ended["duration_seconds"] < 20


def test_an_agent_killed_in_mid_deploy_reports_one_failure_and_does_not_repeat_it(
    agent: AgentProcess, docker_engine: DockerEngine, server: StubServer
) -> None:
    stubborn = compose_file({"web": "trap '' TERM; while :; do sleep 1; done"}).replace("0s", "20s")
    server.commands = [deploy(1, stubborn)]
    assert result(server, 1)["result"] == "success"
    command = deploy(2, stubborn, operation="stop", env_file="KEY=left-behind\n")
    server.commands = [command]
    server.wait_for(is_running(2))
    agent.kill()
    server.commands = [command]  # as a server does that was not told it arrived
    agent.start()
    report = result(server, 2)
    assert report["result"] == "failure"
    assert report["error"] == "agent restarted while it ran"
    time.sleep(2)
    # Offered once more it is not carried out again: its report is, which counts once.
    assert all(each in (report, report | {"is_repeated": True}) for each in server.results(2))
    assert not (agent.state_dir / "stacks" / "shop" / ".env").exists()


def test_sigterm_in_mid_deploy_stops_it_reports_it_and_exits_0(
    agent: AgentProcess, docker_engine: DockerEngine, server: StubServer
) -> None:
    stubborn = compose_file({"web": "trap '' TERM; while :; do sleep 1; done"}).replace("0s", "60s")
    server.commands = [deploy(1, stubborn)]
    assert result(server, 1)["result"] == "success"
    server.commands = [deploy(2, stubborn, operation="stop")]
    server.wait_for(is_running(2))
    time.sleep(1)
    assert agent.stop(seconds=30) == 0
    assert "stopped with the agent" in result(server, 2)["error"]


@pytest.mark.parametrize(
    ("payload", "error"),
    [
        ({"stack": "../../etc"}, "payload: stack must be"),
        ({"stack": "-f"}, "payload: stack must be"),
        (
            {"operation": "exec"},
            "payload: operation is 'exec', not one of up, stop, down, restart, validate, preview",
        ),
        ({"compose_file": None}, "payload: compose_file must be a text"),
        ({"compose_file": "x" * 2_000_000}, "at most 1 MiB"),
    ],
)
def test_a_bad_deploy_is_refused_before_anything_is_written(
    tmp_path: Path, payload: dict[str, Any], error: str
) -> None:
    run = Run("1", "deploy", deploy(1, "services: {}")["payload"] | payload, Cancellation())
    with pytest.raises(CommandError, match=error.replace("(", r"\(")):
        Deployer(tmp_path / "stacks", docker_host="unix:///x")(run)
    assert list(tmp_path.iterdir()) == []
