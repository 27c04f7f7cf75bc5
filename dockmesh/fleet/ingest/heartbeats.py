"""Taking heartbeats: contract section 7. A single one is a batch of one.

Almost every heartbeat is plain: there is nothing in it but when the host was seen, its round trips and its inventory.
Plain ones of different hosts that arrive together are taken in one transaction, since most of what one costs is the
transaction. Any other is taken alone: what it makes the server do may fail or wait, and is nobody else's business.

The inventory's digest is the agent's own word for it. A digest alone is taken to stand for the last whole
inventory under that digest; a whole inventory is compared with what is stored whatever its digest says; and
every `WHOLE_INVENTORY_EVERY` the whole is asked for. So an agent whose digests don't tell two inventories apart
is wrong for that long at most, and no wrong digest can make the server wrong for ever.
"""

import datetime
import hashlib
import uuid
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import msgspec
from django.conf import settings
from django.db import transaction
from msgspec import UNSET, UnsetType

from dockmesh.core import clock
from dockmesh.core.errors import InvalidInput, NotFound
from dockmesh.fleet import commands, sql
from dockmesh.fleet.agents import Agent, lock_agent, lock_agents
from dockmesh.fleet.histograms import RTT_BUCKETS, observe
from dockmesh.fleet.ingest import documents
from dockmesh.fleet.ingest.budget import budget
from dockmesh.fleet.ingest.documents import ContainerEntry, Heartbeat, Inventory, Usage
from dockmesh.fleet.ingest.images import write_images
from dockmesh.fleet.ingest.inventory import Summary, apply_inventories, write_summaries
from dockmesh.fleet.ingest.usage import Used, write_usage
from dockmesh.fleet.models import HeartbeatState, Host
from tokens import secret

ACCEPTED, STALE, INVENTORY_WANTED = "accepted", "stale", "inventory_wanted"

WHOLE_INVENTORY_EVERY = datetime.timedelta(hours=1)
REMEMBERED_BOOTS = 50
# What of the facts is on /metrics.
RENDERED = frozenset(
    {"is_degraded", "agent_version", "docker_version", "os", "arch", "kernel", "cpus", "memory_bytes"}
)
# While there is work, the agent comes again soon.
BUSY_INTERVAL_SECONDS = 1

# The columns of a host's heartbeat state that every heartbeat writes, and those that few do.
_HEARD = {
    "last_seen_at": "timestamptz",
    "clock_skew_seconds": "double precision",
    "sequence": "bigint",
    "rtt_counts": "text",
    "rtt_sum": "double precision",
}
_KNOWN = {
    "boot_id": "text",
    "inventory_digest": "text",
    "inventory_at": "timestamptz",
    "facts_digest": "text",
    "is_degraded": "boolean",
    "version": "bigint",
}
_KEY = {"host_id": "bigint"}
_HEARD_STATES = sql.ManyRows("fleet_hostpulse", key=_KEY, values=_HEARD)
_STATES = sql.ManyRows("fleet_hostpulse", key=_KEY, values={**_HEARD, **_KNOWN})


@dataclass(frozen=True)
class Answer:
    """What the agent is told."""

    status: str
    heartbeat_interval_seconds: int
    server_time: datetime.datetime
    commands: Sequence[dict[str, Any]] = ()
    asked: Sequence[uuid.UUID] | UnsetType = UNSET
    """Commands that the agent said it had, and does not name any more."""


@dataclass(frozen=True, slots=True)
class Beat:
    """A heartbeat that `documents.read_heartbeat` has checked, and the token that it came with."""

    token: secret.TokenText
    heartbeat: Heartbeat


@dataclass(frozen=True, slots=True)
class _Taken:
    """A heartbeat that is taken, of a host that is locked."""

    state: Agent
    """What it makes of the host's state, but for what comes with every heartbeat and with the inventory."""
    heartbeat: Heartbeat
    containers: Sequence[ContainerEntry] | None
    """Those of a whole inventory; None where what is stored holds."""
    is_changed: bool
    """Whether any of `_KNOWN` may be."""
    is_rendered_anew: bool = False
    """Whether /metrics shows anything of what is new in the state."""
    usage: Usage | None = None
    """What is used; None where it does not say, or nobody knows by which names the containers go."""


@transaction.atomic
def record_batch(beats: Sequence[Beat]) -> list[Answer | None]:
    """Take the plain ones of these heartbeats of different hosts; None for one that is left alone, with nothing written.

    They are of the boot that is known and newer than the last, with nothing new of the machine and no work in question;
    their inventory is unchanged, or whole.
    """
    now = clock.now()
    agents = lock_agents([beat.token for beat in beats])
    taken = [
        _plain(agent, beat.heartbeat, now) if agent is not None else None
        for agent, beat in zip(agents, beats, strict=True)
    ]
    _write([each for each in taken if each is not None], now)
    answer = Answer(ACCEPTED, settings.DOCKMESH_HEARTBEAT_INTERVAL, now)
    return [answer if each is not None else None for each in taken]


