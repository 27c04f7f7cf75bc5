"""A page: sections to body, in either format, compressed or not, whole or filtered."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from threading import Lock

from metrics.exposition.family import Family
from metrics.exposition.pieces import Piece, gzip_stream

_END = Piece.of("# EOF\n")


@dataclass(frozen=True, slots=True)
class Section:
    """A family and the text of its samples."""

    family: Family
    pieces: Sequence[Piece]


@dataclass(frozen=True, slots=True)
class Body:
    """What goes over the wire."""

    segments: Sequence[bytes]
    length: int


@dataclass(slots=True)
class Page:
    """Everything that one rendering found. Bodies are made on demand and kept for those who share it."""

    sections: Sequence[Section]
    _bodies: dict[tuple[bool, bool, frozenset[str] | None], Body] = field(default_factory=dict)
    _lock: Lock = field(default_factory=Lock)

    def body(self, *, openmetrics: bool, gzip: bool, names: frozenset[str] | None = None) -> Body:
        """The page in one format. ``names`` keeps the families that have one of these names."""
        key = (openmetrics, gzip, names)
        with self._lock:
            if key not in self._bodies:
                pieces = list(self._pieces(openmetrics, names))
                self._bodies[key] = _compressed(pieces) if gzip else _plain(pieces)
            return self._bodies[key]

    def _pieces(self, openmetrics: bool, names: frozenset[str] | None) -> Iterator[Piece]:
        for section in self.sections:
            if names is not None and names.isdisjoint(section.family.names):
                continue
            yield section.family.openmetrics_head if openmetrics else section.family.text_head
            yield from section.pieces
        if openmetrics:
            yield _END


def _compressed(pieces: Sequence[Piece]) -> Body:
    segments = gzip_stream(pieces)
    return Body(segments, sum(map(len, segments)))


def _plain(pieces: Sequence[Piece]) -> Body:
    segments = [piece.text for piece in pieces if piece.text] or [b""]
    return Body(segments, sum(map(len, segments)))
