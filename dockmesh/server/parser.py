"""waitress's parser, made strict and bounded.

It refuses what a proxy in front could read differently (request smuggling), reads chunks in linear time, and turns
whatever goes wrong in reading into an answer.
"""

import re
from dataclasses import dataclass
from typing import Any

from waitress.buffers import OverflowableBuffer
from waitress.parser import HTTPRequestParser, ParsingError, TransferEncodingNotImplemented

from dockmesh.core.addresses import without_base_path

MOST_CHUNK_LINE_BYTES = 1024
MOST_TRAILER_BYTES = 8 * 1024
# After these, a chunk may not be smaller on average: each costs time, whatever its size.
FREE_CHUNKS = 128
LEAST_CHUNK_BYTES = 64

TLS_HANDSHAKE = b"\x16"  # the first byte of a TLS connection, RFC 8446 section 5.1; never one of HTTP

# What one server ends a request's head with and another reads on: refused, RFC 9112 section 2.2 and 5.
_FOLDED = re.compile(rb"\r\n[ \t]")
_CONTROLS = re.compile(rb"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]")
_SINGLE = (
    b"\r\nhost:",
    b"\r\ncontent-length:",
    b"\r\ntransfer-encoding:",
    b"\r\ncontent-type:",
    b"\r\nauthorization:",
)
_CODING = re.compile(rb"\r\ntransfer-encoding:([^\r]*)")
_CHUNK_SIZE = re.compile(rb"[0-9a-fA-F]{1,16}")


@dataclass(frozen=True)
class Refusal:
    """Why a request is refused: the status, and a sentence for the client and the log. The connection is closed."""

    code: int
    detail: str


class Refused(Exception):
    """Raised with a `Refusal` while a head is read."""

    def __init__(self, refusal: Refusal) -> None:
        super().__init__(refusal.detail)
        self.refusal = refusal


TLS = Refusal(
    400, "This port speaks plain HTTP, and the client began with TLS: the address begins with http://."
)
LENGTH_REQUIRED = Refusal(411, "Only HTTP/1.1 knows Transfer-Encoding: send a Content-Length.")
TOO_LARGE = Refusal(413, "The body is too large.")
BUSY = Refusal(503, "Too much is being received at this moment: send it again in a few seconds.")


class StrictParser(HTTPRequestParser):
    """Reads one request."""

    arrived = 0.0  # when the request was there whole, by `time.monotonic`
    ready_answer = b""  # what is answered without a worker
    is_last = False  # whether the connection is closed after that
    command = ""
    path = ""  # without the base path, whether it came with it or not
    base_path = ""  # below which the server is reached, like /dockmesh
    taken_off = ""  # the base path, if the request came with it
    empty = False

    def received(self, data: bytes) -> int:
        """Take bytes; returns how many belong to this request. Raises nothing: a bad request has an `error`."""
        is_first = not self.headers_finished and not self.header_plus
        if is_first and data.startswith(TLS_HANDSHAKE):
            self.refuse(TLS)
            return len(data)
        try:
            taken: int = super().received(data)
        except Refused as error:
            self.refuse(error.refusal)
            return len(data)
        except MemoryError:
            self.refuse(BUSY)
            return len(data)
        except Exception as error:
            # Like a Content-Length of thousands of digits, or an address that is none.
            self.refuse(Refusal(400, f"The request can't be read: {type(error).__name__}."))
            return len(data)
        if self.empty:
            self.empty = False
            self.refuse(Refusal(400, "The request is empty."))
        if self.completed:
            # Nothing is left to wait for: there is no body, or nobody wants it.
            self.expect_continue = False
        return taken

    def refuse(self, refusal: Refusal) -> None:
        """Let this be the answer."""
        self.error = refusal
        self.completed = True
        self.expect_continue = False
        self.close()

    def held_bytes(self) -> int:
        """How much memory it takes, about."""
        return int(self.header_bytes_received) + (0 if self.body_rcv is None else len(self.body_rcv))

    def parse_header(self, header_plus: bytes) -> None:
        """Raises `ParsingError`, which becomes 400, or `Refused`."""
        if _CONTROLS.search(header_plus):
            raise ParsingError("A control character in the head")
        if _FOLDED.search(header_plus):
            raise ParsingError("A header that goes on in the next line")
        # A name with a blank before its colon is refused by waitress itself.
        lowered = header_plus.lower()
        coding = _CODING.search(lowered)
        if coding is not None:
            if b"\r\ncontent-length:" in lowered:
                raise ParsingError("Both Content-Length and Transfer-Encoding")
            if coding[1].strip(b" \t") != b"chunked":
                raise TransferEncodingNotImplemented("Only the coding chunked is known")
        if any(lowered.count(name) > 1 for name in _SINGLE):
            raise ParsingError("A header that may occur once occurs twice")
        super().parse_header(header_plus)
        # One slash at its begin, as waitress hands it to the application: what is asked of a path here holds there.
        path = f"/{self.path.lstrip('/')}"
        rest = without_base_path(path, self.base_path)
        self.taken_off = self.base_path if rest != path else ""
        self.path = f"/{rest.lstrip('/')}"
        if self.version not in ("1.0", "1.1"):
            raise Refused(Refusal(400, "Only HTTP/1.1 and HTTP/1.0 are spoken here."))
        if self.version == "1.0" and coding is not None:
            raise Refused(LENGTH_REQUIRED)
        if self.version == "1.1" and "HOST" not in self.headers:
            raise ParsingError("No Host header")
        if self.chunked:
            self.body_rcv = ChunkedBody(
                OverflowableBuffer(self.adj.inbuf_overflow), self.adj.max_request_body_size
            )


