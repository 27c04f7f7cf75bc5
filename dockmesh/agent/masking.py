"""Secrets in text, in whatever form they come: whole, line by line, quoted, escaped, encoded, over several lines.

A secret is looked for by a pattern in which each of its characters may be as it is or as JSON, Go's `%q`, YAML, a
shell, a URL or HTML write it, also if several of them did so one after the other.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Iterable, Iterator

from dockmesh.agent.text import clean_output

MASK = "******"
# Shorter values ("1", "yes") would be found everywhere, and hiding them would hide the output.
SHORTEST_SECRET = 4
# Neither are these secrets, which half of all env files have.
_COMMON = frozenset({"true", "false", "none", "null"})
# A longer line is looked for in pieces of this many characters: what they cover together is masked together.
_LONGEST_PIECE = 200
_PART_ENDS = re.compile(r"[:/\[\]]")
_LONGEST_WHOLE = 4096
# How many characters one may become: `&` as `%26amp%3B`, `é` as two `\\\\u00c3`.
_GROWTH = 12

_BACKSLASH = r"(?:\\|%(?:25)*5[cC])"
# What quoting adds or doubles: backslashes and quotes, a run of which counts as one.
_QUOTES = (
    r"(?:[\\'\"]|u00(?:5[cC]|2[27])|x(?:5[cC]|2[27])|%(?:25)*(?:5[cC]|2[27])|&(?:quot|apos|#3[49]|#x2[27]);)+"
)
# A form writes a blank as `+`, so the two are one, or a pattern could take a run of them in many ways.
_BLANKS = (
    rf"(?:[\s+]|{_BACKSLASH}+(?:[nrtvf]|u00(?:0[9aAdD]|20|2[bB])|x(?:0[9aAdD]|2[bB]))"
    "|%(?:25)*(?:0[9aAdD]|20|2[bB]))+"
)
_DOLLAR = rf"(?:{_BACKSLASH}*(?:\$|u0024|x24|%(?:25)*24))"
_HTML = {"&": r"|&amp;", "<": r"|&lt;", ">": r"|&gt;"}
_RUNS = re.compile(r"[\\'\"]+|[\s+]+|\$+|[0-9A-Za-z]+|.", re.DOTALL)


class Masker:
    """Finds secrets. `reach` is how many characters one of them may take in a text."""

    def __init__(self, secrets: Iterable[str] = ()) -> None:
        whole = set(secrets)
        found = {form for secret in whole for form in _forms(secret)}
        self._patterns = [re.compile(_pattern(form)) for form in sorted(found)]
        # Compose takes a port or a volume apart before it says which part is wrong.
        parts = {
            part for secret in whole for part in _PART_ENDS.split(secret) if len(part) >= SHORTEST_SECRET
        }
        if parts:
            quoted = "|".join(re.escape(part) for part in sorted(parts, key=len, reverse=True))
            self._patterns.append(re.compile(rf"[Ii]nvalid [\w ]+: [^\n]{{0,200}}?({quoted})"))
        self._beginnings = [
            (re.compile(_pattern(lines[0]) + r"[^\S\n]*\n"), len(lines))
            for lines in (form.split("\n") for form in sorted(found) if "\n" in form)
        ]
        self.reach = max((len(form) for form in found), default=0) * _GROWTH

    def mask(self, text: str) -> str:
        """The text with the mask in the place of each secret."""
        return self._replaced(text, list(self._spans(text)))

    def split(self, text: str, at: int) -> tuple[str, str]:
        """The text's start up to about `at`, masked, and the rest as it is; no secret is cut through."""
        spans = list(self._spans(text))
        for start, end in spans:
            if start < at < end:
                at = start
        return self._replaced(text[:at], [span for span in spans if span[1] <= at]), text[at:]

    def complete(self, lines: str) -> int:
        """How many characters of whole lines are no beginning of a secret that the next lines may go on with."""
        kept = len(lines)
        for beginning, count in self._beginnings:
            # Only the last lines can be waiting for more.
            parts = lines.rsplit("\n", count)
            match = beginning.search(lines, len(parts[0]) + 1 if len(parts) > count else 0)
            if match:
                kept = min(kept, match.start())
        return lines.rfind("\n", 0, kept) + 1 if kept < len(lines) else kept

    def _spans(self, text: str) -> Iterator[tuple[int, int]]:
        """Where secrets are, those that touch or overlap as one, in order."""
        found = sorted(
            match.span(pattern.groups) for pattern in self._patterns for match in pattern.finditer(text)
        )
        start = end = -1
        for span in found:
            if span[0] > end:
                if end >= 0:
                    yield start, end
                start, end = span
            else:
                end = max(end, span[1])
        if end >= 0:
            yield start, end

    def _replaced(self, text: str, spans: list[tuple[int, int]]) -> str:
        parts = []
        position = 0
        for start, end in spans:
            parts += [text[position:start], MASK]
            position = end
        return "".join([*parts, text[position:]])


