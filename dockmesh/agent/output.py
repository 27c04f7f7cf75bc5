"""A program's output while it comes: secrets masked, cleaned, and bounded however much there is."""

from __future__ import annotations

import threading
from collections.abc import Iterable

from dockmesh.agent.masking import Masker
from dockmesh.agent.text import clean_output, cut

HEAD_BYTES = 16 * 1024
TAIL_BYTES = 48 * 1024
# A line without an end is passed on in pieces of this many characters.
LONGEST_LINE = 8 * 1024


class Output:
    """Takes pieces of text from one thread and is read from others. Keeps the head and the tail."""

    def __init__(self, *, secrets: Iterable[str] = ()) -> None:
        self._secrets = set(secrets)
        self._masker = Masker(self._secrets)
        self._guard = threading.Lock()
        self._held = ""  # whole lines that may be the beginning of a secret of several
        self._partial = ""
        self._head = ""
        self._tail = ""
        self._total = 0  # characters written so far, what is held back not counted
        self._dropped = 0  # characters between head and tail that were let go

    def write(self, text: str) -> None:
        with self._guard:
            self._partial += text
            whole, newline, rest = self._partial.rpartition("\n")
            if newline:
                lines = self._held + clean_output(whole + newline)
                kept = self._masker.complete(lines)
                self._append(self._masker.mask(lines[:kept]))
                self._held, self._partial = lines[kept:], rest
            # A secret may straddle the cut: as much is held back as could be the start of one.
            if len(self._partial) > LONGEST_LINE + self._masker.reach:
                line = self._held + clean_output(self._partial)
                start, self._partial = self._masker.split(line, len(line) - self._masker.reach)
                self._held = ""
                self._append(start)

    def hide(self, secrets: Iterable[str]) -> None:
        """Mask these too, in what is passed on from now on."""
        with self._guard:
            self._secrets |= set(secrets)
            self._masker = Masker(self._secrets)

    def line(self, text: str) -> None:
        """A line of our own between the program's."""
        self.write(("\n" if self._partial else "") + text + "\n")

    def text(self) -> str:
        """All that is kept: the head, a note of how much was left out, the tail."""
        with self._guard:
            self._flush()
            if not self._dropped:
                return self._head + self._tail
            return f"{self._head}\n[… {self._dropped} characters left out …]\n{self._tail}"

    def since(self, position: int, *, limit: int) -> tuple[str, int]:
        """What was written after `position`, at most `limit` bytes of its end; and the new position."""
        with self._guard:
            new = self._total - position
            if new <= 0:
                return "", self._total
            kept = (self._head + self._tail)[-new:]
            encoded = kept.encode()
            if len(encoded) > limit:
                kept = encoded[-limit:].decode("utf-8", "ignore")
            return kept, self._total

    def mask(self, text: str) -> str:
        return self._masker.mask(text)

    def _flush(self) -> None:
        rest = self._held + clean_output(self._partial)
        if rest:
            self._append(self._masker.mask(rest))
            self._held = self._partial = ""

    def _append(self, text: str) -> None:
        self._total += len(text)
        room = HEAD_BYTES - len(self._head.encode())
        if not self._tail and room > 0:
            start = cut(text, limit=room)
            self._head += start
            text = text[len(start) :]
        if not text:
            return
        encoded = (self._tail + text).encode()
        if len(encoded) > TAIL_BYTES:
            kept = encoded[-TAIL_BYTES:].decode("utf-8", "ignore")
            self._dropped += len(self._tail) + len(text) - len(kept)
            self._tail = kept
        else:
            self._tail += text
