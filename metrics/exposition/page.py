"""A page: sections to body, in either format, compressed or not, whole or filtered."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from threading import Lock

from metrics.exposition.family import Family
from metrics.exposition.fragments import Fragment, gzip_stream

_END = Fragment.of("# EOF\n")
# A body up to this size is joined once, for all who share it: each chunk would be a call to the kernel for
# each of them. A larger one would be in memory twice.
_JOINED_BYTES = 1 << 22


@dataclass(frozen=True, slots=True)
class Section:
    """A family and the text of its samples."""

    family: Family
    fragments: Sequence[Fragment]


@dataclass(frozen=True, slots=True)
class Body:
    """What goes over the wire; one chunk unless it is large."""

    chunks: Sequence[bytes]
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
                fragments = list(self._fragments(openmetrics, names))
                self._bodies[key] = _body(
                    gzip_stream(fragments) if gzip else [fragment.text for fragment in fragments]
                )
            return self._bodies[key]

    def _fragments(self, openmetrics: bool, names: frozenset[str] | None) -> Iterator[Fragment]:
        for section in self.sections:
            if names is not None and names.isdisjoint(section.family.names):
                continue
            yield section.family.openmetrics_head if openmetrics else section.family.text_head
            if section.family.has_exemplars and not openmetrics:
                yield from (fragment.without_exemplars() for fragment in section.fragments)
            else:
                yield from section.fragments
        if openmetrics:
            yield _END


def _body(chunks: Sequence[bytes]) -> Body:
    length = sum(map(len, chunks))
    if length <= _JOINED_BYTES:
        return Body([b"".join(chunks)], length)
    return Body([chunk for chunk in chunks if chunk], length)
