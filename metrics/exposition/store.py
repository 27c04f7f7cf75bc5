"""Text of many objects, made again only when an object's stamp changes."""

from collections.abc import Callable, Collection, Hashable, Iterable, Mapping, Sequence

from metrics.exposition.pieces import Piece

Render = Callable[[Collection[int]], Iterable[tuple[int, Sequence[bytes]]]]


class TextStore:
    """Keeps, for each object, one text in each of ``columns`` families, and their pieces.

    Objects are known by a whole number and come in its order; ``id >> chunk_bits`` is the chunk that
    shares one piece in each column.
    """

    def __init__(self, columns: int, *, chunk_bits: int) -> None:
        self._columns = columns
        self._bits = chunk_bits
        self._stamps: Mapping[int, Hashable] = {}
        self._chunks: dict[int, dict[int, Sequence[bytes]]] = {}
        self._pieces: list[dict[int, Piece]] = [{} for _ in range(columns)]
        self.rendered_bytes = 0
        """How much text was packed anew since the store was made: what the guard tests watch."""

    def refresh(self, stamps: Mapping[int, Hashable], render: Render) -> bool:
        """Bring the texts in line with ``stamps`` (object → anything that changes when its text does).

        ``render`` is called once with the objects whose stamp is new, if there are any, and gives
        their texts; an object it leaves out has no text. If it fails, the store stays as it was.
        Answers whether anything changed.
        """
        if stamps == self._stamps:
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
        return list(self._pieces[column].values())

    def _apply(self, fresh: Mapping[int, Sequence[bytes]], gone: Collection[int]) -> None:
        touched = set()
        for key, texts in fresh.items():
            number = key >> self._bits
            self._chunks.setdefault(number, {})[key] = texts
            touched.add(number)
        for key in gone:
            number = key >> self._bits
            if self._chunks.get(number, {}).pop(key, None) is not None:
                touched.add(number)
        has_new_chunks = any(number not in self._pieces[0] for number in touched)
        for number in touched:
            self._repack(number)
        if has_new_chunks:
            self._pieces = [dict(sorted(column.items())) for column in self._pieces]

    def _repack(self, number: int) -> None:
        chunk = self._chunks[number]
        if not chunk:
            del self._chunks[number]
            for column in self._pieces:
                column.pop(number, None)
            return
        ordered = [chunk[key] for key in sorted(chunk)]
        for index, column in enumerate(self._pieces):
            parts = [texts[index] for texts in ordered]
            old = column.get(number)
            # A change that this family does not show (another family's text of the same object did
            # change) leaves the piece and its compressed form as they are.
            if old is None or old.parts != parts:
                column[number] = Piece(parts)
                self.rendered_bytes += column[number].size