class ChunkedBody:
    """A body in chunks, RFC 9112 section 7.1; what waitress's parser expects of a receiver."""

    def __init__(self, buffer: Any, most_bytes: int) -> None:
        self.completed = False
        self.error: Refusal | None = None
        self._buffer = buffer
        self._most_bytes = most_bytes
        self._line = b""
        self._left = 0  # of the chunk that is coming
        self._is_at_end_of_chunk = False
        self._is_in_trailer = False
        self._chunks = 0
        self._trailer_bytes = 0

    def __len__(self) -> int:
        return len(self._buffer)

    def getbuf(self) -> Any:
        """The buffer with the body."""
        return self._buffer

    def getfile(self) -> Any:
        """The body as a file."""
        return self._buffer.getfile()

    def received(self, data: bytes) -> int:
        """Take bytes; returns how many belong to the body."""
        at = 0
        while at < len(data) and not self.completed and self.error is None:
            if self._left:
                part = data[at : at + self._left]
                self._buffer.append(part)
                self._left -= len(part)
                at += len(part)
            else:
                at = self._take_line(data, at)
        return at

    def _take_line(self, data: bytes, at: int) -> int:
        """Take the rest of a line, or what there is of it; returns where it ends."""
        found = data.find(b"\n", at, at + MOST_CHUNK_LINE_BYTES)
        end = found + 1 if found >= 0 else min(len(data), at + MOST_CHUNK_LINE_BYTES)
        self._line += data[at:end]
        if len(self._line) > MOST_CHUNK_LINE_BYTES or (found < 0 and end < len(data)):
            self._fail("a line among the chunks is too long")
        elif found >= 0:
            line, self._line = self._line, b""
            if line.endswith(b"\r\n"):
                self._take(line[:-2])
            else:
                self._fail("a line among the chunks ends without CR")
        return end

    def _take(self, line: bytes) -> None:
        if self._is_at_end_of_chunk:
            self._is_at_end_of_chunk = False
            if line:
                self._fail("a chunk is longer than it says")
        elif self._is_in_trailer:
            self._trailer_bytes += len(line) + 2
            self.completed = not line
            if self._trailer_bytes > MOST_TRAILER_BYTES:
                self._fail("the trailer is too long")
        else:
            self._begin_chunk(line)

    def _begin_chunk(self, line: bytes) -> None:
        size, _, extension = line.partition(b";")
        if not _CHUNK_SIZE.fullmatch(size) or _CONTROLS.search(extension):
            self._fail("a chunk's size is no number")
            return
        self._left = int(size, 16)
        self._is_at_end_of_chunk = self._left > 0
        self._is_in_trailer = self._left == 0
        self._chunks += 1
        if len(self) + self._left >= self._most_bytes:
            self.error = TOO_LARGE
        elif self._chunks > FREE_CHUNKS + len(self) // LEAST_CHUNK_BYTES:
            self._fail("the chunks are too small")

    def _fail(self, why: str) -> None:
        self.error = Refusal(400, f"The request can't be read: {why}.")
