"""Taking a heartbeat: contract section 7.

Almost every heartbeat changes nothing but when the host was last seen. Such a one is one UPDATE that finds its
row only if all of the state is still as the agent's authentication read it; what is more than that, and what
lost a race, goes the long way, with the heartbeat state locked.

The inventory's digest is the agent's own word for it. A digest alone is taken to stand for the last whole
inventory under that digest; a whole inventory is compared with what is stored whatever its digest says; and
every `WHOLE_INVENTORY_EVERY` the whole is asked for. So an agent whose digests don't tell two inventories apart
is wrong for that long at most, and no wrong digest can make the server wrong for ever.
"""

import datetime
import hashlib
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import msgspec
from django.conf import settings
from django.db import transaction
from msgspec import UNSET, UnsetType

from dockmesh.core import clock
from dockmesh.core.errors import NotFound
from dockmesh.fleet import commands, documents, sql
from dockmesh.fleet.agents import Agent
from dockmesh.fleet.budget import budget
from dockmesh.fleet.documents import Heartbeat, Inventory
from dockmesh.fleet.histograms import RTT_BUCKETS, observe
from dockmesh.fleet.models import HeartbeatState, Host
from dockmesh.fleet.services.inventory import Summary, apply_inventories, write_summaries

ACCEPTED, STALE, INVENTORY_WANTED = "accepted", "stale", "inventory_wanted"

WHOLE_INVENTORY_EVERY = datetime.timedelta(hours=1)
REMEMBERED_BOOTS = 50
# What of the facts is on /metrics.
RENDERED = frozenset(
    {"is_degraded", "agent_version", "docker_version", "os", "arch", "kernel", "cpus", "memory_bytes"}
)
# While there is work, the agent comes again soon.
BUSY_INTERVAL_SECONDS = 1


@dataclass(frozen=True)
class Answer:
    """What the agent is told."""

    status: str
    heartbeat_interval_seconds: int
    server_time: datetime.datetime
    commands: Sequence[dict[str, Any]] = ()
    asked: Sequence[uuid.UUID] | UnsetType = UNSET
    """Commands that the agent said it had, and does not name any more."""


def record_heartbeat(*, agent: Agent, heartbeat: Heartbeat, is_numbered: bool = False) -> Answer:
    """Take a heartbeat that `documents.read_heartbeat` has checked, of the host that the token is of.

    Everything that it changes is changed in one transaction; a stale one changes nothing. Raises `NotFound`
    if the host has been removed since its token was read. `is_numbered`: see `commands.hand_out`.
    """
    now = clock.now()
    facts = facts_digest(heartbeat)
    if is_unchanged(agent, heartbeat, facts, now) and _touch(agent, heartbeat, now):
        return Answer(ACCEPTED, settings.DOCKMESH_HEARTBEAT_INTERVAL, now)
    return _record_change(agent, heartbeat, facts, now, is_numbered)


def is_unchanged(agent: Agent, heartbeat: Heartbeat, facts: str, now: datetime.datetime) -> bool:
    """Whether there is nothing in it but when the host was seen and its round trips."""
    inventory = heartbeat.inventory
    return is_plain(agent, heartbeat, facts) and (
        inventory is None
        or (
            inventory.containers is UNSET
            and _is_known(inventory, digest=agent.inventory_digest, taken_at=agent.inventory_at, now=now)
        )
    )


def is_plain(agent: Agent, heartbeat: Heartbeat, facts: str) -> bool:
    """Whether there is nothing in it but when the host was seen, its round trips and its inventory."""
    return (
        agent.boot_id == heartbeat.boot_id
        and agent.sequence < heartbeat.sequence
        and agent.facts_digest == facts
        and not agent.has_commands
        and heartbeat.progress is UNSET
    )


