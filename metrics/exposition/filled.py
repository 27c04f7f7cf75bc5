"""Families whose every value is new at every scrape: labels are kept, values are filled in."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from metrics.exposition.fragments import Fragment


@dataclass(slots=True)
class _Group:
    """Where its values are among all of them, its lines with places for them, and what is there now."""

    start: int
    end: int
    lines: bytes
    values: tuple[bytes, ...]
    fragment: Fragment | None


class FilledLines:
    """The same number of lines for each object, each a kept prefix and a fresh value.

    The lines of a group are kept as one format string, so that its text is one ``%``: no Python code runs for
    a single line, and memory is read from its beginning to its end.
    """

    def __init__(self, lines: int, *, group_bits: int) -> None:
        self._lines = lines
        self._bits = group_bits
        self._groups: list[_Group] = []
        self._source: object = None

    def lay_out(self, keys: Sequence[int], prefixes: Sequence[Sequence[str]]) -> None:
        """Take the objects, in the order in which their values will come, and their lines' prefixes."""
        self._groups = []
        self._source = None
        start = 0
        while start < len(keys):
            number = keys[start] >> self._bits
            end = start
            lines: list[str] = []
            while end < len(keys) and keys[end] >> self._bits == number:
                lines += (prefix.replace("%", "%%") + "%b\n" for prefix in prefixes[end])
                end += 1
            self._groups.append(
                _Group(start * self._lines, end * self._lines, "".join(lines).encode(), (), None)
            )
            start = end

    def fill(self, source: object, read: Callable[[], Sequence[bytes]]) -> list[Fragment]:
        """The fragments with the values that ``read`` makes of ``source``: all of the first object, of the second, …

        While the source is equal to the last one, nothing is read.
        """
        if self._source is None or source != self._source:
            values = read()
            for group in self._groups:
                _fill(group, tuple(values[group.start : group.end]))
            self._source = source
        return [group.fragment for group in self._groups if group.fragment is not None]


def _fill(group: _Group, values: tuple[bytes, ...]) -> None:
    # Scrapes that follow each other closely (several Prometheus servers) find most groups unchanged.
    if group.fragment is None or values != group.values:
        group.values = values
        group.fragment = Fragment(group.lines % values)
