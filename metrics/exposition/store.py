"""Text of many objects, made again only when an object's stamp changes."""

from collections.abc import Callable, Collection, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate

from metrics.exposition.pieces import Piece

Render = Callable[[Collection[int]], Iterable[tuple[int, Sequence[bytes]]]]


@dataclass(slots=True)
class _Chunk:
    """Objects that share a piece in each column, and where the text of each ends in these pieces."""

    keys: Sequence[int]
    ends: Sequence[Sequence[int]]
    pieces: Sequence[Piece]

    def texts(self) -> dict[int, Sequence[bytes]]:
        """The text of each object in each column, cut out of the pieces."""
        columns = [
            [piece.text[start:end] for start, end in zip((0, *ends), ends, strict=False)]
            for piece, ends in zip(self.pieces, self.ends, strict=True)
        ]
        return dict(zip(self.keys, zip(*columns, strict=True), strict=True))


class StampTexts:
    """Object → stamp, out of two comma-separated texts; while these stay, the same dictionary again."""

    def __init__(self) -> None:
        self._keys_text = self._stamps_text = ""
        self._keys: list[int] = []
        self._stamps: Mapping[int, str] = {}

    def read(self, keys: str, stamps: str) -> Mapping[int, str]:
        """The stamps of all objects; the texts are in the same order."""
        if keys != self._keys_text:
            self._keys = [int(key) for key in keys.split(",")] if keys else []
        elif stamps == self._stamps_text:
            return self._stamps
        self._stamps = dict(zip(self._keys, stamps.split(",") if stamps else [], strict=True))
        self._keys_text, self._stamps_text = keys, stamps
        return self._stamps


class TextStore:
    """Keeps, for each object, one text in each of ``columns`` families, within pieces.

    Objects are known by a whole number and come in its order; ``id >> chunk_bits`` is the chunk that
    shares one piece in each column. The text is in memory once: in the pieces.
    """

    def __init__(self, columns: int, *, chunk_bits: int) -> None:
        self._columns = columns
        self._bits = chunk_bits
        self._stamps: Mapping[int, Hashable] = {}
        self._chunks: dict[int, _Chunk] = {}
        self.rendered_bytes = 0
        """How much text was packed anew since the store was made: what the guard tests watch."""

    def refresh(self, stamps: Mapping[int, Hashable], render: Render) -> bool:
        """Bring the texts in line with ``stamps`` (object → anything that changes when its text does).

        ``render`` is called once with the objects whose stamp is new, if there are any, and gives
        their texts; an object it leaves out has no text. If it fails, the store stays as it was.
        Answers whether anything changed.
        """
        if stamps is self._stamps or stamps == self._stamps:
            return False
        known = self._stamps
        wanted = [key for key, stamp in stamps.items() if known.get(key) != stamp]
        fresh = dict(render(wanted)) if wanted else {}
        gone = (known.keys() - stamps.keys()) | (set(wanted) - fresh.keys())
        self._apply(fresh, gone)
        self._stamps = {key: stamp for key, stamp in stamps.items() if key not in gone} if gone else stamps
        return True

    def pieces(self, column: int) -> list[Piece]:
        """The pieces of one family, in the order of the objects."""
        return [chunk.pieces[column] for chunk in self._chunks.values()]

    def _apply(self, fresh: Mapping[int, Sequence[bytes]], gone: Collection[int]) -> None:
        changes: dict[int, dict[int, Sequence[bytes] | None]] = {}
        for key, texts in fresh.items():
            changes.setdefault(key >> self._bits, {})[key] = texts
        for key in gone:
            changes.setdefault(key >> self._bits, {})[key] = None
        has_new_chunks = not changes.keys() <= self._chunks.keys()
        for number, changed in changes.items():
            self._repack(number, changed)
        if has_new_chunks:
            self._chunks = dict(sorted(self._chunks.items()))

    def _repack(self, number: int, changed: Mapping[int, Sequence[bytes] | None]) -> None:
        old = self._chunks.get(number)
        merged = {**(old.texts() if old else {}), **changed}
        texts = {key: merged[key] for key in sorted(merged) if merged[key] is not None}
        if not texts:
            self._chunks.pop(number, None)
            return
        columns = list(zip(*texts.values(), strict=True))
        self._chunks[number] = _Chunk(
            keys=list(texts),
            ends=[list(accumulate(map(len, column))) for column in columns],
            pieces=[
                self._piece(b"".join(column), old.pieces[index] if old else None)
                for index, column in enumerate(columns)
            ],
        )

    def _piece(self, text: bytes, old: Piece | None) -> Piece:
        # A change that this family does not show (another family's text of the same object did change)
        # leaves the piece and its compressed form as they are.
        if old is not None and old.text == text:
            return old
        self.rendered_bytes += len(text)
        return Piece(text)
