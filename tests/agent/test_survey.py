"""What the agent says of a project that somebody started, and what it never reads."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

import pytest

from dockmesh.agent import labels, place, survey
from dockmesh.agent.commands import CommandError, Run
from dockmesh.agent.labels import Mount, read_file
from dockmesh.agent.mount_changes import compared
from dockmesh.agent.place import View
from dockmesh.agent.process import Cancellation
from dockmesh.agent.survey import Surveyor
from tests.integration.dockerd import DockerEngine

CONFIG = {
    "services": {
        "db": {
            "volumes": [
                {"type": "bind", "source": "/srv/shop/data", "target": "/data"},
                {"type": "volume", "source": "rows", "target": "/rows/"},
                {"type": "volume", "target": "/anonymous"},
                {"type": "tmpfs", "target": "/tmp"},
            ],
            "secrets": [{"source": "key"}],
            "configs": [{"source": "conf", "target": "/etc/conf"}, {"source": "inline"}],
        },
        "side": {"volumes_from": ["db"]},
    },
    "volumes": {"rows": {"name": "shop_rows"}},
    "secrets": {"key": {"file": "/srv/shop/key"}},
    "configs": {"conf": {"file": "/srv/shop/conf"}, "inline": {"content": "x"}},
}


def test_mounts_before_and_after_are_compared_as_compose_computes_them() -> None:
    before = [
        Mount("db", "/data", "/home/ann/shop/data"),
        Mount("db", "/rows", "shop_rows"),
        Mount("db", "/run/secrets/key", "/srv/shop/key"),
        Mount("db", "/etc/conf", "/srv/shop/conf"),
        Mount("gone", "/old", "/srv/old"),
        Mount("side", "/data", "/srv/shop/data"),
    ]
    rows = {(row["service"], row["target"]): row for row in compared(before, CONFIG)}
    assert {key for key, row in rows.items() if not row["is_kept"]} == {("db", "/data"), ("gone", "/old")}
    assert rows["db", "/data"]["after"] == "/srv/shop/data"
    assert rows["gone", "/old"]["after"] == ""
    # Of several containers of a service the one that would lose something is told.
    twice = compared([Mount("db", "/data", "/srv/shop/data"), Mount("db", "/data", "/other")], CONFIG)
    assert [row["before"] for row in twice if not row["is_kept"]] == ["/other"]


def test_the_same_folder_by_another_name_is_the_same(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "real")
    config = {
        "services": {"a": {"volumes": [{"type": "bind", "source": str(tmp_path / "link"), "target": "/d"}]}}
    }
    [row] = compared([Mount("a", "/d", str(tmp_path / "real"))], config)
    assert row["is_kept"]


def test_only_plain_readable_files_of_a_bounded_size_are_read(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    (tmp_path / "large").write_bytes(b"a" * (labels.MAX_READ_BYTES + 1))
    (tmp_path / "latin").write_bytes(b"\xe4\xff")
    (tmp_path / "escape").write_bytes(b"a: \x1b[0m")
    (tmp_path / "bom").write_bytes(b"\xef\xbb\xbfA=1\r\n")
    (tmp_path / "link").symlink_to(tmp_path / "bom")
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    errors = {
        "fifo": "is no regular file",
        "large": f"is too large: {labels.MAX_READ_BYTES} bytes are read at most",
        "latin": "is not UTF-8",
        "escape": "has control characters",
        "gone": "No such file or directory",
        "loop": "Too many levels of symbolic links",
        "a\x00b": "can't be opened",
    }
    for name, error in errors.items():
        path = f"{tmp_path}/{name}"
        assert read_file(path) == {"path": path, "error": error}
    assert read_file("/dev/null")["error"] == "is no regular file"
    assert read_file(str(tmp_path))["error"]
    for name in ("bom", "link"):
        assert read_file(str(tmp_path / name))["content"] == "A=1\r\n"


def test_all_files_together_fit_into_one_answer(tmp_path: Path) -> None:
    for name in ("a", "b", "c"):
        (tmp_path / name).write_bytes(b"x" * (labels.MAX_READ_BYTES // 2))
    files = survey._read([str(tmp_path / name) for name in ("a", "b", "c")])
    assert ["content" in file for file in files] == [True, True, False]


@pytest.mark.parametrize(
    ("text", "paths"),
    [
        ("/a/x.yaml,/a/y,z.yaml", ("/a/x.yaml", "/a/y,z.yaml")),
        ("docker-compose.yml,over/b.yml", ("/a/docker-compose.yml", "/a/over/b.yml")),
        ("", ()),
    ],
)
def test_the_files_in_a_label(text: str, paths: tuple[str, ...]) -> None:
    prefix = "com.docker.compose.project"
    found = {f"{prefix}.working_dir": "/a", f"{prefix}.config_files": text}
    origin = labels._origin(found, {})
    assert origin is not None
    assert origin.config_files == paths
    assert labels._origin({**found, f"{prefix}.working_dir": "/a\x1b"}, {}) is None
    assert labels._origin({**found, f"{prefix}.working_dir": "a"}, {}) is None


OWN = "f" * 64
MOUNTINFO = f"""
21 1 8:1 / / rw - ext4 /dev/sda1 rw
40 21 8:1 /var/lib/docker/containers/{OWN}/hostname /etc/hostname rw - ext4 /dev/sda1 rw
"""
# On the host itself the mounts of its containers are seen too.
OF_A_HOST = f"30 21 0:50 / /var/lib/docker/containers/{OWN}/mounts/shm rw - tmpfs shm rw\n"


def test_an_agent_in_a_container_finds_itself() -> None:
    assert place._own_container(MOUNTINFO) == OWN


def test_an_agent_on_the_host_is_in_no_container(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(place, "_MARKS", ())
    assert place._own_container(OF_A_HOST) == ""


@pytest.mark.integration
def test_in_a_container_only_what_is_mounted_under_its_own_name_is_seen(
    docker_engine: DockerEngine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("same", "other", "hidden"):
        (tmp_path / name / "shop").mkdir(parents=True)
    container = docker_engine.run(
        "sleep",
        "600",
        volumes=[f"{tmp_path}/same:{tmp_path}/same", f"{tmp_path}/other:/mnt/other"],
    )
    monkeypatch.setattr(place, "_own_container", lambda _: container.id)
    view = {name: place.view(docker_engine.host, tmp_path / name / "shop") for name in ("same", "other")}
    assert view == {"same": View.SEEN, "other": View.UNKNOWN}
    assert place.view(docker_engine.host, tmp_path / "hidden") is View.UNKNOWN
    assert place.view(docker_engine.host, tmp_path / "same" / "gone") is View.UNKNOWN
    monkeypatch.setattr(place, "_own_container", lambda _: "0" * 64)
    assert place.view(docker_engine.host, tmp_path / "hidden") is View.SEEN
    assert place.view(docker_engine.host, tmp_path / "gone") is View.MISSING


@pytest.mark.integration
def test_labels_decide_which_files_are_read_and_an_image_can_not_set_them(
    docker_engine: DockerEngine, tmp_path: Path
) -> None:
    def look(stack: str, **payload: Any) -> dict[str, Any]:
        run = Run("0", "survey", {"stack": stack, **payload}, Cancellation())
        run.deadline = time.monotonic() + 60
        found: dict[str, Any] = Surveyor(tmp_path / "stacks", docker_host=docker_engine.host)(run)["found"]
        return found

    file = tmp_path / "a,b.yaml"
    file.write_text("services: {web: {image: busybox}}\n")
    prefix = "com.docker.compose.project"
    own = {
        prefix: "named",
        "com.docker.compose.service": "web",
        f"{prefix}.working_dir": str(tmp_path),
        f"{prefix}.config_files": f"{file},{tmp_path}/gone.yaml",
        f"{prefix}.environment_file": "relative.env",
    }
    docker_engine.run("sleep", "600", labels=own)
    found = look("named", path="/etc/shadow", config_files=["/etc/shadow"])
    assert [item["path"] for item in found["config_files"]] == [str(file), f"{tmp_path}/gone.yaml"]
    assert found["config_files"][0]["content"] == "services: {web: {image: busybox}}\n"
    assert found["env_files"] == [{"path": f"{tmp_path}/relative.env", "error": "No such file or directory"}]
    with docker_engine.client() as client:
        evil = {f"{prefix}.working_dir": "/etc", f"{prefix}.config_files": "/etc/shadow", prefix: "evil"}
        base = client.containers.create("busybox", "true")
        base.commit("evil", conf={"Labels": evil})
        base.remove()
        client.containers.run("evil", ["sleep", "600"], detach=True, network_mode="none")
    try:
        with pytest.raises(CommandError, match="no container of evil has labels"):
            look("evil")
    finally:
        docker_engine.remove_all()
        with docker_engine.client() as client:
            client.images.remove("evil", force=True)
    with pytest.raises(CommandError, match="no container of nobody"):
        look("nobody")
