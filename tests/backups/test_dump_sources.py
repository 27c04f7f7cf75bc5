"""Whatever `DOCKMESH_DATABASE_URL` may say reaches pg_dump: by each way in which a server lets somebody in."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest
from django.db import connection

from dockmesh import settings as project
from dockmesh.backups import dumps
from dockmesh.core.postgresql.base import DatabaseWrapper
from dockmesh.env import parse_database_url
from tests.integration.postgres import PostgresServer, binaries
from tests.support import missing, require

PASSWORD = "p@ss:w'ord \\%"
QUOTED = "p%40ss%3Aw%27ord%20%5C%25"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PostgresServer]:
    """A server that lets the role `ann` in by password alone, over TCP with TLS as well, and over its socket."""
    try:
        binaries()
    except RuntimeError as error:
        missing(str(error))
    require("pg_dump")
    made = PostgresServer()
    data = made.folder / "data"
    subprocess.run(
        [require("openssl"), "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj",
         "/CN=localhost", "-addext", "subjectAltName=DNS:localhost", "-keyout", data / "server.key",
         "-out", data / "server.crt"],
        check=True, capture_output=True,
    )  # fmt: skip
    owner = data.stat()
    for name in ("server.key", "server.crt"):
        os.chown(data / name, owner.st_uid, owner.st_gid)
        (data / name).chmod(0o600)
    made.folder.chmod(0o755)
    hba = data / "pg_hba.conf"
    rules = "local all ann scram-sha-256\nhostssl tls ann 127.0.0.1/32 scram-sha-256\nhost tls ann 127.0.0.1/32 reject\n"
    hba.write_text(f"{rules}host all ann 127.0.0.1/32 scram-sha-256\n{hba.read_text()}")
    made._settings["ssl"] = "on"
    with made:
        with psycopg.connect(made.url(), autocommit=True) as opened:
            # Of the doubled quote SQL makes one.
            opened.execute(
                f"CREATE ROLE ann LOGIN PASSWORD '{PASSWORD.replace(chr(39), chr(39) * 2)}'".encode()
            )
            for name in ("own", "tls"):
                opened.execute(f"CREATE DATABASE {name} OWNER ann".encode())
        for name in ("own", "tls"):
            with psycopg.connect(made.url(name), autocommit=True) as opened:
                opened.execute(
                    "CREATE TABLE scheduler_livemark (id int); INSERT INTO scheduler_livemark VALUES (1)"
                )
                opened.execute(f"CREATE TABLE thing AS SELECT '{name}' AS name")
                opened.execute("GRANT ALL ON ALL TABLES IN SCHEMA public TO ann")
        yield made


@contextlib.contextmanager
def connected(monkeypatch: pytest.MonkeyPatch, url: str) -> Iterator[DatabaseWrapper]:
    """The server's connection, as its settings make it of the URL."""
    parsed = parse_database_url("DOCKMESH_DATABASE_URL", url, Path("/nowhere"))
    own: dict[str, Any] = {**connection.settings_dict, "TIME_ZONE": None, **project._database(parsed)}
    wrapper = DatabaseWrapper(own)
    monkeypatch.setattr(dumps, "connection", wrapper)
    psycopg.connect(**wrapper.get_connection_params()).close()
    yield wrapper


