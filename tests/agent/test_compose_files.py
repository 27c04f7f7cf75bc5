"""Files as people write them for today's Compose, deployed by the agent, changed and deployed again."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.agent.test_deploy import agent, deploy, result, states  # noqa: F401 - agent is a fixture
from tests.integration.dockerd import DockerEngine
from tests.integration.stubserver import StubServer
from tests.integration.versions import require_version, use_compose

pytestmark = pytest.mark.integration

FILE = """
services:
  web:
    image: busybox:latest
    network_mode: none
    stop_grace_period: 0s
    command: [sh, -c, "cat /etc/web.conf && exec sleep 600"]
    configs: [{source: web, target: /etc/web.conf}]
    # Compose does not make a container anew for the content of a config alone.
    labels: ["port=${PORT}"]
    environment: !reset [LEFT=over]
    depends_on:
      cache: {condition: service_started, required: false}
    develop:
      watch: [{path: ., action: rebuild}]
  cache:
    image: 127.0.0.1:1/not-there
    profiles: [never]
  built:
    image: shop-built:${PORT}
    build:
      context: .
      network: none
      dockerfile_inline: |
        FROM busybox:latest
        RUN echo from-inline-PORT > /built
    network_mode: none
    stop_grace_period: 0s
    command: [sh, -c, "cat /built && exec sleep 600"]
configs:
  web:
    content: |
      port=${PORT}
      literal=$${PORT}
"""


@pytest.fixture(params=["trixie", "sid"])
def suite(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """Debian 13's Compose, which is that of the agent's image, and today's."""
    name: str = request.param
    require_version("docker-compose", name)
    use_compose(name, tmp_path / "docker")
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path / "docker"))
    return name


@pytest.mark.usefixtures("suite", "agent")
def test_todays_features_are_deployed_and_a_change_is_deployed_over_them(
    docker_engine: DockerEngine,
    server: StubServer,
) -> None:
    ids = set()
    for command_id, port in ((1, "8080"), (2, "9090"), (3, "9090")):
        file = FILE.replace("PORT >", f"{port} >")
        server.commands = [deploy(command_id, file, env_file=f"PORT={port}\n")]
        up = result(server, command_id)
        assert (up["result"], up["error"]) == ("success", ""), up["output"]
        assert states(docker_engine) == {"web": "running", "built": "running"}
        with docker_engine.client() as client:
            web, built = (client.containers.get(f"shop-{name}-1") for name in ("web", "built"))
            assert web.exec_run("cat /etc/web.conf").output.decode() == f"port={port}\nliteral=${{PORT}}\n"
            assert built.exec_run("cat /built").output.decode() == f"from-inline-{port}\n"
            assert not [each for each in web.attrs["Config"]["Env"] or () if each.startswith("LEFT=")]
            ids.add((web.id, built.id))
    # What did not change was left as it ran.
    assert len(ids) == 2
