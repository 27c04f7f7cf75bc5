"""What a new host fetches below /agent/: the agent's file, the install script, the build context."""

from __future__ import annotations

import gzip
import hashlib
import io
import re
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest
from django.test import Client

from dockmesh.agent import VERSION
from dockmesh.fleet import agent_files
from tests.support import python, require

FILES = ("install", "dockmesh-agent.pyz", "context.tar.gz")


@pytest.fixture
def visitor() -> Client:
    return Client()


def fetched(visitor: Client, name: str) -> bytes:
    answer = visitor.get(f"/agent/{name}")
    assert answer.status_code == 200
    return answer.content


@pytest.fixture
def pyz(visitor: Client, tmp_path: Path) -> Path:
    path = tmp_path / "dockmesh-agent.pyz"
    path.write_bytes(fetched(visitor, path.name))
    return path


@pytest.mark.parametrize("name", FILES)
def test_each_file_has_its_checksum_beside_it_and_needs_no_credential(visitor: Client, name: str) -> None:
    content = fetched(visitor, name)
    said = fetched(visitor, f"{name}.sha256").decode()
    assert said == f"{hashlib.sha256(content).hexdigest()}  {name}\n"


@pytest.mark.parametrize("name", FILES)
def test_a_file_that_is_known_is_not_sent_again(visitor: Client, name: str) -> None:
    answer = visitor.get(f"/agent/{name}")
    etag = answer.headers["ETag"]
    assert answer.headers["Cache-Control"] == "no-cache"
    for known in (etag, f'"other", {etag}', f"W/{etag}", "*"):
        again = visitor.get(f"/agent/{name}", headers={"If-None-Match": known})
        assert (again.status_code, again.content) == (304, b"")
        assert again.headers["ETag"] == etag
    assert visitor.get(f"/agent/{name}", headers={"If-None-Match": '"other"'}).status_code == 200


@pytest.mark.parametrize("name", [*FILES, *(f"{name}.sha256" for name in FILES)])
def test_head_is_answered_and_what_changes_is_refused(visitor: Client, name: str) -> None:
    content = fetched(visitor, name)
    head = visitor.head(f"/agent/{name}")
    assert (head.status_code, head.headers["Content-Length"], head.content) == (200, str(len(content)), b"")
    strict = Client(enforce_csrf_checks=True)
    assert strict.post(f"/agent/{name}").status_code == 405
    assert strict.delete(f"/agent/{name}").status_code == 405


def test_the_same_versions_give_the_same_bytes() -> None:
    assert agent_files.make_pyz() == agent_files.make_pyz()
    assert agent_files.pyz().content == agent_files.make_pyz()


def test_the_file_holds_no_program_of_this_machine_and_each_licence(pyz: Path) -> None:
    with zipfile.ZipFile(pyz) as archive:
        names = archive.namelist()
        assert {info.date_time for info in archive.infolist()} == {(1980, 1, 1, 0, 0, 0)}
    assert names == sorted(names)
    assert not [name for name in names if name.endswith((".so", ".pyc", ".pem"))]
    for name in (*agent_files.LIBRARIES, "dockmesh"):
        assert [each for each in names if each.startswith(f"licenses/{name}/")], name


def test_the_agent_runs_from_its_file_alone(pyz: Path) -> None:
    """Without site-packages, the environment and the folder that it is called from."""
    done = subprocess.run(
        [sys.executable, "-I", "-S", str(pyz), "--version"], capture_output=True, text=True, cwd="/"
    )
    assert (done.returncode, done.stdout) == (0, f"dockmesh-agent {VERSION}\n"), done.stderr


_IMPORT_ALL = """
import sys, zipfile, importlib
file, without = sys.argv[1], sys.argv[2:]
sys.path[:0] = [file]
sys.argv = ["agent", "--version"]
try:
    importlib.import_module("__main__").__dict__  # the entry is what prepares an old Python
    exec(zipfile.ZipFile(file).read("__main__.py"), {"__name__": "entry"})
except SystemExit:
    raise
for name in zipfile.ZipFile(file).namelist():
    if name.startswith(("dockmesh/agent/", "docker/", "tomli/")) and name.endswith(".py"):
        module = name[:-3].replace("/", ".")
        if not any(part in module for part in without):
            importlib.import_module(module[: -len(".__init__")] if module.endswith(".__init__") else module)
"""


def test_every_module_of_it_can_be_imported_by_python_3_9(pyz: Path) -> None:
    # Those of Windows and of Docker over SSH need what is not in the file; nothing imports them here.
    without = ("npipe", "sshconn")
    done = subprocess.run(
        [python("3.9"), "-I", "-S", "-c", _IMPORT_ALL, str(pyz), *without], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr


def test_a_python_that_is_too_old_is_told_so(pyz: Path) -> None:
    done = subprocess.run([python("3.8"), str(pyz), "run"], capture_output=True, text=True)
    assert done.returncode == 1
    assert re.fullmatch(
        r"dockmesh-agent: needs Python 3\.9 or newer; \S+ is Python 3\.8", done.stderr.strip()
    )


def test_the_script_has_the_address_at_which_it_was_asked_for_and_the_files_checksum(visitor: Client) -> None:
    script = visitor.get("/agent/install", headers={"host": "127.0.0.1:8099"}).content.decode()
    assert "\nSERVER=http://127.0.0.1:8099\n" in script
    assert f"\nSHA256={agent_files.pyz().sha256}\n" in script
    assert "@" not in re.sub(r'"\$@"', "", script)


def test_the_script_has_the_address_that_is_set(visitor: Client, settings: object) -> None:
    settings.DOCKMESH_BASE_URL = "https://fleet.example.org/mesh"  # type: ignore[attr-defined]
    assert "\nSERVER=https://fleet.example.org/mesh\n" in fetched(visitor, "install").decode()


def test_shellcheck_and_a_posix_shell_find_nothing_in_the_script(visitor: Client, tmp_path: Path) -> None:
    path = tmp_path / "install.sh"
    path.write_bytes(fetched(visitor, "install"))
    done = subprocess.run([require("shellcheck"), str(path)], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout
    assert subprocess.run(["dash", "-n", str(path)]).returncode == 0


@pytest.mark.parametrize("missing_bytes", [*range(2, 18), 100, 1000, 3000])
def test_a_script_that_arrives_in_part_does_nothing(
    visitor: Client, tmp_path: Path, missing_bytes: int
) -> None:
    part = fetched(visitor, "install")[:-missing_bytes]
    done = subprocess.run(
        ["sh", "-x", "-s", "--", "--dry-run"], input=part, capture_output=True, cwd=tmp_path
    )
    ran = [line for line in done.stderr.decode().splitlines() if line.startswith("+")]
    assert all(re.fullmatch(r"\+ (set -eu|SERVER=\S+|SHA256=\S+|INSTALLED=\S+)", line) for line in ran), ran


def test_the_context_is_a_dockerfile_and_the_agent(visitor: Client) -> None:
    answer = visitor.get("/agent/context.tar.gz")
    # Docker takes what has this type as a build context.
    assert answer.headers["Content-Type"] == "application/gzip"
    with tarfile.open(fileobj=io.BytesIO(gzip.decompress(answer.content))) as archive:
        assert archive.getnames() == ["Dockerfile", "dockmesh-agent.pyz"]
        member = archive.extractfile("dockmesh-agent.pyz")
        assert member is not None
        assert member.read() == fetched(visitor, "dockmesh-agent.pyz")
