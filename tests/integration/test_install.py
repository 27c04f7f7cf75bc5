"""Adding a host, for real: a bare Debian 12 with systemd, or a container, and a real Docker Engine and server."""

from __future__ import annotations

import io
import re
import subprocess
import tarfile
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from dockmesh.fleet import agent_files, installing
from tests.integration.api import Api, until
from tests.integration.docker_plugin import docker_engine, docker_engine_process
from tests.integration.dockerd import DockerEngine
from tests.integration.machine import Machine, root_of_a_machine
from tests.integration.server import DockmeshServer

__all__ = ["docker_engine", "docker_engine_process"]

pytestmark = pytest.mark.integration

# What a base image does without.
_LEFT_OUT = re.compile(
    r"\./(proc|sys|dev|run|tmp|boot|media|mnt|srv|home|var|usr/share|usr/sbin|usr/lib/systemd|usr/lib/udev)/."
    r"|.*/(gconv|perl[^/]*|libsystemd[^/]*|libicu[^/]*)(/|$)"
)


@pytest.fixture(scope="module")
def api(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Api]:
    data = tmp_path_factory.mktemp("install") / "data"
    with DockmeshServer(data, {"DOCKMESH_HEARTBEAT_INTERVAL": "2"}) as server:
        yield Api(server)


@pytest.fixture
def machine(docker_engine: DockerEngine) -> Iterator[Machine]:
    machine = Machine(docker_engine.socket)
    try:
        machine.start()
        yield machine
    finally:
        machine.close()


def new_token(api: Api) -> str:
    return str(api.post("enrollment-tokens", {}, expect=201)["token"])


def host_named(api: Api, name: str) -> Any:
    found = api.get(f"hosts?name={name}")["results"]
    return found[0] if found else None


def other_build() -> bytes:
    """The agent's file with other bytes, as another version's."""
    buffer = io.BytesIO(agent_files.pyz().content)
    with zipfile.ZipFile(buffer, "a") as archive:
        archive.writestr("note", "another build")
    return buffer.getvalue()


def test_one_line_adds_a_bare_machine_and_another_takes_it_away(
    api: Api, machine: Machine, docker_engine: DockerEngine
) -> None:
    docker_engine.run("sleep", "1000", name="web")
    own_unit = "[Service]\nExecStart=/opt/dockmesh-agent/venv/bin/python -m dockmesh.agent run\n"
    (machine.root / "etc/systemd/system/dockmesh-agent.service").write_text(own_unit)
    token, before = new_token(api), machine.files()
    script = f"curl -fsS {api.server.url}/agent/install | sh -s --"

    code, said = machine.run(f"{script} --dry-run {token}")
    assert (code, "Nothing was changed." in said) == (0, True), said
    assert machine.files() == before

    code, said = machine.run(
        f"export HTTPS_PROXY=http://127.0.0.1:9; {script} {token} --name bare-1 --label 'role=a b'"
    )
    assert code == 0, said
    assert "Of this shell the service keeps HTTPS_PROXY." in said
    assert machine.run("cat /etc/dockmesh/agent.env")[1].splitlines() == [
        "HTTPS_PROXY=http://127.0.0.1:9",
        f"DOCKMESH_AGENT_SERVER={api.server.url}",
    ]
    assert machine.run("cat /etc/systemd/system/dockmesh-agent.service.before")[1] == own_unit
    for line in ("Docker 20.", "Compose is not installed", "Enrolled at", "The server hears bare-1."):
        assert line in said
    host = host_named(api, "bare-1")
    assert (host["status"], host["labels"], host["containers"]["running"]) == ("online", {"role": "a b"}, 1)
    [used] = [each for each in api.get("enrollment-tokens")["results"] if each["host"]]
    assert used["reached_at"] <= used["used_at"]
    # The brackets keep the search from finding itself.
    pattern = f"'[d]{token[1:]}'"
    _, found = machine.run(
        f"grep -rl {pattern} /etc /opt /var /root; grep -cha {pattern} /proc/[0-9]*/cmdline"
    )
    assert set(found.split()) == {"0"}
    _, modes = machine.run("stat -c '%a %n' /etc/dockmesh/agent.env /var/lib/dockmesh-agent/credential.json")
    assert [line.split()[0] for line in modes.splitlines()] == ["600", "600"]

    # Another version is put in the place of this one, and it brings itself up to date.
    (machine.root / "root" / "other.pyz").write_bytes(other_build())
    machine_copy = f"curl -fsS -o /root/agent.pyz {api.server.url}/agent/dockmesh-agent.pyz"
    assert machine.run(machine_copy)[0] == 0
    code, said = machine.run(f"python3 /root/other.pyz install --server {api.server.url}")
    assert (code, "This host is enrolled as bare-1, and stays so." in said) == (0, True), said
    update = api.post(f"hosts/{host['id']}/update-agent", expect=202)
    path = f"agent-updates/{update['id']}"
    told = until(
        lambda: found if (found := api.get(path))["status"] != "running" else None,
        seconds=90,
        what="the update does not end",
    )
    assert (told["status"], told["error"]) == ("success", "")
    assert machine.run("readlink /opt/dockmesh-agent/dockmesh-agent.pyz")[1].strip() == (
        f"agent-{agent_files.build()}.pyz"
    )
    assert machine.run("systemctl is-active dockmesh-agent")[1] == "active\n"

    assert machine.run("touch /etc/dockmesh/agent.toml; mkdir -p /var/lib/dockmesh-agent/stacks/shop")[0] == 0
    code, said = machine.run(f"{script} --uninstall")
    assert code == 0, said
    assert "Kept: /etc/dockmesh/ with agent.toml" in said
    assert "Kept: /var/lib/dockmesh-agent/stacks/ with shop" in said
    assert machine.files() - before == {
        "/etc/systemd/system/dockmesh-agent.service.before",
        "/etc/dockmesh/agent.toml",
        "/var/lib/dockmesh-agent/stacks",
        "/var/lib/dockmesh-agent/stacks/shop",
    }
    assert machine.run("systemctl is-active dockmesh-agent")[0] != 0


