"""A small Docker Engine that answers as a test wants it to: as API 1.52 or Podman, behind a socket proxy, hanging."""

from __future__ import annotations

import json
import re
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

FORBIDDEN = (
    403,
    "text/html",
    b"<html><body><h1>403 Forbidden</h1>\nRequest forbidden by rules.\n</body></html>\n",
)
Answer = tuple[int, str, bytes]


class StandIn:
    """An Engine at `tcp://127.0.0.1:PORT` with `containers`, by id, as their inspections tell them."""

    def __init__(self, tls: tuple[Path, Path] | None = None) -> None:
        self.containers: dict[str, dict[str, Any]] = {}
        # More of a list's entry than its inspection gives, by id; None takes a key away.
        self.listed: dict[str, dict[str, Any]] = {}
        # Paths without their version, as regular expressions: what is answered there instead.
        self.answers: dict[str, Answer] = {}
        self.hanging: list[str] = []
        self.api_version = "1.52"
        # Any other is refused as Docker refuses it.
        self.only_version = ""
        # So many lists end before they begin, as where a proxy closes a connection that was kept.
        self.drops = 0
        # The stream of events ends after so many seconds; with how many it was opened.
        self.events_end_after = 600.0
        self.streams = 0
        # In chunks, or as HTTP/1.0 has it: until the connection ends.
        self.is_chunked = True
        self.requests: list[str] = []
        self._released = threading.Event()
        self._guard = threading.Condition()
        self._events: list[bytes] = []
        stand_in = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                stand_in._answer(self)

            def log_message(self, format: str, *args: object) -> None:
                pass

        class Server(ThreadingHTTPServer):
            daemon_threads = True
            request_queue_size = 64

            def handle_error(self, request: object, client_address: object) -> None:
                pass

        self._server = Server(("127.0.0.1", 0), Handler)
        if tls:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(*tls)
            self._server.socket = context.wrap_socket(
                self._server.socket, server_side=True, do_handshake_on_connect=False
            )
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()

    @property
    def host(self) -> str:
        return f"tcp://127.0.0.1:{self._server.server_address[1]}"

    def close(self) -> None:
        self._released.set()
        with self._guard:
            self._guard.notify_all()
        self._server.shutdown()
        self._server.server_close()

    def add(self, number: int, name: str, **state: Any) -> str:
        """A container that runs, or is in the `state` that is given with Docker's own keys."""
        identity = f"{number:064x}"
        self.containers[identity] = {
            "Id": identity,
            "Name": f"/{name}",
            "Created": "2026-11-22T10:00:00Z",
            "Image": "sha256:" + "ab" * 32,
            "RestartCount": 0,
            "HostConfig": {"RestartPolicy": {"Name": "always"}},
            "Config": {"Image": "nginx:1.27", "Labels": {"com.docker.compose.project": "shop"}},
            "State": {"Status": "running", "ExitCode": 0, "StartedAt": "2026-11-22T11:00:00Z", **state},
        }
        return identity

    def say(self, event: bytes | dict[str, Any]) -> None:
        """Send an event to whoever follows."""
        with self._guard:
            self._events.append(event if isinstance(event, bytes) else json.dumps(event).encode() + b"\n")
            self._guard.notify_all()

    def count(self, pattern: str) -> int:
        """Requests whose path, without its version, matches."""
        return sum(re.fullmatch(pattern, path) is not None for path in list(self.requests))

    def _answer(self, request: BaseHTTPRequestHandler) -> None:
        found = re.fullmatch(r"(?:/v([\d.]+))?(/[^?]*)(?:\?.*)?", request.path)
        assert found
        path = found[2]
        self.requests.append(path)
        if self.only_version and found[1] not in (None, self.only_version):
            _send(request, 400, "application/json", b'{"message": "client version is too new or too old"}')
            return
        if self.drops and path == "/containers/json":
            self.drops -= 1
            request.close_connection = True
            return
        if any(re.fullmatch(pattern, path) for pattern in self.hanging):
            self._released.wait(60)
            request.close_connection = True
            return
        for pattern, answer in self.answers.items():
            if re.fullmatch(pattern, path):
                _send(request, *answer)
                return
        if path == "/events":
            self._follow(request)
            return
        status, body = self._body(path)
        _send(request, status, "application/json", json.dumps(body).encode())

    def _body(self, path: str) -> tuple[int, Any]:
        if path == "/version":
            return 200, {"Version": "29.0.1", "ApiVersion": self.api_version}
        if path == "/info":
            return 200, {"OSType": "linux", "Architecture": "x86_64", "NCPU": 3, "MemTotal": 2**30}
        if path == "/_ping":
            return 200, "OK"
        if path == "/containers/json":
            return 200, [self._listed(identity) for identity in list(self.containers)]
        found = re.fullmatch(r"/containers/(\w+)/json", path)
        if found and found[1] in self.containers:
            return 200, self.containers[found[1]]
        return 404, {"message": "page not found"}

    def _listed(self, identity: str) -> dict[str, Any]:
        container = self.containers[identity]
        state = container["State"]
        health = state.get("Health", {}).get("Status")
        status = "Up 3 hours" + (f" ({health})" if health else "")
        if state["Status"] == "exited":
            status = f"Exited ({state['ExitCode']}) 3 hours ago"
        entry = {
            "Id": identity,
            "Names": [container["Name"]],
            "Image": container["Config"]["Image"],
            "ImageID": container["Image"],
            "Labels": container["Config"]["Labels"],
            "State": state["Status"],
            "Status": status,
            "Created": 1790000000,
        } | self.listed.get(identity, {})
        return {key: value for key, value in entry.items() if value is not ...}

    def _follow(self, request: BaseHTTPRequestHandler) -> None:
        with self._guard:
            self.streams += 1
            seen = len(self._events)
        request.close_connection = True
        request.send_response(200)
        request.send_header("Content-Type", "application/json")
        if self.is_chunked:
            request.send_header("Transfer-Encoding", "chunked")
        request.end_headers()
        request.wfile.flush()
        ends = threading.Event()
        timer = threading.Timer(self.events_end_after, self._end, args=(ends,))
        timer.daemon = True
        timer.start()
        while not ends.is_set() and not self._released.is_set():
            with self._guard:
                while seen == len(self._events) and not ends.is_set() and not self._released.is_set():
                    self._guard.wait()
                news, seen = b"".join(self._events[seen:]), len(self._events)
            if news:
                request.wfile.write(b"%x\r\n%s\r\n" % (len(news), news) if self.is_chunked else news)
                request.wfile.flush()
        timer.cancel()

    def _end(self, ends: threading.Event) -> None:
        ends.set()
        with self._guard:
            self._guard.notify_all()


def _send(request: BaseHTTPRequestHandler, status: int, kind: str, body: bytes) -> None:
    request.send_response(status)
    request.send_header("Content-Type", kind)
    request.send_header("Content-Length", str(len(body)))
    request.end_headers()
    request.wfile.write(body)


@contextmanager
def stand_in(tls: tuple[Path, Path] | None = None) -> Iterator[StandIn]:
    engine = StandIn(tls)
    try:
        yield engine
    finally:
        engine.close()
