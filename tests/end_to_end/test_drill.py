"""All is lost but the repository, its password and two files: dockmesh comes back by what docs/backups.md says alone."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.integration.agent_process import AgentProcess
from tests.integration.api import Api, until
from tests.integration.postgres import PostgresServer
from tests.integration.server import ROOT, DockmeshServer
from tests.support import require

pytestmark = pytest.mark.integration


def commands_of_the_docs(*, with_postgresql: bool) -> str:
    """The commands below *When all is lost*, in their order."""
    section = (ROOT / "docs" / "backups.md").read_text().partition("## When all is lost\n")[2]
    section = section.partition("\n## ")[0]
    blocks = re.findall(r"^```sh\n(.*?)^```$", section, re.MULTILINE | re.DOTALL)
    other = "dockmesh.sqlite3" if with_postgresql else "dockmesh.pgdump"
    return "set -eu\n" + "".join(block for block in blocks if other not in block)


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    require("restic")
    (tmp_path / "password").write_text("correct-horse-battery\n")
    (tmp_path / "agent.toml").write_text(
        f'[repositories.local]\nrepository = "{tmp_path}/repository"\npassword_file = "{tmp_path}/password"\n'
    )
    return tmp_path / "repository"


@pytest.fixture
def agent(dockmesh: DockmeshServer, repository: Path, tmp_path: Path) -> Iterator[AgentProcess]:
    """An agent on the machine of the server; it has no Docker, and needs none for this."""
    started = AgentProcess(
        tmp_path / "agent",
        f"--server={dockmesh.url}",
        f"--enrollment-token={dockmesh.enrollmenttoken()}",
        "--name=own-machine",
        "--docker-host=unix:///nonexistent/docker.sock",
        f"--config={tmp_path}/agent.toml",
        "--verbose",
    ).start()
    started.wait_log("Heartbeat 1: accepted", seconds=30)
    yield started
    started.close()


def test_the_server_comes_back_by_the_documentation_alone(
    dockmesh: DockmeshServer,
    database_url: str,
    agent: AgentProcess,
    repository: Path,
    request: pytest.FixtureRequest,
    tmp_path: Path,
) -> None:
    if database_url:
        require("pg_dump")
    api = Api(dockmesh)
    job = api.post(
        "backup-jobs",
        {"host": "own-machine", "name": "own", "source_kind": "database", "repository": "local"},
        expect=201,
    )
    run = api.post(f"backup-jobs/{job['id']}/run", expect=202)
    ended = api.ended(f"backup-runs/{run['id']}")
    assert (ended["status"], ended["error"]) == ("success", "")
    kept = tmp_path / "kept"
    kept.mkdir()
    for name in ("secret_key", "token_pepper"):
        shutil.copy(dockmesh.data_dir / name, kept)

    dockmesh.stop()
    shutil.rmtree(dockmesh.data_dir)
    if database_url:
        server: PostgresServer = request.getfixturevalue("postgres_server")
        dockmesh.environment["DOCKMESH_DATABASE_URL"] = server.create_database()

    script = commands_of_the_docs(with_postgresql=bool(database_url))
    for text, here in {
        "sftp:backup@vault.example.org:/srv/restic": str(repository),
        "/root/offsite.password": str(tmp_path / "password"),
        "/var/lib/dockmesh/dumps/job-1": str(dockmesh.data_dir / "dumps" / f"job-{job['id']}"),
        "/root/restored": str(tmp_path / "restored"),
        "/root/kept": str(kept),
        "/var/lib/dockmesh": str(dockmesh.data_dir),
    }.items():
        assert text in script
        script = script.replace(text, here)
    done = subprocess.run(
        ["sh", "-c", script],
        env={**os.environ, **dockmesh.environment},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    # What the reader has to find in the list.
    assert f"/dumps/job-{job['id']}" in done.stdout

    dockmesh.start()
    assert "The database was restored from a copy" in dockmesh.log
    assert dockmesh.data_dir.stat().st_mode & 0o777 == 0o700
    # The token is of before; so is the agent.
    again = api.get(f"backup-runs/{run['id']}")
    assert (again["status"], again["error"].partition(":")[0]) == ("failure", "Not known")
    assert {each["status"] for each in api.get("backup-runs")["results"]} == {"failure"}
    until(
        lambda: api.get("hosts")["results"][0]["status"] != "offline", seconds=30, what="the agent's return"
    )
    assert dockmesh.manage("verifyaudit")
    second = api.post(f"backup-jobs/{job['id']}/run", expect=202)
    ended = api.ended(f"backup-runs/{second['id']}")
    assert (ended["status"], ended["error"]) == ("success", "")
    assert agent.log.count("(backup) received") == 2
