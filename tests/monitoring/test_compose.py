"""compose.yaml, its start script, and the files that its containers read."""

from __future__ import annotations

import os
import re
import shutil
import stat
import subprocess
from pathlib import Path
from typing import Any

import yaml

from tests.monitoring import files

COMPOSE = files.MONITORING / "compose.yaml"


def stack() -> dict[str, Any]:
    document: dict[str, Any] = yaml.safe_load(COMPOSE.read_text())
    return document


def test_docker_compose_accepts_it() -> None:
    files.run("docker-compose", "-f", COMPOSE, "config", "--quiet", cwd=files.MONITORING)


def test_every_image_has_a_pinned_tag() -> None:
    for name, service in stack()["services"].items():
        assert re.fullmatch(r"[a-z0-9./-]+:v?\d+\.\d+\.\d+", service["image"]), name


def test_every_file_that_is_mounted_or_copied_exists() -> None:
    for service in stack()["services"].values():
        for volume in service.get("volumes", ()):
            source = volume.split(":")[0]
            if source.startswith("."):
                assert (files.MONITORING / source).is_dir(), source
        if "build" in service:
            dockerfile = files.ROOT / service["build"]["dockerfile"]
            for source in re.findall(r"^COPY (\S+) ", dockerfile.read_text(), re.M):
                assert (files.ROOT / source).exists(), f"{dockerfile}: {source}"
                assert sent_to_docker(source), f"{source} is left out by .dockerignore"


def sent_to_docker(path: str) -> bool:
    wanted = [line[1:] for line in (files.ROOT / ".dockerignore").read_text().split() if line[0] == "!"]
    return any(path.rstrip("/") == one or path.startswith(one + "/") for one in wanted)


def test_the_secrets_are_not_sent_to_docker_nor_committed() -> None:
    assert "monitoring/secrets" in (files.ROOT / ".dockerignore").read_text().split()
    assert "/monitoring/secrets/" in (files.ROOT / ".gitignore").read_text().split()


def test_no_secret_is_in_the_environment() -> None:
    for name, service in stack()["services"].items():
        for variable in service.get("environment", {}):
            if re.search("PASSWORD|TOKEN|SECRET", variable):
                assert variable.endswith("_FILE"), f"{name}: {variable}"
    assert all(set(secret) == {"file"} for secret in stack()["secrets"].values())


def test_prometheus_reads_its_token_where_compose_puts_it() -> None:
    assert "dockmesh_token" in stack()["services"]["prometheus"]["secrets"]
    text = (files.PROMETHEUS / "prometheus.yml").read_text()
    assert set(re.findall(r"credentials_file: (\S+)", text)) == {"/run/secrets/dockmesh_token"}


def test_the_addresses_in_the_configurations_are_services_of_the_stack() -> None:
    services = set(stack()["services"])
    texts = [
        (files.PROMETHEUS / "prometheus.yml").read_text(),
        (files.MONITORING / "grafana/provisioning/datasources/dockmesh.yml").read_text(),
        COMPOSE.read_text().partition("loki:\n")[2],
    ]
    named = {name for text in texts for name in re.findall(r"(?:https?://|\[\")([a-z]+):\d+", text)}
    assert {"dockmesh", "prometheus", "alertmanager", "loki"} <= named
    assert named - {"localhost"} <= services


def test_logs_carry_host_stack_and_service_and_never_a_containers_id() -> None:
    text = (files.MONITORING / "alloy" / "config.alloy").read_text()
    code = re.sub(r"//.*", "", text)
    assert set(re.findall(r'target_label\s*=\s*"(\w+)"', code)) == {"host", "stack", "service"}
    assert 'values = ["host", "stack", "service"]' in code
    assert "container_id" not in code
    for opening, closing in ("{}", "[]", "()"):
        assert code.count(opening) == code.count(closing)


def test_loki_keeps_its_data_on_the_volume() -> None:
    config = yaml.safe_load((files.MONITORING / "loki" / "loki.yml").read_text())
    assert config["common"]["path_prefix"] == "/loki"
    assert "loki-data:/loki" in stack()["services"]["loki"]["volumes"]
    [schema] = config["schema_config"]["configs"]
    assert (schema["store"], schema["schema"]) == ("tsdb", "v13")


FAKE_COMPOSE = """#!/bin/sh
echo "$@" >> "$CALLS"
case "$*" in
    *createtoken*) echo a-metrics-token ;;
    *enrollmenttoken*) echo an-enrollment-token ;;
esac
"""


def start(folder: Path) -> list[str]:
    calls = folder / "calls"
    calls.unlink(missing_ok=True)
    fake = folder / "compose"
    fake.write_text(FAKE_COMPOSE)
    fake.chmod(0o755)
    environment = {**os.environ, "COMPOSE": str(fake), "DOCKER": str(fake), "CALLS": str(calls)}
    done = subprocess.run([folder / "start"], env=environment, capture_output=True, text=True, check=True)
    assert "secrets/grafana_admin_password" in done.stdout
    return calls.read_text().splitlines()


def test_start_makes_the_secrets_once_and_in_the_right_order(tmp_path: Path) -> None:
    shutil.copy(files.MONITORING / "start", tmp_path)
    calls = start(tmp_path)
    order = [
        next(number for number, call in enumerate(calls) if re.search(what, call))
        for what in (
            "up -d --build dockmesh$",
            "readyz",
            "createtoken",
            "enrollmenttoken",
            "^build -t dockmesh-agent:",
            "up -d --build$",
        )
    ]
    assert order == sorted(order)
    secrets = tmp_path / "secrets"
    assert {path.name for path in secrets.iterdir()} == set(stack()["secrets"])
    assert stat.S_IMODE(secrets.stat().st_mode) == 0o700
    assert (secrets / "dockmesh_token").read_text() == "a-metrics-token\n"
    before = {path.name: path.read_text() for path in secrets.iterdir()}
    assert len(before["grafana_admin_password"].strip()) == 24
    again = start(tmp_path)
    assert not [call for call in again if "token" in call]
    assert {path.name: path.read_text() for path in secrets.iterdir()} == before
