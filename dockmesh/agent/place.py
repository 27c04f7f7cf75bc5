"""Where a stack lives: whether the agent sees that folder, and whether it is the one in which it runs.

A relative path means something only in the folder that it was written for. In another one Docker makes an empty
folder for it without a word, and a database comes up fresh.
"""

from __future__ import annotations

import re
import socket
from collections.abc import Callable
from enum import Enum
from pathlib import Path

import docker

from dockmesh.agent.commands import CommandError
from dockmesh.agent.document import JSON
from dockmesh.agent.labels import read_labels
from dockmesh.agent.leftovers import asked
from dockmesh.agent.mount_changes import compared, mounts_of
from dockmesh.agent.project import Project

# What Docker and Podman mount into each container, from a folder that is named for the container.
_OWN_FILES = ("/etc/hostname", "/etc/hosts", "/etc/resolv.conf")
_OWN_ID = re.compile(r"containers/([0-9a-f]{64})/")
_MARKS = ("/.dockerenv", "/run/.containerenv")


class View(Enum):
    """How the agent sees a folder of the host; an agent in a container doesn't know what is not mounted into it."""

    SEEN = "seen"
    MISSING = "missing"
    UNKNOWN = "unknown"


def view(docker_host: str, folder: Path) -> View:
    """Whether `folder` is a folder, and the same one for this agent as for the Engine.

    Raises CommandError where the Engine can't be asked.
    """
    identity = own_container()
    if identity:
        with asked(docker_host) as api:
            try:
                mounts = api.inspect_container(identity).get("Mounts") or []
            except docker.errors.NotFound:
                identity = ""  # a container of another Engine: as good as a machine to this one
    if not identity:
        return View.SEEN if folder.is_dir() else View.MISSING
    is_mounted = any(_covers(mount, path) for path in {folder, folder.resolve()} for mount in mounts)
    return View.SEEN if is_mounted and folder.is_dir() else View.UNKNOWN


def expect_same_place(
    project: Project, *, is_decided: bool, docker_host: str, read: Callable[[], JSON | None]
) -> None:
    """Raise CommandError where a deploy would give relative paths another meaning, naming them.

    `is_decided`: the user chose the folder, whatever is mounted now. `read` gives what Compose makes of the files.
    """
    labelled = read_labels(docker_host, project.name)
    origin = labelled.origin.directory if labelled.origin else ""
    seen = view(docker_host, project.directory) if project.is_elsewhere else View.SEEN
    is_known_to_user = is_decided and Path(origin) == project.directory
    if seen is View.MISSING or (seen is View.UNKNOWN and not is_known_to_user):
        raise CommandError(
            f"The project directory {project.directory} is not there, or not to be seen by the agent"
            f"{_named(_below(project, read()))}. Nothing was changed."
        )
    if is_decided or not origin or Path(origin).resolve() == project.directory.resolve():
        return
    config = read()
    changed = (
        [] if config is None else [row for row in compared(labelled.mounts, config) if not row["is_kept"]]
    )
    if changed:
        rows = [
            f"{row['service']}:{row['target']} has {row['before']} and would have {row['after'] or 'nothing'}"
            for row in changed
        ]
        raise CommandError(
            f"{project.name} runs from {origin}, and from {project.directory} relative paths mean other folders"
            f"{_named(rows)}. Nothing was changed: set the stack's project directory first."
        )


def _below(project: Project, config: JSON | None) -> list[str]:
    """The bind mounts within the project's folder."""
    mounts = mounts_of(config or {}).items()
    return [
        f"{service}:{target} is {source}"
        for (service, target), source in mounts
        if project.directory in Path(source).parents
    ]


def _named(rows: list[str]) -> str:
    return f": {'; '.join(rows[:10])}{' …' if len(rows) > 10 else ''}" if rows else ""


def own_container() -> str:
    """The id of the container in which the agent runs, or the start of it; empty outside of any."""
    return _own_container(Path("/proc/self/mountinfo").read_text(errors="replace"))


def _own_container(mountinfo: str) -> str:
    """The id of the container in which the agent runs, or its name there; empty outside of any."""
    for line in mountinfo.splitlines():
        fields = line.split()
        if len(fields) > 4 and fields[4] in _OWN_FILES and (match := _OWN_ID.search(fields[3])):
            return match[1]
    return socket.gethostname() if any(Path(mark).exists() for mark in _MARKS) else ""


def _covers(mount: dict[str, str], path: Path) -> bool:
    target = mount.get("Destination") or ""
    return (
        mount.get("Type") == "bind"
        and mount.get("Source") == target
        and (path == Path(target) or Path(target) in path.parents)
    )
