"""Starting, stopping, restarting and killing containers of a real Engine, and what is said of what goes wrong."""

from __future__ import annotations

import time
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import pytest

from dockmesh.agent import actions
from dockmesh.agent.actions import Actions
from dockmesh.agent.commands import CommandError, Run
from dockmesh.agent.process import Cancellation
from tests.integration.dockerd import DockerEngine
from tests.integration.prometheus import wait_for


def act(docker_host: str, action: str, container: str, *, seconds: float = 60.0) -> str:
    payload = {"action": action, "container": container, "name": "web"}
    run = Run("1", "container-action", payload, Cancellation())
    run.deadline = time.monotonic() + seconds
    return str(Actions(docker_host)(run)["outcome"])


@pytest.mark.integration
def test_each_action_does_what_it_says(docker_engine: DockerEngine) -> None:
    container = docker_engine.run("sleep", "1000")
    identity, host = str(container.id), docker_engine.host

    def state() -> Any:
        container.reload()
        return container.attrs["State"]

    assert act(host, "start", identity) == "already running"
    assert act(host, "kill", identity) == "killed"
    wait_for(lambda: state()["Status"] == "exited", seconds=20, what="its end")
    assert state()["ExitCode"] == 137
    with pytest.raises(CommandError, match=r"web can't be killed as it is: .*not running"):
        act(host, "kill", identity)
    assert act(host, "stop", identity) == "already stopped"
    assert act(host, "start", identity) == "started"
    began = state()["StartedAt"]
    assert act(host, "restart", identity) == "restarted"
    assert state()["Running"]
    assert state()["StartedAt"] > began
    container.remove(force=True)
    with pytest.raises(CommandError, match="web is gone"):
        act(host, "start", identity)


@pytest.mark.integration
def test_a_container_that_takes_longer_to_stop_than_there_is_time(
    docker_engine: DockerEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(actions, "MARGIN_SECONDS", 0.0)
    with docker_engine.client() as client:
        container = client.containers.create(
            "busybox", ["sh", "-c", "trap '' TERM; sleep 1000"], stop_signal="SIGTERM"
        )
        container.start()
    with pytest.raises(CommandError, match="has not said within 1 s that web is stopped; it may still"):
        act(docker_engine.host, "stop", str(container.id), seconds=1.2)
    container.remove(force=True)


def test_an_engine_that_is_not_there_is_told(tmp_path: Path) -> None:
    with pytest.raises(CommandError, match="is Docker running on this host"):
        act(f"unix://{tmp_path}/nothing.sock", "start", "a" * 64)


@pytest.mark.parametrize("container", ["", "web", "../../images", "a" * 65, "A" * 64])
def test_only_an_id_is_a_container(container: str) -> None:
    with pytest.raises(CommandError, match="must be the id"):
        act("unix:///nowhere", "start", container)


def test_what_is_no_action_is_refused() -> None:
    with pytest.raises(CommandError, match="does not 'pause'"):
        act("unix:///nowhere", "pause", "a" * 64)


@pytest.mark.parametrize("action", ["stop", "restart", "kill"])
def test_the_agent_does_not_end_itself(action: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(actions, "own_container", lambda: "a" * 12)
    with pytest.raises(CommandError, match=f"web is the container of dockmesh's agent: it can't {action}"):
        act("unix:///nowhere", action, "a" * 64)


def test_nothing_is_asked_of_the_engine_twice(start_engine: Callable[[int, str], Any]) -> None:
    engine = start_engine(500, "driver failed")
    with pytest.raises(CommandError, match="Docker could not restart web: driver failed"):
        act(engine.url, "restart", "a" * 64)
    assert [path for path in engine.posted if "restart" in path] == [f"/v1.41/containers/{'a' * 64}/restart"]


@pytest.fixture
def start_engine() -> Any:
    servers: list[HTTPServer] = []

    def start(status: int, message: str) -> Any:
        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                self._send(200, b'{"ApiVersion": "1.41", "Version": "20.10"}')

            def do_POST(self) -> None:
                self.server.posted.append(self.path)  # type: ignore[attr-defined]
                self._send(status, b'{"message": "%s"}' % message.encode())

            def _send(self, status: int, body: bytes) -> None:
                self.send_response(status)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, format: str, *args: object) -> None:
                pass

        server: Any = HTTPServer(("127.0.0.1", 0), Handler)
        server.posted = []
        server.url = f"tcp://127.0.0.1:{server.server_address[1]}"
        servers.append(server)
        Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
        return server

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()
