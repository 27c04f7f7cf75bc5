"""Why a host, a stack or a container is not well, in words with their time: the same in alerts and on pages."""

import datetime
from collections.abc import Sequence

from django.db.models import Q, QuerySet

from dockmesh.fleet.models import Container, Stack
from dockmesh.fleet.selectors.subjects import ContainerFact, HostFact, container_facts
from dockmesh.fleet.states import ContainerState, HostStatus, is_in_error

# Of a stack's containers that are named; the others are counted.
MOST_NAMED = 3
_MOST_TEXT = 300


def when(moment: datetime.datetime | None) -> str:
    """A moment as sentences have it."""
    return f"{moment:%Y-%m-%d %H:%M:%S UTC}" if moment else "nobody knows when"


def of_host(host: HostFact) -> str:
    """A sentence about a host that is offline or degraded; empty for one that is online."""
    if host.status is HostStatus.OFFLINE:
        if host.last_seen_at is None:
            return f"Enrolled {when(host.enrolled_at)}, never reported."
        return f"No heartbeat since {when(host.last_seen_at)}."
    if host.status is HostStatus.DEGRADED:
        return f"The agent is heard, but Docker is not well: {host.docker_error or 'no answer'}"
    return ""


def of_container(container: ContainerFact) -> str:
    """What the container is in and why, as `exited with 137, killed for memory, 2026-11-22 12:00:00 UTC`."""
    state, code = container.state, container.exit_code
    moment = container.changed_at
    if state in (ContainerState.RUNNING, ContainerState.PAUSED):
        return f"{container.health or state} since {when(moment)}"
    if state == ContainerState.EXITED:
        words = [f"exited with {code}"]
        moment = container.finished_at or moment
    elif state == ContainerState.RESTARTING:
        words = [f"keeps restarting, exited with {code}"]
    elif state == ContainerState.CREATED and (code or container.error):
        words = ["did not start"]
    else:
        words = [state]
    if container.is_oom_killed:
        words.append("killed for memory")
    if container.restart_count:
        words.append(f"restarted {times(container.restart_count)}")
    if container.error:
        words.append(container.error[:_MOST_TEXT].rstrip(". "))
    return ", ".join([*words, when(moment)])


def name_of(container: ContainerFact, host_name: str) -> str:
    """`web of shop on atlas`, where Compose made it; else its own name."""
    if container.stack:
        return f"{container.service or container.name} of {container.stack} on {host_name}"
    return f"{container.name} on {host_name}"


def of_containers(stacks: QuerySet[Stack]) -> dict[int, str]:
    """By the stack's id, for those with containers in error: which and why; one query."""
    return {stack_id: listed(containers) for stack_id, containers in failing(stacks).items()}


def failing(stacks: QuerySet[Stack]) -> dict[int, list[ContainerFact]]:
    """By the stack's id, the containers for which it is in error; one query."""
    rows = Container.objects.filter(stack__in=stacks, is_oneoff=False).exclude(
        ~Q(health="unhealthy"), state=ContainerState.RUNNING
    )
    found: dict[int, list[ContainerFact]] = {}
    for container in container_facts(rows.order_by("service", "name", "id")):
        if container.stack_id is not None and is_in_error(container):
            found.setdefault(container.stack_id, []).append(container)
    return found


def listed(containers: Sequence[ContainerFact]) -> str:
    """The first few with their causes, in one sentence."""
    named = [f"{each.service or each.name} {of_container(each)}" for each in containers[:MOST_NAMED]]
    rest = len(containers) - len(named)
    return "; ".join([*named, *([f"and {rest} more"] if rest else [])]) + "."


def times(count: int) -> str:
    """`once`, `twice`, `3 times`."""
    return {1: "once", 2: "twice"}.get(count, f"{count} times")


def ordinal(count: int) -> str:
    """`first`, `second`, … `4th`, `21st`."""
    if count <= len(_ORDINALS):
        return _ORDINALS[count - 1]
    ending = {1: "st", 2: "nd", 3: "rd"}.get(count % 10, "th") if count % 100 not in (11, 12, 13) else "th"
    return f"{count}{ending}"


_ORDINALS = ("first", "second", "third")
