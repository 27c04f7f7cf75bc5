"""Containers are acted on and their logs read: through a real server, a real agent and a real Docker Engine.

The agent's heartbeats are minutes apart, so that whatever reaches it within a test came by the request that it keeps
waiting.
"""

from __future__ import annotations

import json
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, expect

from tests.end_to_end.conftest import read_metrics
from tests.end_to_end.hand_agent import HandAgent, call, container
from tests.integration.agent_process import AgentProcess
from tests.integration.dockerd import DockerEngine
from tests.integration.postgres import PostgresServer
from tests.integration.prometheus import wait_for
from tests.integration.server import DockmeshServer
from tests.support import PATIENCE

pytestmark = pytest.mark.integration

SOON = PATIENCE * 10_000  # milliseconds
USER, PASSWORD = "ada", "a-long-password-of-ada"
RARE = {
    "DOCKMESH_HEARTBEAT_INTERVAL": "300",
    "DOCKMESH_HOST_OFFLINE_AFTER": "900",
    "DOCKMESH_ADMIN_USER": USER,
    "DOCKMESH_ADMIN_PASSWORD": PASSWORD,
}


@pytest.fixture(scope="module", params=["sqlite", "postgresql"])
def dockmesh(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[DockmeshServer]:
    url = ""
    if request.param == "postgresql":
        url = request.getfixturevalue("postgres_server").create_database()
    with DockmeshServer(tmp_path_factory.mktemp("server") / "data", RARE, database_url=url) as server:
        yield server


@pytest.fixture(scope="module")
def operator(dockmesh: DockmeshServer) -> str:
    return dockmesh.createtoken("operator", role="operator")


@pytest.fixture
def agent(dockmesh: DockmeshServer, docker_engine: DockerEngine, tmp_path: Path) -> Iterator[AgentProcess]:
    started = AgentProcess(
        tmp_path / "agent",
        f"--server={dockmesh.url}",
        f"--enrollment-token={dockmesh.enrollmenttoken()}",
        "--name=node",
        f"--docker-host={docker_engine.host}",
    ).start()
    yield started
    started.close()


Find = Callable[[str], int]


@pytest.fixture
def find(dockmesh: DockmeshServer, operator: str, agent: AgentProcess) -> Find:
    """The id of the container of this name, once it is reported."""

    def found(name: str) -> int:
        rows = call(dockmesh, operator, "GET", f"containers?name={name}")["results"]
        return int(rows[-1]["id"]) if rows else 0

    return lambda name: wait_for(lambda: found(name), seconds=20, what=f"the container {name}")


def test_a_restart_and_a_stop_are_done_at_once_and_their_outcome_is_told(
    dockmesh: DockmeshServer, operator: str, docker_engine: DockerEngine, find: Find
) -> None:
    made = docker_engine.run("sleep", "1000", name="acted-on", stop_signal="SIGKILL")
    pk = find("acted-on")
    began = made.attrs["State"]["StartedAt"]

    def done(action: str) -> Any:
        asked = call(dockmesh, operator, "POST", f"containers/{pk}/{action}")

        def ended() -> Any:
            told = call(dockmesh, operator, "GET", f"commands/{asked['id']}")
            return told if told["status"] == "done" else None

        return wait_for(ended, seconds=20, what=f"the end of {action}")

    assert (done("restart")["outcome"], done("restart")["result"]) == ("restarted", "success")
    made.reload()
    assert made.attrs["State"]["StartedAt"] > began
    assert done("stop")["outcome"] == "stopped"
    assert done("stop")["outcome"] == "already stopped"
    # And the host's inventory has it, though no heartbeat was due.
    wait_for(
        lambda: call(dockmesh, operator, "GET", f"containers/{pk}")["state"] == "exited",
        seconds=20,
        what="the state",
    )
    assert done("start")["outcome"] == "started"
    assert done("kill")["outcome"] == "killed"
    made.remove(force=True)


def read(server: DockmeshServer, token: str, path: str) -> Any:
    request = urllib.request.Request(
        f"{server.url}/api/v1/{path}", headers={"Authorization": f"Bearer {token}"}
    )
    return urllib.request.urlopen(request, timeout=60)


def test_logs_are_read_and_followed_and_end_when_nobody_reads(
    dockmesh: DockmeshServer, operator: str, docker_engine: DockerEngine, find: Find
) -> None:
    made = docker_engine.run(
        "sh", "-c", "echo one; while [ ! -e /go ]; do sleep 0.1; done; echo two; sleep 1000", name="talks"
    )
    pk = find("talks")
    with read(dockmesh, operator, f"containers/{pk}/logs") as answer:
        assert answer.headers["Content-Type"] == "text/plain; charset=utf-8"
        assert answer.read() == b"one\n"
    with read(dockmesh, operator, f"containers/{pk}/logs?follow=true&tail=1") as answer:
        assert answer.readline() == b"one\n"
        made.exec_run(["touch", "/go"])
        assert answer.readline() == b"two\n"
    # The reader has hung up: the agent is told so, and is done.
    commands = 'dockmesh_commands_open{kind="container-logs",status="handed_out"}'
    token = dockmesh.createtoken(f"scraper-{time.time_ns()}", permissions=["metrics.read"])
    wait_for(
        lambda: read_metrics(dockmesh.url, token).get(commands, 0) == 0, seconds=30, what="the agent's end"
    )
    made.remove(force=True)
    with pytest.raises(urllib.error.HTTPError) as refused:
        # Gone for Docker, and perhaps not yet for the inventory.
        read(dockmesh, operator, f"containers/{pk}/logs")
    assert refused.value.code in (404, 409)
    assert b"gone" in (told := refused.value.read()) or b"no such container" in told.lower()


@pytest.mark.browser
def test_in_a_browser_a_log_is_followed_while_the_container_writes_and_a_restart_is_told(
    dockmesh: DockmeshServer, docker_engine: DockerEngine, find: Find, chromium: Browser
) -> None:
    made = docker_engine.run(
        "sh",
        "-c",
        "echo begun; n=0; while true; do n=$((n+1)); echo line $n; sleep 0.2; done",
        name="writes",
        stop_signal="SIGKILL",
    )
    pk = find("writes")
    context = chromium.new_context(base_url=dockmesh.url)
    page = context.new_page()
    page.set_default_timeout(SOON)
    page.goto(f"/containers/{pk}/")
    page.get_by_label("Name").fill(USER)
    page.get_by_label("Password").fill(PASSWORD)
    page.get_by_role("button", name="Sign in").click()
    lines = page.locator("[data-log-lines]")
    expect(lines).to_contain_text("begun", timeout=SOON)
    expect(page.get_by_role("heading", name="Last exits")).to_be_visible(timeout=SOON)
    page.get_by_role("button", name="Follow").click()
    expect(page.locator("[data-log-state]")).to_have_text("Following", timeout=SOON)
    expect(lines).to_contain_text("line 1\n", timeout=SOON)
    seen = lines.inner_text().count("\n")
    wait_for(lambda: lines.inner_text().count("\n") > seen + 5, seconds=20, what="more lines")
    page.get_by_role("button", name="Restart").click()
    page.get_by_role("button", name="Restart writes").click()
    expect(page.get_by_text("Restart: restarted")).to_be_visible(timeout=SOON)
    # One exit more, which the agent saw.
    expect(page.get_by_text("Exited with 137 (SIGKILL)").first).to_be_visible(timeout=SOON)
    context.close()
    made.remove(force=True)


def test_followers_are_few_and_nobody_else_waits_for_them(
    dockmesh: DockmeshServer, operator: str, docker_engine: DockerEngine, find: Find
) -> None:
    made = docker_engine.run("sh", "-c", "echo one; sleep 1000", name="followed")
    pk = find("followed")
    path = f"containers/{pk}/logs?follow=true"
    followers = [read(dockmesh, operator, path) for _ in range(2)]
    assert [each.readline() for each in followers] == [b"one\n"] * 2
    with pytest.raises(urllib.error.HTTPError) as refused:
        read(dockmesh, operator, path)
    assert refused.value.code == 503
    assert refused.value.headers["Retry-After"] == "5"
    call(dockmesh, operator, "GET", "hosts")
    for each in followers:
        each.close()
    wait_for(lambda: _is_readable(dockmesh, operator, pk), seconds=30, what="a free place")
    made.remove(force=True)


def _is_readable(server: DockmeshServer, token: str, pk: int) -> bool:
    try:
        with read(server, token, f"containers/{pk}/logs") as answer:
            return bool(answer.read() == b"one\n")
    except urllib.error.HTTPError:
        return False


def test_a_command_asked_for_at_one_replica_reaches_the_agent_that_waits_at_the_other(
    tmp_path: Path, postgres_server: PostgresServer
) -> None:
    url = postgres_server.create_database()
    with (
        DockmeshServer(tmp_path / "data", RARE, database_url=url) as one,
        DockmeshServer(tmp_path / "data", RARE, database_url=url) as two,
    ):
        token = one.createtoken("operator", role="operator")
        agent = HandAgent(one, "web")
        agent.beat([container(1, stack="shop", state="running")])
        (pk,) = [row["id"] for row in call(one, token, "GET", "containers")["results"]]
        events: list[str] = []
        handed: list[Any] = []

        def wait() -> None:
            handed.extend(call(two, agent.token, "POST", "agents/wait", {})["commands"])
            events.append("handed out")

        waiting = threading.Thread(target=wait)
        waiting.start()
        # It is parked: whatever else is asked of that replica is answered meanwhile.
        for _ in range(5):
            call(two, token, "GET", "hosts")
            time.sleep(0.1)
        events.append("asked for")
        asked = call(one, token, "POST", f"containers/{pk}/restart")
        waiting.join(20)
        assert events == ["asked for", "handed out"]
        assert [each["id"] for each in handed] == [asked["id"]]
        # And the report may go to whichever replica.
        report = {"result": "success", "duration_seconds": 0.1, "outcome": "restarted"}
        assert call(one, agent.token, "POST", f"agents/commands/{asked['id']}/result", report) == {
            "status": "accepted"
        }
        assert call(two, token, "GET", f"commands/{asked['id']}")["outcome"] == "restarted"
        assert json.dumps(handed).count("container-action") == 1
