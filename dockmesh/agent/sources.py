"""What a backup reads: volumes through what Docker says of them, paths as they really are."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from dockmesh.agent import engine, mounts
from dockmesh.agent.commands import CommandError, Run
from dockmesh.agent.document import JSON

MAX_PATHS = 50


def resolve(command: Run, docker_host: str) -> list[str]:
    """The folders and files that the payload's `source` means; raises CommandError that names what is not there."""
    source = command.payload.get("source")
    if not isinstance(source, dict):
        raise CommandError("payload: source must be an object")
    kind = source.get("type")
    if kind == "path":
        found = [_real(path, command, docker_host) for path in _paths(source)]
    elif kind == "volumes":
        names = source.get("volumes", [])
        if not isinstance(names, list):
            raise CommandError("payload: source.volumes must be a list")
        volumes = find_volumes(
            _volumes(docker_host), str(source.get("stack", "")), [str(name) for name in names]
        )
        found = [place(volume, docker_host) for volume in volumes]
        if all(_is_empty(path) for path in found):
            raise CommandError(f"there are no files in: {', '.join(found)}")
    else:
        raise CommandError("payload: source.type must be volumes or path")
    return list(dict.fromkeys(found))


def find_volumes(volumes: Sequence[JSON], stack: str, names: Sequence[str]) -> list[JSON]:
    """A stack's volumes, named as in its Compose file or as Docker names them; without names all of them."""
    by_name = {volume["Name"]: volume for volume in volumes}
    of_stack = {}
    for volume in volumes:
        labels = volume.get("Labels") or {}
        if stack and labels.get("com.docker.compose.project") == stack:
            of_stack[labels.get("com.docker.compose.volume", volume["Name"])] = volume
    if not names:
        if not of_stack:
            raise CommandError(f"stack {stack!r} has no volumes on this host")
        return sorted(of_stack.values(), key=lambda volume: str(volume["Name"]))
    found = []
    for name in names:
        named = of_stack.get(name) or by_name.get(f"{stack}_{name}") or by_name.get(name)
        if named is None:
            raise CommandError(f"volume {name!r} of stack {stack!r} is not on this host")
        found.append(named)
    return found


def place(volume: JSON, docker_host: str) -> str:
    """Where a volume's files are; raises CommandError where they can't be seen from here.

    A volume with driver options is a mount that Docker makes when a container first uses it. While none does, or
    where the agent's namespace is older than the mount, its mount point is an empty folder.
    """
    name = str(volume["Name"])
    options = volume.get("Options") or {}
    mountpoint = str(volume.get("Mountpoint") or "")
    driver = str(volume.get("Driver") or "local")
    if driver == "local" and not (options.get("type") or options.get("device")):
        return _visible(name, mountpoint, docker_host)
    what = _described(driver, options)
    real = os.path.realpath(mountpoint) if mountpoint else ""
    device = str(options.get("device") or "") if _is_bind(driver, options) else ""
    if device and os.path.isdir(device) and _is_the_hosts(device, docker_host):
        # Under one path, whether a container uses it or not.
        return os.path.realpath(device)
    if real and mounts.is_mount_point(real):
        return real
    if device:
        raise CommandError(
            f"volume {name!r} ({what}): neither its mount nor {device} can be seen by the agent; mount {device} into"
            " the agent's container under the same path"
        )
    if driver != "local" and real and os.path.isdir(real) and not _is_empty(real):
        return real
    raise CommandError(
        f"volume {name!r} ({what}) is not mounted where the agent sees it: Docker mounts it while a container that uses"
        " it runs, and an agent in a container sees that with :rslave at the mount of Docker's volumes"
    )


def _visible(name: str, mountpoint: str, docker_host: str) -> str:
    if not mountpoint or not os.path.exists(mountpoint):
        raise CommandError(
            f"volume {name!r}: {mountpoint or 'its folder'} is not there: it must be visible to the agent under the path"
            " that Docker names"
        )
    real = os.path.realpath(mountpoint)
    _refuse_hidden(real, f"volume {name!r}", docker_host)
    return real


def _real(path: str, command: Run, docker_host: str) -> str:
    try:
        real = str(Path(path).resolve(strict=True))
    except (OSError, RuntimeError) as error:
        # A loop of links is a RuntimeError before Python 3.13.
        why = getattr(error, "strerror", None) or "a loop of links"
        raise CommandError(f"{path} is not there: it must be visible to the agent ({why})") from None
    if real != os.path.normpath(path):
        command.output.line(f"{path} leads to {real}.")
    is_one_file_system = command.payload.get("one_file_system") is True
    if not is_one_file_system:
        _refuse_hidden(real, path, docker_host)
    if _is_empty(real):
        raise CommandError(f"{path} is an empty folder: there is nothing to back up")
    return real


def _refuse_hidden(path: str, what: str, docker_host: str) -> None:
    missing = mounts.hidden(path, docker_host)
    if missing:
        raise CommandError(
            f"{what}: the host has something mounted at {missing} that the agent does not see; start the agent again, or"
            " mount the folder into its container with :rslave"
        )


def _paths(source: JSON) -> list[str]:
    given = source.get("paths", [source.get("path", "")])
    if not isinstance(given, list) or not 1 <= len(given) <= MAX_PATHS:
        raise CommandError(f"payload: source.paths must be a list of 1 to {MAX_PATHS} paths")
    return [absolute("source.path", str(path)) for path in given]


def absolute(field: str, path: str) -> str:
    """An absolute path of the payload; raises CommandError for anything else."""
    if not path.startswith("/") or "\x00" in path:
        raise CommandError(f"payload: {field} must be an absolute path")
    return path


def _volumes(docker_host: str) -> list[JSON]:
    try:
        client = engine.connect(docker_host)
        try:
            return client.api.volumes()["Volumes"] or []
        finally:
            client.close()
    except engine.FAILURES as error:
        raise CommandError(engine.explain(error, docker_host)) from None


def _is_bind(driver: str, options: JSON) -> bool:
    flags = str(options.get("o") or "").split(",")
    return driver == "local" and ("bind" in flags or "rbind" in flags)


def _described(driver: str, options: JSON) -> str:
    if driver != "local":
        return f"of the driver {driver}"
    kind = "bind" if _is_bind(driver, options) else str(options.get("type") or "mount")
    device = str(options.get("device") or "")
    return f"{kind} of {device}" if device and device != kind else kind


def _is_the_hosts(path: str, docker_host: str) -> bool:
    """Whether a path is here what it is for Docker: always but in a container, there only what is mounted into it."""
    if not any(Path(mark).exists() for mark in ("/.dockerenv", "/run/.containerenv")):
        return True
    try:
        return os.path.samefile(f"/proc/{mounts.engine_pid(docker_host)}/root{path}", path)
    except OSError:
        # Docker runs in another PID namespace.
        found = mounts.covering(os.path.realpath(path), mounts.read())
        return found is not None and found.path != "/"


def _is_empty(path: str) -> bool:
    """Whether it is a folder without anything in it."""
    try:
        with os.scandir(path) as entries:
            return next(entries, None) is None
    except NotADirectoryError:
        return False
    except OSError as error:
        raise CommandError(f"{path} can't be read: {error.strerror}") from None
