"""From SQLite to PostgreSQL by `manage.py movedatabase`: everything that was known is known afterwards."""

from __future__ import annotations

import shutil
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

from tests.end_to_end.hand_agent import HandAgent, container
from tests.integration.api import Api
from tests.integration.postgres import PostgresServer
from tests.integration.server import ROOT, DockmeshServer

pytestmark = pytest.mark.integration

# Of these every sample is the database's, and nothing happens between the two scrapes that changes it.
DURABLE = (
    "dockmesh_stacks_total",
    "dockmesh_containers_total",
    "dockmesh_deploy_duration_seconds_bucket",
    "dockmesh_alerts_fired_total",
    "dockmesh_agent_rtt_seconds_bucket",
    "dockmesh_api_token_expires_timestamp_seconds",
)


def moved(server: DockmeshServer, *arguments: str) -> tuple[int, str]:
    """The command's exit code and what it printed."""
    done = subprocess.run(
        [sys.executable, str(ROOT / "manage.py"), "movedatabase", *arguments],
        cwd=ROOT,
        env=server.environment,
        capture_output=True,
        text=True,
        check=False,
    )
    return done.returncode, done.stdout + done.stderr


def durable(api: Api) -> dict[object, float]:
    return {key: value for key, value in api.samples().items() if key[0] in DURABLE}


def without_listening(data_dir: Path) -> None:
    """As if the server had been stopped a while ago."""
    with sqlite3.connect(data_dir / "dockmesh.sqlite3") as database:
        database.execute("DELETE FROM fleet_listeningspan")
    database.close()


def test_everything_is_there_after_the_move(tmp_path: Path, postgres_server: PostgresServer) -> None:
    server = DockmeshServer(tmp_path / "data")
    server.start()
    api = Api(server)
    agent = HandAgent(server, "atlas")
    agent.beat([container(1, stack="shop", state="running"), container(2, stack="shöp ☃", state="exited")])
    stack = api.post(
        "stacks",
        {
            "host": "atlas",
            "name": "blog",
            "compose_file": "services: {web: {image: nginx}}",
            "env_file": "A=secret-1\n",
        },
    )
    before = durable(api)
    server.environment["DOCKMESH_DATABASE_URL"] = postgres_server.create_database()
    code, said = moved(server)
    assert (code, "a server still works with" in said) == (1, True), said
    server.stop()
    without_listening(server.data_dir)
    code, said = moved(server)
    assert code == 0, said
    assert "secret-1" not in said

    server.start()
    after = Api.__new__(Api)
    after.server, after.token = server, api.token
    assert durable(after) == before
    assert after.get(f"stacks/{stack['id']}")["env_names"] == ["A"]
    assert agent.beat([container(1, stack="shop", state="running")])["status"] == "accepted"
    assert "holds" in server.manage("verifyaudit")
    # New rows come after the ones that were moved.
    assert after.post("roles", {"name": "scraper", "permissions": ["metrics.read"]})["id"]
    assert after.post("tokens", {"name": "another", "role": "scraper"})["token"].startswith("dmt_")
    server.stop()
    assert (server.data_dir / "dockmesh.sqlite3").exists()

    code, said = moved(server)
    assert (code, "is in use" in said) == (1, True), said


def test_what_cannot_be_moved_is_said_in_one_line(tmp_path: Path, postgres_server: PostgresServer) -> None:
    server = DockmeshServer(tmp_path / "data")
    code, said = moved(server)
    assert (code, said.count("\n"), "DOCKMESH_DATABASE_URL" in said) == (2, 1, True), said
    server.environment["DOCKMESH_DATABASE_URL"] = postgres_server.create_database()
    code, said = moved(server)
    assert (code, said.count("\n"), "is not there" in said) == (1, 1, True), said
    broken = tmp_path / "broken.sqlite3"
    broken.write_bytes(b"SQLite format 3\0" + b"x" * 5000)
    code, said = moved(server, "--from", str(broken))
    assert (code, said.count("\n"), "can't be read" in said) == (1, 1, True), said
    shutil.rmtree(server.data_dir)