def _forms(secret: str) -> Iterator[str]:
    """What is to be looked for: the whole, its lines, and its base64."""
    for text in {secret, clean_output(secret)}:
        whole = text.strip()
        lines = [line.strip() for line in whole.splitlines()]
        if "\n" in whole and any(0 < len(line) < SHORTEST_SECRET for line in lines):
            # Its short lines are masked only where they are next to the others.
            yield "\n".join(lines)[:_LONGEST_WHOLE]
        for line in [whole, *lines] if len(lines) < 2 else lines:
            if len(line) >= SHORTEST_SECRET and line.lower() not in _COMMON and any(map(str.isalnum, line)):
                yield from _pieces(line)
    encoded = secret.encode("utf-8", "replace")
    if len(encoded) >= 2 * SHORTEST_SECRET:
        for encode in (base64.b64encode, base64.urlsafe_b64encode):
            yield from _pieces(encode(encoded).decode().rstrip("="))


def _pieces(line: str) -> Iterator[str]:
    if len(line) <= _LONGEST_PIECE:
        yield line
        return
    for start in range(0, len(line), _LONGEST_PIECE):
        # The last one begins earlier rather than being short.
        yield line[max(min(start, len(line) - _LONGEST_PIECE), 0) :][:_LONGEST_PIECE]


def _pattern(secret: str) -> str:
    parts: list[str] = []
    is_after_quotes = False
    for run in _RUNS.findall(secret):
        first = run[0]
        is_quotes = first in "\\'\""
        # Where a pattern begins with a run, it is tried at the run's first character only.
        if is_quotes:
            parts.append(_QUOTES if parts else rf"(?<![\\'\"]){_QUOTES}")
        elif first.isspace() or first == "+":
            parts.append(_BLANKS if parts else rf"(?<![\s+]){_BLANKS}")
        elif first == "$":
            parts.append(("" if parts else r"(?<!\$)") + f"{_DOLLAR}{{{len(run)},}}")
        elif first.isascii() and first.isalnum():
            parts.append(run)
        else:
            # The quotes before it have taken its backslashes.
            parts.append(("" if is_after_quotes else f"{_BACKSLASH}*") + _written(first))
        is_after_quotes = is_quotes
    return "".join(parts)


def _written(char: str) -> str:
    """A special character, or one of another script, as it is and as it is encoded."""
    percent = "".join(f"%(?:25)*{_hex(byte, 2)}" for byte in char.encode("utf-8", "replace"))
    units = char.encode("utf-16-be", "surrogatepass")
    escaped = f"{_BACKSLASH}*".join(
        f"u{_hex(units[i] << 8 | units[i + 1], 4)}" for i in range(0, len(units), 2)
    )
    short = f"|x{_hex(ord(char), 2)}" if ord(char) < 0x100 else f"|U{_hex(ord(char), 8)}"
    return f"(?:{re.escape(char)}|{percent}|{escaped}{short}|&#{ord(char)};{_HTML.get(char, '')})"


def _hex(number: int, width: int) -> str:
    return "".join(f"[{d}{d.upper()}]" if d.isalpha() else d for d in f"{number:0{width}x}")
