"""Families whose every value is new at every scrape: labels are kept, values are filled in."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from metrics.exposition.pieces import Piece


@dataclass(slots=True)
class _Group:
    """Where its values are among all of them; its lines with empty places for them; what is there now."""

    start: int
    end: int
    blank: list[str]
    values: Sequence[str]
    piece: Piece | None


class FilledLines:
    """The same number of lines for each object, each a kept prefix and a fresh value.

    The text of a group is one ``join`` over a list in which prefixes and values take turns; the values are
    put in place by one slice, so that no Python code runs for a single line.
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
            flat: list[str] = []
            while end < len(keys) and keys[end] >> self._bits == number:
                flat += prefixes[end]
                end += 1
            # Each line's end stands before the next line's prefix.
            blank = [""] * (2 * len(flat)) + ["\n"]
            blank[0:-1:2] = [flat[0], *("\n" + prefix for prefix in flat[1:])]
            self._groups.append(_Group(start * self._lines, end * self._lines, blank, (), None))
            start = end

    def fill(self, source: object, read: Callable[[], Sequence[str]]) -> list[Piece]:
        """The pieces with the values that ``read`` makes of ``source``: those of the first object, of the second, …

        While the source is equal to the last one, nothing is read.
        """
        if self._source is None or source != self._source:
            values = read()
            for group in self._groups:
                _fill(group, values[group.start : group.end])
            self._source = source
        return [group.piece for group in self._groups if group.piece is not None]


def _fill(group: _Group, values: Sequence[str]) -> None:
    # Scrapes that follow each other closely (several Prometheus servers) find most groups unchanged.
    if group.piece is None or values != group.values:
        lines = group.blank.copy()
        lines[1::2] = values
        group.values = values
        group.piece = Piece.of("".join(lines))
