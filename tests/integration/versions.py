"""Newer releases of the real servers, as `.ci/versions` fetches them; nothing of them is installed."""

from __future__ import annotations

import os
from pathlib import Path

from tests.support import missing

# The suites of Debian that are fetched, oldest first.
SUITES = ("trixie", "sid")


def folder() -> Path:
    """Where `.ci/versions` puts them."""
    cache = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(os.environ.get("DOCKMESH_TEST_VERSIONS") or Path(cache) / "dockmesh-tests" / "versions")


def path_of(program: str, suite: str) -> Path | None:
    """The path of `restic`, `prometheus`, `docker-compose` … of that suite; None where it was not fetched."""
    root = folder() / suite / "usr"
    for place in (root / "bin", root / "libexec/docker/cli-plugins"):
        if (place / program).exists():
            return place / program
    return None


def require_version(program: str, suite: str) -> str:
    """The same for a test that needs it; without it the test is skipped, in CI it fails."""
    path = path_of(program, suite)
    if path is None:
        missing(f"{program} of Debian {suite} is not there: .ci/versions fetches it")
    return str(path)


def use_compose(suite: str, into: Path) -> bool:
    """Make a Docker CLI configuration with the suite's Compose and Buildx as its plugins; whether they are there.

    It counts where `DOCKER_CONFIG` names it.
    """
    plugins = into / "cli-plugins"
    plugins.mkdir(parents=True, exist_ok=True)
    found = {name: path_of(name, suite) for name in ("docker-compose", "docker-buildx")}
    for name, path in found.items():
        if path is not None and not (plugins / name).exists():
            (plugins / name).symlink_to(path)
    return found["docker-compose"] is not None
