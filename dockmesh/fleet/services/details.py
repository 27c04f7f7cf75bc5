"""More of a container than its host's inventory has: asked of the agent when somebody looks at the container's page."""

from __future__ import annotations

import datetime

from django.db import transaction
from django.db.models import Exists, OuterRef

from dockmesh.core import clock
from dockmesh.core.errors import Conflict
from dockmesh.fleet import commands
from dockmesh.fleet.commands import Command, CommandResult, lock_host
from dockmesh.fleet.models import Container, ContainerDetails
from dockmesh.fleet.services.containers import refuse_unable

KIND = "container-inspect"
ABILITY = "inspect"
TIMEOUT_SECONDS = 60
# What was told this short ago is told again.
FRESH = datetime.timedelta(seconds=10)
# Of one host at a time, whoever looks.
MOST_ASKED = 4


@transaction.atomic
def ask_for_details(container: Container) -> str:
    """Have the agent tell more of it, unless it has just done so or is about to; why it can't, or nothing.

    The container's host and its heartbeat state have been read along. Nothing of this is audited: it is what a page shows.
    """
    try:
        refuse_unable(container.host, ABILITY)
    except Conflict as error:
        return error.detail
    # A page must not hand an agent what it may never have heard of.
    if ABILITY not in (container.host.agent_info.get("capabilities") or ()):
        return f"The agent of {container.host.name} does not say that it can tell more of a container."
    known = details_of(container)
    if known is not None and clock.now() - known.told_at < FRESH:
        return ""
    lock_host(container.host_id)
    if commands.count_open(container.host_id, KIND) < MOST_ASKED and not is_asked(container):
        commands.enqueue(
            host_id=container.host_id,
            kind=KIND,
            payload={"container": container.container_id, "name": container.name},
            lock=_lock(container),
            timeout_seconds=TIMEOUT_SECONDS,
        )
    return ""


def details_of(container: Container) -> ContainerDetails | None:
    """What was last told of it."""
    return ContainerDetails.objects.filter(
        host_id=container.host_id, container_id=container.container_id
    ).first()


def is_asked(container: Container) -> bool:
    """Whether the agent has been asked, and has not answered yet."""
    return commands.open_with_lock(container.host_id, _lock(container)) is not None


def take_result(command: Command, result: CommandResult) -> None:
    """The agent has told."""
    found = result.document.get("found")
    if result.is_success and isinstance(found, dict):
        _keep(command, found=found, error="")
    else:
        _keep(command, error=result.error or "The agent gave no reason.")


def take_timeout(command: Command, reason: str) -> None:
    """The agent tells nothing."""
    _keep(command, error=reason)


def forget_details() -> None:
    """The scheduler's job: those of containers that are gone."""
    containers = Container.objects.filter(host_id=OuterRef("host_id"), container_id=OuterRef("container_id"))
    ContainerDetails.objects.exclude(Exists(containers)).delete()


def _keep(command: Command, *, error: str, **changes: object) -> None:
    ContainerDetails.objects.update_or_create(
        host_id=command.host_id,
        container_id=command.payload["container"],
        defaults={"told_at": clock.now(), "error": error[:1000], **changes},
    )


def _lock(container: Container) -> str:
    return f"inspect:{container.container_id}"
