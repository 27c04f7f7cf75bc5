"""Starting, stopping, restarting and killing containers: commands to the agents of their hosts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from django.db import transaction

from dockmesh.audit import services as audit
from dockmesh.audit.actions import Action
from dockmesh.audit.services import Actor
from dockmesh.core import clock
from dockmesh.core.errors import Conflict, DomainError, InvalidInput, NotFound
from dockmesh.fleet import commands
from dockmesh.fleet.abilities import why_not
from dockmesh.fleet.commands import Command, CommandResult, lock_host
from dockmesh.fleet.models import AgentCommand, Container, Host
from dockmesh.fleet.selectors import is_offline

KIND = "container-action"
ABILITY = "containers"
# For the container's own time to stop, which may be some minutes, and for Docker.
TIMEOUT_SECONDS = 300
MOST_AT_ONCE = 200


class ContainerAction(StrEnum):
    """What can be done with a container."""

    START = "start"
    STOP = "stop"
    RESTART = "restart"
    KILL = "kill"


DOING = {
    ContainerAction.START: "started",
    ContainerAction.STOP: "stopped",
    ContainerAction.RESTART: "restarted",
    ContainerAction.KILL: "killed",
}


@dataclass(frozen=True)
class RefusedAction:
    """A container for which nothing was asked, and why."""

    container: int
    name: str
    detail: str


def lock_of(container: Container) -> str:
    """The lock of commands about this container."""
    return f"container:{container.container_id}"


@transaction.atomic
def act_on_container(*, actor: Actor, container_id: int, action: ContainerAction) -> AgentCommand:
    """Have the host's agent do it; the command.

    Raises `NotFound`, or `Conflict` where the host can't, or where somebody has asked for something already that is
    under way.
    """
    container = container_or_refuse(container_id)
    host = container.host
    lock_host(host.pk)
    refuse_unable(host, ABILITY)
    under_way = commands.open_with_lock(host.pk, lock_of(container))
    if under_way is not None:
        raise Conflict(_under_way(container, under_way))
    command_id = commands.enqueue(
        host_id=host.pk,
        kind=KIND,
        payload={
            "action": action.value,
            "container": container.container_id,
            "name": container.name,
            "asked_by": actor.name,
        },
        lock=lock_of(container),
        timeout_seconds=TIMEOUT_SECONDS,
    )
    audit.record(
        actor=actor,
        action=Action.CONTAINER_ACTION_REQUESTED,
        target_kind="container",
        target_id=container.pk,
        target_name=container.name,
        changes={"action": action.value, "host": host.name},
    )
    return AgentCommand.objects.select_related("host").get(pk=command_id)


def act_on_containers(
    *, actor: Actor, container_ids: Sequence[int], action: ContainerAction
) -> tuple[list[AgentCommand], list[RefusedAction]]:
    """The same for several, each by itself: the commands, and those for which nothing was asked.

    Raises `InvalidInput` for none, or for more than `MOST_AT_ONCE`.
    """
    chosen = list(dict.fromkeys(container_ids))
    if not chosen:
        raise InvalidInput("containers", "must name a container at least.")
    if len(chosen) > MOST_AT_ONCE:
        raise InvalidInput("containers", f"must be {MOST_AT_ONCE} at most.")
    names = dict(Container.objects.filter(pk__in=chosen).values_list("pk", "name"))
    asked, refused = [], []
    for container_id in chosen:
        try:
            asked.append(act_on_container(actor=actor, container_id=container_id, action=action))
        except DomainError as error:
            refused.append(RefusedAction(container_id, names.get(container_id, ""), error.detail))
    return asked, refused


def container_or_refuse(container_id: int) -> Container:
    """The container with its host; raises `NotFound`."""
    container = (
        Container.objects.select_related("host__heartbeat_state", "stack").filter(pk=container_id).first()
    )
    if container is None:
        raise NotFound("There is no such container.")
    return container


def refuse_unable(host: Host, ability: str) -> None:
    """Raise `Conflict` where the host's agent is not heard, or says that it can't."""
    heard_at = host.heartbeat_state.heard_at
    if is_offline(host.heartbeat_state):
        since = f"no heartbeat since {heard_at:%Y-%m-%d %H:%M:%S} UTC" if heard_at else "it was never heard"
        raise Conflict(f"{host.name} is offline: {since}.")
    if reason := why_not(host, ability):
        raise Conflict(reason)


def take_result(command: Command, result: CommandResult) -> None:
    """The agent has reported."""
    outcome = str(result.document.get("outcome", ""))[:100]
    _tell(
        command,
        error="" if result.is_success else result.error or "The agent gave no reason.",
        outcome=outcome,
    )


def take_timeout(command: Command, reason: str) -> None:
    """Nobody will report any more."""
    AgentCommand.objects.filter(pk=command.id).update(result={"result": "failure", "error": reason})
    _tell(command, error=reason)


def _tell(command: Command, *, error: str, outcome: str = "") -> None:
    identity = command.payload["container"]
    host_name = Host.objects.values_list("name", flat=True).get(pk=command.host_id)
    pk = Container.objects.filter(host_id=command.host_id, container_id=identity).values_list("pk", flat=True)
    said = {"error": error} if error else {"outcome": outcome}
    audit.record(
        actor=Actor("agent", str(command.host_id), host_name),
        action=Action.CONTAINER_ACTION_FAILED if error else Action.CONTAINER_ACTION_SUCCEEDED,
        target_kind="container",
        target_id=pk.first() or "",
        target_name=command.payload["name"],
        changes={"action": command.payload["action"], "host": host_name, **said},
    )


def _under_way(container: Container, command: AgentCommand) -> str:
    doing = DOING.get(command.payload.get("action", ""), "acted on")
    seconds = max(int((clock.now() - command.created_at).total_seconds()), 0)
    return (
        f"{container.name} is being {doing} already: {command.payload.get('asked_by', 'somebody')} asked for that"
        f" {seconds} s ago."
    )
