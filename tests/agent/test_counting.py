"""What the agent counts of a real Docker Engine's containers, against what was done to them."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.agent.test_docker import StartAgent, containers
from tests.integration.dockerd import DockerEngine, compose_file
from tests.integration.stubserver import Request, StubServer

pytestmark = pytest.mark.integration

Numbers = tuple[int, int, int, int]
SECONDS = 30
CRASHES = "trap 'exit 3' USR1; while true; do sleep 0.1; done"


def counts(request: Request, name: str) -> Numbers | None:
    """Restarts, harmless exits, errors, kills for memory."""
    item = containers(request).get(name)
    if item is None:
        return None
    found = item["counts"]
    return (found["restarts"], found["successes"], found["errors"], found["oom_kills"])


def counted(name: str, wanted: Numbers, **expected: object) -> Callable[[Request], bool]:
    def check(request: Request) -> bool:
        item = containers(request).get(name)
        if item is None or any(item[key] != value for key, value in expected.items()):
            return False
        return counts(request, name) == wanted

    return check


def settled(server: StubServer, name: str, wanted: Numbers, **expected: object) -> None:
    """They become what is wanted, and stay so."""
    try:
        last = server.wait_for(counted(name, wanted, **expected), seconds=SECONDS)
    except AssertionError as error:
        shown = [counts(request, name) for request in server.requests if containers(request)]
        raise AssertionError(f"{name}: {shown[-5:]}, wanted {wanted}") from error
    time.sleep(1.5)
    later = [r for r in server.requests if r.at >= last.at and name in containers(r)]
    assert counts(later[-1], name) == wanted
    seen = [found for r in server.requests if (found := counts(r, name)) is not None]
    assert seen == sorted(seen), "no count ever falls"


def test_crash_loops_ends_and_kills_are_counted_as_they_happen(
    docker_engine: DockerEngine, server: StubServer, start_agent: StartAgent, tmp_path: Path
) -> None:
    server.interval = 1
    start_agent(f"--docker-host={docker_engine.host}")
    server.wait_for(lambda r: r.path == "heartbeat" and bool(r.body["inventory"]))
    retries = {"Name": "on-failure", "MaximumRetryCount": 3}
    docker_engine.run("sh", "-c", "exit 3", name="loop", restart_policy=retries)
    docker_engine.run("true", name="fine")
    docker_engine.run("sh", "-c", "exit 7", name="wrong")
    settled(server, "fine", (0, 1, 0, 0), state="exited")
    settled(server, "wrong", (0, 0, 1, 0), state="exited", exit_code=7)
    settled(server, "loop", (3, 0, 4, 0), state="exited", exit_code=3)

    # What people do is no restart by policy.
    by_hand = docker_engine.run("sleep", "600", name="by-hand", restart_policy={"Name": "always"})
    by_hand.restart(timeout=0)
    settled(server, "by-hand", (0, 1, 0, 0), state="running")
    by_hand.kill()
    settled(server, "by-hand", (0, 2, 0, 0), state="exited")
    by_hand.start()
    by_hand.stop(timeout=0)
    settled(server, "by-hand", (0, 3, 0, 0), state="exited")


def test_kills_for_memory_are_counted(
    docker_engine: DockerEngine, server: StubServer, start_agent: StartAgent
) -> None:
    server.interval = 1
    start_agent(f"--docker-host={docker_engine.host}")
    server.wait_for(lambda r: r.path == "heartbeat" and bool(r.body["inventory"]))
    docker_engine.run("tail", "/dev/zero", name="greedy", mem_limit="16m", memswap_limit="16m")
    settled(server, "greedy", (0, 0, 1, 1), state="exited", exit_code=137, oom_killed=True)


def test_counts_outlive_the_agent_and_the_container(
    docker_engine: DockerEngine, server: StubServer, start_agent: StartAgent, tmp_path: Path
) -> None:
    server.interval = 1
    agent = start_agent(f"--docker-host={docker_engine.host}")
    server.wait_for(lambda r: r.path == "heartbeat" and bool(r.body["inventory"]))
    file = tmp_path / "docker-compose.yml"
    text = compose_file({"web": CRASHES}).replace("    image:", "    restart: always\n    image:")
    file.write_text(text)
    docker_engine.compose("shop", file, "up", "-d")
    name = "shop-web-1"

    def crash() -> None:
        with docker_engine.client() as client:
            pid = client.containers.get(name).attrs["State"]["Pid"]
        assert pid > 1, "it does not run, and 0 would be all processes of these tests"
        # Not by Docker: what people do is no crash.
        os.kill(pid, signal.SIGUSR1)

    settled(server, name, (0, 0, 0, 0), state="running")
    crash()
    settled(server, name, (1, 0, 1, 0), state="running")

    agent.kill()
    crash()
    time.sleep(2)
    crash()
    time.sleep(3)
    agent.start()
    settled(server, name, (3, 0, 3, 0), state="running")

    docker_engine.compose("shop", file, "up", "-d", "--force-recreate", "--timeout", "0")
    settled(server, name, (3, 1, 3, 0), state="running", restart_count=0)
    crash()
    settled(server, name, (4, 1, 4, 0), state="running")
    with docker_engine.client() as client:
        client.containers.get(name).rename("renamed")
    settled(server, "renamed", (0, 0, 0, 0), state="running")
