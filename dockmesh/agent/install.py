"""`install` and `uninstall`: the agent as a systemd service of this machine.

`python3 dockmesh-agent.pyz install --server URL` with the enrollment token in the environment or in a file; the
server's install script fetches the file, checks it and calls this. Running it again puts this version in the place of
the one that is there, and keeps what the host is enrolled as.
"""

from __future__ import annotations

import argparse
import os
import pkgutil
import shlex
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from dockmesh.agent import VERSION, compose, config, launcher, updates
from dockmesh.agent.client import ServerClient
from dockmesh.agent.config import Settings
from dockmesh.agent.engine import FAILURES, Engine, explain
from dockmesh.agent.enroll import enroll
from dockmesh.agent.errors import EXIT_REFUSED, ServerError, StartError
from dockmesh.agent.state import CREDENTIAL, Credential, StateDir, read_credential, write_private

COMMANDS = ("install", "uninstall")
SERVICE = "dockmesh-agent"
HEARD_SECONDS = 60.0
EXIT_UNHEARD = 1
_ENV = "DOCKMESH_AGENT_"
_UNIT = f"{SERVICE}.service"
_KEPT = (
    "DOCKER_HOST", "DOCKER_TLS", "DOCKER_TLS_VERIFY", "DOCKER_CERT_PATH",
    "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "http_proxy", "https_proxy", "no_proxy",
    "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "SSL_CERT_FILE",
)  # fmt: skip
_PYTHON = "/usr/bin/python3"
# What an agent keeps in its state folder, besides the files of stacks.
_STATE = ("*.json", "*.sqlite3*", "lock", ".*.new", "restic-runs/*")


@dataclass(frozen=True)
class Places:
    """Where everything lies; `root` is another folder than `/` in tests only."""

    root: Path = Path("/")

    @property
    def folder(self) -> Path:
        return self.root / "opt" / "dockmesh-agent"

    @property
    def launcher(self) -> Path:
        return self.folder / "launch.py"

    @property
    def env_file(self) -> Path:
        return self.root / "etc" / "dockmesh" / "agent.env"

    @property
    def unit(self) -> Path:
        return self.root / "etc" / "systemd" / "system" / _UNIT

    @property
    def state(self) -> Path:
        return self.root / "var" / "lib" / "dockmesh-agent"

    @property
    def has_systemd(self) -> bool:
        return (self.root / "run" / "systemd" / "system").is_dir() and shutil.which("systemctl") is not None


def main(arguments: Sequence[str], places: Places | None = None) -> int:
    """The exit code; raises StartError where it can't be done."""
    options = _parser().parse_args(arguments)
    places = places or Places()
    if os.geteuid() != 0 and not options.dry_run:
        raise StartError(f"{options.command} needs root: run it with sudo")
    if options.command == "uninstall":
        return Uninstall(places, is_dry=options.dry_run).run()
    own = updates.own_file()
    if own is None:
        raise StartError(f"install works from the file {launcher.CURRENT} only, as the server hands it out")
    return Install(places, own, options).run()


