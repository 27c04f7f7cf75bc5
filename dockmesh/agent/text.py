"""Text on its way to the server: no control characters, never too long.

The server refuses a whole heartbeat for one NUL in one name; Docker, Compose and image authors are free
to put one there. So whatever comes from outside passes through here.
"""

from __future__ import annotations

import re
import unicodedata

NAME_BYTES = 200
IMAGE_BYTES = 512
ERROR_BYTES = 1000

# CSI sequences (colours, cursor), OSC sequences (titles, links), and the two-character escapes.
ANSI = re.compile(r"\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)?|[ -/]*[0-~])")


def clean(value: object, *, limit: int = NAME_BYTES) -> str:
    """One line of printable text, at most `limit` bytes of UTF-8: white space becomes a space, any other
    control character or lone surrogate U+FFFD."""
    text = value if isinstance(value, str) else "" if value is None else str(value)
    # A character takes at least one byte: what lies beyond the limit never counts.
    return cut("".join(map(_printable, text[:limit])), limit=limit).strip()


def clean_output(text: str) -> str:
    """Output of a program: as `clean`, but keeps line ends and tabs; terminal sequences are removed."""
    text = ANSI.sub("", text.replace("\r\n", "\n"))
    return "".join(c if c in "\n\t" else "\n" if c == "\r" else _printable(c) for c in text)


def cut(text: str, *, limit: int) -> str:
    """The longest start of `text` that takes at most `limit` bytes of UTF-8."""
    encoded = text.encode("utf-8", "replace")
    return text if len(encoded) <= limit else encoded[:limit].decode("utf-8", "ignore")


def _printable(char: str) -> str:
    if char.isascii() and " " <= char <= "~":
        return char
    if char.isspace():
        return " "
    return "\ufffd" if unicodedata.category(char) in ("Cc", "Cs") else char
