"""Sends what a container has written, line by line, to somebody who reads it at the server.

Payload: `session`, `container`, `name`, and optionally `tail` (lines), `since` (Unix seconds by this host's clock),
`is_following`, `stdout`, `stderr`, `timestamps`, `search` (only lines with this text), `shows_ansi`, `most_bytes`.

Lines go in pieces to `logs/{session}`; the answer says whether to go on, and when. So the server sets the pace: what it
does not take is not read from Docker, and costs neither this host nor the container anything.
"""

from __future__ import annotations

import contextlib
import re
import threading
import time
from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Protocol

from docker.types.daemon import CancellableStream

from dockmesh.agent.actions import container_of
from dockmesh.agent.backoff import Backoff
from dockmesh.agent.commands import CommandError, Run
from dockmesh.agent.document import JSON
from dockmesh.agent.engine import FAILURES, Engine, EngineError, explain
from dockmesh.agent.errors import ServerError
from dockmesh.agent.events import pieces_of
from dockmesh.agent.text import ANSI, cut

KIND = "container-logs"
MOST_LINES = 10_000
LINE_BYTES = 32 * 1024
PIECE_BYTES = 128 * 1024
# Read from Docker and not sent yet.
HELD_BYTES = 512 * 1024
# What is looked through for a text, or to get at the lines that are sent.
MOST_READ_BYTES = 256 * 1024 * 1024
GATHER_SECONDS = 0.2
ALIVE_SECONDS = 5.0
# So long a server that does not answer is tried again.
PATIENCE_SECONDS = 20.0
_NOT_FOUND = 404
_UNREADABLE = 501
# A line with more of these than that share is no text.
_BINARY_SHARE = 0.3
_CONTROLS = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f]")
_ESCAPE, _SHOWN_ESCAPE = "\x1b", "\u241b"
_HEADER_BYTES = 8
_STDERR, _FAILURE = 2, 3


class Server(Protocol):
    """Takes a piece; raises ServerError."""

    def __call__(self, session: str, piece: JSON) -> Mapping[str, Any]: ...