@transaction.atomic
def record_heartbeat(*, agent: Agent, heartbeat: Heartbeat, is_numbered: bool = False) -> Answer:
    """Take a heartbeat that `documents.read_heartbeat` has checked, of the host that the token is of.

    Everything that it changes is changed in one transaction; a stale one changes nothing. Raises `NotFound`
    if the host's token has gone since it was read. `is_numbered`: see `commands.hand_out`.
    """
    now = clock.now()
    before = lock_agent(agent)
    if before is None:
        raise NotFound("There is no such host.")
    if _is_stale(before, heartbeat):
        return Answer(STALE, settings.DOCKMESH_HEARTBEAT_INTERVAL, now)
    state, facts, is_rendered_anew = before, facts_digest(heartbeat), False
    if state.boot_id != heartbeat.boot_id:
        state = _with_boot(state, heartbeat)
    if state.facts_digest != facts:
        state, is_rendered_anew = _with_facts(state, heartbeat, facts)
    status, containers = _inventory(state, heartbeat, now)
    usage = _usage(state, heartbeat, status, containers)
    if heartbeat.images is not UNSET:
        is_rendered_anew |= write_images(state.host_id, heartbeat.images)
    is_changed = state is not before or containers is not None or is_rendered_anew
    # Handlers of commands change the state too, so it is written before they are called.
    _write([_Taken(state, heartbeat, containers, is_changed, is_rendered_anew, usage)], now)
    work = _take_commands(state, heartbeat, now, is_numbered)
    if not work.is_any_open:
        return Answer(status, settings.DOCKMESH_HEARTBEAT_INTERVAL, now)
    return Answer(status, BUSY_INTERVAL_SECONDS, now, work.offers, work.asked or UNSET)


def _plain(agent: Agent, heartbeat: Heartbeat, now: datetime.datetime) -> _Taken | None:
    """The heartbeat if it is one for a batch."""
    if (
        agent.boot_id != heartbeat.boot_id
        or agent.sequence >= heartbeat.sequence
        or agent.has_commands
        or heartbeat.progress is not UNSET
        or heartbeat.images is not UNSET
        or agent.facts_digest != facts_digest(heartbeat)
    ):
        return None
    status, containers = _inventory(agent, heartbeat, now)
    if status != ACCEPTED:
        return None
    try:
        usage = _usage(agent, heartbeat, status, containers)
    except InvalidInput:
        return None
    return _Taken(agent, heartbeat, containers, is_changed=containers is not None, usage=usage)


def _inventory(
    agent: Agent, heartbeat: Heartbeat, now: datetime.datetime
) -> tuple[str, Sequence[ContainerEntry] | None]:
    """(the answer's status, the containers that are to be compared with what is stored).

    While Docker does not answer, what was known of its containers is kept; so it is while the agent's budget is used
    up, and the agent sends them again.
    """
    inventory = heartbeat.inventory
    if inventory is None or not heartbeat.docker.reachable:
        return ACCEPTED, None
    if inventory.containers is UNSET:
        return (ACCEPTED if _is_known(agent, inventory, now) else INVENTORY_WANTED), None
    if not budget.has_any(agent.token_id):
        return INVENTORY_WANTED, None
    return ACCEPTED, inventory.containers


def _usage(
    agent: Agent, heartbeat: Heartbeat, status: str, containers: Sequence[ContainerEntry] | None
) -> Usage | None:
    """What it says is used, while the agent's budget lasts; raises `InvalidInput` if that is of more containers than there are."""
    usage = heartbeat.usage
    if (
        not isinstance(usage, Usage)
        or heartbeat.inventory is None
        or not heartbeat.docker.reachable
        or status != ACCEPTED
    ):
        return None
    if not budget.has_any(agent.token_id):
        return None
    if containers is None:
        documents.check_usage_count(usage, agent.container_count)
    return usage


def _is_known(agent: Agent, inventory: Inventory, now: datetime.datetime) -> bool:
    """Whether the inventory's digest alone will do, going by the last whole one."""
    taken_at = agent.inventory_at
    return (
        inventory.digest == agent.inventory_digest
        and taken_at is not None
        and taken_at <= now < taken_at + WHOLE_INVENTORY_EVERY
    )


def _write(taken: Sequence[_Taken], now: datetime.datetime) -> None:
    whole = {each.state.host_id: each.containers for each in taken if each.containers is not None}
    is_first = {each.state.host_id: each.state.inventory_at is None for each in taken}
    summaries = apply_inventories(whole, now, is_first=is_first)
    for each in taken:
        if each.containers is not None:
            written = summaries[each.state.host_id].written
            budget.charge(each.state.token_id, written=written, compared=len(each.containers))
    write_summaries(summaries)
    versions = {each.state.host_id: _version(each, summaries.get(each.state.host_id)) for each in taken}
    _HEARD_STATES.update([_heard(each, now) for each in taken if not each.is_changed])
    _STATES.update(
        [
            (*_heard(each, now), *_known(each, now), versions[each.state.host_id])
            for each in taken
            if each.is_changed
        ]
    )
    costs = write_usage(
        [
            Used(each.state.host_id, versions[each.state.host_id], each.heartbeat.sent_at, each.usage)
            for each in taken
            if each.usage is not None
        ],
        now,
    )
    for each in taken:
        if each.state.host_id in costs:
            budget.charge(each.state.token_id, written=costs[each.state.host_id], compared=0)


