"""What the operator says: options, environment variables, and agent.toml for backup repositories."""

from __future__ import annotations

import argparse
import os
import socket
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

from dockmesh.agent import VERSION, contexts
from dockmesh.agent.errors import StartError
from dockmesh.agent.text import clean

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

DEFAULT_DOCKER_HOST = "unix:///var/run/docker.sock"
DEFAULT_CONFIG = Path("/etc/dockmesh/agent.toml")
_ENV = "DOCKMESH_AGENT_"


@dataclass(frozen=True)
class Repository:
    """A restic repository under the name by which the server knows it. Its password never leaves the host."""

    name: str
    repository: str
    password_file: Path
    env: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class BackupSettings:
    """agent.toml. `may_run_commands`: whether the commands of jobs before and after a backup are run."""

    repositories: Mapping[str, Repository]
    may_run_commands: bool = True
    # Whether registries are asked for newer images of what runs here.
    looks_for_images: bool = True
    # Whether what containers, machine and disk use is told, and the size of each volume with it.
    measures_usage: bool = True
    measures_volumes: bool = False


@dataclass(frozen=True)
class Settings:
    server: str
    state_dir: Path
    name: str
    labels: Mapping[str, str]
    docker_host: str
    # Variables that the Docker CLI's context brings along: where its certificates are.
    docker_env: Mapping[str, str]
    ca_file: Path | None
    is_monitor_only: bool
    is_verbose: bool
    repositories: Mapping[str, Repository]
    may_run_commands: bool
    looks_for_images: bool
    measures_usage: bool
    measures_volumes: bool
    enrollment_token_text: str = field(repr=False)
    enrollment_token_file: Path | None

    def enrollment_token(self) -> str:
        """The enrollment token as it is now: its file is read again, so that a fresh one can be put there."""
        if self.enrollment_token_file is None:
            return self.enrollment_token_text
        try:
            return self.enrollment_token_file.read_text().strip()
        except (OSError, UnicodeDecodeError) as error:
            reason = error.strerror if isinstance(error, OSError) else "not a text file"
            raise StartError(f"--enrollment-token-file {self.enrollment_token_file}: {reason}") from None


def parse(arguments: Sequence[str], environ: Mapping[str, str]) -> Settings:
    """Settings from the command line, else from DOCKMESH_AGENT_…; raises StartError, or exits as argparse."""
    options = _parser().parse_args(arguments)
    _refuse_quotes(environ)

    def given(option: str, default: str = "") -> str:
        value = getattr(options, option)
        return value if value is not None else environ.get(_ENV + option.upper(), default)

    token_file = given("enrollment_token_file")
    config = given("config")
    backups = backup_settings(
        _readable("--config", config) if config else DEFAULT_CONFIG if DEFAULT_CONFIG.exists() else None
    )
    ca_file = given("ca_file")
    docker_host, docker_env = _docker(given("docker_host"), environ)
    return Settings(
        server=_server(given("server")),
        state_dir=Path(given("state_dir") or default_state_dir(environ)).absolute(),
        name=_name(given("name") or socket.gethostname()),
        labels=_labels(options.label if options.label is not None else _split(environ.get(f"{_ENV}LABELS"))),
        docker_host=docker_host,
        docker_env=docker_env,
        ca_file=_readable("--ca-file", ca_file) if ca_file else None,
        is_monitor_only=options.monitor_only or _flag(f"{_ENV}MONITOR_ONLY", environ),
        is_verbose=options.verbose or _flag(f"{_ENV}VERBOSE", environ),
        repositories=backups.repositories,
        may_run_commands=backups.may_run_commands,
        looks_for_images=backups.looks_for_images,
        measures_usage=backups.measures_usage,
        measures_volumes=backups.measures_volumes,
        enrollment_token_text=given("enrollment_token").strip(),
        enrollment_token_file=Path(token_file) if token_file else None,
    )


def _refuse_quotes(environ: Mapping[str, str]) -> None:
    for name, value in sorted(environ.items()):
        text = value.strip()
        if name.startswith(_ENV) and len(text) > 1 and text[0] == text[-1] and text[0] in "\"'":
            # The value may be a token, so it isn't shown.
            raise StartError(
                f"{name}: the {text[0]} around the value are part of it, as docker's --env-file leaves them;"
                " write it without quotes"
            )


def default_state_dir(environ: Mapping[str, str]) -> str:
    if os.geteuid() == 0:
        return "/var/lib/dockmesh-agent"
    home = environ.get("XDG_STATE_HOME") or str(Path.home() / ".local" / "state")
    return f"{home}/dockmesh-agent"


