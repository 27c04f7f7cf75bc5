"""Reading a container's log: the agent sends it in pieces, which lie here until the reader has them, and no longer.

The reader may be at another replica than the one that the agent speaks to, so that the pieces go through the database:
encrypted, a few at a time, removed as they are read. The agent is told to end when nobody reads on. Each reading is a
`LogSession` and a command, with bounds on its bytes, its time and its number.
"""

from __future__ import annotations

import contextlib
import datetime
import logging
import re
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from django.db import Error, transaction
from django.db.models import Q

from dockmesh.audit import services as audit
from dockmesh.audit.actions import Action
from dockmesh.audit.services import Actor
from dockmesh.core import clock
from dockmesh.core.encrypted import DecryptError, decrypt, encrypt
from dockmesh.core.errors import Busy, Conflict, DomainError, InvalidInput, NotFound, TooMany, Unanswered
from dockmesh.core.strictjson import check_values
from dockmesh.fleet import commands
from dockmesh.fleet.commands import Command, CommandResult, lock_host
from dockmesh.fleet.models import LogPiece, LogSession
from dockmesh.fleet.services.containers import container_or_refuse, refuse_unable

logger = logging.getLogger(__name__)

KIND = "container-logs"
ABILITY = "logs"
PURPOSE = "container logs"

USUAL_LINES, MOST_LINES = 500, 10_000
MOST_BYTES = 10 * 1024 * 1024
MOST_SEARCH = 200
MOST_OF_A_HOST, MOST_SESSIONS = 4, 40
# Pieces that the reader has not fetched; with more the agent pauses.
MOST_UNREAD = 8
PAUSE_SECONDS = 0.5
READ_SECONDS, FOLLOW_SECONDS = 120, 15 * 60
# An agent that does not wait for commands comes with its next heartbeat.
FIRST_WORD = datetime.timedelta(seconds=30)
SILENCE = datetime.timedelta(seconds=20)
# A browser asks rarely while its tab is in the background.
UNREAD = datetime.timedelta(seconds=90)
LONGEST = datetime.timedelta(seconds=FOLLOW_SECONDS + 300)
# Readers that hold a thread of this process, which may have four in all.
_readers = threading.BoundedSemaphore(2)
_FIRST_LOOK_SECONDS, _LOOK_SECONDS = 0.05, 0.5

_DURATION = re.compile(r"(\d{1,7})([smhd])\Z", re.ASCII)
_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86_400}


@dataclass(frozen=True)
class LogOptions:
    """What of a log is read."""

    tail: int = USUAL_LINES
    since: str = ""
    """Empty, Unix seconds, a time with its offset, or how long ago (`10m`)."""
    follow: bool = False
    stdout: bool = True
    stderr: bool = True
    timestamps: bool = False
    search: str = ""
    ansi: bool = False
    """Whether terminal sequences are shown instead of taken out."""


FLAGS = ("follow", "stdout", "stderr", "timestamps", "ansi")
OPTIONS = ("tail", "since", *FLAGS, "search")
_WORDS = {"true": True, "1": True, "false": False, "0": False}


def log_options(params: Mapping[str, str]) -> LogOptions:
    """The options as an address has them, each left out or given once. Raises `InvalidInput`."""
    given: dict[str, Any] = {name: params[name] for name in OPTIONS if params.get(name)}
    for name in FLAGS:
        if name in given and given[name].lower() not in _WORDS:
            raise InvalidInput(name, "must be true or false.")
        if name in given:
            given[name] = _WORDS[given[name].lower()]
    if "tail" in given:
        if not re.fullmatch(r"\d{1,9}", given["tail"], re.ASCII):
            raise InvalidInput("tail", f"must be a number from 0 to {MOST_LINES}.")
        given["tail"] = int(given["tail"])
    for name in ("since", "search"):
        check_values(given.get(name, ""), path=name, allow_line_ends=False)
    return LogOptions(**given)


@dataclass(frozen=True)
class LogRead:
    """What there is; `next` is what to ask for next. With `is_ended` there is no more, for the reason `error` if any."""

    text: str
    next: int
    is_ended: bool = False
    error: str = ""
    is_silent: bool = False
    """The error is that the agent is not heard."""


