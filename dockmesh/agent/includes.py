"""Which env files the `include` of a project's files brings in, whose values Compose puts into what it includes.

Compose tells of them nowhere, and the agent has no reader of YAML: whatever of an `include` names a file is one.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from dockmesh.agent.labels import read_file
from dockmesh.agent.project import ENV_FILE, Project

MOST_FILES = 100
# From the key to the next one that begins a line. A file in JSON is looked through as a whole.
_INCLUDE = re.compile(r"""^["']?include["']?[ \t]*:.*(?:\n(?:[ \t#-].*|[ \t\r]*(?=\n)))*""", re.MULTILINE)
_COMPOSE_FILES = (".yaml", ".yml", ".json")


def env_files(project: Project) -> list[Path]:
    """Those that are there, each once: named by `env_file`, or `.env` in the folder of what is included."""
    waiting = [(text, project.directory) for text in project.files]
    found: dict[Path, None] = {}
    seen: set[Path] = set()
    while waiting and len(seen) < MOST_FILES:
        text, folder = waiting.pop()
        for path in _named(text, folder):
            if path in seen:
                continue
            seen.add(path)
            is_folder = path.is_dir()
            is_compose = path.suffix in _COMPOSE_FILES
            env_file = (path if is_folder else path.parent) / ENV_FILE if is_folder or is_compose else path
            if env_file.is_file():
                found[env_file] = None
            if is_compose and not is_folder:
                waiting.append((str(read_file(str(path)).get("content", "")), path.parent))
    return list(found)


def _named(text: str, folder: Path) -> Iterator[Path]:
    """What an `include` in the text names that is there."""
    blocks = [text] if text.lstrip().startswith("{") else _INCLUDE.findall(text)
    for block in blocks:
        words = {word.strip() for line in block.splitlines() for word in _words(line)}
        for word in sorted(words - {"", ".", "/"}):
            try:
                path = folder / word
                if path.exists():
                    yield path
            except (OSError, ValueError):
                continue


def _words(line: str) -> Iterator[str]:
    """What may be a path in a line: what is quoted, each word, and all that follows a key or a dash."""
    yield from re.findall(r'"([^"]*)"', line)
    yield from re.findall(r"'([^']*)'", line)
    yield from re.findall(r"""[^\s"',\[\]{}]+""", line)
    yield from re.split(r"(?:^|[:-])[ \t]+", re.sub(r"[ \t]#.*", "", line))