def backup_settings(path: Path | None) -> BackupSettings:
    """What agent.toml says; raises StartError that names the file and the key."""
    if path is None:
        return BackupSettings({})
    try:
        document = tomllib.loads(path.read_text())
    except OSError as error:
        raise StartError(f"--config {path}: {error.strerror}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise StartError(f"--config {path}: is not valid TOML: {error}") from None
    known = {"repositories", "commands", "image_updates", "usage", "volume_sizes"}
    _only(document, known, f"--config {path}")
    tables = document.get("repositories", {})
    if not isinstance(tables, dict):
        raise StartError(f"--config {path}: repositories must be a table")

    def is_on(key: str, default: bool) -> bool:
        value = document.get(key, default)
        if not isinstance(value, bool):
            raise StartError(f"--config {path}: {key} must be true or false")
        return value

    return BackupSettings(
        {name: _repository(name, table, f"--config {path}") for name, table in tables.items()},
        may_run_commands=is_on("commands", True),
        looks_for_images=is_on("image_updates", True),
        measures_usage=is_on("usage", True),
        measures_volumes=is_on("volume_sizes", False),
    )


def _repository(name: str, table: object, where: str) -> Repository:
    where = f"{where}: [repositories.{name}]"
    if not isinstance(table, dict):
        raise StartError(f"{where} must be a table")
    if not name or clean(name, limit=64) != name:
        raise StartError(f"{where}: the name must be 1 to 64 printable characters")
    _only(table, {"repository", "password_file", "env"}, where)
    for key in ("repository", "password_file"):
        if not isinstance(table.get(key), str) or not table[key]:
            raise StartError(f"{where}: {key} is needed, as a text")
    env = table.get("env", {})
    if not isinstance(env, dict) or not all(isinstance(value, str) for value in env.values()):
        raise StartError(f"{where}: env must be a table of texts")
    return Repository(
        name, table["repository"], _readable(f"{where}: password_file", table["password_file"]), env
    )


def _only(table: Mapping[str, object], known: set[str], where: str) -> None:
    for key in table:
        if key not in known:
            raise StartError(f"{where}: unknown key {key!r}; known are {', '.join(sorted(known))}")


def _readable(what: str, text: str) -> Path:
    path = Path(text)
    try:
        with path.open("rb"):
            return path
    except OSError as error:
        raise StartError(f"{what} {text}: {error.strerror}") from None


def _server(text: str) -> str:
    if not text:
        raise StartError(f"--server (or {_ENV}SERVER) is needed: the address of the dockmesh server")
    try:
        parts = urlsplit(text)
        valid = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0
    except ValueError:
        valid = False
    if not valid or parts.username or parts.query or parts.fragment:
        raise StartError(f"--server {text!r}: expected an address such as https://dockmesh.example.org")
    return text.rstrip("/")


def _docker(given: str, environ: Mapping[str, str]) -> tuple[str, Mapping[str, str]]:
    """Docker's address, and the variables that come with it: in the order in which the Docker CLI looks for it."""
    for what, text in (("--docker-host", given), ("DOCKER_HOST", environ.get("DOCKER_HOST", ""))):
        if text:
            return _docker_host(what, text), {}
    context = contexts.current(environ)
    if context is None:
        return DEFAULT_DOCKER_HOST, {}
    return _docker_host(f"Docker's context {context.name!r}:", context.docker_host), context.environment


def _docker_host(what: str, text: str) -> str:
    if text.startswith("ssh://"):
        raise StartError(
            f"{what} {text!r}: Docker over SSH is not supported; run an agent on that host instead"
        )
    if not text.startswith(("unix://", "tcp://", "http://", "https://")):
        raise StartError(f"{what} {text!r}: expected unix:///path/to/docker.sock or tcp://host:port")
    return text


def _name(text: str) -> str:
    name = clean(text)
    if not name or name != text.strip():
        raise StartError(f"--name {text!r}: expected 1 to 200 printable characters")
    return name


def _labels(pairs: Sequence[str]) -> dict[str, str]:
    labels = {}
    for pair in pairs:
        key, equals, value = pair.partition("=")
        if not key or not equals:
            raise StartError(f"--label {pair!r}: expected key=value")
        labels[key] = clean(value, limit=1024)
    return labels


def _split(text: str | None) -> list[str]:
    return [part.strip() for part in text.split(",") if part.strip()] if text else []


def _flag(variable: str, environ: Mapping[str, str]) -> bool:
    value = environ.get(variable, "").lower()
    if value in ("1", "true", "yes", "on"):
        return True
    if value in ("", "0", "false", "no", "off"):
        return False
    raise StartError(f"{variable}={value!r}: expected true or false")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="dockmesh-agent",
        description="Reports the containers of this Docker host to a dockmesh server.",
        epilog=f"Each option of `run` can be given as an environment variable: {_ENV}SERVER, "
        f"{_ENV}ENROLLMENT_TOKEN and so on; {_ENV}LABELS takes key=value,key=value.",
    )
    parser.add_argument("--version", action="version", version=f"dockmesh-agent {VERSION}")
    run = parser.add_subparsers(dest="command", required=True).add_parser("run", help="run until stopped")
    run.add_argument("--server", metavar="URL", help="address of the dockmesh server")
    run.add_argument("--enrollment-token", metavar="TOKEN", help="needed at the first start only")
    run.add_argument("--enrollment-token-file", metavar="FILE", help="the same, from a file")
    run.add_argument("--name", help="the host's name on the server (default: this machine's host name)")
    run.add_argument("--label", action="append", metavar="KEY=VALUE", help="a label of the host; repeatable")
    run.add_argument(
        "--state-dir", metavar="DIR", help="credential and journal (default: /var/lib/dockmesh-agent)"
    )
    run.add_argument(
        "--docker-host",
        metavar="URL",
        help=f"Docker's address (default: that of the Docker CLI's context, else {DEFAULT_DOCKER_HOST})",
    )
    run.add_argument("--ca-file", metavar="FILE", help="PEM certificates to trust for the server")
    run.add_argument("--config", metavar="FILE", help=f"backup repositories (default: {DEFAULT_CONFIG})")
    run.add_argument(
        "--monitor-only", action="store_true", help="refuse all commands: no deploys, no backups"
    )
    run.add_argument("--verbose", action="store_true", help="log each heartbeat")
    return parser
