"""Families whose every value is new at every scrape: labels are kept, values are filled in."""

from collections.abc import Sequence
from dataclasses import dataclass

from metrics.exposition.pieces import Piece


@dataclass(slots=True)
class _Group:
    start: int
    end: int
    prefixes: list[str]
    values: list[Sequence[str]]
    piece: Piece | None


class FilledLines:
    """The same number of lines for each object, each a kept prefix and a fresh value.

    The text of a group is one ``join`` over a list in which prefixes and values take turns; values
    come in as columns (one list for each line of an object), so that they are put in place by slices
    and no Python code runs for a single line.
    """

    def __init__(self, lines: int, *, group_bits: int) -> None:
        self._lines = lines
        self._bits = group_bits
        self._groups: list[_Group] = []

    def lay_out(self, keys: Sequence[int], prefixes: Sequence[Sequence[str]]) -> None:
        """Take the objects, in the order in which their values will come, and their lines' prefixes."""
        self._groups = []
        start = 0
        while start < len(keys):
            number = keys[start] >> self._bits
            end = start
            flat: list[str] = []
            while end < len(keys) and keys[end] >> self._bits == number:
                flat += prefixes[end]
                end += 1
            # Each line's end stands before the next line's prefix; the last one is added by `fill`.
            flat[1:] = ["\n" + prefix for prefix in flat[1:]]
            self._groups.append(_Group(start, end, flat, [], None))
            start = end

    def fill(self, columns: Sequence[Sequence[str]]) -> list[Piece]:
        """The pieces with these values: ``columns[i][n]`` belongs to line ``i`` of object ``n``."""
        return [self._fill_group(group, columns) for group in self._groups]

    def _fill_group(self, group: _Group, columns: Sequence[Sequence[str]]) -> Piece:
        values = [column[group.start : group.end] for column in columns]
        # Scrapes that follow each other closely (several Prometheus servers) find most groups unchanged.
        if group.piece is None or values != group.values:
            step = 2 * self._lines
            out = [""] * (2 * len(group.prefixes))
            out[0::2] = group.prefixes
            for line, column in enumerate(values):
                out[1 + 2 * line :: step] = column
            out.append("\n")
            group.values = values
            group.piece = Piece.of("".join(out))
        return group.piece