def ways(server: PostgresServer, folder: Path) -> dict[str, str]:
    passfile = folder / "passfile"
    # In a file of passwords a colon and a backslash are escaped.
    word = PASSWORD.replace("\\", "\\\\").replace(":", "\\:")
    passfile.write_text(f"*:*:*:ann:{word}\n")
    passfile.chmod(0o600)
    port, socket = server.port, str(server.folder).replace("/", "%2F")
    by_file = f"passfile={passfile}"
    return {
        "password": f"postgres://ann:{QUOTED}@127.0.0.1:{port}/own",
        "passfile": f"postgres://ann@127.0.0.1:{port}/own?{by_file}",
        "hostaddr": f"postgres://ann@no-such-name.invalid:{port}/own?hostaddr=127.0.0.1&{by_file}",
        "socket": f"postgres://ann@/own?host={socket}&port={port}&{by_file}",
        "socket in the host": f"postgres://ann:{QUOTED}@{socket}:{port}/own",
        "service": f"postgres:///own?service=mesh&{by_file}",
        "TLS": f"postgres://ann@localhost:{port}/tls?hostaddr=127.0.0.1&sslmode=verify-full"
        f"&sslrootcert={server.folder}/data/server.crt&{by_file}",
        "options": f"postgres://ann@127.0.0.1:{port}/own?options=-c%20extra_float_digits%3D1"
        f"&application_name=a%20name&keepalives=0&target_session_attrs=read-write&{by_file}",
    }


WAYS = ("password", "passfile", "hostaddr", "socket", "socket in the host", "service", "TLS", "options")


@pytest.mark.parametrize("way", WAYS)
def test_each_way_of_the_url_reaches_pg_dump(
    server: PostgresServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, way: str
) -> None:
    services = tmp_path / "services"
    services.write_text(f"[mesh]\nhost=127.0.0.1\nport={server.port}\nuser=ann\n")
    monkeypatch.setenv("PGSERVICEFILE", str(services))
    for name in ("PGPASSWORD", "PGHOST", "PGPORT", "PGUSER", "PGPASSFILE"):
        monkeypatch.delenv(name, raising=False)
    if way == "TLS":
        (server.folder / "data").chmod(0o755)
        (server.folder / "data" / "server.crt").chmod(0o644)
    with connected(monkeypatch, ways(server, tmp_path)[way]):
        dumps._dump_postgresql(tmp_path / "copy")
    shown = subprocess.run(
        [require("pg_restore"), "--file=-", tmp_path / "copy"], capture_output=True, text=True, check=True
    ).stdout
    assert f"COPY public.thing (name) FROM stdin;\n{'tls' if way == 'TLS' else 'own'}\n" in shown
    # The table is there and empty: so a server that starts with the copy knows what it is.
    assert "CREATE TABLE public.scheduler_livemark" in shown
    assert "COPY public.scheduler_livemark" not in shown


def test_no_password_is_in_the_list_of_processes(
    server: PostgresServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    said = subprocess_says(monkeypatch, tmp_path, "import sys; sys.stderr.write(repr(sys.argv)); sys.exit(1)")
    with connected(monkeypatch, ways(server, tmp_path)["password"]), pytest.raises(dumps.DumpError) as failed:
        dumps._dump_postgresql(tmp_path / "copy")
    assert said in str(failed.value)
    assert "user=ann" in str(failed.value)
    assert "ss:w" not in str(failed.value)


def test_a_message_in_another_encoding_is_told_and_breaks_nothing(
    server: PostgresServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = (
        r"import os; os.write(2, b'pg_dump: Fehler: \xfcberf\xfcllt\x00\x1b[31m\n'); raise SystemExit(3)"
    )
    subprocess_says(monkeypatch, tmp_path, program)
    with connected(monkeypatch, ways(server, tmp_path)["password"]), pytest.raises(dumps.DumpError) as failed:
        dumps._dump_postgresql(tmp_path / "copy")
    assert str(failed.value) == (
        "pg_dump ended with exit code 3: pg_dump: Fehler: \ufffdberf\ufffdllt\ufffd\ufffd[31m"
    )


def subprocess_says(monkeypatch: pytest.MonkeyPatch, folder: Path, program: str) -> str:
    """Put a program of the test's own in the place of pg_dump; gives a word that its arguments have."""
    script = folder / "bin" / "pg_dump"
    script.parent.mkdir()
    script.write_text(f"#!{sys.executable}\n{program}\n")
    script.chmod(0o755)
    monkeypatch.setenv("PATH", f"{script.parent}:{os.environ['PATH']}")
    return "--format=custom"
