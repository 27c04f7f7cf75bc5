"""Plays the agent at the level of the command queue."""

import uuid
from typing import Any

from django.db import transaction

from dockmesh.core import clock
from dockmesh.fleet import commands
from dockmesh.fleet.models import Host


def fetch(host: Host) -> list[dict[str, Any]]:
    """The commands that the host's next heartbeat would be answered with."""
    with transaction.atomic():
        return list(commands.hand_out(host.pk, now=clock.now()).offers)


def progress(host: Host, command_id: uuid.UUID, output: str, seconds: float = 1.0) -> None:
    with transaction.atomic():
        commands.note_progress(host.pk, [(command_id, commands.CommandProgress(output, seconds))])


def report(
    host: Host, command_id: uuid.UUID, *, result: str = "success", seconds: float = 7.0, **more: Any
) -> bool:
    document = {
        "result": result,
        "duration_seconds": seconds,
        "exit_code": 0 if result == "success" else 1,
        "output": "",
        "error": "" if result == "success" else "exited with 1",
        **more,
    }
    return commands.finish(
        host_id=host.pk,
        key=command_id,
        result=commands.CommandResult(
            result == "success",
            seconds,
            document["exit_code"],
            document["output"],
            document["error"],
            document,
        ),
    )
