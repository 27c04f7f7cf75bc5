"""The values of a project's env files as Compose itself computes them, so that they can be masked in its output."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Optional

from dockmesh.agent import includes
from dockmesh.agent.document import JSON
from dockmesh.agent.project import Project
from dockmesh.agent.state import write_private

# Runs Compose quietly with these arguments; gives what it printed, None where it failed.
Ask = Callable[[Sequence[str]], Optional[str]]

PROBE_FILE = ".values.yaml"
_PROBE = "values"
_BETWEEN_WORDS = re.compile(r"[\s=:\"'`$#;,{}?]+")


def values(project: Project, options: Sequence[str], ask: Ask) -> set[str]:
    """The values of the stack's env file and of the env files that its services and includes name on this host.

    `options` are those by which Compose finds the project while its files are there. What Compose can't read it
    quotes in its error, so of such a file each piece of text counts as a value.
    """
    env_file = project.env_file
    found = _computed(project, [{"path": _as_it_is(env_file)}], "/dev/null", ask)
    if found is None:
        found = _pieces(project.env_text)
    included = [{"path": _as_it_is(path)} for path in includes.env_files(project)]
    for entry in [*_named_by_services(project, options, ask), *included]:
        found |= _computed(project, [entry], str(env_file), ask) or _pieces_of(Path(entry["path"]))
    return found


def _computed(project: Project, entries: list[JSON], env_file: str, ask: Ask) -> set[str] | None:
    """What a service would have in its environment with these env files; None where Compose can't read them."""
    with _probe(project, entries) as path:
        printed = ask([
            *project.named,
            "--project-directory", str(project.directory),
            "--file", str(path),
            "--env-file", env_file,
            "config", "--format", "json",
        ])  # fmt: skip
    if printed is None:
        return None
    environment = json.loads(printed)["services"][_PROBE].get("environment") or {}
    # Compose writes what it could read again: a `$` of the value is doubled.
    return {value.replace("$$", "$") for value in environment.values() if value}


@contextmanager
def _probe(project: Project, entries: list[JSON]) -> Iterator[Path]:
    """A Compose file of one service that has nothing but the env files."""
    path = project.folder / PROBE_FILE
    write_private(path, json.dumps({"services": {_PROBE: {"image": _PROBE, "env_file": entries}}}))
    try:
        yield path
    finally:
        path.unlink(missing_ok=True)


def _named_by_services(project: Project, options: Sequence[str], ask: Ask) -> list[JSON]:
    """The entries of `env_file:` of all services, each once, as they are written."""
    raw = ("--no-interpolate", "--no-normalize", "--no-consistency", "--format", "json")
    printed = ask([*options, "--profile", "*", "config", *raw])
    services = json.loads(printed).get("services") if printed else None
    entries: list[Any] = [
        entry for service in (services or {}).values() for entry in (service or {}).get("env_file") or []
    ]
    return list({json.dumps(entry): entry for entry in entries if _is_there(entry)}.values())


def _is_there(entry: Any) -> bool:
    path = entry.get("path") if isinstance(entry, dict) else None
    # With a variable in it, only Compose knows which file that is.
    return isinstance(path, str) and ("$" in path or Path(path).is_file())


def _as_it_is(path: Path) -> str:
    return str(path).replace("$", "$$")


def _pieces_of(path: Path) -> set[str]:
    try:
        return _pieces(path.read_text("utf-8", "replace"))
    except OSError:
        return set()


def _pieces(text: str) -> set[str]:
    """Each line, each word, each part of a word: more than any error can quote."""
    lines = [line for line in text.splitlines() if line.strip()]
    words = [word for line in lines for word in line.split()]
    halves = [half for line in lines for half in re.split(r"[=:]", line, maxsplit=1)]
    return {*lines, *words, *halves, *(part for line in lines for part in _BETWEEN_WORDS.split(line))}
