"""Follows the Engine's events, for as long as it lasts and again when it ends."""

from __future__ import annotations

import codecs
import contextlib
import json
import logging
import threading
import time
from collections.abc import Callable, Iterator, Mapping

import requests
from docker.types import CancellableStream

from dockmesh.agent.backoff import Backoff
from dockmesh.agent.engine import ANSWER_SECONDS, FAILURES, Engine, EngineError
from dockmesh.agent.tally import Tally

log = logging.getLogger("dockmesh.agent")

# A stream that says nothing for so long is opened again: its other end may be gone without a word.
SILENCE_SECONDS = 300.0
# Where events are not allowed, somebody may allow them one day.
REFUSED_SECONDS = 60.0
_REFUSALS = frozenset({401, 403, 404, 405, 501})
# A stream that lasted so long was a good one.
GOOD_SECONDS = 2.0
MAX_EVENT_CHARACTERS = 1_000_000
# What happens to a container without changing anything that is reported; health checks make most of it.
_HARMLESS = (
    "exec", "top", "attach", "detach", "resize", "copy", "export", "commit", "archive-path", "extract-to-dir",
)  # fmt: skip
_OTHER_TYPES = frozenset(
    {"image", "network", "volume", "plugin", "daemon", "node", "service", "secret", "config", "builder"}
)


def concerns(event: object) -> str | None:
    """The id of the container that an event is about; empty where it can't be told, None where it means nothing.

    Since API 1.52 there are no `id`, `status` and `from` any more; `Actor` and `Action` are as old as API 1.22.
    """
    if not isinstance(event, Mapping):
        return ""
    kind = event.get("Type")
    if isinstance(kind, str) and kind in _OTHER_TYPES:
        return None
    action = event.get("Action") or event.get("status")
    if isinstance(action, str) and action.startswith(_HARMLESS):
        return None
    actor = event.get("Actor")
    identity = (actor.get("ID") if isinstance(actor, Mapping) else None) or event.get("id")
    return identity if isinstance(identity, str) else ""


class EventReader:
    """Takes a stream apart into events, whatever its pieces are."""

    def __init__(self) -> None:
        self._text = ""
        self._characters = codecs.getincrementaldecoder("utf-8")("replace")
        self._decoder = json.JSONDecoder()

    def feed(self, data: bytes) -> Iterator[object]:
        """The events that are whole by now; None for what is no event."""
        self._text += self._characters.decode(data)
        while True:
            self._text = self._text.lstrip("\x1e \t\r\n")
            if not self._text:
                return
            try:
                event, end = self._decoder.raw_decode(self._text)
            except (ValueError, RecursionError):
                line, end_of_line, rest = self._text.partition("\n")
                if not end_of_line and len(line) <= MAX_EVENT_CHARACTERS:
                    return  # the rest of it is still to come
                event, self._text = None, rest
            else:
                self._text = self._text[end:]
            yield event


class Events:
    """Calls `note` with the id of each container that something happens to, with "" for what calls for a look at all,
    and gives each event to the tally and to `on_event`."""

    def __init__(
        self,
        connect: Callable[[], Engine],
        note: Callable[[str], None],
        tally: Tally,
        *,
        on_event: Callable[[object], None] = lambda event: None,
    ) -> None:
        # Why there are none; None while it is not known that there may be none.
        self.refused: EngineError | None = None
        self.is_open = False
        self._connect = connect
        self._note = note
        self._tally = tally
        self._on_event = on_event
        self._backoff = Backoff(first=0.2, longest=15.0)
        self._tried = threading.Event()
        self._closing = threading.Event()
        self._stream: CancellableStream | None = None
        threading.Thread(target=self._run, name="events", daemon=True).start()

    def wait_tried(self, seconds: float) -> None:
        """Wait until the stream is open, or can't be opened, for the first time."""
        self._tried.wait(seconds)

    def close(self) -> None:
        self._closing.set()
        stream = self._stream
        if stream is not None:
            # It may end at this very moment, and then has no socket any more.
            with contextlib.suppress(*FAILURES, AttributeError):
                stream.close()

    def _run(self) -> None:
        while not self._closing.is_set():
            began = time.monotonic()
            wait = 0.0
            try:
                self._follow()
            except EngineError as error:
                log.debug("The event stream is refused: %s", error)
                self.refused = error
                if error.status in _REFUSALS:
                    wait = REFUSED_SECONDS
            except FAILURES as error:
                log.debug("The event stream failed: %s", error)
            except Exception:
                log.exception("Following Docker's events failed in an unexpected way")
            was_open, self.is_open = self.is_open, False
            self._tally.closed()
            is_first = not self._tried.is_set()
            self._tried.set()
            if was_open and time.monotonic() - began >= GOOD_SECONDS:
                self._backoff.succeeded()
            elif not is_first and not self._closing.is_set():
                # Whatever ended it may have ended the Engine.
                self._note("")
            self._closing.wait(wait or self._backoff.failed())

    def _follow(self) -> None:
        with self._connect() as engine:
            filters = json.dumps({"type": ["container"]})
            response = engine.open_stream(
                "/events", timeout=(ANSWER_SECONDS, SILENCE_SECONDS), filters=filters
            )
            with contextlib.closing(response):
                self._stream = CancellableStream(pieces_of(response), response)
                self.refused, self.is_open = None, True
                self._tally.opened()
                if self._tried.is_set():
                    self._note("")  # what happened meanwhile
                self._tried.set()
                reader = EventReader()
                for piece in () if self._closing.is_set() else self._stream:
                    for event in reader.feed(piece):
                        identity = concerns(event)
                        if identity is not None:
                            # In this order: a container whose event is counted is read after that event.
                            self._note(identity)
                            self._tally.event(event)
                            self._on_event(event)


def pieces_of(response: requests.Response) -> Iterator[bytes]:
    raw = response.raw
    if raw.chunked:
        yield from raw.stream(decode_content=True)
    else:
        while piece := raw.read1(65536, decode_content=True):
            yield piece
