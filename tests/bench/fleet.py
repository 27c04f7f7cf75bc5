"""Builds a fleet through the product's own services, and changes it as a running fleet changes."""

from __future__ import annotations

import random
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import msgspec

from tests.bench.sizes import CONTAINERS_OF_A_STACK, Size

BATCH = 100
HISTORY_BATCH = 200_000


@dataclass
class Member:
    """A host with its agent's credential and what the agent would send."""

    number: int
    host_id: int
    token: str
    boot_id: str
    sequence: int
    containers: list[dict[str, Any]]


def build(size: Size, *, seed: int = 1, do_all_run: bool = False) -> list[Member]:
    """Enrol and fill every host by a heartbeat with its whole inventory; give each stack a few deploys."""
    from django.db import transaction

    from dockmesh.fleet import services

    dice = random.Random(seed)
    members = []
    stacks_of_a_host = size.stacks // size.hosts
    for start in range(1, size.hosts + 1, BATCH):
        with transaction.atomic():
            for number in range(start, min(start + BATCH, size.hosts + 1)):
                member = _enrol(number)
                member.containers = _containers(
                    dice, number, [_stack_name(size, number, at) for at in range(stacks_of_a_host)], size
                )
                for container in member.containers if do_all_run else ():
                    container["state"] = "running"
                send(member, is_whole=True, rtts=[dice.expovariate(40) for _ in range(5)])
                members.append(member)
    for start in range(0, size.stack_names, BATCH):
        with transaction.atomic():
            for number in range(start, min(start + BATCH, size.stack_names)):
                for is_success in (True, True, False):
                    services.observe_deploy(
                        stack_name=f"app-{number:05d}",
                        is_success=is_success,
                        seconds=dice.expovariate(1 / 40),
                    )
    return members


def send(member: Member, *, is_whole: bool, rtts: Sequence[float]) -> None:
    """One heartbeat, by the functions that the endpoint calls."""
    from dockmesh.fleet.agents import authenticate
    from dockmesh.fleet.ingest.documents import read_heartbeat
    from dockmesh.fleet.ingest.heartbeats import record_heartbeat

    raw = document(member, is_whole=is_whole, rtts=rtts)
    agent = authenticate(f"Bearer {member.token}", address="127.0.0.1")
    answer = record_heartbeat(agent=agent, heartbeat=read_heartbeat(raw))
    assert answer.status == "accepted", answer


def usage(member: Member, dice: random.Random) -> dict[str, Any]:
    """What its containers use, each value another one than before."""
    return {
        "host": {
            "cpu_seconds": round(dice.uniform(1e5, 1e7), 2),
            "memory_available_bytes": dice.randrange(2**34),
            "load1": round(dice.uniform(0, 8), 2),
            "docker_root_bytes": 500_000_000_000,
            "docker_root_free_bytes": dice.randrange(400_000_000_000),
        },
        "containers": [
            [
                container["id"],
                round(dice.uniform(0, 1e5), 6),
                round(dice.uniform(0, 1e4), 6),
                round(dice.uniform(0, 100), 6),
                dice.randrange(2**30),
                2**30,
                dice.randrange(2**36),
                dice.randrange(2**36),
                dice.randrange(100),
                dice.randrange(100),
                dice.randrange(2**34),
                dice.randrange(2**34),
                dice.randrange(1, 200),
            ]
            for container in member.containers
        ],
    }


def use(members: Sequence[Member], dice: random.Random) -> None:
    """A heartbeat's usage of every host, written as the endpoint writes it."""
    from django.db import transaction

    from dockmesh.core import clock
    from dockmesh.fleet.ingest.documents import Usage
    from dockmesh.fleet.ingest.usage import Used, write_usage
    from dockmesh.fleet.models import HeartbeatState

    versions = dict(HeartbeatState.objects.values_list("host_id", "version"))
    for start in range(0, len(members), BATCH):
        told = [
            Used(
                member.host_id,
                versions[member.host_id],
                clock.now(),
                msgspec.convert(usage(member, dice), Usage),
            )
            for member in members[start : start + BATCH]
        ]
        with transaction.atomic():
            write_usage(told, clock.now())


def document(
    member: Member, *, is_whole: bool, rtts: Sequence[float], used: dict[str, Any] | None = None
) -> bytes:
    """The next heartbeat's bytes."""
    from dockmesh.core import clock

    member.sequence += 1
    inventory: dict[str, Any] = {"digest": f"sha256:{hash(str(member.containers)) & (2**64 - 1):016x}"}
    if is_whole:
        inventory["containers"] = member.containers
    return msgspec.json.encode(
        {
            "protocol": 1,
            "boot_id": member.boot_id,
            "sequence": member.sequence,
            "sent_at": clock.now(),
            "agent": {"version": "0.1.0", "capabilities": [], "repositories": []},
            "rtt_seconds": list(rtts),
            "docker": {"reachable": True, "version": "24.0.7", "error": ""},
            "system": {
                "os": "linux",
                "arch": "x86_64",
                "kernel": "6.1.0-18-amd64",
                "cpus": 8,
                "memory_bytes": 2**35,
            },
            "inventory": inventory,
            **({} if used is None else {"usage": used}),
        }
    )


