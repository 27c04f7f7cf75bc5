"""What the page of a container says of it: its state in words, its last exits, what was done with it."""

from __future__ import annotations

import datetime
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from dockmesh.fleet import causes
from dockmesh.fleet.models import AgentCommand, Container, ContainerDetails
from dockmesh.fleet.rows import ContainerRow
from dockmesh.fleet.services import containers
from dockmesh.fleet.states import ContainerState

# A container that ended this soon did so right after its start.
SOON_SECONDS = 5.0
_SIGNALS = {137: "SIGKILL", 139: "SIGSEGV", 134: "SIGABRT", 143: "SIGTERM", 130: "SIGINT"}


@dataclass(frozen=True)
class Exit:
    """An exit of a container of this name. The code is None where nobody saw it."""

    at: datetime.datetime | None
    exit_code: int | None
    is_oom_killed: bool

    @property
    def words(self) -> str:
        """How it ended."""
        if self.is_oom_killed:
            return "killed for memory"
        if self.exit_code is None:
            return "ended, with a code that nobody saw"
        signal = _SIGNALS.get(self.exit_code)
        return f"exited with {self.exit_code}{f' ({signal})' if signal else ''}"

    @property
    def tone(self) -> str:
        """By which its pill is coloured."""
        if self.is_oom_killed:
            return "bad"
        return {None: "unknown", 0: "idle"}.get(self.exit_code, "warning")


@dataclass(frozen=True)
class Said:
    """A sentence with a moment in it: `Killed for memory` 3 min ago`, third time today`."""

    text: str
    at: datetime.datetime | None = None
    rest: str = ""
    before: Exit | None = None
    """How it ended the time before, of one that runs again."""


@dataclass(frozen=True)
class Doing:
    """The last thing that somebody had done with the container."""

    words: str
    tone: str
    asked_by: str
    at: datetime.datetime
    error: str


def exits_of(details: ContainerDetails | None) -> list[Exit]:
    """The last exits that the agent has told of, the newest first."""
    told = details.found.get("exits") if details else None
    found = []
    for each in told if isinstance(told, list) else []:
        if isinstance(each, Mapping):
            code = each.get("exit_code")
            found.append(
                Exit(
                    _moment(each.get("at")),
                    code if isinstance(code, int) else None,
                    each.get("oom_killed") is True,
                )
            )
    return found


def said_of(row: ContainerRow, exits: Sequence[Exit], now: datetime.datetime) -> Said:
    """The container's state in words."""
    container, state = row.container, row.state
    own = Exit(container.finished_at or container.changed_at, container.exit_code, container.is_oom_killed)
    if state == ContainerState.UNKNOWN:
        return Said("Not known: its host is not heard since", container.host.heartbeat_state.heard_at)
    if state in (ContainerState.RUNNING, ContainerState.PAUSED):
        word = row.health.capitalize() if row.health in ("unhealthy", "healthy", "starting") else ""
        is_paused = state == ContainerState.PAUSED
        text = "Paused, started" if is_paused else f"{word}, running since" if word else "Running since"
        last = exits[0] if exits and exits[0].exit_code != 0 and _is_today(exits[0], now) else None
        return Said(text, container.started_at, before=last, rest=_count(last, exits, now) if last else "")
    if state == ContainerState.CREATED:
        if container.error or container.exit_code:
            return Said(f"Docker could not start it: {container.error or own.words}", container.changed_at)
        return Said("Made, and never started", container.created_at)
    words = f"{own.words[0].upper()}{own.words[1:]}"
    if _is_soon(container) and not own.is_oom_killed:
        words += " right after its start,"
    if state == ContainerState.RESTARTING:
        words = f"Keeps restarting: {own.words}"
    elif state != ContainerState.EXITED:
        words = f"{state.capitalize()}: {own.words}"
    return Said(words, own.at, rest=_count(own, exits, now))


def last_done(container: Container) -> Doing | None:
    """What somebody had done with it last, within the time that commands are kept."""
    command = (
        AgentCommand.objects.filter(
            host_id=container.host_id, kind=containers.KIND, lock=containers.lock_of(container)
        )
        .order_by("-id")
        .first()
    )
    if command is None:
        return None
    action, status = str(command.payload.get("action")), command.status
    result = command.result or {}
    error = str(result.get("error", ""))
    if status == AgentCommand.Status.QUEUED:
        words, tone = f"{action}: queued for the host", "working"
    elif status == AgentCommand.Status.HANDED_OUT:
        words, tone = f"{action}: the host is at it", "working"
    elif error:
        words, tone = f"{action}: failed", "bad"
    else:
        words, tone = f"{action}: {result.get('outcome') or 'done'}", "well"
    at = command.finished_at or command.created_at
    return Doing(words, tone, str(command.payload.get("asked_by", "")), at, error)


def _count(last: Exit, exits: Sequence[Exit], now: datetime.datetime) -> str:
    """`, third time today`, of exits of the same kind; empty for the first and for clean ones."""
    same = [each for each in exits if _kind(each) == _kind(last) and _is_today(each, now)]
    if len(same) < 2 or _kind(last) == "clean":
        return ""
    is_all = len(same) == len(exits) and len(exits) >= 20
    return f", {'at least ' if is_all else ''}{causes.ordinal(len(same))} time today"


def _kind(each: Exit) -> str:
    if each.is_oom_killed:
        return "memory"
    return "clean" if each.exit_code == 0 else "error"


def _is_today(each: Exit, now: datetime.datetime) -> bool:
    return each.at is not None and each.at.date() == now.date()


def _is_soon(container: Container) -> bool:
    if container.started_at is None or container.finished_at is None:
        return False
    return 0 <= (container.finished_at - container.started_at).total_seconds() < SOON_SECONDS


def _moment(text: Any) -> datetime.datetime | None:
    """Docker's times have nine digits of a fraction."""
    try:
        moment = datetime.datetime.fromisoformat(str(text))
    except ValueError:
        return None
    if moment.tzinfo is None or not 1971 < moment.year < 9999:
        return None
    return moment.astimezone(datetime.UTC)


def facts_of(details: ContainerDetails | None) -> Mapping[str, Any]:
    """What the agent told, with the times of the health check's looks as times."""
    if details is None:
        return {}
    health = details.found.get("health")
    looks = health.get("looks") if isinstance(health, Mapping) else None
    told = [
        {**each, "at": _moment(each.get("at"))}
        for each in (looks if isinstance(looks, list) else [])
        if isinstance(each, Mapping)
    ]
    return {**details.found, "looks": told}
