"""The agents' protocol for a simulated host: enrollment, heartbeats, commands and their results."""

import http.client
import json
import time
import urllib.parse
import uuid
from dataclasses import dataclass, field
from typing import Any

from dockmesh.fleet.simulation.world import SimulatedHost, moment

VERSION = "0.1.0"
AGENT = {
    "version": VERSION,
    "capabilities": [
        "deploy",
        "preview",
        "cancel",
        "backup",
        "backup-options",
        "containers",
        "logs",
        "inspect",
    ],
    "repositories": ["offsite"],
    "compose_version": "2.40.3",
    "restic_version": "0.18.1",
}
# One command in so many fails.
FAILS = 0.1
SECONDS = {"deploy": (2.0, 20.0), "backup": (3.0, 25.0)}
# What somebody waits for before a page is there at the next step, and does not fail by chance.
BESIDE = ("container-action", "container-inspect", "container-logs")


class Refused(Exception):
    """The server answered with an error."""

    def __init__(self, status: int, body: bytes) -> None:
        super().__init__(f"the server answered {status}: {body[:300].decode('utf-8', 'replace')}")
        self.status = status


class Unreachable(Exception):
    """Nobody answers."""


class Client:
    """One kept connection to the server; for one thread."""

    def __init__(self, server: str) -> None:
        parts = urllib.parse.urlsplit(server)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ValueError(f"--server must be an address like http://127.0.0.1:8080, not {server!r}")
        kind = http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
        self._connection = kind(parts.hostname, parts.port, timeout=30)
        self._prefix = parts.path.rstrip("/")

    def post(self, path: str, body: dict[str, Any], *, token: str) -> dict[str, Any]:
        """The answer's object; raises `Refused` or `Unreachable`."""
        raw = json.dumps(body, separators=(",", ":"), ensure_ascii=False).encode()
        return self._request("POST", path, raw, token)

    def get(self, path: str, *, token: str) -> dict[str, Any]:
        """As `post`."""
        return self._request("GET", path, None, token)

    def _request(self, method: str, path: str, raw: bytes | None, token: str) -> dict[str, Any]:
        headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/json"}
        for is_last in (False, True):
            is_fresh = self._connection.sock is None
            try:
                self._connection.request(method, f"{self._prefix}/api/v1/{path}", raw, headers)
                answer = self._connection.getresponse()
                content = answer.read()
                break
            except (OSError, http.client.HTTPException) as error:
                self._connection.close()
                # A kept connection may have been closed meanwhile; a new one tells the truth.
                if is_fresh or is_last:
                    raise Unreachable(str(error) or type(error).__name__) from None
        if answer.status not in (200, 201, 202):
            raise Refused(answer.status, content)
        found: dict[str, Any] = json.loads(content)
        return found

    def close(self) -> None:
        """Close the connection."""
        self._connection.close()


@dataclass
class Work:
    """A command that is being carried out."""

    kind: str
    payload: dict[str, Any]
    began: float
    ends: float
    is_success: bool
    written: int = 0
    is_cancelled: bool = False

    @property
    def error(self) -> str:
        return (
            "cancelled; nothing was changed" if self.is_cancelled else f"{self.kind} ended with exit code 1"
        )

    def cancel(self, now: float) -> None:
        """Break it off."""
        self.is_cancelled, self.is_success, self.ends = True, False, now


