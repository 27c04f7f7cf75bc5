"""Bringing agents up to date with the server: one host, some, all; one at first, then a few at a time.

Each update is a command to the host's agent, which fetches the server's file, tries it and goes back to its own if the
server does not hear the new one (`dockmesh.agent.updates`, `dockmesh.agent.launcher`). The first one that fails stops
what has not begun of its rollout.
"""

from __future__ import annotations

import datetime
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from django.db import transaction
from django.db.models import QuerySet

from dockmesh import __version__
from dockmesh.audit import services as audit
from dockmesh.audit.actions import Action
from dockmesh.audit.services import Actor
from dockmesh.core import clock, schedule
from dockmesh.core.errors import Conflict, DomainError, InvalidInput, NotFound
from dockmesh.fleet import agent_files, commands
from dockmesh.fleet.abilities import too_old
from dockmesh.fleet.commands import Command, CommandResult, lock_host
from dockmesh.fleet.models import AgentRollout, AgentUpdate, HeartbeatState, Host
from dockmesh.fleet.services.containers import refuse_unable

KIND = "agent-update"
ABILITY = "agent-update"
# It waits until nothing else runs on its host.
TIMEOUT_SECONDS = 1800
# So long it is known who updated what, besides the audit log.
KEPT = datetime.timedelta(days=90)
# So many run side by side once the first one has gone well.
AT_ONCE = 5

Status = AgentUpdate.Status


@dataclass(frozen=True)
class RefusedUpdate:
    """A host whose agent is not updated, and why."""

    host: int
    name: str
    detail: str


def is_current(host: Host) -> bool:
    """Whether the host's agent is what this server hands out.

    One that does not say which file it runs from, such as a program of the user's own, is judged by its version: it
    is not, if that is an older one.
    """
    build = host.agent_info.get("build")
    if build is None:
        return _numbers(host.agent_version) >= _numbers(__version__)
    # Without a file of its own to hand out, nobody is behind.
    return build == agent_files.build() or not agent_files.build()


def is_behind(host: Host) -> bool:
    """Whether the host's agent has reported, and is not what this server hands out."""
    return host.heartbeat_state.heard_at is not None and not is_current(host)


def behind(hosts: QuerySet[Host]) -> list[int]:
    """The ids of those whose agents are behind."""
    return [host.pk for host in hosts.select_related("heartbeat_state") if is_behind(host)]


def why_not_updated(host: Host) -> str:
    """Why the host's agent can't be updated from here now, in a sentence; empty where it can. Its state is read along."""
    if host.heartbeat_state.heard_at is None:
        return f"{host.name} has not reported yet."
    if is_current(host):
        return f"The agent of {host.name} is up to date."
    try:
        refuse_unable(host, ABILITY)
    except Conflict as error:
        return error.detail
    # One that does not say what it can is of before the time in which agents could.
    return "" if "capabilities" in host.agent_info else too_old(host, ABILITY)


@transaction.atomic
def update_agent(*, actor: Actor, host_id: int) -> AgentUpdate:
    """Have one host's agent update itself; raises `NotFound`, or `Conflict` where it can't or is about to."""
    host = Host.objects.select_related("heartbeat_state").filter(pk=host_id).first()
    if host is None:
        raise NotFound("There is no such host.")
    lock_host(host_id)
    _refuse(host)
    rollout = AgentRollout.objects.create(created_by=actor.name[:255])
    update = AgentUpdate.objects.create(rollout=rollout, host=host, version_before=host.agent_version)
    _record_request(actor, host)
    _begin(update)
    return update


@transaction.atomic
def update_agents(*, actor: Actor, host_ids: Sequence[int]) -> tuple[AgentRollout, list[RefusedUpdate]]:
    """The same for several, in the order of their names: one at first, and after it `AT_ONCE` at a time.

    Raises `InvalidInput` for none, `Conflict` where none of them can.
    """
    if not host_ids:
        raise InvalidInput("hosts", "must name a host at least.")
    # Locked in one order, so that none is removed meanwhile.
    locked = HeartbeatState.objects.select_for_update().filter(host_id__in=host_ids).order_by("host_id")
    hosts = (
        Host.objects.select_related("heartbeat_state")
        .filter(pk__in=[each.pk for each in locked])
        .order_by("name")
    )
    refused, wanted = [], []
    for host in hosts:
        try:
            _refuse(host)
        except DomainError as error:
            refused.append(RefusedUpdate(host.pk, host.name, error.detail))
        else:
            wanted.append(host)
    if not wanted:
        raise Conflict(
            "No agent can be updated.",
            errors={"hosts": [each.detail for each in refused] or ["There are none."]},
        )
    rollout = AgentRollout.objects.create(created_by=actor.name[:255])
    AgentUpdate.objects.bulk_create(
        AgentUpdate(rollout=rollout, host=host, version_before=host.agent_version) for host in wanted
    )
    for host in wanted:
        _record_request(actor, host)
    return rollout, refused


