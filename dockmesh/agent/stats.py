"""What a container uses, from the Engine's statistics: for containers whose cgroup the agent doesn't see."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from urllib.parse import quote

from dockmesh.agent.cgroups import UNTOLD, Four, Used, amount, working_set
from dockmesh.agent.engine import Engine, EngineError


def ask(engine: Engine, identity: str) -> Mapping[str, Any]:
    """The Engine's statistics of one container; raises EngineError or another of FAILURES.

    Engines of 2020 take a second for them, newer ones don't wait.
    """
    path = f"/containers/{quote(identity, safe='')}/stats"
    answer = engine.get(path, timeout=None, stream="false", **{"one-shot": "true"})
    if not isinstance(answer, Mapping):
        raise EngineError(path, 200, "the answer is not an object")
    return answer


def used(answer: Mapping[str, Any], *, network_mode: str, machine_memory: int) -> Used | None:
    """What the container uses; None where the Engine tells nothing, as of one that has ended.

    `machine_memory` in bytes is what the Engine calls the limit of a container that has none.
    """
    cpu = _mapping(answer.get("cpu_stats"))
    usage = _mapping(cpu.get("cpu_usage"))
    memory = _mapping(answer.get("memory_stats"))
    held = amount(memory.get("usage"))
    if not amount(usage.get("total_usage")) and not held:
        return None
    stats = _mapping(memory.get("stats"))
    limit = amount(memory.get("limit"))
    return Used(
        _seconds(usage.get("usage_in_usermode")),
        _seconds(usage.get("usage_in_kernelmode")),
        _seconds(_mapping(cpu.get("throttling_data")).get("throttled_time")),
        working_set(held, amount(stats.get("total_inactive_file", stats.get("inactive_file")))),
        limit if limit and not 0 < machine_memory <= limit else None,
        *_network(answer.get("networks"), network_mode),
        *_block(_mapping(answer.get("blkio_stats")).get("io_service_bytes_recursive")),
        amount(_mapping(answer.get("pids_stats")).get("current")),
    )


def has_own_network(network_mode: str) -> bool:
    """Whether the container's name space is its own, and not the host's or another container's."""
    return network_mode != "host" and not network_mode.startswith("container:")


def _network(networks: object, network_mode: str) -> Four:
    if network_mode == "none":
        return 0, 0, 0, 0
    if not has_own_network(network_mode) or not isinstance(networks, Mapping):
        return UNTOLD
    each = [_mapping(network) for network in networks.values()]

    def total(key: str) -> int | None:
        return amount(sum(amount(network.get(key)) or 0 for network in each))

    return total("rx_bytes"), total("tx_bytes"), total("rx_errors"), total("tx_errors")


def _block(entries: object) -> tuple[int | None, int | None]:
    if not isinstance(entries, list) or not entries:
        return None, None  # not counted, or nothing yet
    totals = {"read": 0, "write": 0}
    for entry in map(_mapping, entries):
        operation = str(entry.get("op")).lower()
        if operation in totals:
            totals[operation] += amount(entry.get("value")) or 0
    return amount(totals["read"]), amount(totals["write"])


def _seconds(nanoseconds: object) -> float | None:
    value = amount(nanoseconds)
    return None if value is None else round(value / 1e9, 6)


def _mapping(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}
