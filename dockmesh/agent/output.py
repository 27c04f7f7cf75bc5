"""A program's output while it comes: secrets masked, cleaned, and bounded however much there is."""

import threading
from collections.abc import Iterable

from dockmesh.agent.text import clean_output, cut

HEAD_BYTES = 16 * 1024
TAIL_BYTES = 48 * 1024
MASK = "******"
# Shorter values ("1", "yes") would be found everywhere, and hiding them would hide the output.
SHORTEST_SECRET = 4
# A line without an end is passed on in pieces of this many characters.
LONGEST_LINE = 8 * 1024


class Output:
    """Takes pieces of text from one thread and is read from others. Keeps the head and the tail."""

    def __init__(self, *, secrets: Iterable[str] = ()) -> None:
        lines = {line.strip() for secret in secrets for line in [secret, *secret.splitlines()]}
        # The longest first, so that a secret within another leaves nothing of it behind.
        self._secrets = sorted((s for s in lines if len(s) >= SHORTEST_SECRET), key=len, reverse=True)
        self._guard = threading.Lock()
        self._partial = ""
        self._head = ""
        self._tail = ""
        self._total = 0  # characters written so far, the partial line not counted
        self._dropped = 0  # characters between head and tail that were let go

    def write(self, text: str) -> None:
        with self._guard:
            self._partial += text
            whole, newline, rest = self._partial.rpartition("\n")
            if newline:
                self._append(self.mask(whole) + "\n")
                self._partial = rest
            while len(self._partial) > LONGEST_LINE:
                # A secret may straddle the cut: hold back as much as could be the start of one.
                held = max((len(secret) for secret in self._secrets), default=1) - 1
                masked = self.mask(self._partial)
                self._append(masked[: len(masked) - held])
                self._partial = masked[len(masked) - held :] if held else ""
                if held >= LONGEST_LINE:
                    break

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
        for secret in self._secrets:
            text = text.replace(secret, MASK)
        return text

    def _flush(self) -> None:
        if self._partial:
            self._append(self.mask(self._partial))
            self._partial = ""

    def _append(self, text: str) -> None:
        text = clean_output(text)
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


def env_values(text: str) -> list[str]:
    """The values of an env file (KEY=value lines, quotes taken off), to be masked in output."""
    values = []
    for line in text.splitlines():
        stripped = line.strip()
        if not stripped or stripped.startswith("#"):
            continue
        _, equals, value = stripped.partition("=")
        # A line without "=" is the rest of a quoted value that goes over several lines.
        value = (value if equals else stripped).strip()
        values.append(value)
        quoted = value[:1] in "\"'" and value[:1] != ""
        values.append(value.strip("\"'") if quoted else value.split(" #")[0].strip())
    return values