class Install:
    """One installation. What it does is said line by line."""

    def __init__(self, places: Places, own: Path, options: argparse.Namespace) -> None:
        self._places = places
        self._own = own
        self._options = options
        self._known = _read_env(places.env_file)
        self._wanted = _wanted(options)
        self._settings = _settings(places, options, {**os.environ, **self._known, **self._wanted})
        self._client = ServerClient(self._settings.server, ca_file=self._settings.ca_file)

    def run(self) -> int:
        self._check_docker()
        self._check_compose()
        if kept := [name for name in self._wanted if name in _KEPT]:
            say(f"Of this shell the service keeps {', '.join(kept)}.")
        credential = self._credential()
        if self._options.dry_run:
            return self._plan(credential)
        before = self._before()
        was_running = self._places.has_systemd and _systemctl("is-active", "--quiet", SERVICE) == 0
        if was_running:
            _systemctl("stop", SERVICE)
        try:
            if credential is None:
                credential = self._enroll()
            self._write()
        except BaseException:
            if was_running:
                _systemctl("start", SERVICE)
            raise
        if not self._places.has_systemd:
            say(
                "There is no systemd here. This runs the agent until you stop it; let what starts services do it:"
            )
            say(f"  {_by_hand(self._places)}")
            return 0
        return self._start(credential, before)

    def _check_docker(self) -> None:
        host = self._settings.docker_host
        try:
            with Engine.open(host) as engine:
                say(f"Docker {engine.version or '(version unknown)'} answers.")
        except FAILURES as error:
            raise StartError(
                f"{explain(error, host)} (looked at {host}; --docker-host says another)"
            ) from None

    def _check_compose(self) -> None:
        found = compose.find()
        if found.compose is not None:
            say(f"Compose {found.version} is there.")
        else:
            say(f"{found.error}. The host is watched all the same; it takes deploys once there is one.")

    def _credential(self) -> Credential | None:
        """What the host is enrolled as, if the server still knows it; None where it is to be enrolled."""
        known = read_credential(self._places.state / CREDENTIAL)
        if known is None or self._options.renew:
            self._require_token("this host is not enrolled" if known is None else "--renew")
            return None
        if _is_taken(self._client, known):
            say(f"This host is enrolled as {known.host_name}, and stays so.")
            return known
        self._require_token(f"{self._settings.server} does not know this host (any more)")
        return None

    def _require_token(self, why: str) -> None:
        if not self._settings.enrollment_token():
            raise StartError(
                f"{why}: give an enrollment token, from the server's page Add host", code=EXIT_REFUSED
            )

    def _plan(self, credential: Credential | None) -> int:
        places = self._places
        if credential is None:
            say(f"Would enrol this host at {self._settings.server} as {self._settings.name}.")
        say(f"Would write {places.folder}/ (the agent {VERSION}), {places.env_file}", end="")
        if places.has_systemd:
            say(f" and {places.unit}, and start the service {SERVICE}.")
        else:
            say("; there is no systemd here, so you would start it yourself.")
        say("Nothing was changed.")
        return 0

    def _before(self) -> Path | None:
        """The version that is to be replaced."""
        link = self._places.folder / launcher.CURRENT
        return link.resolve() if link.exists() else None

    def _enroll(self) -> Credential:
        state = StateDir(self._places.state)
        try:
            credential = enroll(
                self._settings,
                state,
                self._client,
                self._settings.enrollment_token(),
                lambda: _forget_all(state.path),
            )
        except ServerError as error:
            if error.status in (401, 403):
                raise StartError(
                    "the server refused the enrollment token: it is unknown, expired or already used (it works once)",
                    code=EXIT_REFUSED,
                ) from None
            raise StartError(f"enrollment failed: {error}") from None
        finally:
            state.close()
        say(f"Enrolled at {credential.server} as {credential.host_name}.")
        return credential

    def _write(self) -> None:
        places = self._places
        places.folder.mkdir(mode=0o755, parents=True, exist_ok=True)
        file = launcher.write_version(places.folder, self._own.read_bytes())
        launcher.point_to(places.folder / launcher.CURRENT, file)
        launcher.write_whole(places.launcher, _packed("launcher.py"), 0o755)
        places.env_file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        write_private(places.env_file, _env_text({**self._known, **self._wanted}))
        if places.has_systemd:
            places.unit.parent.mkdir(parents=True, exist_ok=True)
            unit = _packed(_UNIT).decode().replace(_PYTHON, sys.executable or _PYTHON)
            self._keep_another_unit()
            launcher.write_whole(places.unit, unit.encode(), 0o644)

    def _keep_another_unit(self) -> None:
        """A unit that somebody else has written is put aside."""
        unit = self._places.unit
        if unit.exists() and str(Places().launcher) not in unit.read_text(errors="replace"):
            aside = unit.with_name(f"{unit.name}.before")
            unit.replace(aside)
            say(f"The unit that was here is kept as {aside}.")

    def _start(self, credential: Credential, before: Path | None) -> int:
        if self._started():
            say(
                f"The server hears {credential.host_name}. The agent {VERSION} runs as the service {SERVICE}."
            )
            return 0
        say(f"The server did not hear the agent within {HEARD_SECONDS:.0f} s. Its last words:", to=sys.stderr)
        subprocess.run(["journalctl", "-u", SERVICE, "-n", "8", "--no-pager", "-o", "cat"], check=False)  # noqa: S603, S607
        if before is not None and before.exists() and before != self._before():
            launcher.point_to(self._places.folder / launcher.CURRENT, before)
            say("The version that was here before is started again.", to=sys.stderr)
            _systemctl("restart", SERVICE)
        return EXIT_UNHEARD

    def _started(self) -> bool:
        heard = self._places.folder / launcher.HEARD
        heard.unlink(missing_ok=True)
        for step in (("daemon-reload",), ("enable", "--quiet", SERVICE), ("restart", SERVICE)):
            if _systemctl(*step) != 0:
                return False
        say("Started. Waiting for the server to hear it …")
        until = time.monotonic() + HEARD_SECONDS
        while time.monotonic() < until:
            if heard.exists():
                return True
            if _systemctl("is-failed", "--quiet", SERVICE) == 0:
                return False
            time.sleep(0.3)
        return False


