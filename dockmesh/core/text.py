"""Checks of names and texts that users and agents send.

SQLite stores NUL and lone surrogates, PostgreSQL refuses them, and both break the exposition: so no text
gets in before it has passed here.
"""

import re
from collections.abc import Mapping

from dockmesh.core.errors import InvalidInput
from dockmesh.env import digits

MAX_NAME = 200
MAX_LABEL_BYTES = 1024
MAX_LABELS = 64

# C0, DEL, C1 and surrogates; LINE_CONTROLS leaves tab, line feed and carriage return alone.
CONTROLS = re.compile("[\x00-\x1f\x7f-\x9f\ud800-\udfff]")
LINE_CONTROLS = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\ud800-\udfff]")
STATE_WORDS = {"failure": "Failed"}
LABEL_NAME = re.compile(r"[a-zA-Z_][a-zA-Z0-9_.\-/]{0,62}\Z")


def clean_name(field: str, value: object, *, most: int = MAX_NAME) -> str:
    """A name: one line, not blank, no control characters, at most `most` characters; spaces around go."""
    if not isinstance(value, str):
        raise InvalidInput(field, "must be a text.")
    name = value.strip()
    if not name:
        raise InvalidInput(field, "must not be empty.")
    if len(name) > most or len(name.encode("utf-8", "surrogatepass")) > MAX_LABEL_BYTES:
        raise InvalidInput(field, f"must be at most {most} characters.")
    if CONTROLS.search(name):
        raise InvalidInput(field, "must not contain control characters.")
    return name


def state_word(word: str) -> str:
    """A state as people read it, the same everywhere: `Failed` for `failure`, `Up to date` for `up_to_date`."""
    return STATE_WORDS.get(word) or word.replace("_", " ").capitalize()


def in_one_line(error: BaseException, *, most: int | None = None) -> str:
    """What an error says as one line, cut to `most` characters."""
    return " ".join(str(error).split())[:most]


def whole_number(field: str, text: str, *, least: int, most: int) -> int:
    """The number that the text of a query string is: ASCII digits and nothing else, from `least` to `most`."""
    return clean_number(field, digits(text, most=most), least=least, most=most)


def clean_number(field: str, value: object, *, least: int, most: int, unit: str = "") -> int:
    """A whole number, which `true` is not, from `least` to `most`; `unit` is the plural of what is counted."""
    if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
        what = f"a whole number of {unit}" if unit else "a whole number"
        raise InvalidInput(field, f"must be {what} from {least} to {most}.")
    return value


def counting_number(field: str, text: str, *, cap: int) -> int:
    """The number from 1 that the text of a query string is, ASCII digits and nothing else; one above `cap` is `cap`."""
    significant = text.lstrip("0")
    if not (significant and text.isascii() and text.isdigit()):
        raise InvalidInput(field, "must be a whole number, at least 1.")
    return digits(significant, most=cap) or cap


def clean_text(field: str, value: object, *, most: int) -> str:
    """A text of several lines: no control characters but tab and line ends, at most `most` characters."""
    if not isinstance(value, str):
        raise InvalidInput(field, "must be a text.")
    if len(value) > most:
        raise InvalidInput(field, f"must be at most {most} characters.")
    if LINE_CONTROLS.search(value):
        raise InvalidInput(field, "must not contain control characters.")
    return value


def clean_labels(field: str, value: object) -> dict[str, str]:
    """Free `key=value` labels: at most 64, keys like Prometheus's (dots, dashes, slashes too), values to 1 KiB."""
    if not isinstance(value, Mapping):
        raise InvalidInput(field, "must be an object of texts.")
    if len(value) > MAX_LABELS:
        raise InvalidInput(field, f"must be at most {MAX_LABELS} labels.")
    labels: dict[str, str] = {}
    for key, text in value.items():
        if not isinstance(key, str) or not LABEL_NAME.match(key):
            raise InvalidInput(
                field, "a label's name has letters, digits and _ . - / and starts with a letter."
            )
        if not isinstance(text, str):
            raise InvalidInput(f"{field}.{key}", "must be a text.")
        if len(text.encode("utf-8", "surrogatepass")) > MAX_LABEL_BYTES:
            raise InvalidInput(f"{field}.{key}", "must be at most 1 KiB.")
        if CONTROLS.search(text):
            raise InvalidInput(f"{field}.{key}", "must not contain control characters.")
        labels[key] = text
    return labels