class Logs:
    """Executor of `container-logs`."""

    def __init__(self, docker_host: str, server: Server) -> None:
        self._docker_host = docker_host
        self._server = server

    def __call__(self, run: Run) -> JSON:
        name = run.text("name", "") or container_of(run)[:12]
        try:
            with Engine.open(self._docker_host) as engine:
                return self._send(engine, run, name)
        except EngineError as error:
            if error.status == _NOT_FOUND:
                raise CommandError(f"{name} is gone: Docker has no such container any more") from None
            raise CommandError(f"Docker gives no log of {name}: {error.reason}") from None
        except FAILURES as error:
            raise CommandError(explain(error, self._docker_host)) from None

    def _send(self, engine: Engine, run: Run, name: str) -> JSON:
        identity = container_of(run)
        inspected = engine.get(f"/containers/{identity}/json")
        driver = str(((inspected.get("HostConfig") or {}).get("LogConfig") or {}).get("Type") or "")
        if driver == "none":
            raise CommandError(
                f"{name} has no log: its log driver is none, so that Docker keeps nothing of it"
            )
        is_following = run.payload.get("is_following") is True
        since = run.payload.get("since")
        parameters = {"since": f"{since:.3f}"} if isinstance(since, (int, float)) and since > 0 else {}
        response = engine.open_stream(
            f"/containers/{identity}/logs",
            timeout=(10.0, max(run.deadline - time.monotonic(), 1.0)),
            is_stream=True,
            follow="1" if is_following else "0",
            stdout="0" if run.payload.get("stdout") is False else "1",
            stderr="0" if run.payload.get("stderr") is False else "1",
            timestamps="1" if run.payload.get("timestamps") is True else "0",
            tail=str(min(_number(run, "tail", 500), MOST_LINES)),
            **parameters,
        )
        is_terminal = bool((inspected.get("Config") or {}).get("Tty"))
        with contextlib.closing(response):
            stream = CancellableStream(pieces_of(response), response)
            reader = Reader(
                iter(stream),
                is_terminal=is_terminal,
                search=run.text("search", ""),
                shows_ansi=run.payload.get("shows_ansi") is True,
            )
            try:
                sent = self._deliver(reader, run)
            finally:
                reader.close()
                with contextlib.suppress(*FAILURES, AttributeError):
                    stream.close()
        if reader.error:
            raise CommandError(f"Docker's log of {name} broke off: {reader.error}")
        return {"bytes": sent}

    def _deliver(self, reader: Reader, run: Run) -> int:
        """Send until there is no more, or nobody reads; how many bytes."""
        session, most = run.text("session"), _number(run, "most_bytes", 10 * 1024 * 1024)
        sent = number = 0
        last_at = time.monotonic()
        while True:
            text, is_over = reader.take(PIECE_BYTES, wait=GATHER_SECONDS)
            now = time.monotonic()
            if run.cancelled.is_set():
                raise CommandError("the agent is stopping")
            if now > run.deadline - 5:
                raise CommandError("the time for this reading is up: open it anew to read on")
            if text or (not is_over and now - last_at >= ALIVE_SECONDS):
                sent += len(text.encode())
                pause = self._post(session, {"number": number, "text": text}, run)
                last_at = time.monotonic()
                if pause is None:
                    return sent
                number += 1
                if sent >= most:
                    raise CommandError(
                        f"{most // (1024 * 1024)} MB are read, which is the most of one reading: it ends here. Read"
                        " from a later time on, or only lines with a text"
                    )
                run.cancelled.wait(pause)
            if is_over and not text:
                return sent

    def _post(self, session: str, piece: JSON, run: Run) -> float | None:
        """Seconds until the next piece may follow; None if nobody wants more."""
        backoff = Backoff(first=0.5, longest=5.0)
        until = time.monotonic() + PATIENCE_SECONDS
        while True:
            try:
                answer = self._server(session, piece)
                break
            except ServerError as error:
                if error.status in (401, 403, 404, 409, 410):
                    return None
                if (error.status and error.status < 500 and error.status != 429) or time.monotonic() > until:
                    raise CommandError(f"the log can't be sent: {error}") from None
                run.cancelled.wait(backoff.failed(retry_after=error.retry_after))
                if run.cancelled.is_set():
                    raise CommandError("the agent is stopping") from None
        if answer.get("status") != "go_on":
            return None
        pause = answer.get("pause_seconds")
        return min(max(float(pause), 0.0), 10.0) if isinstance(pause, (int, float)) else 0.0


class Reader:
    """Reads the stream in a thread, no further ahead than `HELD_BYTES`, and hands out whole lines."""

    def __init__(
        self, stream: Iterable[bytes], *, is_terminal: bool, search: str = "", shows_ansi: bool = False
    ) -> None:
        self.error = ""
        self._search = search.casefold()
        self._shows_ansi = shows_ansi
        self._lines: deque[str] = deque()
        self._held = 0
        self._changed = threading.Condition()
        self._is_over = self._is_closed = False
        pieces = counted(stream)
        parts = ((0, piece) for piece in pieces) if is_terminal else frames(pieces)
        self._thread = threading.Thread(target=self._run, args=(parts,), name="log", daemon=True)
        self._thread.start()

    def take(self, limit: int, *, wait: float) -> tuple[str, bool]:
        """(lines, whether there are no more), after `wait` seconds at most if there are none yet."""
        with self._changed:
            if not self._lines and not self._is_over:
                self._changed.wait(wait)
            taken: list[str] = []
            size = 0
            while self._lines and size < limit:
                line = self._lines.popleft()
                taken.append(line)
                size += len(line)
            self._held -= size
            self._changed.notify_all()
            return "".join(taken), self._is_over and not self._lines

    def close(self) -> None:
        """Read no further."""
        with self._changed:
            self._is_closed = True
            self._changed.notify_all()

    def _run(self, parts: Iterator[tuple[int, bytes]]) -> None:
        splitters: dict[int, Splitter] = {}
        try:
            for stream, data in parts:
                if stream == _FAILURE:
                    self.error = _text(data, shows_ansi=False).strip()[:300] or "for no reason that it gives"
                    break
                for line in splitters.setdefault(stream, Splitter()).feed(data):
                    self._add(line)
                if self._is_closed:
                    return
            for splitter in splitters.values():
                for line in splitter.end():
                    self._add(line)
        except TooMuch:
            self.error = f"{MOST_READ_BYTES // (1024 * 1024)} MB were looked through, which is the most: give a later time"
        except (*FAILURES, AttributeError) as error:
            # A stream that is closed ends in many ways.
            if not self._is_closed:
                self.error = str(error)[:300] or type(error).__name__
        finally:
            with self._changed:
                self._is_over = True
                self._changed.notify_all()

    def _add(self, line: bytes) -> None:
        text = _text(line, shows_ansi=self._shows_ansi)
        if self._search and self._search not in text.casefold():
            return
        with self._changed:
            while self._held >= HELD_BYTES and not self._is_closed:
                self._changed.wait()
            self._lines.append(text + "\n")
            self._held += len(text) + 1
            self._changed.notify_all()


