"""What a user drops in to run the server: Dockerfile and compose file."""

import os
import re
import subprocess
from pathlib import Path

import pytest
import yaml

from tests.support import require

ROOT = Path(__file__).resolve().parents[2]
FOLDER = ROOT / "packaging" / "server"


def test_everything_that_the_dockerfile_copies_is_there_and_not_ignored() -> None:
    ignored = (ROOT / ".dockerignore").read_text().splitlines()
    copied = re.findall(r"^COPY (\S+) ", (FOLDER / "Dockerfile").read_text(), re.MULTILINE)
    assert copied
    for source in copied:
        assert (ROOT / source).exists(), source
        assert f"!{source.rstrip('/')}" in ignored


def test_the_unit_file_starts_what_exists() -> None:
    unit = (FOLDER / "dockmesh.service").read_text()
    assert "manage.py serve" in unit
    assert "bin/prepare requirements.txt" in unit
    assert (ROOT / "bin" / "prepare").exists()


@pytest.mark.integration
def test_docker_compose_accepts_the_compose_file_and_asks_for_the_password(tmp_path: Path) -> None:
    command = [require("docker-compose"), "-f", str(FOLDER / "compose.yaml"), "config"]
    environment = {"PATH": os.environ["PATH"], "HOME": str(tmp_path)}
    refused = subprocess.run(
        command, env=environment, cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert refused.returncode != 0
    assert "DATABASE_PASSWORD" in refused.stderr
    done = subprocess.run(
        command,
        env={**environment, "DATABASE_PASSWORD": "for-the-test"},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    services = yaml.safe_load(done.stdout)["services"]
    assert set(services) == {"database", "dockmesh"}
    url = "postgres://dockmesh:for-the-test@database:5432/dockmesh"
    assert services["dockmesh"]["environment"]["DOCKMESH_DATABASE_URL"] == url