def _is_known(
    inventory: Inventory, *, digest: str, taken_at: datetime.datetime | None, now: datetime.datetime
) -> bool:
    """Whether the inventory's digest alone will do, going by the last whole one."""
    return (
        inventory.digest == digest
        and taken_at is not None
        and taken_at <= now < taken_at + WHOLE_INVENTORY_EVERY
    )


_TOUCH = """
UPDATE fleet_hostpulse
   SET last_seen_at = %s, sequence = %s, clock_skew_seconds = %s, rtt_counts = %s, rtt_sum = %s
 WHERE host_id = %s AND sequence = %s AND boot_id = %s AND facts_digest = %s AND inventory_digest = %s
   AND NOT has_commands
"""


def _touch(agent: Agent, heartbeat: Heartbeat, now: datetime.datetime) -> bool:
    """The short way; False if anything has changed since the heartbeat state was read."""
    values = [
        now,
        heartbeat.sequence,
        (heartbeat.sent_at - now).total_seconds(),
        *with_round_trips(agent.rtt_counts, agent.rtt_sum, heartbeat),
        agent.host_id,
        agent.sequence,
        agent.boot_id,
        agent.facts_digest,
        agent.inventory_digest,
    ]
    return sql.run(_TOUCH, values) == 1


def with_round_trips(counts: str, total: float, heartbeat: Heartbeat) -> tuple[str, float]:
    """The host's histogram and the sum of its round trips, with those of the heartbeat."""
    seconds = heartbeat.rtt_seconds
    return (observe(counts, RTT_BUCKETS, seconds), total + sum(seconds)) if seconds else (counts, total)


@dataclass(slots=True)
class _State:
    """The host's state, locked."""

    host_id: int
    boot_id: str
    sequence: int
    inventory_digest: str
    inventory_at: datetime.datetime | None
    facts_digest: str
    rtt_counts: str
    rtt_sum: float
    is_degraded: bool
    has_commands: bool
    version: int


_LOCK = """
SELECT p.host_id, p.boot_id, p.sequence, p.inventory_digest, p.inventory_at, p.facts_digest, p.rtt_counts,
       p.rtt_sum, p.is_degraded, p.has_commands, p.version
  FROM fleet_hostpulse p
 WHERE p.host_id = %s
"""
_WRITE_STATE = """
UPDATE fleet_hostpulse
   SET last_seen_at = %s, clock_skew_seconds = %s, boot_id = %s, sequence = %s, inventory_digest = %s,
       inventory_at = %s, facts_digest = %s, rtt_counts = %s, rtt_sum = %s, is_degraded = %s, version = %s
 WHERE host_id = %s
"""


@transaction.atomic
def _record_change(
    agent: Agent, heartbeat: Heartbeat, facts: str, now: datetime.datetime, is_numbered: bool
) -> Answer:
    """The long way, with the heartbeat state locked."""
    state = _lock(agent.host_id)
    if _is_stale(state, heartbeat):
        return Answer(STALE, settings.DOCKMESH_HEARTBEAT_INTERVAL, now)
    if state.boot_id != heartbeat.boot_id:
        _take_boot(state, heartbeat)
    is_rendered_anew = state.facts_digest != facts and _take_facts(state, heartbeat, facts)
    status, summary = _take_inventory(agent, state, heartbeat, now)
    if summary is not None:
        write_summaries({state.host_id: summary})
        is_rendered_anew |= summary.written > 0
    # Handlers of commands change the heartbeat state too, so it is written before they are called.
    _write(state, heartbeat, now, state.version + is_rendered_anew)
    work = _take_commands(state, heartbeat, now, is_numbered)
    if not work.is_any_open:
        return Answer(status, settings.DOCKMESH_HEARTBEAT_INTERVAL, now)
    return Answer(status, BUSY_INTERVAL_SECONDS, now, work.offers, work.asked or UNSET)


def _lock(host_id: int) -> _State:
    rows = sql.fetch(_LOCK + sql.for_update("p"), [host_id])
    if not rows:
        raise NotFound("There is no such host.")
    state = _State(*rows[0])
    state.inventory_at = sql.as_datetime(state.inventory_at)
    return state


