"""The server while its PostgreSQL is stopped, frozen, absent or shared."""

import os
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import psycopg
import pytest

from tests.integration.postgres import PostgresServer, free_port
from tests.integration.server import ROOT, DockmeshServer
from tests.support import PATIENCE

pytestmark = [pytest.mark.integration, pytest.mark.alone]


@pytest.fixture
def postgres() -> Iterator[PostgresServer]:
    with PostgresServer() as server:
        yield server


@pytest.fixture
def server(postgres: PostgresServer, tmp_path: Path) -> Iterator[DockmeshServer]:
    with DockmeshServer(tmp_path / "data", database_url=postgres.create_database()) as server:
        yield server


def timed_get(url: str, token: str = "") -> tuple[int, float, bytes]:
    request = urllib.request.Request(url, headers={"Authorization": f"Bearer {token}"} if token else {})
    began = time.monotonic()
    try:
        with urllib.request.urlopen(request, timeout=20) as answer:
            return answer.status, time.monotonic() - began, answer.read()
    except urllib.error.HTTPError as error:
        return error.code, time.monotonic() - began, error.read()


def sign_in_page(server: DockmeshServer) -> tuple[int, float, bytes]:
    """A page that needs the database: a setup link with any code."""
    return timed_get(server.url + "/setup/any/")


def test_a_stopped_database_is_503_and_the_server_recovers(
    server: DockmeshServer, postgres: PostgresServer
) -> None:
    token = server.createtoken("prometheus", permissions=["metrics.read", "fleet.read"])
    assert sign_in_page(server)[0] == 404
    assert timed_get(server.url + "/metrics", token)[0] == 200
    postgres.stop()
    status, seconds, body = timed_get(server.url + "/readyz")
    assert (status, seconds < 3) == (503, True)
    assert b'"database"' in body
    status, seconds, body = sign_in_page(server)
    assert (status, seconds < 4) == (503, True)
    assert b"Traceback" not in body
    for path in ("/metrics", "/api/v1/hosts", "/metrics"):
        status, seconds, body = timed_get(server.url + path, token)
        assert (status, seconds < 4) == (503, True), path
        assert b"Traceback" not in body
    assert timed_get(server.url + "/livez")[0] == 200
    postgres.start()
    began = time.monotonic()
    while timed_get(server.url + "/readyz")[0] != 200 or sign_in_page(server)[0] != 404:
        assert time.monotonic() - began < 5
        time.sleep(0.1)
    assert timed_get(server.url + "/metrics", token)[0] == 200
    assert "Traceback" not in server.log
    assert token not in server.log


def test_a_frozen_database_is_503_in_time_for_everybody(
    server: DockmeshServer, postgres: PostgresServer
) -> None:
    token = server.createtoken("prometheus", permissions=["metrics.read"])
    assert sign_in_page(server)[0] == 404
    assert timed_get(server.url + "/metrics", token)[0] == 200
    postgres.freeze()
    try:
        results: list[tuple[int, float, bytes]] = []
        asks: list[Callable[[], tuple[int, float, bytes]]] = [lambda: sign_in_page(server)] * 30
        asks += [lambda: timed_get(server.url + "/metrics", token)] * 10
        threads = [threading.Thread(target=lambda ask=ask: results.append(ask())) for ask in asks]
        for thread in threads:
            thread.start()
        for _ in range(6):
            status, seconds, _ = timed_get(server.url + "/readyz")
            assert status == 503
            assert seconds < 3
            status, seconds, _ = timed_get(server.url + "/livez")
            assert status == 200
            assert seconds < 1
        for thread in threads:
            thread.join()
        assert {status for status, _, _ in results} == {503}
        assert max(seconds for _, seconds, _ in results) < 8
    finally:
        postgres.thaw()
    began = time.monotonic()
    while timed_get(server.url + "/readyz")[0] != 200 or sign_in_page(server)[0] != 404:
        assert time.monotonic() - began < 5
        time.sleep(0.1)


def test_two_replicas_that_start_together_migrate_once_and_one_runs_the_jobs(
    postgres: PostgresServer, tmp_path: Path
) -> None:
    url = postgres.create_database()
    # Two replicas share their secrets through the folder or the environment; the folder here.
    replicas = [DockmeshServer(tmp_path / "data", database_url=url) for _ in range(2)]
    threads = [threading.Thread(target=replica.start) for replica in replicas]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    try:
        assert [replica.readyz() for replica in replicas] == [200, 200]
        acting = wait_for_holder(replicas)
        acting.kill()
        replicas.remove(acting)
        began = time.monotonic()
        assert wait_for_holder(replicas) is replicas[0]
        assert time.monotonic() - began < 30
    finally:
        for replica in replicas:
            replica.stop()


def wait_for_holder(replicas: list[DockmeshServer]) -> DockmeshServer:
    """The replica whose scheduler says that it runs the jobs."""
    deadline = time.monotonic() + PATIENCE * 35
    while time.monotonic() < deadline:
        holders = [replica for replica in replicas if "runs the periodic jobs now" in replica.log]
        if holders:
            assert len(holders) == 1
            return holders[0]
        time.sleep(0.1)
    raise AssertionError("nobody runs the jobs")


def test_a_clean_stop_hands_the_jobs_over_at_once(postgres: PostgresServer, tmp_path: Path) -> None:
    url = postgres.create_database()
    with DockmeshServer(tmp_path / "data", database_url=url) as first:
        wait_for_holder([first])
        with DockmeshServer(tmp_path / "data", database_url=url) as second:
            assert first.stop() == 0
            began = time.monotonic()
            wait_for_holder([second])
            assert time.monotonic() - began < 7


def test_an_absent_database_is_named_while_waiting(tmp_path: Path) -> None:
    url = f"postgres://dockmesh:hunter2-secret@127.0.0.1:{free_port()}/dockmesh"
    process = subprocess.Popen(
        [sys.executable, str(ROOT / "manage.py"), "serve", "--bind", "127.0.0.1:0"],
        cwd=ROOT,
        env={**os.environ, "DOCKMESH_DATA_DIR": str(tmp_path / "data"), "DOCKMESH_DATABASE_URL": url},
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stderr is not None
    line = process.stderr.readline()
    process.terminate()
    process.wait(10)
    rest = process.stderr.read()
    process.stderr.close()
    assert "waiting for the database" in line
    assert "hunter2-secret" not in line + rest
    assert "Traceback" not in rest


def test_every_wait_has_a_limit_and_drops_the_connection(postgres: PostgresServer) -> None:
    from dockmesh.core.postgresql import base

    with base.waits_limited_to(0.3):
        connection = base.LimitedConnection.connect(postgres.url(), autocommit=True)
        began = time.monotonic()
        with pytest.raises(psycopg.OperationalError, match="did not answer within"):
            connection.execute("SELECT pg_sleep(5)")
        assert time.monotonic() - began < 1
        assert connection.closed
    connection = base.LimitedConnection.connect(postgres.url(), autocommit=True)
    connection.execute("SELECT pg_sleep(0.5)")
    connection.close()
