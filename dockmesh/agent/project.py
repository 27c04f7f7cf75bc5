"""A Compose project's files: where they lie, which folder their relative paths mean, how Compose is told of it."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dockmesh.agent.commands import CommandError, Run
from dockmesh.agent.state import write_private

COMPOSE_FILE = "compose.yaml"
ENV_FILE = ".env"
# Beside them after a roll-back: the images that ran then.
IMAGES_FILE = "images.yaml"
MAX_FILES = 20
MAX_FILE_BYTES = 1024 * 1024

# What Compose takes for a project's name. It becomes a folder's name too, so nothing else may pass.
_STACK = re.compile(r"[a-z0-9][a-z0-9_-]{0,199}")


@dataclass(frozen=True)
class Project:
    """A stack as a command's payload has it.

    `folder` is the agent's own for the stack and holds the files; `directory` is what relative paths in them mean.
    Both are the same unless the stack lives in a folder of its own.
    """

    name: str
    folder: Path
    directory: Path
    # The Compose files' texts, in the order in which they are laid over each other; none: only the labels are known.
    files: tuple[str, ...]
    env_text: str

    @property
    def env_file(self) -> Path:
        """Where the env file lies while Compose runs."""
        return self.folder / ENV_FILE

    @property
    def is_elsewhere(self) -> bool:
        """Whether its relative paths mean a folder that is not the agent's."""
        return self.directory != self.folder

    @contextmanager
    def written(self, *, prefix: str = "") -> Iterator[list[str]]:
        """Write the files and give the options by which Compose finds them. The env file is there meanwhile only.

        With a prefix all files go again, and those of what runs are not touched.
        """
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        paths = [self.folder / f"{prefix}{name}" for name in _names(len(self.files))]
        try:
            for path, text in zip(paths, self.files):
                write_private(path, text)
            write_private(self.env_file, self.env_text)
            yield [
                *self.named,
                "--project-directory", str(self.directory),
                *(part for path in paths for part in ("--file", str(path))),
                "--env-file", str(self.env_file),
            ]  # fmt: skip
            if not prefix:
                self._remove_others(paths)
        finally:
            self.env_file.unlink(missing_ok=True)
            if prefix:
                for path in paths:
                    path.unlink(missing_ok=True)

    @property
    def named(self) -> list[str]:
        """The options by which Compose finds the project's containers by their labels, without a file."""
        return ["--project-name", self.name, "--ansi", "never"]

    def lay_over(self, text: str) -> list[str]:
        """Lay another Compose file over these, until `lay_bare`; gives the options to add for it."""
        path = self.folder / IMAGES_FILE
        write_private(path, text)
        return ["--file", str(path)]

    def lay_bare(self) -> None:
        """Take away what was laid over the files."""
        (self.folder / IMAGES_FILE).unlink(missing_ok=True)

    def forget(self) -> None:
        """Remove the files, and the folder if nothing is left in it: what containers keep in it must stay."""
        self._remove_others([])
        self.lay_bare()
        self.tidy()

    def tidy(self) -> None:
        """Remove the folder if nothing is in it."""
        with suppress(OSError):
            self.folder.rmdir()

    def _remove_others(self, kept: list[Path]) -> None:
        for path in [self.folder / COMPOSE_FILE, *self.folder.glob("compose.[0-9]*.yaml")]:
            if path not in kept:
                path.unlink(missing_ok=True)


def project_of(command: Run, stacks: Path, *, needs_files: bool) -> Project:
    """The project of a command's payload; raises CommandError where that can't be one."""
    name = command.text("stack")
    if not _STACK.fullmatch(name):
        raise CommandError(
            "payload: stack must be lower-case letters, digits, - and _, as Compose wants its projects"
        )
    files = _files(command, needs_files=needs_files)
    env_text = command.text("env_file", "") or ""
    if max(len(text.encode()) for text in [*files, env_text]) > MAX_FILE_BYTES:
        raise CommandError("payload: compose_file and env_file may have at most 1 MiB each")
    folder = stacks / name
    directory = command.text("project_directory", "")
    if directory and not Path(directory).is_absolute():
        raise CommandError("payload: project_directory must be an absolute path")
    return Project(name, folder, Path(directory) if directory else folder, files, env_text)


def _files(command: Run, *, needs_files: bool) -> tuple[str, ...]:
    given = command.payload.get("files")
    if given is None and (needs_files or "compose_file" in command.payload):
        return (command.text("compose_file"),)
    if given is None:
        return ()
    if not isinstance(given, list) or len(given) > MAX_FILES or (needs_files and not given):
        raise CommandError(f"payload: files must be a list of at most {MAX_FILES} files")
    return tuple(_content(file) for file in given)


def _content(file: Any) -> str:
    content = file.get("content") if isinstance(file, Mapping) else None
    if not isinstance(content, str):
        raise CommandError("payload: files must have a content each")
    return content


def _names(count: int) -> list[str]:
    """The names of so many files, in their order."""
    return [COMPOSE_FILE, *(f"compose.{number}.yaml" for number in range(2, count + 1))][:count]
