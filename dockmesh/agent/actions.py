"""Starts, stops, restarts and kills one container, by its id: a container that was made anew is another one.

Payload: `action`, `container` (the id that Docker gave it), and `name`, for what is said of it. Nothing is tried twice.
"""

from __future__ import annotations

import re
import time

import requests

from dockmesh.agent.commands import CommandError, Run
from dockmesh.agent.document import JSON
from dockmesh.agent.engine import FAILURES, Engine, EngineError, explain
from dockmesh.agent.place import own_container

KIND = "container-action"
# What each makes of a container, and what Docker's "not modified" says that it was before.
DONE = {"start": "started", "stop": "stopped", "restart": "restarted", "kill": "killed"}
ALREADY = {"start": "already running", "stop": "already stopped"}
_NOT_MODIFIED, _NOT_FOUND, _CONFLICT = 304, 404, 409
# Before the command's own time is up, so that there is a word on it.
MARGIN_SECONDS = 5.0


class Actions:
    """Executor of `container-action`."""

    def __init__(self, docker_host: str) -> None:
        self._docker_host = docker_host

    def __call__(self, run: Run) -> JSON:
        action, identity = run.text("action"), container_of(run)
        name = run.text("name", "") or identity[:12]
        if action not in DONE:
            raise CommandError(f"this agent does not {action!r} containers")
        own = own_container()
        if own and identity.startswith(own) and action != "start":
            raise CommandError(
                f"{name} is the container of dockmesh's agent: it can't {action} itself and tell of it."
                " Do it on the host."
            )
        try:
            with Engine.open(self._docker_host) as engine:
                seconds = max(run.deadline - time.monotonic() - MARGIN_SECONDS, 1.0)
                status = engine.post(f"/containers/{identity}/{action}", timeout=seconds)
        except EngineError as error:
            if error.status == _NOT_FOUND:
                raise CommandError(f"{name} is gone: Docker has no such container any more") from None
            what = f"Docker could not {action} {name}"
            if error.status == _CONFLICT:
                what = f"{name} can't be {DONE[action]} as it is"
            raise CommandError(f"{what}: {error.reason}") from None
        except requests.exceptions.ReadTimeout:
            raise CommandError(
                f"Docker has not said within {seconds:.0f} s that {name} is {DONE[action]}; it may still come"
            ) from None
        except FAILURES as error:
            raise CommandError(explain(error, self._docker_host)) from None
        outcome = ALREADY.get(action, "") if status == _NOT_MODIFIED else ""
        return {"outcome": outcome or DONE[action]}


def container_of(run: Run) -> str:
    """The id of the payload's `container`; raises CommandError where it is none."""
    identity = run.text("container")
    if not re.fullmatch(r"[0-9a-f]{12,64}", identity):
        raise CommandError("payload: container must be the id of a container")
    return identity
