"""Deploys for real: a server, an agent and a Docker Engine, and what becomes of them when one is killed."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.integration.agent_process import AgentProcess
from tests.integration.api import Api, until
from tests.integration.dockerd import DockerEngine, compose_file
from tests.integration.server import DockmeshServer

pytestmark = pytest.mark.integration

# `up` waits until the first service is healthy: long enough to kill somebody meanwhile.
SLOW = """version: "2.4"
services:
  first:
    image: busybox:latest
    network_mode: none
    stop_grace_period: 0s
    command: ["sh", "-c", "sleep 6; touch /tmp/ready; sleep 600"]
    healthcheck: {test: ["CMD", "test", "-f", "/tmp/ready"], interval: 1s, retries: 60}
  second:
    image: busybox:latest
    network_mode: none
    stop_grace_period: 0s
    command: ["sleep", "600"]
    depends_on: {first: {condition: service_healthy}}
"""


class Place:
    """A server, its API and the agent of the host `alpha`."""

    def __init__(self, folder: Path, engine: DockerEngine, *arguments: str) -> None:
        self.server = DockmeshServer(folder / "data", {"DOCKMESH_HEARTBEAT_INTERVAL": "2"})
        self.server.start()
        self.api = Api(self.server)
        self.agent = AgentProcess(
            folder / "agent",
            f"--server={self.server.url}",
            f"--docker-host={engine.host}",
            f"--enrollment-token={self.server.enrollmenttoken()}",
            "--name=alpha",
            *arguments,
        )
        self.agent.start()
        self.engine = engine

    def close(self) -> None:
        self.agent.close()
        if self.server.process is not None and self.server.process.poll() is None:
            self.server.stop()

    def stack(self, name: str, compose: str, **more: object) -> int:
        body = {"host": "alpha", "name": name, "compose_file": compose, **more}
        self.agent.wait_log("nrolled", seconds=30)
        return int(self.api.post("stacks", body, expect=201)["id"])

    def running(self, stack: str) -> set[str]:
        """The services of the stack that Docker runs now."""
        label = f"com.docker.compose.project={stack}"
        with self.engine.client() as client:
            found = client.containers.list(filters={"label": label, "status": "running"})
            return {container.labels["com.docker.compose.service"] for container in found}


@pytest.fixture
def place(tmp_path: Path, docker_engine: DockerEngine) -> Iterator[Place]:
    made = Place(tmp_path, docker_engine)
    try:
        yield made
    finally:
        made.close()


def test_a_stack_is_deployed_stopped_and_removed(place: Place) -> None:
    compose = compose_file({"web": "echo $$WORD; sleep 600", "job": "sleep 600"})
    compose = compose.replace(
        "    network_mode: none\n", "    network_mode: none\n    environment: [WORD]\n", 1
    )
    compose = compose.replace("[WORD]", '["WORD=${WORD}"]')
    stack = place.stack("shop", compose, env_file="WORD=hunter2secret\n")
    assert place.api.deploys_counted("shop") == {"success": (0, 0), "failure": (0, 0)}

    begun = time.monotonic()
    deploy = place.api.post(f"stacks/{stack}/deploy", expect=202)
    ended = place.api.ended(f"deploys/{deploy['id']}")
    took = time.monotonic() - begun
    assert ended["status"] == "success", ended
    assert place.running("shop") == {"web", "job"}
    assert "hunter2secret" not in ended["output"]
    assert 0 < ended["duration_seconds"] <= took
    counted = place.api.deploys_counted("shop")
    assert counted["success"] == pytest.approx((1, ended["duration_seconds"]))
    assert counted["failure"] == (0, 0)
    until(
        lambda: place.api.get(f"stacks/{stack}")["state"] == "running",
        seconds=10,
        what=lambda: str(place.api.get(f"stacks/{stack}")),
    )
    with place.engine.client() as client:
        [web] = client.containers.list(filters={"label": "com.docker.compose.service=web"})
        assert web.logs().decode().strip() == "hunter2secret"

    deploy = place.api.post(f"stacks/{stack}/stop", expect=202)
    assert place.api.ended(f"deploys/{deploy['id']}")["status"] == "success"
    assert place.running("shop") == set()
    deploy = place.api.call("DELETE", f"stacks/{stack}", expect=202)
    assert place.api.ended(f"deploys/{deploy['id']}")["status"] == "success"
    until(
        lambda: place.api.get("stacks?name=shop")["count"] == 0, seconds=15, what="the stack is still there"
    )
    assert not [key for key in place.api.samples() if ("stack", "shop") in key[1]]
    for text in (place.server.log, place.agent.log):
        assert "hunter2secret" not in text
    with sqlite3.connect(place.server.data_dir / "dockmesh.sqlite3") as database:
        assert "hunter2secret" not in "\n".join(database.iterdump())


def test_a_broken_stack_fails_with_its_output(place: Place) -> None:
    broken = compose_file({"web": "sleep 600"}).replace("busybox:latest", "nowhere.invalid/none:1")
    stack = place.stack("shop", broken)
    deploy = place.api.post(f"stacks/{stack}/deploy", expect=202)
    ended = place.api.ended(f"deploys/{deploy['id']}")
    assert ended["status"] == "failure"
    assert "nowhere.invalid" in ended["output"]
    assert ended["exit_code"] not in (0, None)
    assert ended["error"]
    counted = place.api.deploys_counted("shop")
    assert counted["failure"] == pytest.approx((1, ended["duration_seconds"]))
    assert counted["success"] == (0, 0)
    assert place.api.get(f"stacks/{stack}")["state"] == "error"
    samples = place.api.samples()
    assert samples["dockmesh_stacks_total", (("host", "alpha"), ("state", "error"))] == 1

    place.api.call("PATCH", f"stacks/{stack}", {"compose_file": compose_file({"web": "sleep 600"})})
    deploy = place.api.post(f"stacks/{stack}/deploy", expect=202)
    assert place.api.ended(f"deploys/{deploy['id']}")["status"] == "success"
    until(
        lambda: place.api.get(f"stacks/{stack}")["state"] == "running", seconds=10, what="it is not running"
    )
    assert {result: count for result, (count, _) in place.api.deploys_counted("shop").items()} == {
        "success": 1,
        "failure": 1,
    }


def test_an_agent_that_is_killed_in_mid_deploy_ends_it_once(place: Place) -> None:
    stack = place.stack("shop", SLOW)
    deploy = place.api.post(f"stacks/{stack}/deploy", expect=202)
    path = f"deploys/{deploy['id']}"
    until(lambda: place.running("shop"), seconds=30, what=lambda: str(place.api.get(path)))
    assert place.api.get(path)["status"] == "running"
    assert place.api.get(f"stacks/{stack}")["state"] == "deploying"
    place.agent.kill()
    place.agent.start()
    ended = place.api.ended(path)
    assert (ended["status"], ended["error"]) == ("failure", "agent restarted while it ran")
    time.sleep(5)
    counted = place.api.deploys_counted("shop")
    assert (counted["success"][0], counted["failure"][0]) == (0, 1)
    assert place.api.audited("deploy.failed") == 1
    # The next one is carried out as if nothing had been.
    deploy = place.api.post(f"stacks/{stack}/deploy", expect=202)
    assert place.api.ended(f"deploys/{deploy['id']}")["status"] == "success"


def test_a_server_that_is_killed_while_it_is_told_counts_once(place: Place) -> None:
    stack = place.stack("shop", SLOW)
    deploy = place.api.post(f"stacks/{stack}/deploy", expect=202)
    path = f"deploys/{deploy['id']}"
    until(
        lambda: place.running("shop") == {"first", "second"},
        seconds=40,
        what=lambda: str(place.api.get(path)),
        every=0.02,
    )
    # Compose is about to end: its result finds the server dead, or is cut off half-way.
    for wait in (0.0, 0.3):
        place.server.kill()
        place.server.start()
        time.sleep(wait)
    place.server.kill()
    time.sleep(2)
    place.server.start()
    ended = place.api.ended(path)
    assert ended["status"] == "success", (ended, place.agent.log)
    assert ended["duration_seconds"] > 5
    time.sleep(5)
    assert place.api.deploys_counted("shop")["success"][0] == 1
    assert place.api.audited("deploy.succeeded") == 1


def test_what_was_started_outside_is_seen_and_adopted(place: Place, tmp_path: Path) -> None:
    compose = compose_file({"web": "sleep 600"})
    file = tmp_path / "compose.yaml"
    file.write_text(compose)
    place.engine.compose("found", file, "up", "-d")
    [stack] = until(
        lambda: place.api.get("stacks?name=found")["results"], seconds=20, what=lambda: place.agent.log
    )
    assert (stack["is_managed"], stack["state"]) == (False, "running")
    place.api.post(f"stacks/{stack['id']}/deploy", expect=409)
    place.api.post(f"stacks/{stack['id']}/adopt", {"compose_file": compose})
    deploy = place.api.post(f"stacks/{stack['id']}/deploy", expect=202)
    assert place.api.ended(f"deploys/{deploy['id']}")["status"] == "success"
    assert place.running("found") == {"web"}


def test_a_deploy_that_crashes_is_rolled_back_and_what_runs_then_is_the_good_one(place: Place) -> None:
    good = compose_file({"web": "sleep 600"})
    stack = place.stack("shop", good, auto_rollback=True)
    deploy = place.api.post(f"stacks/{stack}/deploy", expect=202)
    assert place.api.ended(f"deploys/{deploy['id']}")["status"] == "success"
    broken = compose_file({"web": "echo no licence; exit 3", "new": "sleep 600"})
    place.api.call("PATCH", f"stacks/{stack}", {"compose_file": broken})
    failed = place.api.post(f"stacks/{stack}/deploy", expect=202)
    ended = place.api.ended(f"deploys/{failed['id']}")
    assert ended["status"] == "failure"
    assert "shop-web-1 exited with 3" in ended["error"]
    assert "no licence" in ended["output"]
    [back] = [each for each in place.api.get("deploys?stack=shop")["results"] if each["is_automatic"]]
    assert back["rollback_of"] == deploy["id"]
    assert f"by deploy {back['id']}" in ended["error"]
    assert place.api.ended(f"deploys/{back['id']}")["status"] == "success"
    assert place.running("shop") == {"web"}
    assert place.api.get(f"stacks/{stack}")["compose_file"] == broken


def test_a_deploy_is_cancelled_while_it_waits_and_while_it_runs(place: Place) -> None:
    stack = place.stack("shop", SLOW)
    place.agent.stop()
    waiting = place.api.post(f"stacks/{stack}/deploy", expect=202)
    cancelled = place.api.post(f"deploys/{waiting['id']}/cancel", expect=202)
    assert (cancelled["status"], cancelled["is_changed"]) == ("cancelled", False)
    place.agent.start()
    running = place.api.post(f"stacks/{stack}/deploy", expect=202)
    path = f"deploys/{running['id']}"
    until(lambda: place.running("shop"), seconds=60, what=lambda: str(place.api.get(path)))
    place.api.post(f"{path}/cancel", expect=202)
    ended = place.api.ended(path)
    assert (ended["status"], ended["is_changed"]) == ("cancelled", True)
    assert "cancelled" in ended["error"]
    counted = place.api.deploys_counted("shop")
    assert (counted["success"][0], counted["failure"][0]) == (0, 0)
    assert place.api.audited("deploy.cancelled") == 2
    # The next one is carried out as if nothing had been.
    deploy = place.api.post(f"stacks/{stack}/deploy", expect=202)
    assert place.api.ended(f"deploys/{deploy['id']}")["status"] == "success"