@transaction.atomic
def open_log(*, actor: Actor, container_id: int, options: LogOptions) -> LogSession:
    """Have the host's agent send the log. Raises `NotFound`, `InvalidInput`, `Conflict` where the host can't, `TooMany`."""
    container = container_or_refuse(container_id)
    host = container.host
    payload = _payload(options, skew=host.heartbeat_state.clock_skew_seconds)
    lock_host(host.pk)
    refuse_unable(host, ABILITY)
    is_open = Q(ended_at=None, read_at__gt=clock.now() - UNREAD)
    if LogSession.objects.filter(is_open, host_id=host.pk).count() >= MOST_OF_A_HOST:
        raise TooMany(f"{MOST_OF_A_HOST} logs of {host.name} are being read already: close one of them.")
    if LogSession.objects.filter(is_open).count() >= MOST_SESSIONS:
        raise TooMany(f"{MOST_SESSIONS} logs are being read already: close one of them.")
    now = clock.now()
    session = LogSession.objects.create(
        host=host,
        container_name=container.name,
        is_following=options.follow,
        opened_by=_reader(actor),
        opened_at=now,
        read_at=now,
    )
    commands.enqueue(
        host_id=host.pk,
        kind=KIND,
        payload={
            "session": str(session.uuid),
            "container": container.container_id,
            "name": container.name,
            "most_bytes": MOST_BYTES,
            **payload,
        },
        timeout_seconds=FOLLOW_SECONDS if options.follow else READ_SECONDS,
    )
    told = {"lines": options.tail, "host": host.name, "is_following": options.follow}
    audit.record(
        actor=actor,
        action=Action.CONTAINER_LOGS_READ,
        target_kind="container",
        target_id=container.pk,
        target_name=container.name,
        changes=told | ({"since": options.since} if options.since else {}),
    )
    return session


@transaction.atomic
def take_piece(*, host_id: int, session_id: uuid.UUID, number: int, text: str) -> float | None:
    """Keep what the agent sends until it is read; in how many seconds it may send more, None if nobody wants it.

    A piece that comes again is kept once. Raises `NotFound`, or `Conflict` for one before which another is missing.
    """
    session = LogSession.objects.select_for_update().filter(uuid=session_id, host_id=host_id).first()
    if session is None:
        raise NotFound("There is no such reading of a log.")
    if session.ended_at is not None or session.read_at < clock.now() - UNREAD:
        return None
    if number > session.pieces:
        raise Conflict(f"Piece {session.pieces} comes before it.")
    if number == session.pieces and session.bytes <= MOST_BYTES:
        if text:
            LogPiece.objects.create(
                session=session, number=number, encrypted_text=encrypt(text, purpose=PURPOSE)
            )
        session.pieces += 1
        session.bytes += len(text.encode())
    session.heard_at = clock.now()
    session.save(update_fields=["pieces", "bytes", "heard_at"])
    unread = LogPiece.objects.filter(session=session).count()
    return PAUSE_SECONDS if unread >= MOST_UNREAD else 0.0


@transaction.atomic
def read_log(*, actor: Actor, session_id: uuid.UUID, after: int) -> LogRead:
    """What has come since `after`, the `next` of the reading before: all before it is the reader's, and is removed.

    Raises `NotFound` for another one's session, and for one that has ended and was read to its end.
    """
    session = (
        LogSession.objects.select_for_update(of=("self",))
        .select_related("host")
        .filter(uuid=session_id, opened_by=_reader(actor))
        .first()
    )
    if session is None:
        raise NotFound("This reading of the log is over.")
    now = clock.now()
    LogPiece.objects.filter(session=session, number__lt=after).delete()
    pieces = list(LogPiece.objects.filter(session=session, number__gte=after).order_by("number"))
    LogSession.objects.filter(pk=session.pk).update(read_at=now)
    if pieces:
        return LogRead("".join(map(_text, pieces)), pieces[-1].number + 1)
    silence = "" if session.ended_at is not None else _silence(session, now)
    if session.ended_at is None and not silence:
        return LogRead("", after)
    session.delete()
    return LogRead("", after, True, silence or session.error, is_silent=bool(silence))


def close_log(*, session_id: uuid.UUID) -> None:
    """Nobody reads on: nothing of it is kept."""
    LogSession.objects.filter(uuid=session_id).delete()


