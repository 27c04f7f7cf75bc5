"""A server that speaks the agent protocol as the test tells it to, and records what it was sent."""

from __future__ import annotations

import json
import re
import ssl
import threading
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from tests.support import PATIENCE

ENROLLMENT_TOKEN = "dme_" + "A" * 12 + "_" + "b" * 40 + "_" + "000000"
AGENT_TOKEN = "dma_" + "A" * 12 + "_" + "b" * 40 + "_" + "000000"

Reply = tuple[int, dict[str, Any], dict[str, str]]


@dataclass
class Request:
    path: str
    token: str
    body: dict[str, Any]
    headers: dict[str, str]
    at: float = field(default_factory=time.monotonic)


# Commands have UUIDs on the wire and small numbers in the tests.
_ZEROS = "00000000-0000-0000-0000-"
_NUMBERED = re.compile(f'"{_ZEROS}([0-9a-f]{{12}})"|{_ZEROS}([0-9a-f]{{12}})')


def _with_numbers(text: str) -> str:
    return _NUMBERED.sub(lambda found: str(int(found[1] or found[2], 16)), text)


def _with_uuids(commands: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [{**each, "id": str(uuid.UUID(int=each["id"]))} for each in commands]


class StubServer:
    """Accepts what a well-behaved server would. Change `reply` to behave otherwise."""

    def __init__(self, *, port: int = 0, tls: tuple[Path, Path] | None = None) -> None:
        self.requests: list[Request] = []
        self.commands: list[dict[str, Any]] = []
        # Handed to the request that waits.
        self.waited_for: list[dict[str, Any]] = []
        # What it hands out to anybody: path → content.
        self.files: dict[str, bytes] = {}
        self._is_closed = False
        self.interval = 60.0
        self.known_digests: set[str] = set()
        self.enrollment_tokens = {ENROLLMENT_TOKEN}
        self.agent_tokens = {AGENT_TOKEN}
        # Gives the answer instead of the usual one, or None for the usual one.
        self.reply: Callable[[Request], Reply | None] = lambda request: None
        self._guard = threading.Condition()
        stub = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                length = int(self.headers["Content-Length"])
                request = Request(
                    path=_with_numbers(self.path.removeprefix("/api/v1/agents/")),
                    token=self.headers.get("Authorization", "").removeprefix("Bearer "),
                    body=json.loads(_with_numbers(self.rfile.read(length).decode())),
                    headers=dict(self.headers),
                )
                status, body, headers = stub._answer(request)
                data = json.dumps(body).encode()
                self.send_response(status)
                for name, value in headers.items():
                    self.send_header(name, value)
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)
                with stub._guard:
                    stub.requests.append(request)
                    stub._guard.notify_all()

            def do_GET(self) -> None:
                data = stub.files.get(self.path)
                self.send_response(404 if data is None else 200)
                self.send_header("Content-Length", str(len(data or b"")))
                self.end_headers()
                self.wfile.write(data or b"")

            def log_message(self, format: str, *args: object) -> None:
                pass

        class Server(ThreadingHTTPServer):
            daemon_threads = True

            def handle_error(self, request: object, client_address: object) -> None:
                pass

        self._server = Server(("127.0.0.1", port), Handler)
        if tls:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(*tls)
            self._server.socket = context.wrap_socket(self._server.socket, server_side=True)
        self._scheme = "https" if tls else "http"
        self.port = self._server.server_address[1]
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True)
        self._thread.start()

    @property
    def url(self) -> str:
        return f"{self._scheme}://127.0.0.1:{self.port}"

    def close(self) -> None:
        with self._guard:
            self._is_closed = True
            self._guard.notify_all()
        self._server.shutdown()
        self._server.server_close()

    def wait_for(
        self, wanted: Callable[[Request], object], *, seconds: float = 15.0, after: float = 0.0
    ) -> Request:
        """The first request that is `wanted` and came after the monotonic time `after`."""
        deadline = time.monotonic() + PATIENCE * seconds
        with self._guard:
            while True:
                for request in self.requests:
                    if request.at > after and wanted(request):
                        return request
                left = deadline - time.monotonic()
                if left <= 0:
                    seen = [(r.path, r.body.get("docker"), r.body.get("result")) for r in self.requests]
                    raise AssertionError(f"not seen within {seconds} s; came: {seen[-10:]}")
                self._guard.wait(left)

    def heartbeats(self) -> list[dict[str, Any]]:
        return [request.body for request in list(self.requests) if request.path == "heartbeat"]

    def results(self, command_id: int) -> list[dict[str, Any]]:
        path = f"commands/{command_id}/result"
        return [request.body for request in list(self.requests) if request.path == path]

    def _answer(self, request: Request) -> Reply:
        special = self.reply(request)
        if special is not None:
            return special
        if request.path == "enroll":
            if request.token not in self.enrollment_tokens:
                return 401, {"title": "Unauthorized", "detail": "invalid token"}, {}
            self.enrollment_tokens.discard(request.token)
            host = {"id": 1, "name": request.body["hostname"]}
            body = {
                "host": host,
                "agent_token": AGENT_TOKEN,
                "is_renewal": False,
                "heartbeat_interval_seconds": self.interval,
            }
            return 201, body, {}
        if request.token not in self.agent_tokens:
            return 401, {"title": "Unauthorized", "detail": "invalid token"}, {}
        if request.path == "heartbeat":
            return 200, self._heartbeat(request.body), {}
        if request.path == "wait":
            return 200, {"commands": _with_uuids(self._wait())}, {}
        return 200, {}, {}

    def hand(self, *commands: dict[str, Any]) -> None:
        """Give the agent that waits these commands."""
        with self._guard:
            self.waited_for += commands
            self._guard.notify_all()

    def _wait(self) -> list[dict[str, Any]]:
        with self._guard:
            self._guard.wait_for(lambda: self.waited_for or self._is_closed, 25)
            found, self.waited_for = self.waited_for, []
            return found

    def _heartbeat(self, body: dict[str, Any]) -> dict[str, Any]:
        inventory = body["inventory"]
        status = "accepted"
        if inventory is not None:
            if "containers" in inventory:
                self.known_digests = {inventory["digest"]}
            elif inventory["digest"] not in self.known_digests:
                status = "inventory_wanted"
        commands, self.commands = self.commands, []
        return {
            "status": status,
            "heartbeat_interval_seconds": self.interval,
            "server_time": "2026-11-22T12:00:00Z",
            "commands": _with_uuids(commands),
        }
