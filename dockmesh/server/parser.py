"""HTTP/1.1 requests, read strictly (RFC 9112): what two programs could read differently is refused.

A proxy in front and this server must agree where each request ends, or one request can be hidden in the
body of another. So there is no leniency: no bare line feeds, no folded headers, no second Content-Length,
no Content-Length beside Transfer-Encoding. Headers with an underscore in their name are dropped, since
WSGI can't tell `X_Forwarded_For` from `X-Forwarded-For`.
"""

import re
from dataclasses import dataclass
from http import HTTPStatus
from urllib.parse import unquote_to_bytes

MAX_HEAD_BYTES = 32 * 1024
MAX_HEADERS = 100
MAX_CHUNK_LINE_BYTES = 256
MAX_TRAILER_BYTES = 4096

_TOKEN = rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]"
_REQUEST_LINE = re.compile(rb"(%s{1,32}) ([!-~\x80-\xff]+) HTTP/1\.([01])\r\n" % _TOKEN)
_HEADER = re.compile(rb"(%s+):([\t\x20-\x7e\x80-\xff]*)\r\n" % _TOKEN)
_ABSOLUTE_TARGET = re.compile(rb"https?://([^/?#@]+)((?:[/?].*)?)", re.IGNORECASE)
_LENGTH = re.compile(rb"[0-9]{1,18}")
_CHUNK_SIZE = re.compile(rb"([0-9A-Fa-f]{1,8})(?:[ \t]*;[\t\x20-\x7e\x80-\xff]*)?")

# Header name as sent -> name in the WSGI environ; filled by use, so that each spelling is made once.
_names: dict[bytes, str] = {}
_ONLY_ONCE = frozenset({"HTTP_HOST", "CONTENT_LENGTH", "HTTP_TRANSFER_ENCODING", "CONTENT_TYPE"})


class BadRequest(Exception):
    """The request can't be served; the connection is closed after the answer."""

    def __init__(self, status: HTTPStatus, detail: str) -> None:
        super().__init__(detail)
        self.status = status
        self.detail = detail


@dataclass(slots=True)
class Head:
    """A request's line and headers. `environ` has the WSGI names, but for those of the server itself."""

    environ: dict[str, object]
    body_bytes: int
    is_chunked: bool
    is_keep_alive: bool
    wants_continue: bool


def parse_head(block: bytes) -> Head:
    """The request line and headers in `block`, which ends with the last header's line end.

    Raises `BadRequest`.
    """
    line = _REQUEST_LINE.match(block)
    if line is None:
        raise BadRequest(HTTPStatus.BAD_REQUEST, "The request line is not valid HTTP/1.1.")
    method, target, minor = line.groups()
    environ = _headers(block, line.end())
    if target[:1] != b"/":
        target = _origin_form(target, environ)
    path, _, query = target.partition(b"?")
    if b"#" in target:
        raise BadRequest(HTTPStatus.BAD_REQUEST, "The request target has a fragment.")
    environ["REQUEST_METHOD"] = method.decode("latin-1")
    environ["PATH_INFO"] = (unquote_to_bytes(path) if b"%" in path else path).decode("latin-1")
    environ["RAW_PATH"] = path.decode("latin-1")
    environ["QUERY_STRING"] = query.decode("latin-1")
    environ["SERVER_PROTOCOL"] = "HTTP/1.1" if minor == b"1" else "HTTP/1.0"
    if minor == b"1" and "HTTP_HOST" not in environ:
        raise BadRequest(HTTPStatus.BAD_REQUEST, "The Host header is missing.")
    return _framed(environ, is_version_1_1=minor == b"1")


def _headers(block: bytes, start: int) -> dict[str, object]:
    environ: dict[str, object] = {}
    end = start
    count = 0
    for match in _HEADER.finditer(block, start):
        if match.start() != end:
            break
        end = match.end()
        count += 1
        raw_name, raw_value = match.groups()
        name = _names.get(raw_name) or _environ_name(raw_name)
        if name == "-":
            continue
        value = raw_value.strip(b" \t").decode("latin-1")
        if name not in environ:
            environ[name] = value
        elif name in _ONLY_ONCE:
            raise BadRequest(HTTPStatus.BAD_REQUEST, "A header that may occur once occurs twice.")
        else:
            environ[name] = f"{environ[name]}{'; ' if name == 'HTTP_COOKIE' else ', '}{value}"
    if end != len(block):
        raise BadRequest(HTTPStatus.BAD_REQUEST, "A header line is not valid HTTP/1.1.")
    if count > MAX_HEADERS:
        raise BadRequest(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE, "There are too many headers.")
    return environ


def _environ_name(raw_name: bytes) -> str:
    """The WSGI name of a header; `-` for one that is dropped."""
    if b"_" in raw_name:
        return "-"
    name = raw_name.decode("latin-1").upper().replace("-", "_")
    if name not in ("CONTENT_LENGTH", "CONTENT_TYPE"):
        name = f"HTTP_{name}"
    if len(_names) < 1000:  # names come from strangers: never keep them without a bound
        _names[raw_name] = name
    return name


