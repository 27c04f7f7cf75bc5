"""Checks of Compose files and env files before they are stored.

What is checked here is what can be told without Docker: bounded size and depth, no duplicate keys, services
that have an image. The rest is for `docker compose` itself, whose words are in the deploy's output.
"""

import re
from collections.abc import Iterator
from typing import Any

import yaml

from dockmesh.core.errors import InvalidInput
from dockmesh.core.text import clean_text

MAX_COMPOSE_CHARACTERS = 128 * 1024
MAX_ENV_CHARACTERS = 64 * 1024
MAX_DEPTH = 32
MAX_NODES = 20_000
MAX_SERVICES = 200

# Compose's own rule for a project's name; 63 so that container names made of it stay valid host names.
STACK_NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,62}\Z")
SERVICE_NAME = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9._-]{0,99}\Z")
ENV_LINE = re.compile(r"(?:export\s+)?([A-Za-z_][A-Za-z0-9_.-]*)\s*(?:=(.*))?\Z", re.DOTALL)


def clean_stack_name(value: object, *, field: str = "name") -> str:
    """A Compose project's name."""
    if not isinstance(value, str) or not STACK_NAME.match(value.strip()):
        raise InvalidInput(
            field,
            "must be a Compose project name: lower-case letters, digits, - and _, starting with a letter or a"
            " digit, at most 63 characters.",
        )
    return value.strip()


def clean_compose_file(value: object, *, field: str = "compose_file") -> str:
    """The file's text, line ends made `\\n`; raises `InvalidInput` that says what is wrong and in which line."""
    text = clean_text(field, value, most=MAX_COMPOSE_CHARACTERS).replace("\r\n", "\n").replace("\r", "\n")
    document = _load(text, field)
    if not isinstance(document, dict) or not isinstance(document.get("services"), dict):
        raise InvalidInput(field, "must have `services` at the top, a mapping of service names.")
    services = document["services"]
    if not services:
        raise InvalidInput(field, "must have at least one service.")
    if len(services) > MAX_SERVICES:
        raise InvalidInput(field, f"must have at most {MAX_SERVICES} services.")
    for name, service in services.items():
        _check_service(name, service, field)
    return text


def clean_env_file(value: object, *, field: str = "env_file") -> str:
    """An env file's text; an error names the line, never what it says."""
    text = clean_text(field, value, most=MAX_ENV_CHARACTERS).replace("\r\n", "\n").replace("\r", "\n")
    for _ in _env_entries(text, field):
        pass
    return text if text.strip() else ""


def env_names(text: str) -> list[str]:
    """The names of the variables in an env file, in its order."""
    return list(dict.fromkeys(_env_entries(text, "env_file")))


def _env_entries(text: str, field: str) -> Iterator[str]:
    quote = ""
    for number, line in enumerate(text.split("\n"), start=1):
        if quote:  # the rest of a quoted value that goes over several lines
            if line.rstrip().endswith(quote):
                quote = ""
            continue
        stripped = line.strip()
        if not stripped or stripped.startswith("#"):
            continue
        match = ENV_LINE.match(stripped)
        if match is None:
            raise InvalidInput(field, f"line {number} is not NAME=value, a comment or empty.")
        yield match[1]
        value = (match[2] or "").strip()
        if value[:1] in ("'", '"') and value[:1] not in value[1:]:
            quote = value[:1]
    if quote:
        raise InvalidInput(field, "has a quoted value without its closing quote.")


def _check_service(name: object, service: object, field: str) -> None:
    if not isinstance(name, str) or not SERVICE_NAME.match(name):
        raise InvalidInput(field, f"has a service whose name is not allowed: {str(name)[:100]!r}.")
    if not isinstance(service, dict):
        raise InvalidInput(field, f"service {name} must be a mapping.")
    if not {"image", "build", "extends"} & service.keys():
        raise InvalidInput(field, f"service {name} has no image.")


class _Loader(yaml.SafeLoader):
    """Plain YAML without duplicate keys; Compose's own tags are known."""

    def compose_mapping_node(self, anchor: Any) -> yaml.MappingNode:
        # Here rather than while constructing: there a mapping may have its merged keys among its own already.
        node: yaml.MappingNode = super().compose_mapping_node(anchor)
        seen: set[str] = set()
        for key, _ in node.value:
            if not isinstance(key, yaml.ScalarNode):
                raise yaml.MarkedYAMLError(problem="a key must be a plain text", problem_mark=key.start_mark)
            # `<<` may stand several times: each merges one mapping.
            if key.value in seen and key.tag != "tag:yaml.org,2002:merge":
                problem = f"the key {key.value[:100]!r} is given twice"
                raise yaml.MarkedYAMLError(problem=problem, problem_mark=key.start_mark)
            seen.add(key.value)
        return node


def _plain(loader: _Loader, node: yaml.Node) -> Any:
    if isinstance(node, yaml.MappingNode):
        return loader.construct_mapping(node, deep=True)
    if isinstance(node, yaml.SequenceNode):
        return loader.construct_sequence(node, deep=True)
    return node.value


for _tag in ("!reset", "!override"):
    _Loader.add_constructor(_tag, _plain)


def _load(text: str, field: str) -> Any:
    try:
        _check_bounds(text, field)
        return yaml.load(text, Loader=_Loader)  # noqa: S506  (a SafeLoader)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        where = f" in line {mark.line + 1}, column {mark.column + 1}" if mark else ""
        raise InvalidInput(field, f"is not valid YAML: {error.problem or error.context}{where}.") from None
    except (
        yaml.YAMLError,
        ValueError,
        LookupError,
        TypeError,
        AttributeError,
        ArithmeticError,
        RecursionError,
    ):
        # PyYAML lets these escape for values that don't fit their explicit tag, such as `!!bool perhaps`.
        raise InvalidInput(field, "is not valid YAML.") from None


def _check_bounds(text: str, field: str) -> None:
    """Depth, and the number of nodes with each alias counted as all that it stands for ("billion laughs").

    Reads the parser's events, which need no recursion, so that nothing is built before its size is known.
    """
    sizes: dict[str, int] = {}
    open_nodes: list[tuple[str | None, int]] = []
    total = documents = 0
    for event in yaml.parse(text, Loader=yaml.SafeLoader):
        size = 0
        if isinstance(event, yaml.DocumentStartEvent):
            documents += 1
        elif isinstance(event, yaml.AliasEvent):
            alias = event.anchor or ""
            if alias not in sizes:
                raise InvalidInput(field, f"has an alias *{alias[:100]} to what is not known there.")
            size = sizes[alias]
        elif isinstance(event, yaml.ScalarEvent):
            size = 1
            if event.anchor:
                sizes[event.anchor] = 1
        elif isinstance(event, yaml.CollectionStartEvent):
            open_nodes.append((event.anchor, total))
            size = 1
        elif isinstance(event, yaml.CollectionEndEvent):
            anchor, before = open_nodes.pop()
            if anchor:
                sizes[anchor] = total - before
        total += size
        if len(open_nodes) > MAX_DEPTH:
            raise InvalidInput(field, f"must not be nested deeper than {MAX_DEPTH}.")
        if total > MAX_NODES:
            raise InvalidInput(field, f"must not have more than {MAX_NODES} values.")
    if documents > 1:
        raise InvalidInput(field, "must be one YAML document.")
