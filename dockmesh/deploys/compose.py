"""Checks of Compose files and env files before they are stored: those of safety alone.

Size, depth, the number of nodes, duplicate keys and control characters are looked at here. What a valid file is,
is Compose's business and changes with its versions: the agent's `validate` asks it, and the deploy does.
"""

import re
from collections.abc import Iterator

import yaml

from dockmesh.core.errors import InvalidInput
from dockmesh.core.text import clean_text

MAX_COMPOSE_CHARACTERS = 128 * 1024
MAX_ENV_CHARACTERS = 64 * 1024
MAX_DEPTH = 32
MAX_NODES = 20_000

# Compose's own rule for a project's name; 63 so that container names made of it stay valid host names.
STACK_NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,62}\Z")
# PyYAML takes no tab between a key and its value or after it, which YAML allows.
_TAB_BETWEEN = re.compile(r"(?<=[^\s])[ \t]*\t[ \t]*")


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
    text = _with_one_line_end(clean_text(field, value, most=MAX_COMPOSE_CHARACTERS))
    try:
        _check(_TAB_BETWEEN.sub(lambda match: " " * len(match[0]), text), field)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        where = f" in line {mark.line + 1}, column {mark.column + 1}" if mark else ""
        raise InvalidInput(field, f"is not valid YAML: {error.problem or error.context}{where}.") from None
    except (yaml.YAMLError, ValueError, RecursionError):
        raise InvalidInput(field, "is not valid YAML.") from None
    return text


def clean_env_file(value: object, *, field: str = "env_file") -> str:
    """An env file's text, line ends made `\\n`; empty where there is nothing in it."""
    text = _with_one_line_end(clean_text(field, value, most=MAX_ENV_CHARACTERS))
    return text if text.strip() else ""


def env_names(text: str) -> list[str]:
    """The names of the variables in an env file, in its order, as Compose reads it.

    Follows compose-go's reader (`dotenv/parser.go`); what comes after a mistake is not read there either.
    """
    return list(dict.fromkeys(name for name in _names(text.removeprefix("\ufeff")) if name))


# What compose-go takes for blank within a line.
_BLANK = "\t\v\f\r \x85\xa0"
_EXPORT = re.compile(rf"export[{_BLANK}\n]+")
_NAME_END = re.compile(r"[=:\n]")
_STARTS = re.compile(r"\s*(?:#[^\n]*(?:\n\s*|\Z))*")
_QUOTED = {quote: re.compile(rf"{quote}(?:[^\\{quote}]|\\.)*{quote}", re.DOTALL) for quote in "\"'"}


def _names(text: str) -> Iterator[str]:
    position = 0
    while True:
        position = _matched(_STARTS, text, position)
        position = _matched(_EXPORT, text, position)
        end = _NAME_END.search(text, position)
        if end is None:
            return
        name = text[position : end.start()].rstrip()
        if not all(char in "_.-[]" or char.isalpha() or char.isnumeric() for char in name):
            return
        yield name
        position = end.end()
        if end[0] == "\n":
            continue  # the value is the agent's own variable of that name
        while position < len(text) and text[position] in _BLANK:
            position += 1
        quoted = _QUOTED.get(text[position : position + 1])
        if quoted is None:
            position = text.find("\n", position) + 1
        else:
            match = quoted.match(text, position)
            position = match.end() if match else 0
        if position == 0:
            return


def _matched(pattern: re.Pattern[str], text: str, position: int) -> int:
    match = pattern.match(text, position)
    return match.end() if match else position


def _with_one_line_end(text: str) -> str:
    return text.replace("\r\n", "\n").replace("\r", "\n")


class _Size:
    """How much is read so far: depth, and nodes with each alias counted as all that it stands for."""

    def __init__(self, field: str) -> None:
        self._field = field
        self._anchored: dict[str, int] = {}
        self._open: list[tuple[str | None, int]] = []
        self._total = 0

    def take(self, event: yaml.Event) -> None:
        """Raises `InvalidInput` where it is too much, or an alias stands for nothing."""
        if isinstance(event, yaml.DocumentStartEvent):
            self._anchored.clear()
        elif isinstance(event, yaml.AliasEvent):
            alias = event.anchor or ""
            if alias not in self._anchored:
                raise InvalidInput(self._field, f"has an alias *{alias[:100]} to what is not known there.")
            self._total += self._anchored[alias]
        elif isinstance(event, yaml.ScalarEvent):
            self._total += 1
            if event.anchor:
                self._anchored[event.anchor] = 1
        elif isinstance(event, yaml.CollectionStartEvent):
            self._open.append((event.anchor, self._total))
            self._total += 1
        elif isinstance(event, yaml.CollectionEndEvent):
            anchor, before = self._open.pop()
            if anchor:
                self._anchored[anchor] = self._total - before
        if len(self._open) > MAX_DEPTH:
            raise InvalidInput(self._field, f"must not be nested deeper than {MAX_DEPTH}.")
        if self._total > MAX_NODES:
            raise InvalidInput(self._field, f"must not have more than {MAX_NODES} values.")


class _Keys:
    """The keys of the mappings that are open: none may be given twice."""

    def __init__(self) -> None:
        # For each open collection the keys seen, None for a sequence; and whether a key comes next.
        self._open: list[tuple[set[str] | None, bool]] = []

    def take(self, event: yaml.Event) -> None:
        """Raises `MarkedYAMLError` for a key that is there."""
        if isinstance(event, yaml.CollectionEndEvent):
            self._open.pop()
        elif isinstance(event, yaml.NodeEvent):
            self._take_node(event)
        if isinstance(event, yaml.CollectionStartEvent):
            self._open.append((set() if isinstance(event, yaml.MappingStartEvent) else None, True))

    def _take_node(self, event: yaml.NodeEvent) -> None:
        if not self._open:
            return
        keys, is_key = self._open[-1]
        if keys is None:
            return
        # `<<` may stand several times: each merges one mapping.
        if is_key and isinstance(event, yaml.ScalarEvent) and event.value != "<<":
            if event.value in keys:
                problem = f"the key {event.value[:100]!r} is given twice"
                raise yaml.MarkedYAMLError(problem=problem, problem_mark=event.start_mark)  # type: ignore[arg-type]
            keys.add(event.value)
        self._open[-1] = (keys, not is_key)


def _check(text: str, field: str) -> None:
    """Reads the parser's events, which need no recursion, and builds nothing."""
    size, keys = _Size(field), _Keys()
    has_mapping = is_top = False
    for event in yaml.parse(text, Loader=yaml.SafeLoader):
        if is_top:
            has_mapping |= isinstance(event, yaml.MappingStartEvent)
        is_top = isinstance(event, yaml.DocumentStartEvent)
        size.take(event)
        keys.take(event)
    if not has_mapping:
        raise InvalidInput(field, "must be a mapping at the top, of `services`, `include` and the like.")
