"""Where Docker is, as the Docker CLI has it when nobody says: its current context."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from dockmesh.agent.errors import StartError


@dataclass(frozen=True)
class Context:
    """A context's Docker, and the variables by which the CLI, Compose and the SDK find its certificates."""

    name: str
    docker_host: str
    environment: Mapping[str, str] = field(default_factory=dict)


def current(environ: Mapping[str, str]) -> Context | None:
    """The context that DOCKER_CONTEXT or the CLI's `config.json` names, None for the default one.

    Raises StartError, in one line, where it can't be read: another Docker than the one that is meant is worse than none.
    """
    folder = Path(environ.get("DOCKER_CONFIG") or Path(environ.get("HOME") or Path.home()) / ".docker")
    name = environ.get("DOCKER_CONTEXT") or _configured(folder / "config.json")
    if not name or name == "default":
        return None
    key = hashlib.sha256(name.encode()).hexdigest()
    path = folder / "contexts" / "meta" / key / "meta.json"
    try:
        endpoint = json.loads(path.read_text())["Endpoints"]["docker"]
        docker_host = str(endpoint["Host"])
        is_unverified = endpoint.get("SkipTLSVerify") is True
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        raise StartError(
            f"Docker's context {name!r} can't be read ({path}): give --docker-host, or choose another context"
        ) from None
    certificates = folder / "contexts" / "tls" / key / "docker"
    variables: dict[str, str] = {}
    if certificates.is_dir() or is_unverified:
        variables["DOCKER_TLS" if is_unverified else "DOCKER_TLS_VERIFY"] = "1"
        variables["DOCKER_CERT_PATH"] = str(certificates)
    return Context(name, docker_host, variables)


def _configured(path: Path) -> str:
    try:
        config: Any = json.loads(path.read_text())
    except (OSError, ValueError):
        return ""  # the CLI goes on without it too
    name = config.get("currentContext") if isinstance(config, dict) else None
    return name if isinstance(name, str) else ""