def pass_time(members: Sequence[Member], *, share: float, dice: random.Random) -> None:
    """What happens between two scrapes: every host is heard, and a share of them has a changed container.

    The heartbeats are written in one go and not by a heartbeat each: it is the scrape that is measured here.
    """
    from django.db import connection, transaction

    from dockmesh.core import clock
    from dockmesh.fleet.histograms import RTT_BUCKETS, observe
    from dockmesh.fleet.models import HeartbeatState

    now = clock.now()
    heartbeats = HeartbeatState.objects.order_by("host_id").values_list("host_id", "rtt_counts", "rtt_sum")
    rows = []
    for host_id, counts, total in heartbeats:
        rtt = dice.expovariate(40)
        rows.append(
            (
                connection.ops.adapt_datetimefield_value(now),
                observe(counts, RTT_BUCKETS, [rtt]),
                total + rtt,
                host_id,
            )
        )
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.executemany(
            "UPDATE fleet_hostpulse SET last_seen_at = %s, rtt_counts = %s, rtt_sum = %s WHERE host_id = %s",
            rows,
        )
        for member in dice.sample(list(members), max(1, round(len(members) * share))) if share else ():
            change(member, dice)
            send(member, is_whole=True, rtts=[0.01])


def change(member: Member, dice: random.Random, *, count: int = 1) -> None:
    """Some containers stop or start."""
    for container in dice.sample(member.containers, count):
        is_running = container["state"] == "running"
        container["state"] = "exited" if is_running else "running"
        container["exit_code"] = 1 if is_running else 0


def write_history(*, audit_entries: int, deploys: int) -> None:
    """Old audit entries and deploys by the million, by SQL: they are only in the way of the queries here.

    The entries' hashes are not a chain; nothing in this benchmark verifies one.
    """
    from django.db import connection

    series = {
        "postgresql": "generate_series({first}, {last}) AS n(n)",
        "sqlite": "(WITH RECURSIVE c(n) AS (SELECT {first} UNION ALL SELECT n + 1 FROM c WHERE n < {last})"
        " SELECT n FROM c) AS n",
    }[connection.vendor]
    with connection.cursor() as cursor:
        cursor.execute("SELECT COALESCE(MAX(sequence), 0) FROM audit_auditentry")
        first = cursor.fetchone()[0] + 1
        for start in range(first, first + audit_entries, HISTORY_BATCH):
            last = min(start + HISTORY_BATCH, first + audit_entries) - 1
            cursor.execute(
                "INSERT INTO audit_auditentry (sequence, at, actor_kind, actor_id, actor_name, action, target_kind,"
                " target_id, target_name, address, changes, previous_hash, entry_hash)"
                " SELECT n.n, '2026-01-01 00:00:00', 'user', '1', 'ann', 'host.renamed', 'host', '1', 'host-1',"
                f" '127.0.0.1', '{{}}', '', '' FROM {series.format(first=start, last=last)}"
            )
        cursor.execute("UPDATE audit_audithead SET sequence = %s", [first + audit_entries - 1])
        for start in range(1, deploys + 1, HISTORY_BATCH):
            last = min(start + HISTORY_BATCH, deploys + 1) - 1
            cursor.execute(
                "INSERT INTO deploys_deploy (stack_name, host_name, operation, status, compose_file,"
                " encrypted_env_file, timeout_seconds, requested_by, requested_at, output, error)"
                " SELECT 'app-00001', 'host-00001', 'up', 'success', '', '', 60, 'ann', '2026-01-01 00:00:00',"
                f" '', '' FROM {series.format(first=start, last=last)}"
            )


def _enrol(number: int) -> Member:
    from dockmesh.core import clock
    from dockmesh.fleet.agents import new_credential
    from dockmesh.fleet.models import HeartbeatState, Host

    host = Host(name=f"host-{number:05d}.example.net")
    token = new_credential(host)
    host.save()
    HeartbeatState.objects.create(host=host, last_seen_at=clock.now())
    return Member(number, host.pk, token, str(uuid.UUID(int=number)), 0, [])


def _stack_name(size: Size, number: int, at: int) -> str:
    position = (number - 1) * (size.stacks // size.hosts) + at
    return f"app-{position % size.stack_names:05d}"


def _containers(dice: random.Random, number: int, stacks: Sequence[str], size: Size) -> list[dict[str, Any]]:
    count = size.containers // size.hosts
    return [
        {
            "id": f"{number:032x}{at:032x}",
            "name": f"{stacks[at // max(1, count // len(stacks)) % len(stacks)]}-web-{at}",
            "image": "registry.example.net/team/app:1.27",
            "image_digest": "sha256:" + "ab" * 32,
            "state": dice.choices(["running", "exited", "paused"], [90, 8, 2])[0],
            "health": "",
            "exit_code": 0,
            "oom_killed": False,
            "restart_count": 0,
            "restart_policy": "unless-stopped",
            "is_oneoff": False,
            "stop_signal": "SIGTERM",
            "error": "",
            "stack": stacks[at // max(1, count // len(stacks)) % len(stacks)],
            "service": f"web-{at % CONTAINERS_OF_A_STACK}",
            "created_at": "2026-11-22T10:59:58.500001Z",
            "started_at": "2026-11-22T11:00:01.123456Z",
            "finished_at": None,
        }
        for at in range(count)
    ]