@dataclass
class SimulatedAgent:
    """The agent of one simulated host."""

    host: SimulatedHost
    token: str
    host_id: int = 0
    boot_id: str = ""
    sequence: int = 0
    known_digest: str = ""
    rtt_seconds: list[float] = field(default_factory=list)
    work: dict[str, Work] = field(default_factory=dict)
    seen_commands: set[str] = field(default_factory=set)
    advanced_at: float = field(default_factory=time.monotonic)
    interval_seconds: float = 15.0

    def step(self, client: Client) -> bool:
        """Let the time since the last step pass and send a heartbeat; False while the host is silent."""
        now = time.monotonic()
        was_silent = self.host.is_silent
        self.host.advance(now - self.advanced_at)
        self.advanced_at = now
        if self.host.is_silent:
            return False
        if was_silent or not self.boot_id:
            self._boot()
        self._finish_work(client, now)
        if self._beat(client, now) == "inventory_wanted":
            self.known_digest = ""
            self._beat(client, now)
        return True

    def _boot(self) -> None:
        """The machine came back, and with it a new agent; what ran before is forgotten by it."""
        self.boot_id = str(uuid.UUID(int=self.host.chance.getrandbits(128), version=4))
        self.sequence, self.known_digest, self.rtt_seconds = 0, "", []

    def _beat(self, client: Client, now: float) -> str:
        digest, containers = self.host.inventory()
        self.sequence += 1
        document = self._document(digest, containers, now)
        rtts, self.rtt_seconds = self.rtt_seconds, []
        began = time.monotonic()
        try:
            answer = client.post("agents/heartbeat", document, token=self.token)
        except (Refused, Unreachable):
            self.rtt_seconds = rtts
            raise
        self.rtt_seconds.append(round(time.monotonic() - began, 6))
        self.interval_seconds = answer["heartbeat_interval_seconds"]
        if answer["status"] == "accepted" and not self.host.is_docker_down:
            self.known_digest = digest
        if answer["status"] != "accepted":
            self.host.disk_due = 0.0  # what was told of it was not taken
        for command in answer["commands"]:
            self._begin(command, now)
        for command_id in answer.get("asked", ()):
            self._say_not_known(client, command_id)
        return str(answer["status"])

    def _document(self, digest: str, containers: list[dict[str, Any]], now: float) -> dict[str, Any]:
        is_down = self.host.is_docker_down
        inventory: dict[str, Any] | None = {"digest": digest}
        if is_down:
            inventory = None
        elif digest != self.known_digest:
            inventory = {"digest": digest, "containers": containers}
        document: dict[str, Any] = {
            "protocol": 1,
            "boot_id": self.boot_id,
            "sequence": self.sequence,
            "sent_at": moment(),
            "agent": AGENT,
            "rtt_seconds": self.rtt_seconds,
            "docker": {
                "reachable": not is_down,
                "version": "27.3.1",
                "error": "the Docker Engine does not answer" if is_down else "",
            },
            "system": {
                "os": "linux",
                "arch": "x86_64",
                "kernel": "6.1.0-28-amd64",
                "cpus": 8,
                "memory_bytes": 34359738368,
            },
            "inventory": inventory,
        }
        if self.work:
            document["progress"] = [self._progress(key, work, now) for key, work in self.work.items()]
        if not is_down:
            document["usage"] = self.host.usage()
        return document

    def _progress(self, command_id: str, work: Work, now: float) -> dict[str, Any]:
        work.written += 1
        return {
            "command_id": command_id,
            "output": f"step {work.written}: {work.payload.get('stack') or work.payload.get('job') or work.kind}\n",
            "elapsed_seconds": round(now - work.began, 3),
        }

    def _begin(self, command: dict[str, Any], now: float) -> None:
        if command["id"] in self.seen_commands:
            return
        self.seen_commands.add(command["id"])
        if command["kind"] == "cancel":
            named = self.work.get(command["payload"]["command"])
            if named is not None:
                named.cancel(now)
            self.work[command["id"]] = Work("cancel", command["payload"], now, now, named is not None)
            return
        if command["kind"] in BESIDE:
            self.work[command["id"]] = Work(command["kind"], command["payload"], now, now, True)
            return
        chance = self.host.chance
        lasts = chance.uniform(*SECONDS.get(command["kind"], (1.0, 5.0)))
        self.work[command["id"]] = Work(
            command["kind"], command["payload"], now, now + lasts, chance.random() >= FAILS
        )

    def _finish_work(self, client: Client, now: float) -> None:
        for command_id, work in [(key, work) for key, work in self.work.items() if work.ends <= now]:
            result = self._beside(client, work) if work.kind in BESIDE else self._result(work)
            self._report(client, command_id, result)
            del self.work[command_id]

    def _say_not_known(self, client: Client, command_id: str) -> None:
        """The server has been put back to an older copy, or this program began anew."""
        if command_id not in self.work:
            error = "this agent does not have the command"
            answer = {"result": "failure", "duration_seconds": 0.0, "error": error}
            self._report(client, command_id, {**answer, "is_known": False, "is_repeated": True})

    def _report(self, client: Client, command_id: str, result: dict[str, Any]) -> None:
        try:
            client.post(f"agents/commands/{command_id}/result", result, token=self.token)
        except Refused as refused:
            if refused.status not in (403, 404, 409):
                raise

    def _beside(self, client: Client, work: Work) -> dict[str, Any]:
        """Act on a container, tell more of it, or send its log."""
        container = self.host.containers.get(work.payload["container"])
        found: dict[str, Any] = {}
        if container is not None and work.kind == "container-action":
            found = {"outcome": container.act(work.payload["action"])}
        elif container is not None and work.kind == "container-inspect":
            found = {"found": container.details()}
        elif container is not None:
            piece = {"number": 0, "text": container.log(work.payload["tail"])}
            try:
                client.post(f"agents/logs/{work.payload['session']}", piece, token=self.token)
            except Refused as refused:
                if refused.status != 404:  # nobody reads any more
                    raise
        is_there = container is not None
        return {
            "result": "success" if is_there else "failure",
            "duration_seconds": 0.0,
            "error": "" if is_there else f"{work.payload['name']} is gone",
            **found,
        }

    def _result(self, work: Work) -> dict[str, Any]:
        payload, lines = work.payload, []
        found: dict[str, Any] = {}
        if work.is_cancelled:
            found = {"is_changed": False}
        elif not work.is_success:
            lines = ["Error response from daemon: pull access denied"]
        elif work.kind == "deploy":
            lines = self.host.deploy(
                str(payload.get("stack", "")),
                str(payload.get("operation", "up")),
                str(payload.get("compose_file", "")),
            )
        else:
            lines = [f"{work.kind} done"]
            found = {"snapshot_id": f"{self.host.chance.getrandbits(256):064x}", **self._sizes()}
        return {
            "result": "success" if work.is_success else "failure",
            "duration_seconds": round(work.ends - work.began, 3),
            "exit_code": 0 if work.is_success else 1,
            "output": "\n".join(lines),
            "error": "" if work.is_success else work.error,
            **found,
        }

    def _sizes(self) -> dict[str, int]:
        chance = self.host.chance
        return {
            "files": chance.randint(10, 5000),
            "bytes_processed": chance.randint(10**6, 10**10),
            "bytes_added": chance.randint(10**5, 10**8),
        }
