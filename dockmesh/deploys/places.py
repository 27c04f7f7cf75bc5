"""Checks of where a stack's files lie: its folder on the host, and the files that are laid over the first one."""

import posixpath
from collections.abc import Mapping

from dockmesh.core.errors import InvalidInput
from dockmesh.core.text import CONTROLS
from dockmesh.deploys.compose import clean_compose_file

MAX_DIRECTORY_CHARACTERS = 1024
MAX_OVERRIDE_FILES = 19


def clean_directory(value: object, *, field: str = "project_directory") -> str:
    """A whole path on the host, or empty for the agent's own folder; raises `InvalidInput`."""
    if not isinstance(value, str):
        raise InvalidInput(field, "must be a text.")
    text = value.strip()
    if not text:
        return ""
    if len(text) > MAX_DIRECTORY_CHARACTERS or CONTROLS.search(text):
        raise InvalidInput(
            field, f"must be at most {MAX_DIRECTORY_CHARACTERS} characters, and no control characters."
        )
    if not text.startswith("/") or ".." in text.split("/"):
        raise InvalidInput(field, "must be a whole path on the host, such as /opt/shop, without `..`.")
    return "/" + posixpath.normpath(text).lstrip("/")


def clean_override_files(value: object, *, field: str = "override_files") -> list[dict[str, str]]:
    """[{"path", "content"}], in the order in which they are laid over; raises `InvalidInput` that names the one."""
    if not isinstance(value, list | tuple) or len(value) > MAX_OVERRIDE_FILES:
        raise InvalidInput(field, f"must be a list of at most {MAX_OVERRIDE_FILES} files.")
    files = []
    for index, file in enumerate(value):
        place = f"{field}[{index}]"
        if not isinstance(file, Mapping) or set(file) != {"path", "content"}:
            raise InvalidInput(place, "must have path and content.")
        path = file["path"]
        if not isinstance(path, str) or not path.strip() or len(path) > 1024 or CONTROLS.search(path):
            raise InvalidInput(f"{place}.path", "must be a file's name or path.")
        content = clean_compose_file(file["content"], field=f"{place}.content")
        files.append({"path": path.strip(), "content": content})
    return files
