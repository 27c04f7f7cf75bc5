"""Which paths in a Compose file mean something only in the folder that it was written for."""

import re
from collections.abc import Iterator
from dataclasses import dataclass

import yaml

# `source:target[:mode]` where the source is a path and no volume's name.
_BIND = re.compile(r"(?P<source>(?:\.|~|\$)[^:]*(?:\$\{[^}]*\}[^:]*)*):.+", re.DOTALL)
_VARIABLE_START = re.compile(r"\$\{[^}]*\}[^:]*")
_INTERPOLATION = re.compile(r"(?<!\$)(?:\$\$)*\$[{A-Za-z_]")
_REMOTE = re.compile(r"[a-z][a-z0-9+.-]*://|git@|github\.com/|oci:|service:")


@dataclass(frozen=True)
class RelativePath:
    """A path that is no whole one; `place` says where it stands, in words."""

    place: str
    path: str

    def __str__(self) -> str:
        return f"{self.path} ({self.place})"


def relative_paths(text: str) -> list[RelativePath] | None:
    """Each relative path of a Compose file, in its order; None where the file can't be read here.

    A path that begins with a variable or with `~` counts: what it means depends on who starts the stack and where.
    """
    try:
        documents = [node for node in yaml.compose_all(text, Loader=yaml.SafeLoader) if node is not None]
    except (yaml.YAMLError, ValueError, RecursionError):
        return None
    found = [
        RelativePath(place, path)
        for document in documents
        for place, path in _paths(document)
        if _is_relative(path)
    ]
    return list(dict.fromkeys(found))


def takes_variables(text: str) -> bool:
    """Whether a Compose file takes values from an env file."""
    return _INTERPOLATION.search(text) is not None


def _is_relative(path: str) -> bool:
    return bool(path) and not path.startswith("/") and not _REMOTE.match(path)


def _paths(document: yaml.Node) -> Iterator[tuple[str, str]]:
    """(where, path) of whatever Compose takes as a path, whole ones too."""
    top = _mapping(document)
    for item in _items(top.get("include")):
        yield from (("include", path) for path in _texts(item, "path", "env_file", "project_directory"))
    for name, service in _mapping(top.get("services")).items():
        yield from ((f"{kind} of {name}", path) for kind, path in _of_service(_mapping(service)))
    for kind in ("configs", "secrets"):
        for name, entry in _mapping(top.get(kind)).items():
            yield from ((f"{kind[:-1]} {name}", path) for path in _texts(_mapping(entry).get("file")))
    for name, volume in _mapping(top.get("volumes")).items():
        options = _mapping(_mapping(volume).get("driver_opts"))
        if "bind" in "".join(_texts(options.get("o"))):
            yield from ((f"volume {name}", path) for path in _texts(options.get("device")))


def _of_service(service: dict[str, yaml.Node]) -> Iterator[tuple[str, str]]:
    for volume in _items(service.get("volumes")):
        yield from (("bind mount", path) for path in _bind(volume))
    build = service.get("build")
    yield from (("build context", path) for path in _texts(build))
    if isinstance(build, yaml.MappingNode):
        keys = _mapping(build)
        yield from (("build context", path) for path in _texts(keys.get("context")))
        for more in _named(keys.get("additional_contexts")):
            yield "build context", more
    for item in _items(service.get("env_file")):
        yield from (("env_file", path) for path in _texts(item, "path"))
    for item in _items(service.get("label_file")):
        yield from (("label_file", path) for path in _texts(item))
    if isinstance(extends := service.get("extends"), yaml.MappingNode):
        yield from (("extends", path) for path in _texts(_mapping(extends).get("file")))
    for item in _items(_mapping(service.get("develop")).get("watch")):
        yield from (("develop.watch", path) for path in _texts(_mapping(item).get("path")))
    credentials = _mapping(service.get("credential_spec")).get("file")
    yield from (("credential_spec", path) for path in _texts(credentials))


def _bind(volume: yaml.Node) -> Iterator[str]:
    if isinstance(volume, yaml.MappingNode):
        keys = _mapping(volume)
        if _texts(keys.get("type")) == ["bind"]:
            yield from _texts(keys.get("source"))
    for text in _texts(volume):
        start = _VARIABLE_START.match(text)
        match = None if start else _BIND.fullmatch(text)
        if start and len(text) > start.end() and text[start.end()] == ":":
            yield start[0]
        elif match:
            yield match["source"]


def _named(node: yaml.Node | None) -> list[str]:
    """The values of a mapping of texts, also as a list of NAME=value."""
    if isinstance(node, yaml.MappingNode):
        return [text for value in _mapping(node).values() for text in _texts(value)]
    return [text.partition("=")[2] for item in _items(node) for text in _texts(item)]


def _mapping(node: yaml.Node | None) -> dict[str, yaml.Node]:
    """A mapping's keys, those that it merges included; empty for anything else."""
    keys: dict[str, yaml.Node] = {}
    if not isinstance(node, yaml.MappingNode):
        return keys
    for key, value in node.value:
        if key.tag == "tag:yaml.org,2002:merge":
            for merged in reversed(_items(value)):
                keys = {**_mapping(merged), **keys}
    own = {key.value: value for key, value in node.value if isinstance(key, yaml.ScalarNode)}
    return {**keys, **own}


def _items(node: yaml.Node | None) -> list[yaml.Node]:
    if node is None:
        return []
    return list(node.value) if isinstance(node, yaml.SequenceNode) else [node]


def _texts(node: yaml.Node | None, *keys: str) -> list[str]:
    """The text, or the texts in a list; of a mapping those of the keys."""
    if isinstance(node, yaml.ScalarNode):
        return [str(node.value)]
    if isinstance(node, yaml.SequenceNode):
        return [text for item in node.value for text in _texts(item)]
    found = _mapping(node)
    return [text for key in keys for text in _texts(found.get(key))]