def test_what_can_not_be_done_is_said_and_changes_nothing(api: Api, machine: Machine) -> None:
    before = machine.files()
    script = f"curl -fsS {api.server.url}/agent/install | sh -s --"
    used = "dme_" + "A" * 12 + "_" + "b" * 40 + "_" + "000000"
    for line, words in (
        (f"{script}", "this host is not enrolled: give an enrollment token"),
        (f"{script} {used}", "the server refused the enrollment token"),
        (f"{script} {used} --docker-host unix:///nowhere.sock", "/nowhere.sock is not there"),
        (f"{script} --uninstall", "no agent is installed here"),
        (f"{script} --nmae web", "unknown: --nmae"),
        (f"{script} {used} --server http://127.0.0.1:9", "can't be fetched"),
        (f"curl -fsS {api.server.url}/agent/install | sed 's/^SHA256=./SHA256=0/' | sh -s -- {used}",
         "nothing was installed"),
        (f"{script.replace('| sh', '| setpriv --reuid=65534 --clear-groups sh')} {used}", "put sudo before sh"),
    ):  # fmt: skip
        code, said = machine.run(line)
        assert code != 0, line
        assert words in said, (line, said)
    left = {path for path in machine.files() - before if not path.startswith("/var/lib/dockmesh-agent")}
    assert left == set()
    assert not {path for path in machine.files() if "credential" in path}


def base_image(engine: DockerEngine) -> str:
    """An image with Python and a shell, of the bare machine's root."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        archive.add(
            root_of_a_machine(), ".", filter=lambda each: None if _LEFT_OUT.match(each.name) else each
        )
    with engine.client() as client:
        client.api.import_image_from_data(buffer.getvalue(), repository="dockmesh-base", tag="1")
    return "dockmesh-base:1"


def test_the_image_that_the_context_makes_is_an_agent(
    api: Api, docker_engine: DockerEngine, tmp_path: Path
) -> None:
    [way] = [
        each for each in installing.ways(api.server.url, new_token(api)) if each.title == "As a container"
    ]
    lines = way.command.replace("\\\n", " ").splitlines()
    # The base image and Debian's packages come from elsewhere: here from what is there, without the network.
    build = lines[0].replace(
        "docker build",
        f"docker build --network none --build-arg BASE={base_image(docker_engine)} --build-arg TOOLS=",
    )
    run = (
        lines[1]
        .replace("/var/run/docker.sock:", f"{docker_engine.socket}:")
        .replace("/var/lib/dockmesh-agent:/", f"{tmp_path}/state:/")
    )
    for line in (build, run.replace("docker run", "docker run -e DOCKMESH_AGENT_NAME=in-a-container")):
        done = subprocess.run(
            ["sh", "-c", line],
            env=docker_engine.env,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        assert done.returncode == 0, (line, done.stdout)
    host = until(
        lambda: found if (found := host_named(api, "in-a-container")) and found["last_seen_at"] else None,
        seconds=60,
        what="the agent in the container is not heard",
    )
    assert (host["status"], host["containers"]["running"]) == ("online", 1)
    assert "agent-update" not in host["capabilities"]
