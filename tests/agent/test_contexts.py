"""Which Docker an agent reads when nobody says: the Docker CLI's own context."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest

from dockmesh.agent.config import DEFAULT_DOCKER_HOST, parse
from dockmesh.agent.errors import StartError

ARGUMENTS = ["run", "--server=http://127.0.0.1:1", "--name=x"]


def make_context(home: Path, name: str, host: object, *, is_current: bool = True, **endpoint: object) -> str:
    """A context as `docker context create` leaves it; its key."""
    key = hashlib.sha256(name.encode()).hexdigest()
    meta = home / ".docker" / "contexts" / "meta" / key / "meta.json"
    meta.parent.mkdir(parents=True)
    document = {"Name": name, "Metadata": {}, "Endpoints": {"docker": {"Host": host, **endpoint}}}
    meta.write_text(json.dumps(document))
    if is_current:
        (home / ".docker" / "config.json").write_text(json.dumps({"currentContext": name}))
    return key


def docker_host(home: Path, *options: str, **environ: str) -> str:
    return parse([*ARGUMENTS, *options], {"HOME": str(home), **environ}).docker_host


def test_the_current_context_is_followed_when_no_host_is_given(tmp_path: Path) -> None:
    assert docker_host(tmp_path) == DEFAULT_DOCKER_HOST
    make_context(tmp_path, "rootless", "unix:///run/user/1000/docker.sock")
    assert docker_host(tmp_path) == "unix:///run/user/1000/docker.sock"
    assert docker_host(Path("/nowhere"), DOCKER_CONFIG=f"{tmp_path}/.docker") == docker_host(tmp_path)


def test_whoever_names_a_host_gets_that_one(tmp_path: Path) -> None:
    make_context(tmp_path, "rootless", "unix:///run/user/1000/docker.sock")
    make_context(tmp_path, "other", "tcp://other:2375", is_current=False)
    assert docker_host(tmp_path, "--docker-host=unix:///x.sock") == "unix:///x.sock"
    assert docker_host(tmp_path, DOCKER_HOST="tcp://env:2375") == "tcp://env:2375"
    assert docker_host(tmp_path, DOCKER_CONTEXT="other") == "tcp://other:2375"
    assert docker_host(tmp_path, DOCKER_CONTEXT="default") == DEFAULT_DOCKER_HOST
    assert docker_host(tmp_path, DOCKER_HOST="unix:///y.sock", DOCKER_CONTEXT="other") == "unix:///y.sock"


def test_a_contexts_certificates_come_along(tmp_path: Path) -> None:
    key = make_context(tmp_path, "remote", "tcp://remote:2376")
    certificates = tmp_path / ".docker" / "contexts" / "tls" / key / "docker"
    certificates.mkdir(parents=True)
    settings = parse(ARGUMENTS, {"HOME": str(tmp_path)})
    assert settings.docker_env == {"DOCKER_TLS_VERIFY": "1", "DOCKER_CERT_PATH": str(certificates)}


def test_a_context_that_does_not_verify_says_so(tmp_path: Path) -> None:
    make_context(tmp_path, "remote", "tcp://remote:2376", SkipTLSVerify=True)
    settings = parse(ARGUMENTS, {"HOME": str(tmp_path)})
    assert settings.docker_env["DOCKER_TLS"] == "1"
    assert "DOCKER_TLS_VERIFY" not in settings.docker_env


@pytest.mark.parametrize(
    ("host", "text"),
    [
        ("ssh://root@web", "Docker's context 'far': 'ssh://root@web': Docker over SSH is not supported"),
        ("npipe:////./pipe/docker_engine", "Docker's context 'far': 'npipe:"),
    ],
)
def test_a_context_that_can_not_be_read_is_refused_in_one_line(tmp_path: Path, host: str, text: str) -> None:
    make_context(tmp_path, "far", host)
    with pytest.raises(StartError) as caught:
        docker_host(tmp_path)
    assert str(caught.value).startswith(text)
    assert "\n" not in str(caught.value)


def test_so_is_one_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(StartError, match=r"^Docker's context 'gone' can't be read \("):
        docker_host(tmp_path, DOCKER_CONTEXT="gone")


@pytest.mark.parametrize("text", ["", "[]", "{", '{"currentContext": 5}', '{"auths": {}}'])
def test_a_configuration_without_a_context_means_the_default_one(tmp_path: Path, text: str) -> None:
    (tmp_path / ".docker").mkdir()
    (tmp_path / ".docker" / "config.json").write_text(text)
    assert docker_host(tmp_path) == DEFAULT_DOCKER_HOST
