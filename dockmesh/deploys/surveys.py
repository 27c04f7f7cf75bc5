"""Surveys: a host's agent reads what a discovered stack is made of, from where Compose's labels say it lies."""

import datetime
import threading
import time
import uuid
from typing import Any

import msgspec
from django.db import transaction

from dockmesh.audit.actions import Action
from dockmesh.audit.services import Actor, record
from dockmesh.core import clock
from dockmesh.core.encrypted import DecryptError, decrypt, encrypt
from dockmesh.core.errors import Conflict, InvalidInput
from dockmesh.deploys.compose import env_names
from dockmesh.deploys.models import Survey
from dockmesh.fleet import commands
from dockmesh.fleet import services as fleet
from dockmesh.fleet.commands import Command, CommandResult
from dockmesh.fleet.selectors import is_offline

# The command's kind, and what an agent that carries it out says in its heartbeats.
CAPABILITY = "survey"
PURPOSE = "survey of a stack"
TIMEOUT_SECONDS = 60
# An unanswered one is not asked again for so long.
PATIENCE = datetime.timedelta(seconds=TIMEOUT_SECONDS)
# What lies on a host changes: an older answer is no ground for adopting a stack.
FRESH = datetime.timedelta(minutes=15)
NOT_UNDERSTOOD = "The agent's answer can't be understood."

# Requests that wait for an agent's answer, at most, in this process: each holds a thread.
_waiting = threading.BoundedSemaphore(2)


class FoundFile(msgspec.Struct, frozen=True):
    """A file that the labels name; without content where it could not be read, which `error` explains."""

    path: str
    content: str | None = None
    error: str = ""


class FoundMount(msgspec.Struct, frozen=True):
    """A bind mount (a path) or a named volume; `after` is what a deploy would mount, None where that is not known."""

    service: str
    target: str
    before: str = ""
    after: str | None = None
    # What is mounted now would be mounted again.
    is_kept: bool = False

    def __str__(self) -> str:
        return f"{self.service}:{self.target} has {self.before} and would have {self.after or 'nothing'}"


class Found(msgspec.Struct, frozen=True):
    """What a survey found; `others` are containers that were started from other files than the newest one."""

    project_directory: str
    is_directory_visible: bool = False
    config_files: list[FoundFile] = []
    env_files: list[FoundFile] = []
    mounts: list[FoundMount] = []
    others: list[str] = []
    compose_error: str = ""

    @property
    def changed_mounts(self) -> list[FoundMount]:
        """What is mounted now and would not be after a deploy."""
        return [mount for mount in self.mounts if mount.after is not None and not mount.is_kept]


@transaction.atomic
def request_survey(*, actor: Actor, stack_id: int) -> Survey:
    """Ask the host's agent for a discovered stack's files; the one under way if there is one.

    Raises `NotFound`, and `Conflict` where the stack is managed or its agent can't do it.
    """
    stack = fleet.lock_stack(stack_id)
    host = stack.host
    if stack.is_managed:
        raise Conflict(f"The stack {stack.name} is managed already.")
    if is_offline(host.heartbeat_state):
        raise Conflict(f"The host {host.name} is offline, so the files of {stack.name} can't be read there.")
    if CAPABILITY not in host.agent_info.get("capabilities", ()):
        raise Conflict(
            f"The agent of {host.name} can't read the files of {stack.name}: it is of an older version, only watches,"
            " or has no Compose."
        )
    now = clock.now()
    survey = Survey.objects.filter(stack=stack).first()
    if survey is not None and survey.answered_at is None and now - survey.asked_at < PATIENCE:
        return survey
    request_id = uuid.uuid4()
    survey, _ = Survey.objects.update_or_create(
        stack=stack,
        defaults={
            "request_id": request_id,
            "asked_at": now,
            "answered_at": None,
            "error": "",
            "encrypted_answer": "",
        },
    )
    commands.enqueue(
        host_id=host.pk,
        kind=CAPABILITY,
        # As for its deploys: both write into the agent's folder of the stack.
        lock=f"stack:{stack.name}",
        payload={"stack": stack.name, "survey": stack.pk, "request": str(request_id)},
        timeout_seconds=TIMEOUT_SECONDS,
    )
    record(
        actor=actor,
        action=Action.STACK_SURVEYED,
        target_kind="stack",
        target_id=stack.pk,
        target_name=stack.name,
        changes={"host": host.name},
    )
    return survey


def latest(stack_id: int) -> Survey | None:
    """The stack's latest survey."""
    return Survey.objects.filter(stack_id=stack_id).first()


def found(survey: Survey | None) -> Found | None:
    """What it found; None where it has no answer, failed, or is too old."""
    if survey is None or survey.answered_at is None or clock.now() - survey.answered_at > FRESH:
        return None
    try:
        text = decrypt(survey.encrypted_answer, purpose=PURPOSE) if survey.encrypted_answer else ""
    except DecryptError:
        return None
    return msgspec.json.decode(text, type=Found) if text else None


def view(survey: Survey) -> dict[str, Any]:
    """A survey as pages and answers show it: of env files the names only."""
    answer = found(survey)
    shown: dict[str, Any] = {
        "request_id": survey.request_id,
        "asked_at": survey.asked_at,
        "answered_at": survey.answered_at,
        "error": survey.error,
        "found": None,
    }
    if answer is not None:
        shown["found"] = msgspec.structs.asdict(answer) | {
            "env_files": [
                {"path": file.path, "error": file.error, "env_names": _names(file.content or "")}
                for file in answer.env_files
            ]
        }
    return shown


def _names(text: str) -> list[str]:
    try:
        return env_names(text)
    except InvalidInput:
        return []


def wait(survey: Survey, *, seconds: float) -> Survey:
    """The survey once it is answered, or as it is after `seconds`, or at once where too many wait already."""
    if not _waiting.acquire(blocking=False):
        return survey
    try:
        until = time.monotonic() + seconds
        while survey.answered_at is None and time.monotonic() < until:
            time.sleep(0.25)
            survey.refresh_from_db()
        return survey
    finally:
        _waiting.release()


def take_result(command: Command, result: CommandResult) -> None:
    """Keep what the agent found."""
    if not result.is_success:
        _answer(command, error=result.error or "The agent gave no reason.")
        return
    try:
        answer = msgspec.convert(result.document.get("found"), Found)
    except msgspec.ValidationError:
        _answer(command, error=NOT_UNDERSTOOD)
        return
    _answer(command, encrypted_answer=encrypt(msgspec.json.encode(answer).decode(), purpose=PURPOSE))


def take_timeout(command: Command, reason: str) -> None:
    """Nobody will answer any more."""
    _answer(command, error=reason)


def _answer(command: Command, *, error: str = "", encrypted_answer: str = "") -> None:
    payload: Any = command.payload
    Survey.objects.filter(
        stack_id=payload.get("survey"), request_id=payload.get("request"), answered_at=None
    ).update(answered_at=clock.now(), error=error[:2000], encrypted_answer=encrypted_answer)
