"""Which Compose this host has: v2, as the plugin of the Docker CLI, as a program, or as the plugin's file itself."""

from __future__ import annotations

import logging
import os
import re
import shutil
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from dockmesh.agent.commands import CommandError
from dockmesh.agent.process import version_of
from dockmesh.agent.text import clean

log = logging.getLogger("dockmesh.agent")

# What was installed, updated or removed meanwhile is known after so long.
LOOK_SECONDS = 300.0
# v1 destroys stacks on current Engines; v2 before this lacks what deploys rely on.
OLDEST = (2, 20)
_VERSION = re.compile(r"v?((\d+)\.(\d+)\S*)")
# Where the Docker CLI looks for its plugins, after the user's own folder.
_PLUGIN_FOLDERS = (
    "/usr/local/lib/docker/cli-plugins",
    "/usr/local/libexec/docker/cli-plugins",
    "/usr/lib/docker/cli-plugins",
    "/usr/libexec/docker/cli-plugins",
)


@dataclass(frozen=True)
class Compose:
    """How Compose is called here. `version` is as it says itself, such as `2.40.3`."""

    command: tuple[str, ...]
    version: str


@dataclass(frozen=True)
class Found:
    """What a look for Compose gave: `compose` is None where there is none that can be used, `error` says why.

    `version` is also that of a Compose which is too old; empty where there is none at all.
    """

    compose: Compose | None
    version: str
    error: str


def find() -> Found:
    """Look for Compose: the first of its usual places that has 2.20 or newer."""
    too_old: Compose | None = None
    for command in _candidates():
        version = _version(command)
        if version is None:
            continue
        text, numbers = version
        if numbers >= OLDEST:
            return Found(Compose(command, text), text, "")
        too_old = too_old or Compose(command, text)
    wanted = f"dockmesh needs Compose {'.'.join(map(str, OLDEST))} or newer"
    if too_old is not None:
        error = f"Compose {too_old.version} ({' '.join(too_old.command)}) is too old: {wanted}"
        return Found(None, too_old.version, error)
    return Found(
        None, "", f"Compose is not installed on this host: {wanted}, as docker compose or docker-compose"
    )


class Lookout:
    """What the host has, looked for at the start and again now and then; says in the log when that changes."""

    def __init__(self) -> None:
        self._found = find()
        self._looked_at = time.monotonic()
        if self._found.error:
            log.warning("%s: this agent takes no deploys", self._found.error)

    @property
    def found(self) -> Found:
        """What the last look gave. Nobody waits for the next one, which begins once that is `LOOK_SECONDS` old."""
        if time.monotonic() - self._looked_at >= LOOK_SECONDS:
            self._looked_at = time.monotonic()
            threading.Thread(target=self._look, name="compose-look", daemon=True).start()
        return self._found

    def _look(self) -> None:
        found = find()
        if found.error and found.error != self._found.error:
            log.warning("%s: this agent takes no deploys", found.error)
        elif self._found.error and not found.error:
            log.info("Compose %s is there: this agent takes deploys", found.version)
        self._found = found


def require() -> Compose:
    """The Compose of this host as it is now; raises CommandError that says what is missing."""
    found = find()
    if found.compose is None:
        raise CommandError(found.error)
    return found.compose


def _candidates() -> Iterator[tuple[str, ...]]:
    """The CLI first, which prefers the user's own plugin; then what works without it or where that is broken."""
    if shutil.which("docker"):
        yield ("docker", "compose")
    if shutil.which("docker-compose"):
        yield ("docker-compose",)
    own = os.environ.get("DOCKER_CONFIG") or Path.home() / ".docker"
    for folder in (Path(own) / "cli-plugins", *map(Path, _PLUGIN_FOLDERS)):
        plugin = folder / "docker-compose"
        if os.access(plugin, os.X_OK):
            yield (str(plugin),)


def _version(command: tuple[str, ...]) -> tuple[str, tuple[int, int]] | None:
    """(as it says itself, its first two numbers); None where it does not run or does not say."""
    done = version_of([*command, "version", "--short"])
    if done is None:
        return None
    match = _VERSION.match(done.stdout.decode("utf-8", "replace").strip())
    if done.returncode != 0 or match is None:
        return None
    return clean(match[1], limit=64), (int(match[2]), int(match[3]))