class Uninstall:
    """Takes away what `Install` has put there, and the credential; leaves what is the user's."""

    def __init__(self, places: Places, *, is_dry: bool) -> None:
        self._places = places
        self._is_dry = is_dry

    def run(self) -> int:
        places = self._places
        known = _quietly(lambda: read_credential(places.state / CREDENTIAL))
        if places.has_systemd and places.unit.exists():
            self._do(
                f"stop and disable the service {SERVICE}",
                lambda: _systemctl("disable", "--now", "--quiet", SERVICE),
            )
        own = [
            places.unit, places.launcher, places.env_file, *sorted(places.folder.glob("agent-*.pyz")),
            *(places.folder / name for name in (launcher.CURRENT, launcher.NEXT, launcher.HEARD)),
            *(path for pattern in _STATE for path in sorted(places.state.glob(pattern))),
        ]  # fmt: skip
        removed = [path for path in own if path.is_symlink() or path.exists()]
        for path in removed:
            self._do(f"remove {path}", path.unlink)
        if places.has_systemd and places.unit in removed:
            self._do("tell systemd", lambda: _systemctl("daemon-reload"))
        folders = (places.folder, places.state / "restic-runs", places.state / "stacks", places.state)
        for folder in (*folders, places.env_file.parent):
            self._leave_or_remove(folder, removed)
        if not removed:
            say("Nothing is installed here.")
        elif known is not None:
            say(f"The host is still listed at {known.server} as {known.host_name}: remove it there too.")
        return 0

    def _leave_or_remove(self, folder: Path, removed: Sequence[Path]) -> None:
        if not folder.is_dir():
            return
        left = sorted(path.name for path in folder.iterdir() if path not in removed)
        if not left:
            self._do(f"remove {folder}/", folder.rmdir)
        elif folder != self._places.state or left != ["stacks"]:
            say(f"Kept: {folder}/ with {', '.join(left[:8])}{' …' if len(left) > 8 else ''}")

    def _do(self, what: str, action: Callable[[], object]) -> None:
        if self._is_dry:
            say(f"Would {what}.")
            return
        action()
        say(f"{what[0].upper()}{what[1:]}: done.")


def _forget_all(state: Path) -> None:
    """What was written down of commands and containers as another host, while no agent runs."""
    for path in state.glob("*.sqlite3*"):
        path.unlink()


def say(text: str, *, end: str = "\n", to: IO[str] | None = None) -> None:
    """One line for whoever installs."""
    print(text, end=end, file=to or sys.stdout, flush=True)


def _packed(name: str) -> bytes:
    data = pkgutil.get_data("dockmesh.agent", name)
    assert data is not None
    return data


