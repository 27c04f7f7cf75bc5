"""The agent on a real Docker Engine, speaking to a server that records what it is told."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.integration.agent_process import AgentProcess
from tests.integration.dockerd import DockerEngine, compose_file
from tests.integration.stubserver import Request, StubServer

pytestmark = pytest.mark.integration

StartAgent = Callable[..., AgentProcess]


def containers(request: Request) -> dict[str, dict[str, Any]]:
    inventory = request.body.get("inventory") or {}
    return {item["name"]: item for item in inventory.get("containers", [])}


def shows(name: str, **expected: object) -> Callable[[Request], bool]:
    def check(request: Request) -> bool:
        item = containers(request).get(name)
        return item is not None and all(item[key] == value for key, value in expected.items())

    return check


def test_containers_are_reported_as_docker_says(
    docker_engine: DockerEngine, server: StubServer, start_agent: StartAgent, tmp_path: Path
) -> None:
    file = tmp_path / "docker-compose.yml"
    file.write_text(compose_file({"web": "sleep 600", "migrate": "exit 0", "broken": "exit 3"}))
    docker_engine.compose("shop", file, "up", "-d")
    docker_engine.run("sleep", "600", name="alone")
    docker_engine.run(
        "sleep", "600", name="ill", healthcheck={"test": "exit 1", "interval": 10**9, "retries": 1}
    )
    with docker_engine.client() as client:
        client.containers.create("busybox:latest", ["true"], name="fresh", network_mode="none")
        client.containers.get("alone").pause()

    start_agent(f"--docker-host={docker_engine.host}", "--label=site=lab")

    assert server.wait_for(lambda r: r.path == "enroll").body == {
        "hostname": "node-1",
        "labels": {"site": "lab"},
    }
    request = server.wait_for(shows("ill", health="unhealthy"))
    seen = containers(request)
    states = {name: (c["state"], c["exit_code"], c["stack"], c["service"]) for name, c in seen.items()}
    assert states == {
        "shop-web-1": ("running", 0, "shop", "web"),
        "shop-migrate-1": ("exited", 0, "shop", "migrate"),
        "shop-broken-1": ("exited", 3, "shop", "broken"),
        "alone": ("paused", 0, "", ""),
        "ill": ("running", 0, "", ""),
        "fresh": ("created", 0, "", ""),
    }
    assert seen["fresh"]["started_at"] is None
    assert seen["alone"]["image"] == "busybox:latest"
    assert len(seen["alone"]["id"]) == 64
    body = request.body
    assert body["docker"] == {"reachable": True, "version": body["docker"]["version"], "error": ""}
    assert body["docker"]["version"]
    assert body["system"]["cpus"] > 0
    assert body["system"]["memory_bytes"] > 0
    assert "Content-Length" in request.headers
    assert "Content-Encoding" not in request.headers


def test_a_container_that_dies_is_reported_within_two_seconds(
    docker_engine: DockerEngine, server: StubServer, start_agent: StartAgent
) -> None:
    container = docker_engine.run("sleep", "600", name="victim")
    start_agent(f"--docker-host={docker_engine.host}")
    server.wait_for(shows("victim", state="running"))
    for _ in range(3):
        started = time.monotonic()
        container.kill()
        died = server.wait_for(shows("victim", state="exited", exit_code=137), after=started)
        assert died.at - started < 2
        started = time.monotonic()
        container.start()
        back = server.wait_for(shows("victim", state="running"), after=started)
        assert back.at - started < 2


def test_a_removed_container_leaves_the_inventory_and_a_new_one_enters(
    docker_engine: DockerEngine, server: StubServer, start_agent: StartAgent
) -> None:
    first = docker_engine.run("sleep", "600", name="first")
    start_agent(f"--docker-host={docker_engine.host}")
    server.wait_for(shows("first"))
    since = time.monotonic()
    first.remove(force=True)
    docker_engine.run("sleep", "600", name="second")
    server.wait_for(lambda r: set(containers(r)) == {"second"}, after=since, seconds=5)


def test_an_unchanged_inventory_travels_as_its_digest_alone(
    docker_engine: DockerEngine, server: StubServer, start_agent: StartAgent
) -> None:
    docker_engine.run("sleep", "600", name="steady")
    server.interval = 1
    start_agent(f"--docker-host={docker_engine.host}")
    full = server.wait_for(shows("steady"))
    digest = full.body["inventory"]["digest"]
    server.wait_for(lambda r: r.body.get("inventory") == {"digest": digest}, after=full.at)

    server.known_digests.clear()
    forgot = time.monotonic()
    again = server.wait_for(shows("steady"), after=forgot, seconds=5)
    asked = [r for r in server.requests if r.at > forgot and r.body["inventory"] == {"digest": digest}]
    assert again.at - asked[-1].at < 0.5


def test_the_host_is_reported_without_inventory_while_docker_is_away_and_recovers(
    docker_engine: DockerEngine, server: StubServer, start_agent: StartAgent
) -> None:
    docker_engine.run("sleep", "600", name="resident")
    agent = start_agent(f"--docker-host={docker_engine.host}")
    server.wait_for(shows("resident", state="running"))

    docker_engine.stop()
    down = server.wait_for(lambda r: r.path == "heartbeat" and not r.body["docker"]["reachable"])
    assert down.body["inventory"] is None
    assert down.body["docker"]["error"]
    assert down.body["docker"]["version"]

    docker_engine.start()
    up = server.wait_for(
        lambda r: r.path == "heartbeat" and r.body["docker"]["reachable"], after=down.at, seconds=30
    )
    assert up.body["inventory"]["digest"]
    # Events are followed again.
    since = time.monotonic()
    docker_engine.run("sleep", "600", name="newcomer")
    server.wait_for(shows("newcomer"), after=since, seconds=3)
    assert agent.stop() == 0


def test_a_frozen_docker_does_not_silence_the_host(
    docker_engine: DockerEngine, server: StubServer, start_agent: StartAgent
) -> None:
    server.interval = 1
    start_agent(f"--docker-host={docker_engine.host}")
    server.wait_for(lambda r: r.path == "heartbeat" and r.body["docker"]["reachable"])
    docker_engine.pause()
    try:
        frozen = server.wait_for(
            lambda r: r.path == "heartbeat" and not r.body["docker"]["reachable"], seconds=40
        )
        assert "did not answer" in frozen.body["docker"]["error"]
        times = [r.at for r in server.requests if r.path == "heartbeat"]
        assert max(b - a for a, b in itertools.pairwise(times)) < 3
    finally:
        docker_engine.resume()
    server.wait_for(
        lambda r: r.path == "heartbeat" and r.body["docker"]["reachable"], after=frozen.at, seconds=30
    )
