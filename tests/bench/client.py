"""An HTTP client that costs next to nothing, so that what is measured is the server."""

import gzip
import os
import socket
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

# What Prometheus 2.42 (Debian 12) sends.
PROMETHEUS = {
    "Accept": "application/openmetrics-text;version=1.0.0,application/openmetrics-text;version=0.0.1;q=0.75,"
    "text/plain;version=0.0.4;q=0.5,*/*;q=0.1",
    "Accept-Encoding": "gzip",
    "User-Agent": "Prometheus/2.42.0",
    "X-Prometheus-Scrape-Timeout-Seconds": "10",
}
PLAIN = {**PROMETHEUS, "Accept": "text/plain;version=0.0.4", "Accept-Encoding": "identity"}


@dataclass(frozen=True)
class Answer:
    status: int
    head: bytes
    body: bytes
    seconds: float

    def text(self) -> str:
        """The body, taken out of its chunks and its compression."""
        body = self.body
        if b"transfer-encoding: chunked" in self.head.lower():
            body = _joined(body)
        if b"content-encoding: gzip" in self.head.lower():
            body = gzip.decompress(body)
        return body.decode()


class Client:
    """One connection, kept alive. The whole answer is read into one buffer."""

    def __init__(
        self,
        url: str,
        headers: Mapping[str, str] | None = None,
        *,
        path: str = "/metrics",
        buffer_bytes: int = 1 << 27,
    ) -> None:
        self._path = path
        parts = urlsplit(url)
        self._host, self._port = parts.hostname or "", parts.port or 80
        self._headers = dict(headers or {})
        self._buffer = bytearray(buffer_bytes)
        self._socket: socket.socket | None = None

    def get(self) -> Answer:
        return self.send(self.request("GET", self._path))

    def request(self, method: str, path: str, body: bytes = b"") -> bytes:
        """The bytes of a request, ready to be sent again and again."""
        headers = {"Host": f"{self._host}:{self._port}", **self._headers}
        if body or method == "POST":
            headers["Content-Type"] = "application/json"
            headers["Content-Length"] = str(len(body))
        lines = [f"{method} {path} HTTP/1.1", *(f"{name}: {value}" for name, value in headers.items())]
        return "\r\n".join(lines).encode() + b"\r\n\r\n" + body

    def send(self, request: bytes) -> Answer:
        """Send, and read the whole answer; a connection that the server has closed is made anew once."""
        try:
            return self._exchange(request)
        except ConnectionError:
            self.close()
            return self._exchange(request)

    def close(self) -> None:
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    def _exchange(self, request: bytes) -> Answer:
        if self._socket is None:
            self._socket = socket.create_connection((self._host, self._port), timeout=120)
            self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        start = time.perf_counter()
        self._socket.sendall(request)
        view, size, head_end, length = memoryview(self._buffer), 0, -1, 0
        while True:
            count = self._socket.recv_into(view[size:])
            if not count:
                raise ConnectionResetError("the server closed the connection")
            size += count
            if head_end < 0:
                head_end = self._buffer.find(b"\r\n\r\n", 0, size)
                if head_end < 0:
                    continue
                length = _content_length(bytes(view[:head_end]))
            if length >= 0:
                if size >= head_end + 4 + length:
                    break
            elif self._buffer.endswith(b"0\r\n\r\n", 0, size):
                break
        seconds = time.perf_counter() - start
        head = bytes(view[:head_end])
        return Answer(int(head.split(b" ", 2)[1]), head, bytes(view[head_end + 4 : size]), seconds)


def _content_length(head: bytes) -> int:
    """-1 for a chunked answer."""
    for line in head.split(b"\r\n"):
        name, _, value = line.partition(b":")
        if name.lower() == b"content-length":
            return int(value)
    return -1


def _joined(chunked: bytes) -> bytes:
    parts, at = [], 0
    while True:
        end = chunked.index(b"\r\n", at)
        size = int(chunked[at:end], 16)
        if not size:
            return b"".join(parts)
        parts.append(chunked[end + 2 : end + 2 + size])
        at = end + 2 + size + 2


def processor_seconds(pid: int) -> float:
    """Processor time of a process so far, exact to the nanosecond (proc(5), schedstat), of living threads."""
    total = 0
    for task in os.listdir(f"/proc/{pid}/task"):
        total += int(Path(f"/proc/{pid}/task/{task}/schedstat").read_text().split()[0])
    return total / 1e9


def resident_bytes(pid: int) -> int:
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) * 1024
    raise RuntimeError(f"no memory figure of process {pid}")
