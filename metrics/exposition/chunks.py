"""A body's chunks as a file that can only be read, for servers that send files without copying them."""

import io
from bisect import bisect_right
from collections.abc import Sequence
from itertools import accumulate, islice

# One call to the kernel for each of so many bytes; small chunks are joined up to it.
_READ_BYTES = 256 * 1024


class ChunkFile:
    """``wsgi.file_wrapper`` (PEP 3333) takes it: it has ``read``, ``seek``, ``tell`` and ``close``.

    ``read`` may give less than was asked for; it gives a view of a chunk where it can, so that a page
    that is sent to several scrapers is in memory once.
    """

    def __init__(self, chunks: Sequence[bytes]) -> None:
        self._chunks = chunks
        self._ends = list(accumulate(map(len, chunks)))
        self._position = 0

    def read(self, size: int = -1) -> bytes | memoryview:
        """Up to ``size`` bytes from here on; nothing at the end."""
        index = bisect_right(self._ends, self._position)
        if index == len(self._chunks) or size == 0:
            return b""
        wanted = _READ_BYTES if size < 0 else min(size, _READ_BYTES)
        start = self._position - (self._ends[index - 1] if index else 0)
        first = memoryview(self._chunks[index])[start : start + wanted]
        is_enough = len(first) >= wanted // 2 or index + 1 == len(self._chunks)
        found = first if is_enough else self._joined(index, first, wanted)
        self._position += len(found)
        return found

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Go to a place; answers where that is from the start."""
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: self._ends[-1]}[whence]
        self._position = base + offset
        return self._position

    def tell(self) -> int:
        """Where the next read begins."""
        return self._position

    def close(self) -> None:
        """Nothing to give back."""

    def _joined(self, index: int, first: memoryview, wanted: int) -> bytes:
        parts: list[bytes | memoryview] = [first]
        size = len(first)
        for chunk in islice(self._chunks, index + 1, None):
            if size + len(chunk) > wanted:
                break
            parts.append(chunk)
            size += len(chunk)
        return b"".join(parts)
