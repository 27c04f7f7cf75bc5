"""Fragments of several families as bytes, which may lie anywhere until a page is made of them."""

import struct
import zlib
from collections.abc import Sequence

from metrics.exposition.family import Family
from metrics.exposition.fragments import Fragment

_MARK = struct.Struct("<I")


class FragmentFormat:
    """How the fragments of these families lie side by side: a mark, the sizes, then the compressed text of each.

    What was written for other families, by another version of the program, is not read.
    """

    def __init__(self, families: Sequence[Family]) -> None:
        self._count = len(families)
        self._mark = _MARK.pack(zlib.crc32(" ".join(family.name for family in families).encode()))
        # Of each its compressed length, its checksum and the length of its text.
        self._sizes = struct.Struct(f"<{3 * self._count}I")
        self._start = _MARK.size + self._sizes.size

    def pack(self, texts: Sequence[bytes]) -> bytes:
        """The lines of each family, compressed."""
        sizes: list[int] = []
        parts = []
        for text in texts:
            deflated, crc = Fragment(text).packed()
            sizes += (len(deflated), crc, len(text))
            parts.append(deflated)
        return b"".join([self._mark, self._sizes.pack(*sizes), *parts])

    def unpack(self, stored: bytes) -> Sequence[Fragment | None]:
        """A fragment for each family, None where there is no line; nothing of what is in no such form."""
        if not stored.startswith(self._mark) or len(stored) < self._start:
            return [None] * self._count
        sizes = self._sizes.unpack_from(stored, _MARK.size)
        fragments: list[Fragment | None] = []
        start = self._start
        for length, crc, text_length in zip(sizes[::3], sizes[1::3], sizes[2::3], strict=True):
            end = start + length
            fragments.append(Fragment.of_packed(stored[start:end], crc, text_length) if text_length else None)
            start = end
        return fragments