class Splitter:
    """Makes lines of pieces. Of a line that is too long the start is kept, and told how long it was."""

    def __init__(self) -> None:
        self._start = bytearray()
        self._length = 0

    def feed(self, data: bytes) -> Iterator[bytes]:
        """The lines that end in `data`, without their ends."""
        *whole, rest = data.split(b"\n")
        for part in whole:
            self._take(part)
            yield self._line()
        self._take(rest)

    def end(self) -> Iterator[bytes]:
        """What has no end yet."""
        if self._length:
            yield self._line()

    def _take(self, part: bytes) -> None:
        self._length += len(part)
        self._start += part[: LINE_BYTES - len(self._start)]

    def _line(self) -> bytes:
        line = bytes(self._start).rstrip(b"\r")
        if self._length > LINE_BYTES:
            # Not in the middle of a character.
            line = line.decode("utf-8", "ignore").encode() or line
            line += b" [the line has %d bytes, and is cut here]" % self._length
        self._start.clear()
        self._length = 0
        return line


class TooMuch(Exception):
    """More was read than is sensible."""


def counted(stream: Iterable[bytes]) -> Iterator[bytes]:
    """The same; raises TooMuch after MOST_READ_BYTES."""
    total = 0
    for piece in stream:
        total += len(piece)
        if total > MOST_READ_BYTES:
            raise TooMuch
        yield piece


def frames(pieces: Iterable[bytes]) -> Iterator[tuple[int, bytes]]:
    """(stream, data) of Docker's multiplexed stream; of anything else, all of it as stream 0."""
    buffer = bytearray()
    kind, left, is_raw = 0, 0, False
    for piece in pieces:
        buffer += piece
        while buffer:
            if is_raw:
                yield 0, bytes(buffer)
                buffer.clear()
            elif left:
                part = bytes(buffer[:left])
                del buffer[:left]
                left -= len(part)
                yield kind, part
            elif len(buffer) < _HEADER_BYTES:
                break
            elif buffer[0] > _FAILURE or any(buffer[1:4]):
                is_raw = True
            else:
                kind, left = buffer[0], int.from_bytes(buffer[4:8], "big")
                del buffer[:_HEADER_BYTES]
    if buffer:
        yield 0, bytes(buffer)


def _text(line: bytes, *, shows_ansi: bool) -> str:
    """A line as it can be read: binary is told, terminal sequences are taken out or made visible."""
    text = line.decode("utf-8", "replace")
    if text.isprintable():
        return text
    text = text.replace(_ESCAPE, _SHOWN_ESCAPE) if shows_ansi else ANSI.sub("", text)
    text = _CONTROLS.sub("\ufffd", text.replace("\r", " "))
    if text.count("\ufffd") > len(text) * _BINARY_SHARE and len(text) > 1:
        return f"[{len(line)} bytes that are no text]"
    return cut(text, limit=LINE_BYTES + 100)


def _number(run: Run, key: str, default: int) -> int:
    value = run.payload.get(key, default)
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        raise CommandError(f"payload: {key} must be a whole number from 0")
    return value
