"""Databases that a server can't start with, each told in one line; and those that it can."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg
import pytest
import requests

from tests.integration.api import Api, until
from tests.integration.postgres import PostgresServer, free_port
from tests.integration.server import ROOT, DockmeshServer
from tests.support import missing, require

pytestmark = pytest.mark.integration


def refused(data_dir: Path, database_url: str = "") -> str:
    """What `serve` says that does not start."""
    done = subprocess.run(
        [sys.executable, str(ROOT / "manage.py"), "serve", "--bind", "127.0.0.1:0"],
        cwd=ROOT,
        env={
            **{name: value for name, value in os.environ.items() if not name.startswith("DOCKMESH_")},
            "DOCKMESH_DATA_DIR": str(data_dir),
            **({"DOCKMESH_DATABASE_URL": database_url} if database_url else {}),
        },
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode in (1, 2), done.stderr
    assert done.stderr.count("\n") == 1, done.stderr
    assert "Traceback" not in done.stderr
    return done.stderr


def as_owner(server: PostgresServer, statement: str, database: str = "postgres") -> None:
    with psycopg.connect(server.url(database), autocommit=True) as connection:
        connection.execute(statement.encode())


def test_an_option_that_libpq_does_not_know(tmp_path: Path, postgres_server: PostgresServer) -> None:
    line = refused(tmp_path / "data", f"{postgres_server.create_database()}?nonsense=1")
    assert "nonsense" in line
    assert "DOCKMESH_DATABASE_URL" in line


def test_no_right_on_the_schema(tmp_path: Path, postgres_server: PostgresServer) -> None:
    name = postgres_server.create_database().rpartition("/")[2]
    as_owner(postgres_server, f"CREATE ROLE {name}_guest LOGIN")
    url = postgres_server.url(name).replace("dockmesh@", f"{name}_guest@")
    assert "permission denied for schema public" in refused(tmp_path / "data", url)


@pytest.mark.parametrize("on", ["sqlite", "postgresql"])
def test_the_database_of_a_newer_version(tmp_path: Path, postgres_server: PostgresServer, on: str) -> None:
    url = postgres_server.create_database() if on == "postgresql" else ""
    server = DockmeshServer(tmp_path / "data", database_url=url)
    server.manage("migrate", "--verbosity", "0")
    server.manage(
        "shell", "--command",
        "from django.db.migrations.recorder import MigrationRecorder as R; from django.db import connection;"
        "R(connection).record_applied('fleet', '9999_from_the_future')",
    )  # fmt: skip
    assert "fleet.9999_from_the_future" in refused(tmp_path / "data", url)


def test_a_file_that_is_no_database(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir(mode=0o700)
    (tmp_path / "data" / "dockmesh.sqlite3").write_bytes(b"not a database, but long enough to be one" * 100)
    assert "dockmesh.sqlite3 can't be used: file is not a database" in refused(tmp_path / "data")


@contextmanager
def small_disk(at: Path, options: str) -> Iterator[None]:
    at.mkdir()
    if (
        os.geteuid() != 0
        or subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", at], check=False).returncode
    ):
        missing("only root can mount")
    try:
        yield
    finally:
        subprocess.run(["umount", "--lazy", at], check=True)


def test_a_disk_that_is_full_or_read_only(tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    with small_disk(disk, "size=100k,mode=0700"):
        assert "dockmesh" in refused(disk / "data")
    disk.rmdir()
    with small_disk(disk, "size=20m,mode=0700"):
        subprocess.run(["mount", "-o", "remount,ro", disk], check=True)
        assert "Read-only file system" in refused(disk / "data")


def test_a_start_that_waits_for_another_says_so(tmp_path: Path, postgres_server: PostgresServer) -> None:
    url = postgres_server.create_database()
    server = DockmeshServer(tmp_path / "data", database_url=url)
    with psycopg.connect(url) as holder:
        holder.execute("SELECT pg_advisory_lock(%s)", [0x646F636B6D657368])
        process = subprocess.Popen(
            [sys.executable, str(ROOT / "manage.py"), "serve", "--bind", "127.0.0.1:0"],
            cwd=ROOT,
            env=server.environment,
            stderr=subprocess.PIPE,
            text=True,
        )
        try:
            assert process.stderr is not None
            assert "waiting for another process that prepares the database" in process.stderr.readline()
        finally:
            process.terminate()
            process.wait(10)


def test_a_read_only_database_is_503_for_whatever_writes(
    tmp_path: Path, postgres_server: PostgresServer
) -> None:
    url = postgres_server.create_database()
    name = url.rpartition("/")[2]
    cut = f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{name}'"
    with DockmeshServer(tmp_path / "data", database_url=url) as server:
        api = Api(server)
        header = {"Authorization": f"Bearer {api.token}"}
        as_owner(postgres_server, f"ALTER DATABASE {name} SET default_transaction_read_only = on")
        as_owner(postgres_server, cut)
        until(lambda: server.readyz() == 503, seconds=10, what="readyz goes on saying 200")
        answer = requests.get(f"{server.url}/readyz", timeout=60)
        assert (answer.json()["failed"], "Retry-After" in answer.headers) == (
            {"database": "it is read-only"},
            True,
        )
        assert requests.get(f"{server.url}/api/v1/hosts", headers=header, timeout=60).status_code == 200
        assert requests.get(f"{server.url}/metrics", headers=header, timeout=60).status_code == 200
        answer = requests.post(f"{server.url}/api/v1/enrollment-tokens", json={}, headers=header, timeout=60)
        assert (answer.status_code, "Retry-After" in answer.headers) == (503, True), answer.text
        as_owner(postgres_server, f"ALTER DATABASE {name} RESET default_transaction_read_only")
        as_owner(postgres_server, cut)
        until(lambda: server.readyz() == 200, seconds=10, what="readyz goes on saying 503")
        assert api.post("enrollment-tokens", {}, expect=201)
        assert "Traceback" not in server.log


def test_a_pooler_in_transaction_mode_works(tmp_path: Path, postgres_server: PostgresServer) -> None:
    pooler = require("pgbouncer")
    port = free_port()
    url = postgres_server.create_database()
    (tmp_path / "users").write_text('"dockmesh" ""\n')
    (tmp_path / "pooler.ini").write_text(
        f"[databases]\n* = host=127.0.0.1 port={postgres_server.port} user=dockmesh\n"
        f"[pgbouncer]\nlisten_addr = 127.0.0.1\nlisten_port = {port}\nunix_socket_dir =\nauth_type = any\n"
        f"auth_file = {tmp_path}/users\npool_mode = transaction\ndefault_pool_size = 8\n"
    )
    for path in (tmp_path, tmp_path / "users", tmp_path / "pooler.ini"):
        path.chmod(0o755 if path.is_dir() else 0o644)
    process = subprocess.Popen(
        [pooler, *(["-u", "nobody"] if os.geteuid() == 0 else []), str(tmp_path / "pooler.ini")],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    replicas = [
        DockmeshServer(tmp_path / "data", database_url=url.replace(f":{postgres_server.port}/", f":{port}/"))
        for _ in range(2)
    ]
    try:
        time.sleep(0.5)
        for replica in replicas:
            replica.start()
        api = Api(replicas[0])
        for number in range(20):
            api.post("roles", {"name": f"role-{number}", "permissions": ["metrics.read"]}, expect=201)
        assert api.samples()["dockmesh_db_up", ()] == 1
        assert "holds" in replicas[1].manage("verifyaudit")
        for replica in replicas:
            assert replica.stop() == 0
            replica.start()
            assert "Traceback" not in replica.log
    finally:
        for replica in replicas:
            if replica.process is not None:
                replica.stop()
        process.terminate()
        process.wait(10)
