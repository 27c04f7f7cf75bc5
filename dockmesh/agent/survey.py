"""Surveys a Compose project that was started outside dockmesh, so that it can be adopted with what it is made of."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

from dockmesh.agent.commands import CommandError, Run
from dockmesh.agent.document import JSON
from dockmesh.agent.labels import MAX_READ_BYTES, Labelled, Origin, read_file, read_labels
from dockmesh.agent.mount_changes import compared
from dockmesh.agent.place import View, view
from dockmesh.agent.project import ENV_FILE, MAX_FILES, Project, project_of
from dockmesh.agent.run_compose import read_config, written
from dockmesh.agent.text import clean_output

MAX_MOUNTS = 1000
MAX_ERROR = 4000


class Surveyor:
    """The executor of `survey`. Payload: stack.

    It reads what Compose's labels of this host's own containers name, and nothing else.
    """

    def __init__(self, folder: Path, *, docker_host: str) -> None:
        self._folder = folder
        self._docker_host = docker_host

    def __call__(self, command: Run) -> JSON:
        project = project_of(command, self._folder, needs_files=False)
        labelled = read_labels(self._docker_host, project.name)
        if labelled.origin is None:
            raise CommandError(f"no container of {project.name} has labels that say where Compose started it")
        return {"found": self._found(command, project.name, labelled, labelled.origin)}

    def _found(self, command: Run, name: str, labelled: Labelled, origin: Origin) -> JSON:
        is_visible = view(self._docker_host, Path(origin.directory)) is View.SEEN
        files, env_files = _unread(origin), []
        if is_visible:
            files = _read(origin.config_files)
            env_files = _read(_env_files(origin))
        found: JSON = {
            "project_directory": origin.directory,
            "is_directory_visible": is_visible,
            "config_files": files,
            "env_files": env_files,
            "others": list(labelled.others[:MAX_FILES]),
            "compose_error": "",
            "mounts": [
                {"service": mount.service, "target": mount.target, "before": mount.source}
                for mount in labelled.mounts[:MAX_MOUNTS]
            ],
        }
        texts = [file.get("content") for file in files]
        if is_visible and texts and all(isinstance(text, str) for text in texts):
            env_text = joined(str(file.get("content", "")) for file in env_files)
            project = Project(
                name, self._folder / name, Path(origin.directory), tuple(map(str, texts)), env_text
            )
            try:
                with written(
                    project,
                    command=command,
                    docker_host=self._docker_host,
                    prefix=f".survey-{command.command_id}-",
                ) as options:
                    config, error = read_config(
                        options, command=command, project=project, docker_host=self._docker_host
                    )
            except CommandError as missing:
                config, error = None, str(missing)
            project.tidy()
            if config is None:
                found["compose_error"] = clean_output(error)[-MAX_ERROR:]
            else:
                found["mounts"] = compared(labelled.mounts, config)[:MAX_MOUNTS]
        return found


def _read(paths: Sequence[str]) -> list[JSON]:
    """The files, as many as the server takes in one answer."""
    files: list[JSON] = []
    room = MAX_READ_BYTES
    for path in paths[:MAX_FILES]:
        file = read_file(path, most=room)
        room -= len(str(file.get("content", "")).encode())
        files.append(file)
    return files


def joined(texts: Iterable[str]) -> str:
    """Several env files as one: where a name comes again the later one counts, as it does for Compose."""
    return "".join(f"{text.rstrip()}\n" for text in texts if text.strip())


def _env_files(origin: Origin) -> tuple[str, ...]:
    """The env files that were named; where none was Compose took `.env` of the project's folder, if there was one."""
    default = Path(origin.directory) / ENV_FILE
    return origin.env_files or ((str(default),) if default.exists() else ())


def _unread(origin: Origin) -> list[JSON]:
    return [{"path": path, "error": "the agent can't see it"} for path in origin.config_files[:MAX_FILES]]
