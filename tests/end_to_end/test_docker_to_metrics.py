"""From a real Docker Engine through the agent and the server to /metrics."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.end_to_end.conftest import Scrape
from tests.integration.agent_process import AgentProcess
from tests.integration.dockerd import DockerEngine, compose_file
from tests.integration.prometheus import wait_for
from tests.integration.server import DockmeshServer

pytestmark = pytest.mark.integration


# A service that can be made to fail: `docker kill` alone ends with 137, which is nobody's error.
CRASHES = "trap 'exit 3' USR1; while true; do sleep 0.1; done"


@pytest.fixture
def agent(dockmesh: DockmeshServer, docker_engine: DockerEngine, tmp_path: Path) -> Iterator[AgentProcess]:
    """An agent of the real Engine, enrolled as node-1."""
    started = AgentProcess(
        tmp_path / "agent",
        f"--server={dockmesh.url}",
        f"--enrollment-token={dockmesh.enrollmenttoken()}",
        "--name=node-1",
        f"--docker-host={docker_engine.host}",
    ).start()
    yield started
    started.close()


def containers(host: str, state: str) -> str:
    return f'dockmesh_containers_total{{host="{host}",state="{state}"}}'


def stacks(host: str, state: str) -> str:
    return f'dockmesh_stacks_total{{host="{host}",state="{state}"}}'


@pytest.mark.alone
def test_the_page_follows_what_docker_does(
    dockmesh: DockmeshServer, docker_engine: DockerEngine, agent: AgentProcess, scrape: Scrape, tmp_path: Path
) -> None:
    file = tmp_path / "docker-compose.yml"
    file.write_text(compose_file({"web": CRASHES, "db": "sleep 600", "migrate": "exit 0"}))
    docker_engine.compose("shop", file, "up", "-d")

    def settled() -> dict[str, float] | None:
        found = scrape()
        is_there = found.get(containers("node-1", "running")) == 2
        return found if is_there and found[containers("node-1", "exited")] == 1 else None

    page = wait_for(settled, seconds=15, what="the stack on /metrics")
    assert page['dockmesh_hosts_total{status="online"}'] == 1
    assert page['dockmesh_hosts_total{status="offline"}'] == 0
    assert page['dockmesh_hosts_total{status="degraded"}'] == 0
    assert page[stacks("node-1", "running")] == 1, "a one-shot container that exited with 0 is done"
    assert page['dockmesh_agent_last_seen_seconds{host="node-1"}'] < 6
    assert page['dockmesh_deploy_duration_seconds_count{stack="shop",result="success"}'] == 0
    assert page['dockmesh_deploy_duration_seconds_count{stack="shop",result="failure"}'] == 0
    assert page['dockmesh_audit_log_entries_total{action="host.enrolled"}'] == 1

    with docker_engine.client() as client:
        client.containers.get("shop-web-1").kill(signal="USR1")
    killed = time.monotonic()
    wait_for(lambda: scrape()[stacks("node-1", "error")] == 1, seconds=10, what="the stack in error")
    assert time.monotonic() - killed < 3, "a container that dies is on /metrics within 3 s"
    page = scrape()
    assert page[containers("node-1", "running")] == 1
    assert page[containers("node-1", "exited")] == 2
    web = 'host="node-1",stack="shop",service="web",container="shop-web-1"'
    assert page[f'dockmesh_container_state{{{web},state="exited"}}'] == 1
    assert page[f"dockmesh_container_last_exit_code{{{web}}}"] == 3
    assert page[f'dockmesh_container_exits_total{{{web},result="error"}}'] == 1
    assert page[f'dockmesh_container_exits_total{{{web},result="success"}}'] == 0
    assert page[f"dockmesh_container_restarts_total{{{web}}}"] == 0
    wait_for(lambda: scrape()['dockmesh_agent_rtt_seconds_count{host="node-1"}'] > 0, what="a round trip")

    docker_engine.pause()
    try:
        wait_for(
            lambda: scrape()['dockmesh_hosts_total{status="degraded"}'] == 1,
            seconds=60,
            what="the host degraded",
        )
    finally:
        docker_engine.resume()
    wait_for(
        lambda: scrape()['dockmesh_hosts_total{status="online"}'] == 1, seconds=60, what="the host online"
    )

    assert agent.stop() == 0
    wait_for(lambda: scrape()['dockmesh_hosts_total{status="offline"}'] == 1, seconds=15, what="offline")
    page = scrape()
    assert page[containers("node-1", "unknown")] == 3
    assert page[containers("node-1", "running")] == 0
    assert page[stacks("node-1", "unknown")] == 1
    assert page[stacks("node-1", "error")] == 0
    assert page['dockmesh_agent_last_seen_seconds{host="node-1"}'] > 6


def test_agent_and_server_survive_each_others_restart(
    dockmesh: DockmeshServer, docker_engine: DockerEngine, agent: AgentProcess, scrape: Scrape
) -> None:
    docker_engine.run("sleep", "600", name="alone")
    wait_for(lambda: scrape().get(containers("node-1", "running")) == 1, seconds=15, what="the container")
    before = scrape()['dockmesh_agent_rtt_seconds_count{host="node-1"}']
    dockmesh.kill()
    docker_engine.run("sleep", "600", name="second")
    dockmesh.start()
    wait_for(lambda: scrape().get(containers("node-1", "running")) == 2, seconds=30, what="the new state")
    agent.kill()
    agent.start()
    with docker_engine.client() as client:
        client.containers.get("alone").remove(force=True)
    wait_for(lambda: scrape().get(containers("node-1", "running")) == 1, seconds=30, what="the next state")
    page = scrape()
    assert page['dockmesh_agent_rtt_seconds_count{host="node-1"}'] >= before, "no histogram falls"
    assert page['dockmesh_hosts_total{status="online"}'] == 1, "the restarted agent is the same host"


def test_what_a_container_uses_is_told_begins_anew_with_its_restart_and_ends_with_it(
    docker_engine: DockerEngine, agent: AgentProcess, scrape: Scrape
) -> None:
    docker_engine.run("sh", "-c", "while :; do :; done", name="burner", stop_signal="SIGKILL")
    names = 'host="node-1",stack="",service="",container="burner"'
    user = f'dockmesh_container_cpu_usage_seconds_total{{{names},mode="user"}}'

    def burnt(*, most: float = 1e9, least: float = 0.0) -> bool:
        return least < scrape().get(user, -1.0) < most

    wait_for(lambda: burnt(least=2.0), seconds=60, what="two seconds of a processor")
    page = scrape()
    assert page[f"dockmesh_container_memory_working_set_bytes{{{names}}}"] > 0
    assert page['dockmesh_host_cpu_usage_seconds_total{host="node-1"}'] > 2
    assert page['dockmesh_host_docker_root_bytes{host="node-1"}'] > 0
    with docker_engine.client() as client:
        before = page[user]
        client.containers.get("burner").restart(timeout=0)
        wait_for(lambda: burnt(most=before), seconds=30, what="the counter from its beginning")
        client.containers.get("burner").stop(timeout=0)
        wait_for(lambda: user not in scrape(), seconds=30, what="no series of a container that stopped")
    of_host = 'dockmesh_host_cpu_usage_seconds_total{host="node-1"}'
    wait_for(lambda: of_host in scrape(), seconds=30, what="what the host uses")
    assert agent.stop() == 0
    wait_for(lambda: of_host not in scrape(), seconds=20, what="no usage of a silent host")
