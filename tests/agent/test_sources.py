"""What a backup reads: volumes as Docker says of them, mounts that the agent doesn't see."""

from __future__ import annotations

import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from dockmesh.agent import mounts, sources
from dockmesh.agent.commands import CommandError, Run
from dockmesh.agent.process import Cancellation
from tests.integration.dockerd import DockerEngine
from tests.support import missing

NOWHERE = "unix:///nonexistent/docker.sock"


@pytest.fixture
def docker(tmp_path: Path) -> Iterator[str]:
    """An address behind which a process of this mount namespace is: this one."""
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(tmp_path / "docker.sock"))
        listening.listen()
        yield f"unix://{tmp_path}/docker.sock"


def volume(**values: Any) -> dict[str, Any]:
    return {"Name": "files", "Driver": "local", "Options": None, "Mountpoint": "/nonexistent", **values}


def resolve(source: dict[str, Any], docker_host: str = NOWHERE, **payload: Any) -> list[str]:
    return sources.resolve(Run("", "backup", {"source": source, **payload}, Cancellation()), docker_host)


@pytest.mark.parametrize(
    ("values", "says"),
    [
        (
            {"Options": {"type": "nfs", "o": "addr=10.0.0.9", "device": ":/export"}},
            r"nfs of :/export\) is not mounted",
        ),
        ({"Options": {"type": "tmpfs", "device": "tmpfs"}}, r"\(tmpfs\) is not mounted"),
        ({"Options": {"o": "bind", "type": "none", "device": "/no/such"}}, "neither its mount nor /no/such"),
        ({"Driver": "rclone", "Mountpoint": ""}, "of the driver rclone"),
        ({}, "/nonexistent is not there"),
    ],
)
def test_a_volume_that_is_not_mounted_is_named(values: dict[str, Any], says: str, tmp_path: Path) -> None:
    # What Docker leaves of an unmounted volume is an empty folder.
    given = {"Mountpoint": str(tmp_path), **values} if values.get("Mountpoint") != "" and values else values
    with pytest.raises(CommandError, match=f"volume 'files'.*{says}|{says}"):
        sources.place(volume(**given), NOWHERE)


def test_a_bind_is_read_at_its_device(tmp_path: Path, docker: str) -> None:
    (tmp_path / "device").mkdir()
    options = {"type": "none", "o": "bind", "device": str(tmp_path / "device")}
    assert sources.place(volume(Options=options, Mountpoint=str(tmp_path)), docker) == str(
        tmp_path / "device"
    )


def test_an_empty_folder_and_a_dangling_link_are_refused(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "link").symlink_to("gone")
    (tmp_path / "file").write_text("x")
    for name, says in {"empty": "is an empty folder", "link": "is not there", "none": "is not there"}.items():
        with pytest.raises(CommandError, match=says):
            resolve({"type": "path", "path": str(tmp_path / name)})
    assert resolve({"type": "path", "paths": [str(tmp_path / "file"), str(tmp_path)]}) == [
        str(tmp_path / "file"),
        str(tmp_path),
    ]


@pytest.mark.integration
def test_dockers_own_volumes_with_options(docker_engine: DockerEngine, tmp_path: Path) -> None:
    device = tmp_path / "device"
    device.mkdir()
    (device / "row").write_text("one")
    with docker_engine.client() as client:
        made = {
            "bound": {"type": "none", "o": "bind", "device": str(device)},
            "memory": {"type": "tmpfs", "device": "tmpfs", "o": "size=1m"},
            "plain": {},
        }
        for name, options in made.items():
            client.volumes.create(f"opts_{name}", driver_opts=options)
        mountpoint = Path(client.volumes.get("opts_plain").attrs["Mountpoint"])
        (mountpoint / "row").write_text("two")
    asked = {"type": "volumes", "stack": "opts"}
    assert resolve({**asked, "volumes": ["bound", "plain"]}, docker_engine.host) == [
        str(device),
        str(mountpoint),
    ]
    with pytest.raises(CommandError, match=r"volume 'opts_memory' \(tmpfs\) is not mounted"):
        resolve({**asked, "volumes": ["plain", "memory"]}, docker_engine.host)
    (mountpoint / "row").unlink()
    with pytest.raises(CommandError, match="there are no files in"):
        resolve({**asked, "volumes": ["plain"]}, docker_engine.host)


@pytest.mark.integration
@pytest.mark.parametrize("kind", ["tmpfs", "bind"])
@pytest.mark.parametrize("where", ["at", "below"])
def test_a_mount_that_is_younger_than_the_agents_namespace_is_named(
    tmp_path: Path, docker: str, where: str, kind: str
) -> None:
    folder = tmp_path / "data"
    (folder / "sub").mkdir(parents=True)
    (folder / "file").write_text("x")
    point = folder if where == "at" else folder / "sub"
    script = (
        "import sys; from dockmesh.agent import mounts; print('ready', flush=True); input();"
        "print(mounts.hidden(*sys.argv[1:]), flush=True)"
    )
    agent = subprocess.Popen(
        ["unshare", "--mount", "--propagation", "private", sys.executable, "-c", script, str(folder), docker],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert agent.stdout is not None
    if agent.stdout.readline() != "ready\n":
        agent.wait()
        missing("no right to make a mount namespace")
    (tmp_path / "other").mkdir()
    mount = ["-t", "tmpfs", "tmpfs"] if kind == "tmpfs" else ["--bind", str(tmp_path / "other")]
    subprocess.run(["mount", *mount, str(point)], check=True)
    try:
        assert mounts.hidden(str(folder), docker) == ""
        assert agent.communicate("\n", timeout=20)[0] == f"{point}\n"
    finally:
        subprocess.run(["umount", str(point)], check=True)
