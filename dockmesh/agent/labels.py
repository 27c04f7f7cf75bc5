"""What Compose's labels say of a project that runs: its folder, its files, and what it has mounted."""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import docker

from dockmesh.agent.document import JSON
from dockmesh.agent.leftovers import ONE_OFF_LABEL, PROJECT_LABEL, SERVICE_LABEL, asked

_DIRECTORY = f"{PROJECT_LABEL}.working_dir"
_CONFIG_FILES = f"{PROJECT_LABEL}.config_files"
_ENV_FILES = f"{PROJECT_LABEL}.environment_file"

MAX_READ_BYTES = 512 * 1024
# Docker names a volume that nobody named by 32 random bytes.
_ANONYMOUS = re.compile(r"[0-9a-f]{64}")
_CONTROLS = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f]")


@dataclass(frozen=True)
class Origin:
    """From where Compose started something."""

    directory: str
    config_files: tuple[str, ...]
    env_files: tuple[str, ...]


@dataclass(frozen=True)
class Mount:
    """A bind mount (`source` is a path) or a named volume (its name) of a container."""

    service: str
    target: str
    source: str


@dataclass(frozen=True)
class Labelled:
    """A project as its containers have it: the newest one's origin, the names of those with another, all mounts."""

    origin: Origin | None
    others: tuple[str, ...]
    mounts: tuple[Mount, ...]


def read_labels(docker_host: str, project: str) -> Labelled:
    """Reads the project's containers; those of `compose run` don't count. Raises CommandError."""
    with asked(docker_host) as api:
        found = []
        for item in api.containers(all=True, filters={"label": f"{PROJECT_LABEL}={project}"}):
            try:
                container = api.inspect_container(item["Id"])
                labels = container["Config"].get("Labels") or {}
                if labels.get(ONE_OFF_LABEL) != "True":
                    found.append((container, _origin(labels, _of_image(api, container))))
            except docker.errors.APIError:
                continue  # removed meanwhile, or one that Docker itself can't inspect
    found.sort(key=lambda pair: str(pair[0].get("Created")), reverse=True)
    origin = next((known for _, known in found if known), None)
    others = [container["Name"].removeprefix("/") for container, known in found if known and known != origin]
    mounts = dict.fromkeys(mount for container, _ in found for mount in _mounts(container))
    return Labelled(origin, tuple(sorted(others)), tuple(sorted(mounts, key=lambda m: (m.service, m.target))))


def read_file(path: str, *, most: int = MAX_READ_BYTES) -> JSON:
    """`path` with its `content` of at most `most` bytes, or with an `error` that says why it can't be read."""
    try:
        # Not blocking: a FIFO without a writer would hold up for ever, and what it is, is only known once open.
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY)
        with os.fdopen(descriptor, "rb") as file:
            if not stat.S_ISREG(os.fstat(descriptor).st_mode):
                return {"path": path, "error": "is no regular file"}
            raw = file.read(most + 1)
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else "can't be opened"
        return {"path": path, "error": reason}
    if len(raw) > most:
        return {"path": path, "error": f"is too large: {MAX_READ_BYTES} bytes are read at most"}
    try:
        content = raw.decode("utf-8-sig")
    except UnicodeDecodeError:
        return {"path": path, "error": "is not UTF-8"}
    if _CONTROLS.search(content):
        return {"path": path, "error": "has control characters"}
    return {"path": path, "content": content}


def _of_image(api: docker.APIClient, container: JSON) -> dict[str, str]:
    try:
        config = api.inspect_image(container["Image"]).get("Config") or {}
    except docker.errors.APIError:
        return {}  # the image was removed from under the container
    return config.get("Labels") or {}


def _origin(labels: dict[str, str], of_image: dict[str, str]) -> Origin | None:
    """None where Compose did not say it. An image may carry labels of that name: they name what its maker wants read."""
    ours = (_DIRECTORY, _CONFIG_FILES, _ENV_FILES)
    said = {key: labels[key] for key in ours if key in labels and of_image.get(key) != labels[key]}
    directory = said.get(_DIRECTORY, "")
    # Compose writes no path that can't be sent on.
    if not os.path.isabs(directory) or any(_CONTROLS.search(text) for text in said.values()):
        return None
    return Origin(
        directory, _split(said.get(_CONFIG_FILES, ""), directory), _split(said.get(_ENV_FILES, ""), directory)
    )


def _split(text: str, directory: str) -> tuple[str, ...]:
    """The paths in a list with commas. Compose v2 writes whole paths, so a comma within one is told by what follows."""
    if not text:
        return ()
    parts: Sequence[str] = re.split(r",(?=/)", text) if text.startswith("/") else text.split(",")
    return tuple(os.path.normpath(os.path.join(directory, part)) for part in parts)


def _mounts(container: dict[str, Any]) -> list[Mount]:
    service = (container["Config"].get("Labels") or {}).get(SERVICE_LABEL, "")
    mounts = []
    for mount in container.get("Mounts") or []:
        source = mount.get("Source") if mount.get("Type") == "bind" else mount.get("Name")
        if mount.get("Type") in ("bind", "volume") and source and not _ANONYMOUS.fullmatch(source):
            mounts.append(Mount(service, mount.get("Destination") or "", source))
    return mounts