def advance() -> None:
    """The scheduler's job: begin what may begin of each rollout, stop what shall not."""
    rollouts = AgentRollout.objects.filter(updates__status=Status.WAITING).distinct()
    schedule.one_by_one(rollouts, _advance, what="The rollout")


def take_result(command: Command, result: CommandResult) -> None:
    """The agent, old or new, has reported."""
    _end(command, "" if result.is_success else result.error or "The agent gave no reason.")


def take_timeout(command: Command, reason: str) -> None:
    """Nobody will report any more."""
    _end(command, reason)


def prepare(command: Command) -> Mapping[str, Any]:
    """What this very server hands out, whatever it was when the command was queued."""
    return {**command.payload, "sha256": agent_files.pyz().sha256, "version": __version__}


def _numbers(version: str) -> tuple[int, ...]:
    found = re.match(r"\d{1,9}(\.\d{1,9})*", version)
    return tuple(int(number) for number in found[0].split(".")) if found else ()


def forget_updates() -> None:
    """The scheduler's job: rollouts that were asked for long ago, and have ended."""
    old = AgentRollout.objects.filter(created_at__lt=clock.now() - KEPT)
    old.exclude(updates__status__in=[Status.WAITING, Status.RUNNING]).delete()


def _refuse(host: Host) -> None:
    if reason := why_not_updated(host):
        raise Conflict(reason)
    if AgentUpdate.objects.filter(host=host, status__in=[Status.WAITING, Status.RUNNING]).exists():
        raise Conflict(f"The agent of {host.name} is about to be updated already.")


@transaction.atomic
def _advance(rollout: AgentRollout) -> None:
    # The rollout is locked by whoever advances it; hosts are locked one by one after it, and nobody who holds a host
    # waits for a rollout.
    AgentRollout.objects.select_for_update().get(pk=rollout.pk)
    updates = list(rollout.updates.select_related("host__heartbeat_state").order_by("host__name"))
    waiting = [each for each in updates if each.status == Status.WAITING]
    if any(each.status == Status.FAILURE for each in updates):
        rollout.updates.filter(status=Status.WAITING).update(
            status=Status.STOPPED, error="Another agent of the rollout failed first.", finished_at=clock.now()
        )
        return
    running = sum(each.status == Status.RUNNING for each in updates)
    most = AT_ONCE if any(each.status == Status.SUCCESS for each in updates) else 1
    for update in waiting:
        if running >= most:
            return
        # What has become of the host since says nothing of the new version.
        if reason := why_not_updated(update.host):
            update.status, update.error, update.finished_at = Status.STOPPED, reason, clock.now()
            update.save(update_fields=["status", "error", "finished_at"])
        else:
            _begin(update)
            running += 1


def _begin(update: AgentUpdate) -> None:
    update.command_id = commands.enqueue(
        host_id=update.host_id, kind=KIND, payload={}, lock=KIND, timeout_seconds=TIMEOUT_SECONDS
    )
    update.status = Status.RUNNING
    update.save(update_fields=["command_id", "status"])


def _end(command: Command, error: str) -> None:
    host = Host.objects.get(pk=command.host_id)
    AgentUpdate.objects.filter(command_id=command.id).update(
        status=Status.FAILURE if error else Status.SUCCESS, error=error, finished_at=clock.now()
    )
    audit.record(
        actor=Actor("agent", str(host.pk), host.name),
        action=Action.AGENT_UPDATE_FAILED if error else Action.AGENT_UPDATE_SUCCEEDED,
        target_kind="host",
        target_id=host.pk,
        target_name=host.name,
        changes={"error": error} if error else {"version": host.agent_version},
    )


def _record_request(actor: Actor, host: Host) -> None:
    audit.record(
        actor=actor,
        action=Action.AGENT_UPDATE_REQUESTED,
        target_kind="host",
        target_id=host.pk,
        target_name=host.name,
        changes={"from": host.agent_version, "to": __version__, "sha256": agent_files.pyz().sha256},
    )
