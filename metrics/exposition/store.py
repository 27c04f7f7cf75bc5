"""Text of many objects, made again only when an object's version changes."""

from collections.abc import Callable, Collection, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate

from metrics.exposition.fragments import Fragment

Render = Callable[[Collection[int]], Iterable[tuple[int, Sequence[bytes]]]]


@dataclass(slots=True)
class _Group:
    """Objects that share a fragment in each column, and where the text of each ends in these fragments."""

    keys: Sequence[int]
    ends: Sequence[Sequence[int]]
    fragments: Sequence[Fragment]

    def texts(self) -> dict[int, Sequence[bytes]]:
        """The text of each object in each column, cut out of the fragments."""
        columns = [
            [fragment.text[start:end] for start, end in zip((0, *ends), ends, strict=False)]
            for fragment, ends in zip(self.fragments, self.ends, strict=True)
        ]
        return dict(zip(self.keys, zip(*columns, strict=True), strict=True))


class VersionTexts:
    """Object → version, out of two comma-separated texts; while these stay, the same dictionary again."""

    def __init__(self) -> None:
        self._keys_text = self._versions_text = ""
        self._keys: list[int] = []
        self._versions: Mapping[int, str] = {}

    def read(self, keys: str, versions: str) -> Mapping[int, str]:
        """The versions of all objects; the texts are in the same order."""
        if keys != self._keys_text:
            self._keys = [int(key) for key in keys.split(",")] if keys else []
        elif versions == self._versions_text:
            return self._versions
        self._versions = dict(zip(self._keys, versions.split(",") if versions else [], strict=True))
        self._keys_text, self._versions_text = keys, versions
        return self._versions


class TextStore:
    """Keeps, for each object, one text in each of ``columns`` families, within fragments.

    Objects are known by a whole number and come in its order; ``id >> group_bits`` is the group that
    shares one fragment in each column. The text is in memory once: in the fragments.
    """

    def __init__(self, columns: int, *, group_bits: int) -> None:
        self._columns = columns
        self._bits = group_bits
        self._versions: Mapping[int, Hashable] = {}
        self._groups: dict[int, _Group] = {}
        self.rendered_bytes = 0
        """How much text was packed anew since the store was made: what the guard tests watch."""

    def refresh(self, versions: Mapping[int, Hashable], render: Render) -> bool:
        """Bring the texts in line with ``versions`` (object → anything that changes when its text does).

        ``render`` is called once with the objects whose version is new, if there are any, and gives
        their texts; an object it leaves out has no text. If it fails, the store stays as it was.
        Answers whether anything changed.
        """
        if versions is self._versions or versions == self._versions:
            return False
        known = self._versions
        wanted = [key for key, version in versions.items() if known.get(key) != version]
        fresh = dict(render(wanted)) if wanted else {}
        gone = (known.keys() - versions.keys()) | (set(wanted) - fresh.keys())
        self._apply(fresh, gone)
        self._versions = (
            {key: version for key, version in versions.items() if key not in gone} if gone else versions
        )
        return True

    @property
    def versions(self) -> Mapping[int, Hashable]:
        """The objects whose text is kept, each with its version."""
        return self._versions

    def fragments(self, column: int) -> list[Fragment]:
        """The fragments of one family, in the order of the objects."""
        return [group.fragments[column] for group in self._groups.values()]

    def _apply(self, fresh: Mapping[int, Sequence[bytes]], gone: Collection[int]) -> None:
        changes: dict[int, dict[int, Sequence[bytes] | None]] = {}
        for key, texts in fresh.items():
            changes.setdefault(key >> self._bits, {})[key] = texts
        for key in gone:
            changes.setdefault(key >> self._bits, {})[key] = None
        has_new_groups = not changes.keys() <= self._groups.keys()
        for number, changed in changes.items():
            self._repack(number, changed)
        if has_new_groups:
            self._groups = dict(sorted(self._groups.items()))

    def _repack(self, number: int, changed: Mapping[int, Sequence[bytes] | None]) -> None:
        old = self._groups.get(number)
        merged = {**(old.texts() if old else {}), **changed}
        texts = {key: merged[key] for key in sorted(merged) if merged[key] is not None}
        if not texts:
            self._groups.pop(number, None)
            return
        columns = list(zip(*texts.values(), strict=True))
        self._groups[number] = _Group(
            keys=list(texts),
            ends=[list(accumulate(map(len, column))) for column in columns],
            fragments=[
                self._fragment(b"".join(column), old.fragments[index] if old else None)
                for index, column in enumerate(columns)
            ],
        )

    def _fragment(self, text: bytes, old: Fragment | None) -> Fragment:
        # A change that this family does not show (another family's text of the same object did change)
        # leaves the fragment and its compressed form as they are.
        if old is not None and old.text == text:
            return old
        self.rendered_bytes += len(text)
        return Fragment(text)