def _wanted(options: argparse.Namespace) -> dict[str, str]:
    """What the service is told from now on; what is not given stays as it is."""
    given = {
        "SERVER": options.server,
        "CA_FILE": options.ca_file and str(Path(options.ca_file).absolute()),
        "DOCKER_HOST": options.docker_host,
        "MONITOR_ONLY": "true" if options.monitor_only else None,
    }
    # The service has none of the shell's variables, by which Docker or the server may just have been reached.
    kept = {name: os.environ[name] for name in _KEPT if os.environ.get(name)}
    return kept | {_ENV + name: value for name, value in given.items() if value}


def _settings(places: Places, options: argparse.Namespace, environ: Mapping[str, str]) -> Settings:
    arguments = ["run", f"--state-dir={places.state}"]
    if options.name:
        arguments.append(f"--name={options.name}")
    arguments += [f"--label={label}" for label in options.label or ()]
    if options.enrollment_token_file:
        arguments.append(f"--enrollment-token-file={options.enrollment_token_file}")
    return config.parse(arguments, environ)


def _read_env(path: Path) -> dict[str, str]:
    """NAME=value of each line, as systemd reads such a file."""
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except FileNotFoundError:
        return {}
    except (OSError, UnicodeDecodeError) as error:
        raise StartError(f"{path}: {error}") from None
    pairs = [line.strip().partition("=") for line in lines if not line.strip().startswith(("#", ";"))]
    return {name.strip(): _unquoted(value.strip()) for name, equals, value in pairs if equals}


def _unquoted(value: str) -> str:
    """What `_env_text` has quoted, or somebody by hand; what is not quoted at its begin is as it is, blanks and all."""
    if not value.startswith(("'", '"')):
        return value
    try:
        return " ".join(shlex.split(value))
    except ValueError:
        return value


def _env_text(values: Mapping[str, str]) -> str:
    return "".join(f"{name}={shlex.quote(value)}\n" for name, value in values.items())


def _is_taken(client: ServerClient, credential: Credential) -> bool:
    """Whether the server knows the credential: a heartbeat that says nothing is refused as one that says nothing."""
    try:
        client.post("heartbeat", {}, token=credential.agent_token)
    except ServerError as error:
        if error.status == 0:
            raise StartError(str(error)) from None
        return error.status != 401
    return True


def _systemctl(*arguments: str) -> int:
    return subprocess.run(["systemctl", *arguments], check=False).returncode  # noqa: S603, S607


def _quietly(read: Callable[[], Credential | None]) -> Credential | None:
    try:
        return read()
    except StartError:
        return None


def _by_hand(places: Places) -> str:
    inner = f"set -a; . {places.env_file}; exec {sys.executable} {places.launcher} run"
    return f"sh -c {shlex.quote(inner)}"


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog=launcher.CURRENT, description="The agent as a service of this machine."
    )
    commands = parser.add_subparsers(dest="command", required=True)
    install = commands.add_parser("install", help="install or upgrade the agent, and start it")
    install.add_argument("--server", metavar="URL", help="address of the dockmesh server")
    install.add_argument(
        "--enrollment-token-file",
        metavar="FILE",
        help=f"where the token is; else {_ENV}ENROLLMENT_TOKEN has it",
    )
    install.add_argument("--name", help="the host's name on the server (default: this machine's host name)")
    install.add_argument(
        "--label", action="append", metavar="KEY=VALUE", help="a label of the host; repeatable"
    )
    install.add_argument("--ca-file", metavar="FILE", help="PEM certificates to trust for the server")
    install.add_argument("--docker-host", metavar="URL", help="Docker's address")
    install.add_argument("--monitor-only", action="store_true", help="refuse all commands")
    install.add_argument("--renew", action="store_true", help="enrol again although the host is enrolled")
    uninstall = commands.add_parser("uninstall", help="stop and remove the agent")
    for each in (install, uninstall):
        each.add_argument("--dry-run", action="store_true", help="say what would be done, and do nothing")
    return parser
