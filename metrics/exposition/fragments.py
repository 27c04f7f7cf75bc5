"""Fragments of a page, and how they become one gzip stream."""

import re
import struct
from collections.abc import Iterable, Iterator
from functools import lru_cache
from threading import Lock
from typing import Self

from isal import isal_zlib

# Level 1 is where ISA-L's gain in size per time ends for this text: level 3 takes five times as long
# and saves one byte in a hundred.
_LEVEL = 1
_RAW_DEFLATE = -15
_SMALL_BYTES = 4096

# RFC 1952, 2.3: magic, deflate, no flags, no modification time (equal text gives equal bytes),
# fastest algorithm, unknown operating system.
_GZIP_HEADER = b"\x1f\x8b\x08\x00\x00\x00\x00\x00\x04\xff"
# RFC 1951, 3.2.6: a final block with fixed codes that holds nothing but the end-of-block code.
_FINAL_BLOCK = b"\x03\x00"

# A quote within a label's value has a backslash before it, so none of these is one.
_EXEMPLAR = re.compile(rb' # \{deploy_id="\d+"\} \S+ \S+$', re.MULTILINE)


class _Deflater:
    """One compressor for all fragments. A full flush makes it forget, so nothing leaks into the next."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._stream = isal_zlib.compressobj(_LEVEL, isal_zlib.DEFLATED, _RAW_DEFLATE)

    def deflate(self, text: bytes) -> bytes:
        with self._lock:
            return self._stream.compress(text) + self._stream.flush(isal_zlib.Z_FULL_FLUSH)


_deflater = _Deflater()


class Fragment:
    """Text that is handed out again and again; compressed once, when somebody first asks for it."""

    __slots__ = ("_packed", "_plain", "_text", "length")

    def __init__(self, text: bytes) -> None:
        self._text: bytes | None = text
        self.length = len(text)
        """Of the text, in bytes."""
        self._packed: tuple[bytes, int] | None = None
        self._plain: Fragment | None = None

    @classmethod
    def of_packed(cls, deflated: bytes, crc: int, length: int) -> Self:
        """One that was `packed` before; its text is unpacked when somebody asks for it."""
        fragment = cls(b"")
        fragment._text, fragment._packed, fragment.length = None, (deflated, crc), length
        return fragment

    @property
    def text(self) -> bytes:
        """Its lines."""
        if self._text is None:
            # Not kept: of a large fleet it is much, and hardly anybody asks for it.
            return _inflate(self.packed()[0])
        return self._text

    @property
    def is_stored(self) -> bool:
        """Whether it comes compressed, without its text."""
        return self._text is None

    @classmethod
    def of(cls, text: str) -> Self:
        return cls(text.encode())

    def without_exemplars(self) -> "Fragment":
        """The same lines for text 0.0.4; made once, when somebody first asks for it."""
        if self._plain is None:
            text = _EXEMPLAR.sub(b"", self.text)
            self._plain = self if len(text) == self.length else Fragment(text)
        return self._plain

    def packed(self) -> tuple[bytes, int]:
        """The deflate fragment, ended by a full flush, and the CRC-32 of the text."""
        if self._packed is None:
            text = self.text
            self._packed = (_deflater.deflate(text) if text else b"", isal_zlib.crc32(text))
        return self._packed


def _inflate(deflated: bytes) -> bytes:
    return isal_zlib.decompressobj(_RAW_DEFLATE).decompress(deflated)


def gzip_stream(fragments: Iterable[Fragment]) -> list[bytes]:
    """One gzip member that holds the text of all fragments (RFC 1952), in chunks."""
    out = [_GZIP_HEADER]
    crc = size = 0
    combine = isal_zlib.crc32_combine
    for fragment in _joined(fragments):
        deflated, own_crc = fragment.packed()
        out.append(deflated)
        crc = combine(crc, own_crc, fragment.length)
        size += fragment.length
    out += (_FINAL_BLOCK, struct.pack("<II", crc, size & 0xFFFFFFFF))
    return out


def _joined(fragments: Iterable[Fragment]) -> Iterator[Fragment]:
    """Large fragments as they are; small neighbours as one, which costs less than a flush for each."""
    small: list[bytes] = []
    for fragment in fragments:
        if fragment.length < _SMALL_BYTES and not fragment.is_stored:
            small.append(fragment.text)
            continue
        if small:
            yield _one(tuple(small))
            small = []
        yield fragment
    if small:
        yield _one(tuple(small))


@lru_cache(maxsize=32)
def _one(texts: tuple[bytes, ...]) -> Fragment:
    """The same neighbours come at every scrape, and are compressed once."""
    return Fragment(b"".join(texts))