class LogStream:
    """A log as it comes, in a thread of the reader's own: the texts, one after the other.

    There are few of them at a time in a process: `Busy` is raised for one too many. `is_gone` tells that the client has
    hung up. What ends a log that has begun is its last line.
    """

    def __init__(
        self,
        *,
        actor: Actor,
        container_id: int,
        options: LogOptions,
        is_gone: Callable[[], bool] = lambda: False,
        seconds: float = float("inf"),
    ) -> None:
        """Raises what `open_log` does, and `Conflict` or `Unanswered` where it ends with an error at once."""
        if not _readers.acquire(blocking=False):
            raise Busy("Other logs are being read through this server just now: try again in a moment.")
        self._is_closed = False
        self._is_gone = is_gone
        self._actor = actor
        self._until = time.monotonic() + seconds
        self._session_id: uuid.UUID | None = None
        self._after = 0
        try:
            session = open_log(actor=actor, container_id=container_id, options=options)
            self._session_id = session.uuid
            self._texts = self._read()
            self._first: str | None = next(self._texts, "")
        except BaseException:
            self.close()
            raise

    def __iter__(self) -> Iterator[str]:
        return self

    def __next__(self) -> str:
        if self._first is not None:
            first, self._first = self._first, None
            return first
        try:
            return next(self._texts)
        except DomainError as error:
            return f"[{error.detail}]\n"
        except Error:
            logger.exception("A log could not be read on")
            return "[The database does not answer: this is not all.]\n"

    def close(self) -> None:
        """Let the agent end."""
        if not self._is_closed:
            self._is_closed = True
            _readers.release()
            if self._session_id is not None:
                # Else the scheduler removes it.
                with contextlib.suppress(Error):
                    close_log(session_id=self._session_id)

    def _read(self) -> Iterator[str]:
        assert self._session_id is not None
        wait = _FIRST_LOOK_SECONDS
        while time.monotonic() < self._until:
            found = read_log(actor=self._actor, session_id=self._session_id, after=self._after)
            self._after = found.next
            if found.is_ended:
                if found.is_silent:
                    raise Unanswered(found.error)
                if found.error:
                    raise Conflict(found.error)
                return
            if found.text:
                wait = _FIRST_LOOK_SECONDS
                yield found.text
                continue
            if self._is_gone():
                return
            time.sleep(wait)
            wait = min(wait * 1.5, _LOOK_SECONDS)
        raise Unanswered("The agent has not sent the rest of it in time.")


def forget_logs() -> None:
    """The scheduler's job: readings that nobody reads on, with all that lies here of them."""
    now = clock.now()
    LogSession.objects.filter(Q(read_at__lt=now - UNREAD) | Q(opened_at__lt=now - LONGEST)).delete()


def take_result(command: Command, result: CommandResult) -> None:
    """The agent has sent all, or why not."""
    _end(command, "" if result.is_success else result.error or "The agent gave no reason.")


def take_timeout(command: Command, reason: str) -> None:
    """The agent will send no more."""
    _end(command, reason)


def _end(command: Command, error: str) -> None:
    LogSession.objects.filter(uuid=command.payload["session"], ended_at=None).update(
        ended_at=clock.now(), error=_sentence(error)
    )


def _sentence(text: str) -> str:
    return f"{text[:1].upper()}{text[1:]}"[:1000]


def _silence(session: LogSession, now: datetime.datetime) -> str:
    """That the agent is not heard of any more, or was never; empty while it may be patiently waited for."""
    if session.heard_at is None:
        is_silent = now - session.opened_at > FIRST_WORD
        return f"The agent of {session.host.name} has not answered." if is_silent else ""
    if now - session.heard_at > SILENCE:
        return f"The agent of {session.host.name} is not heard any more: this may not be all."
    return ""


def _text(piece: LogPiece) -> str:
    try:
        return decrypt(piece.encrypted_text, purpose=PURPOSE)
    except DecryptError:
        return "[This piece can't be read: DOCKMESH_SECRET_KEY has changed.]\n"


def _reader(actor: Actor) -> str:
    return f"{actor.kind} {actor.id}"


def _payload(options: LogOptions, *, skew: float) -> dict[str, object]:
    if not 0 <= options.tail <= MOST_LINES:
        raise InvalidInput("tail", f"must be a number from 0 to {MOST_LINES}.")
    if not (options.stdout or options.stderr):
        raise InvalidInput("stdout", "and stderr can't both be left out.")
    if len(options.search) > MOST_SEARCH:
        raise InvalidInput("search", f"must be at most {MOST_SEARCH} characters.")
    payload: dict[str, object] = {
        "tail": options.tail,
        "is_following": options.follow,
        "stdout": options.stdout,
        "stderr": options.stderr,
        "timestamps": options.timestamps,
        "search": options.search,
        "shows_ansi": options.ansi,
    }
    if options.since:
        payload["since"] = _since(options.since, skew=skew)
    return payload


def _since(text: str, *, skew: float) -> float:
    """Unix seconds by the host's clock, which is `skew` ahead of ours."""
    duration = _DURATION.match(text)
    if duration:
        return clock.now().timestamp() + skew - int(duration[1]) * _UNITS[duration[2]]
    try:
        if re.fullmatch(r"\d{1,10}(\.\d{1,9})?", text, re.ASCII):
            return float(text)
        moment = datetime.datetime.fromisoformat(text)
        if moment.tzinfo is not None and 1970 < moment.year < 9999:
            return moment.timestamp()
    except (ValueError, OverflowError):
        pass
    raise InvalidInput(
        "since", "must be a time like 2026-11-22T12:00:00Z, Unix seconds, or how long ago, like 10m."
    )
