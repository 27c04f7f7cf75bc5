"""What a real container uses, from the kernel through the agent and the server to /metrics."""

from __future__ import annotations

import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.end_to_end.conftest import Scrape
from tests.integration.agent_process import AgentProcess
from tests.integration.dockerd import DockerEngine, compose_file
from tests.integration.prometheus import wait_for
from tests.integration.server import DockmeshServer

pytestmark = pytest.mark.integration

WEB = 'host="node-1",stack="shop",service="web",container="shop-web-1"'
PROCESSOR = f'dockmesh_container_cpu_usage_seconds_total{{{WEB},mode="user"}}'
MEMORY = f"dockmesh_container_memory_working_set_bytes{{{WEB}}}"
HELD = 40 * 2**20


@pytest.fixture
def agent(dockmesh: DockmeshServer, docker_engine: DockerEngine, tmp_path: Path) -> Iterator[AgentProcess]:
    started = AgentProcess(
        tmp_path / "agent",
        f"--server={dockmesh.url}",
        f"--enrollment-token={dockmesh.enrollmenttoken()}",
        "--name=node-1",
        f"--docker-host={docker_engine.host}",
    ).start()
    yield started
    started.close()


def test_a_container_is_on_the_page_with_what_it_uses_while_it_runs(
    dockmesh: DockmeshServer, docker_engine: DockerEngine, agent: AgentProcess, scrape: Scrape, tmp_path: Path
) -> None:
    file = tmp_path / "docker-compose.yml"
    burns = f"dd if=/dev/zero of=/dev/shm/held bs=1M count={HELD // 2**20}; while true; do :; done"
    file.write_text(compose_file({"web": burns}))
    docker_engine.compose("shop", file, "up", "-d")

    def scrape_with(least: float, most: float) -> dict[str, float] | None:
        """The page, once the processor time is between these."""
        found = scrape()
        return found if least <= found.get(PROCESSOR, -1) <= most else None

    page = wait_for(lambda: scrape_with(1, 1e9), seconds=60, what="processor time")
    assert page[MEMORY] == pytest.approx(HELD, rel=0.1)
    assert page[f"dockmesh_container_pids{{{WEB}}}"] == 1
    assert page['dockmesh_host_cpu_usage_seconds_total{host="node-1"}'] > 1
    assert page['dockmesh_host_docker_root_bytes{host="node-1"}'] > 0
    token = dockmesh.createtoken("usage-scraper", permissions=["metrics.read"])
    request = urllib.request.Request(
        f"{dockmesh.url}/metrics?collect[]=usage", headers={"Authorization": f"Bearer {token}"}
    )
    with urllib.request.urlopen(request, timeout=60) as answer:
        text = answer.read().decode()
    assert PROCESSOR in text
    assert "dockmesh_container_state{" not in text

    with docker_engine.client() as client:
        client.containers.get("shop-web-1").restart(timeout=0)
    restarted = wait_for(
        lambda: scrape_with(0, page[PROCESSOR] - 0.01), seconds=60, what="a counter that begins anew"
    )
    more = restarted[PROCESSOR] + 0.01
    wait_for(lambda: scrape_with(more, 1e9), seconds=60, what="processor time again")
    images = 'dockmesh_host_docker_disk_bytes{host="node-1",kind="images"}'
    wait_for(lambda: scrape().get(images, 0) > 0, seconds=90, what="Docker's disk")

    docker_engine.compose("shop", file, "stop", "-t", "0")
    wait_for(lambda: PROCESSOR not in scrape(), seconds=60, what="nothing of what does not run")
    assert 'dockmesh_host_load1{host="node-1"}' in scrape()
    agent.kill()
    wait_for(
        lambda: not [each for each in scrape() if each.startswith("dockmesh_host_load1")],
        seconds=60,
        what="nothing of a host that is silent",
    )