def _origin_form(target: bytes, environ: dict[str, object]) -> bytes:
    """`http://host/path` as `/path`, with its host in the place of the header (RFC 9112, 3.2.2)."""
    absolute = _ABSOLUTE_TARGET.fullmatch(target)
    if absolute is None:
        raise BadRequest(HTTPStatus.BAD_REQUEST, "The request target must begin with a slash.")
    environ["HTTP_HOST"] = absolute[1].decode("latin-1")
    rest = absolute[2]
    return rest if rest[:1] == b"/" else b"/" + rest


def _framed(environ: dict[str, object], *, is_version_1_1: bool) -> Head:
    length = environ.get("CONTENT_LENGTH")
    coding = environ.pop("HTTP_TRANSFER_ENCODING", None)
    body_bytes = 0
    if length is not None:
        if coding is not None:
            raise BadRequest(
                HTTPStatus.BAD_REQUEST, "Content-Length and Transfer-Encoding exclude each other."
            )
        if not _LENGTH.fullmatch(str(length).encode("latin-1")):
            raise BadRequest(HTTPStatus.BAD_REQUEST, "Content-Length is not a number.")
        body_bytes = int(str(length))
    if coding is not None:
        if not is_version_1_1:
            raise BadRequest(HTTPStatus.BAD_REQUEST, "HTTP/1.0 knows no Transfer-Encoding.")
        if str(coding).lower() != "chunked":
            raise BadRequest(HTTPStatus.NOT_IMPLEMENTED, "Of the transfer codings only chunked is known.")
    words = {word.strip() for word in str(environ.get("HTTP_CONNECTION", "")).lower().split(",")}
    return Head(
        environ,
        body_bytes,
        is_chunked=coding is not None,
        is_keep_alive="close" not in words if is_version_1_1 else "keep-alive" in words,
        wants_continue=is_version_1_1 and str(environ.get("HTTP_EXPECT", "")).lower() == "100-continue",
    )


class ChunkedBody:
    """Takes the bytes of a chunked body as they come (RFC 9112, 7.1).

    `feed` returns None while more is needed, else the bytes behind the body.
    Raises `BadRequest` on bad framing and on a body of more than `limit` bytes.
    """

    def __init__(self, limit: int) -> None:
        self.body = bytearray()
        self._limit = limit
        self._buffer = bytearray()
        self._missing = 0  # bytes of the present chunk, with its line end, still to come
        self._is_trailer = False

    def feed(self, data: bytes) -> bytes | None:
        self._buffer += data
        while True:
            if self._is_trailer:
                return self._read_trailer()
            if self._missing:
                if not self._read_chunk():
                    return None
            elif not self._read_size():
                return None

    def _read_size(self) -> bool:
        end = self._buffer.find(b"\r\n", 0, MAX_CHUNK_LINE_BYTES)
        if end < 0:
            if len(self._buffer) >= MAX_CHUNK_LINE_BYTES:
                raise BadRequest(HTTPStatus.BAD_REQUEST, "A chunk's size line is too long.")
            return False
        size = _CHUNK_SIZE.fullmatch(self._buffer, 0, end)
        if size is None:
            raise BadRequest(HTTPStatus.BAD_REQUEST, "A chunk's size is not valid.")
        length = int(size[1], 16)
        if len(self.body) + length > self._limit:
            raise too_large(self._limit)
        del self._buffer[: end + 2]
        self._is_trailer = length == 0
        self._missing = length + 2 if length else 0
        return True

    def _read_chunk(self) -> bool:
        """Move what is there of the present chunk into the body; True once its line end was seen too."""
        if self._missing > 2:
            part = self._buffer[: self._missing - 2]
            self.body += part
            del self._buffer[: len(part)]
            self._missing -= len(part)
        if self._missing > 2 or len(self._buffer) < 2:
            return False
        if self._buffer[:2] != b"\r\n":
            raise BadRequest(HTTPStatus.BAD_REQUEST, "A chunk is longer than its size.")
        del self._buffer[:2]
        self._missing = 0
        return True

    def _read_trailer(self) -> bytes | None:
        """Skip the trailer, which nobody here reads."""
        if self._buffer[:2] == b"\r\n":
            return bytes(self._buffer[2:])
        end = self._buffer.find(b"\r\n\r\n")
        if end >= 0:
            return bytes(self._buffer[end + 4 :])
        if len(self._buffer) > MAX_TRAILER_BYTES:
            raise BadRequest(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE, "The trailer is too long.")
        return None


def too_large(limit: int) -> BadRequest:
    """The refusal of a body of more than `limit` bytes."""
    return BadRequest(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, f"The body is over the limit of {limit} bytes.")