def _heard(each: _Taken, now: datetime.datetime) -> sql.Row:
    """The host's id, and the values of `_HEARD`."""
    state, heartbeat = each.state, each.heartbeat
    counts, total, seconds = state.rtt_counts, state.rtt_sum, heartbeat.rtt_seconds
    if seconds:
        counts, total = observe(counts, RTT_BUCKETS, seconds), total + sum(seconds)
    return state.host_id, now, (heartbeat.sent_at - now).total_seconds(), heartbeat.sequence, counts, total


def _known(each: _Taken, now: datetime.datetime) -> sql.Row:
    """The values of `_KNOWN` but for the version."""
    state, inventory = each.state, each.heartbeat.inventory
    digest, at = state.inventory_digest, state.inventory_at
    if each.containers is not None and inventory is not None:
        digest, at = inventory.digest, now
    return state.boot_id, digest, at, state.facts_digest, state.is_degraded


def _version(each: _Taken, summary: Summary | None) -> int:
    """Of the host's text on /metrics, from now on."""
    is_rendered_anew = each.is_rendered_anew or (summary is not None and summary.written > 0)
    return each.state.version + is_rendered_anew


def _is_stale(agent: Agent, heartbeat: Heartbeat) -> bool:
    """Older than what is known, or of a boot that has been followed by another: nothing may regress."""
    if agent.boot_id == heartbeat.boot_id:
        return heartbeat.sequence <= agent.sequence
    past_boots = Host.objects.values_list("past_boots", flat=True).get(pk=agent.host_id)
    return heartbeat.boot_id in past_boots


def _with_boot(agent: Agent, heartbeat: Heartbeat) -> Agent:
    """A new boot counts its heartbeats from the start; the one before is over for good."""
    if agent.boot_id:
        host = Host.objects.get(pk=agent.host_id)
        host.past_boots = [*host.past_boots, agent.boot_id][-REMEMBERED_BOOTS:]
        host.save(update_fields=["past_boots"])
    return replace(agent, boot_id=heartbeat.boot_id)


def _is_degraded(heartbeat: Heartbeat) -> bool:
    return not heartbeat.docker.reachable or heartbeat.inventory is None


def facts_digest(heartbeat: Heartbeat) -> str:
    """Of what `_with_facts` takes."""
    facts = msgspec.json.encode(
        (heartbeat.agent, heartbeat.docker, heartbeat.system, _is_degraded(heartbeat))
    )
    return hashlib.blake2b(facts, digest_size=16).hexdigest()


def _with_facts(state: Agent, heartbeat: Heartbeat, digest: str) -> tuple[Agent, bool]:
    """What the agent says of itself, of Docker and of the machine; and whether /metrics shows anything of it."""
    host = Host.objects.get(pk=state.host_id)
    is_degraded = _is_degraded(heartbeat)
    changed = {"is_degraded"} if is_degraded != state.is_degraded else set()
    agent, docker, system = heartbeat.agent, heartbeat.docker, heartbeat.system
    new = {
        "agent_version": agent.version,
        "agent_info": _agent_info(agent),
        # A Docker that does not answer has not lost its version.
        "docker_version": docker.version or host.docker_version,
        "docker_error": docker.error,
        "os": system.os,
        "arch": system.arch,
        "kernel": system.kernel,
        "cpus": system.cpus,
        "memory_bytes": system.memory_bytes,
    }
    changed |= {name for name, value in new.items() if getattr(host, name) != value}
    for name, value in new.items():
        setattr(host, name, value)
    host.save(update_fields=list(new))
    return replace(state, facts_digest=digest, is_degraded=is_degraded), bool(changed & RENDERED)


def _agent_info(agent: documents.Agent) -> dict[str, Any]:
    """What the agent can carry out and with what; a key is absent where it does not say."""
    info = msgspec.to_builtins(agent)
    del info["version"]  # has a column
    return info  # type: ignore[no-any-return]


def _take_commands(
    state: Agent, heartbeat: Heartbeat, now: datetime.datetime, is_numbered: bool
) -> commands.Work:
    """Pass the progress on, and take what the agent has to do."""
    progress = () if heartbeat.progress is UNSET else heartbeat.progress
    if progress:
        commands.note_progress(
            state.host_id,
            [
                (each.command_id, commands.CommandProgress(each.output, each.elapsed_seconds))
                for each in progress
            ],
        )
    if not state.has_commands:
        return commands.Work((), (), False)
    named = {each.command_id for each in progress}
    work = commands.hand_out(state.host_id, now=now, named=named, is_numbered=is_numbered)
    if not work.is_any_open:
        HeartbeatState.objects.filter(pk=state.host_id).update(has_commands=False)
    return work