def _write(state: _State, heartbeat: Heartbeat, now: datetime.datetime, version: int) -> None:
    values = [
        now,
        (heartbeat.sent_at - now).total_seconds(),
        state.boot_id,
        heartbeat.sequence,
        state.inventory_digest,
        state.inventory_at,
        state.facts_digest,
        *with_round_trips(state.rtt_counts, state.rtt_sum, heartbeat),
        state.is_degraded,
        version,
        state.host_id,
    ]
    sql.run(_WRITE_STATE, values)


def _is_stale(state: _State, heartbeat: Heartbeat) -> bool:
    """Older than what is known, or of a boot that has been followed by another: nothing may regress."""
    if state.boot_id == heartbeat.boot_id:
        return heartbeat.sequence <= state.sequence
    past_boots = Host.objects.values_list("past_boots", flat=True).get(pk=state.host_id)
    return heartbeat.boot_id in past_boots


def _take_boot(state: _State, heartbeat: Heartbeat) -> None:
    """A new boot counts its heartbeats from the start; the one before is over for good."""
    if state.boot_id:
        host = Host.objects.get(pk=state.host_id)
        host.past_boots = [*host.past_boots, state.boot_id][-REMEMBERED_BOOTS:]
        host.save(update_fields=["past_boots"])
    state.boot_id = heartbeat.boot_id


def _is_degraded(heartbeat: Heartbeat) -> bool:
    return not heartbeat.docker.reachable or heartbeat.inventory is None


def facts_digest(heartbeat: Heartbeat) -> str:
    """Of what `_take_facts` takes."""
    facts = msgspec.json.encode(
        (heartbeat.agent, heartbeat.docker, heartbeat.system, _is_degraded(heartbeat))
    )
    return hashlib.blake2b(facts, digest_size=16).hexdigest()


def _take_facts(state: _State, heartbeat: Heartbeat, digest: str) -> bool:
    """What the agent says of itself, of Docker and of the machine; whether /metrics shows anything of it."""
    host = Host.objects.get(pk=state.host_id)
    is_degraded = _is_degraded(heartbeat)
    changed = {"is_degraded"} if is_degraded != state.is_degraded else set()
    state.facts_digest, state.is_degraded = digest, is_degraded
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
    return bool(changed & RENDERED)


def _agent_info(agent: documents.Agent) -> dict[str, Any]:
    """What the agent can carry out and with what; a key is absent where it does not say."""
    info = msgspec.to_builtins(agent)
    del info["version"]  # has a column
    return info  # type: ignore[no-any-return]


def _take_inventory(
    agent: Agent, state: _State, heartbeat: Heartbeat, now: datetime.datetime
) -> tuple[str, Summary | None]:
    """(the answer's status, the host's counts if the containers were looked at).

    While Docker does not answer, what was known of its containers is kept; so it is while the agent's budget is used
    up, and the agent sends them again.
    """
    inventory = heartbeat.inventory
    if inventory is None or not heartbeat.docker.reachable:
        return ACCEPTED, None
    if inventory.containers is UNSET:
        known = _is_known(inventory, digest=state.inventory_digest, taken_at=state.inventory_at, now=now)
        return (ACCEPTED if known else INVENTORY_WANTED), None
    if not budget.has_any(agent.token_id):
        return INVENTORY_WANTED, None
    host_id = state.host_id
    is_first = {host_id: state.inventory_at is None}
    summary = apply_inventories({host_id: inventory.containers}, now, is_first=is_first)[host_id]
    budget.charge(agent.token_id, written=summary.written, compared=len(inventory.containers))
    state.inventory_digest = inventory.digest
    state.inventory_at = now
    return ACCEPTED, summary


def _take_commands(
    state: _State, heartbeat: Heartbeat, now: datetime.datetime, is_numbered: bool
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
