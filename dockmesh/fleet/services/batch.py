"""Heartbeats that arrive together are taken together, in one transaction: most of what one costs is the transaction.

That is for the plain ones: of the boot that is known, newer than the last, with nothing new of the machine and no
work in question; their inventory unchanged, or whole. Every other is left alone, with nothing of it written, and
goes its own way (`record_heartbeat`), which knows all cases.
"""

import datetime
from collections.abc import Sequence
from dataclasses import dataclass

from django.conf import settings
from django.db import transaction
from msgspec import UNSET

from dockmesh.core import clock
from dockmesh.fleet import sql
from dockmesh.fleet.agents import Agent, lock_agents
from dockmesh.fleet.budget import budget
from dockmesh.fleet.documents import ContainerEntry, Heartbeat
from dockmesh.fleet.services.heartbeat import (
    ACCEPTED,
    Answer,
    facts_digest,
    is_plain,
    is_unchanged,
    with_round_trips,
)
from dockmesh.fleet.services.inventory import apply_inventories, write_summaries
from tokens import secret

_HEARD = {
    "last_seen_at": "timestamptz",
    "clock_skew_seconds": "double precision",
    "sequence": "bigint",
    "rtt_counts": "text",
    "rtt_sum": "double precision",
}
_STATES = sql.ManyRows("fleet_hostpulse", key={"host_id": "bigint"}, values=_HEARD)
_STATES_AND_INVENTORIES = sql.ManyRows(
    "fleet_hostpulse",
    key={"host_id": "bigint"},
    values={**_HEARD, "inventory_digest": "text", "inventory_at": "timestamptz", "version": "bigint"},
)


@dataclass(frozen=True, slots=True)
class Beat:
    """A heartbeat that `documents.read_heartbeat` has checked, and the token that it came with."""

    token: secret.TokenText
    heartbeat: Heartbeat


@dataclass(frozen=True, slots=True)
class _Taken:
    """A beat that is taken here, of a host that is locked."""

    agent: Agent
    heartbeat: Heartbeat
    containers: Sequence[ContainerEntry] | None
    """Those of a whole inventory; None where what is stored holds."""


@transaction.atomic
def record_batch(beats: Sequence[Beat]) -> list[Answer | None]:
    """Take the plain ones of these heartbeats of different hosts; None for one that is left alone."""
    now = clock.now()
    agents = lock_agents([beat.token for beat in beats])
    taken = [
        _taken(agent, beat.heartbeat, now) if agent is not None else None
        for agent, beat in zip(agents, beats, strict=True)
    ]
    _write([each for each in taken if each is not None], now)
    answer = Answer(ACCEPTED, settings.DOCKMESH_HEARTBEAT_INTERVAL, now)
    return [answer if each is not None else None for each in taken]


def _taken(agent: Agent, heartbeat: Heartbeat, now: datetime.datetime) -> _Taken | None:
    inventory, facts = heartbeat.inventory, facts_digest(heartbeat)
    if is_unchanged(agent, heartbeat, facts, now):
        return _Taken(agent, heartbeat, None)
    if (
        inventory is not None
        and inventory.containers is not UNSET
        and heartbeat.docker.reachable
        and budget.has_any(agent.token_id)
        and is_plain(agent, heartbeat, facts)
    ):
        return _Taken(agent, heartbeat, inventory.containers)
    return None


def _write(taken: Sequence[_Taken], now: datetime.datetime) -> None:
    whole = {each.agent.host_id: each.containers for each in taken if each.containers is not None}
    is_first = {each.agent.host_id: each.agent.inventory_at is None for each in taken}
    summaries = apply_inventories(whole, now, is_first=is_first)
    for each in taken:
        if each.containers is not None:
            written = summaries[each.agent.host_id].written
            budget.charge(each.agent.token_id, written=written, compared=len(each.containers))
    write_summaries(summaries)
    _STATES.update([_heard(each, now) for each in taken if each.containers is None])
    _STATES_AND_INVENTORIES.update(
        [
            (
                *_heard(each, now),
                each.heartbeat.inventory.digest if each.heartbeat.inventory else "",
                now,
                each.agent.version + (summaries[each.agent.host_id].written > 0),
            )
            for each in taken
            if each.containers is not None
        ]
    )


def _heard(each: _Taken, now: datetime.datetime) -> sql.Row:
    """The host's id, and the values of `_HEARD`."""
    agent, heartbeat = each.agent, each.heartbeat
    counts, total = with_round_trips(agent.rtt_counts, agent.rtt_sum, heartbeat)
    return agent.host_id, now, (heartbeat.sent_at - now).total_seconds(), heartbeat.sequence, counts, total
