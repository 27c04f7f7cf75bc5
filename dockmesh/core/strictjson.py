"""The one reader of JSON bodies: what is ambiguous or can't be stored on every database is refused.

Refused are: invalid UTF-8, NaN and infinities, numbers that don't fit, duplicate keys, nesting deeper
than 32, and in texts NUL, lone surrogates and control characters other than tab and line ends (a name's or
label's own check is stricter, see `dockmesh.core.text`).
"""

import json
import math
from typing import Any

from dockmesh.core.errors import InvalidInput
from dockmesh.core.text import CONTROLS, LINE_CONTROLS

MAX_DEPTH = 32
MAX_INTEGER = 2**63 - 1
MAX_DIGITS = 400

BODY = "body"


def loads(raw: bytes, *, allow_line_ends: bool = True) -> Any:
    """The value in `raw`; raises `InvalidInput` that names the field (`a.b[3]`), or `body`."""
    try:
        text = raw.decode("utf-8")
    except UnicodeDecodeError:
        raise InvalidInput(BODY, "must be valid UTF-8.") from None
    try:
        value = _DECODER.decode(text)
    except json.JSONDecodeError as error:
        what = error.msg.lower().removesuffix(" at")
        raise InvalidInput(BODY, f"must be JSON: {what} at character {error.pos}.") from None
    except RecursionError:
        raise InvalidInput(BODY, f"must not be nested deeper than {MAX_DEPTH}.") from None
    except _Refused as refused:
        raise InvalidInput(refused.field or BODY, refused.message) from None
    check_values(value, allow_line_ends=allow_line_ends)
    return value


def check_values(value: object, *, allow_line_ends: bool = True, path: str = "", depth: int = 1) -> None:
    """Check all texts and numbers below `value`; raises `InvalidInput` with the path of the first bad one."""
    if isinstance(value, str):
        if (LINE_CONTROLS if allow_line_ends else CONTROLS).search(value):
            raise InvalidInput(path or BODY, "must not contain control characters.")
    elif isinstance(value, float):
        if not math.isfinite(value):
            raise InvalidInput(path or BODY, "must be a finite number.")
    elif isinstance(value, int):
        if not -MAX_INTEGER - 1 <= value <= MAX_INTEGER:
            raise InvalidInput(path or BODY, "must fit in 64 bits.")
    elif isinstance(value, dict | list):
        if depth > MAX_DEPTH:
            raise InvalidInput(path or BODY, f"must not be nested deeper than {MAX_DEPTH}.")
        if isinstance(value, dict):
            for key, child in value.items():
                if CONTROLS.search(key):
                    raise InvalidInput(path or BODY, "a key must not contain control characters.")
                check_values(
                    child,
                    allow_line_ends=allow_line_ends,
                    path=f"{path}.{key}" if path else key,
                    depth=depth + 1,
                )
        else:
            for index, child in enumerate(value):
                check_values(child, allow_line_ends=allow_line_ends, path=f"{path}[{index}]", depth=depth + 1)


class _Refused(Exception):
    def __init__(self, field: str, message: str) -> None:
        super().__init__(message)
        self.field = field
        self.message = message


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    value = dict(pairs)
    if len(value) != len(pairs):
        seen: set[str] = set()
        for key, _ in pairs:
            if key in seen:
                raise _Refused(key if not CONTROLS.search(key) else "", "is given twice.")
            seen.add(key)
    return value


# What doesn't fit becomes a number that doesn't fit either, so that `check_values` can name its place.


def _integer(text: str) -> int:
    return int(text) if len(text) <= 20 else MAX_INTEGER + 1


def _number(text: str) -> float:
    return float(text) if len(text) <= MAX_DIGITS else math.inf


def _constant(text: str) -> float:
    return float(text.replace("Infinity", "inf"))


_DECODER = json.JSONDecoder(
    object_pairs_hook=_object, parse_int=_integer, parse_float=_number, parse_constant=_constant
)
