"""The closed sets of states, in the order in which summaries and /metrics have them, and what makes a state."""

from collections import Counter
from collections.abc import Iterable
from enum import StrEnum
from typing import Protocol


class HostStatus(StrEnum):
    """What a host is in; offline is a matter of time and never stored."""

    ONLINE = "online"
    OFFLINE = "offline"
    DEGRADED = "degraded"


class StackState(StrEnum):
    """What a stack is in, judged from its containers and its last deploy."""

    RUNNING = "running"
    PARTIAL = "partial"
    STOPPED = "stopped"
    ERROR = "error"
    DEPLOYING = "deploying"
    UNKNOWN = "unknown"


class ContainerState(StrEnum):
    """Docker's own states, and unknown."""

    CREATED = "created"
    RUNNING = "running"
    PAUSED = "paused"
    RESTARTING = "restarting"
    REMOVING = "removing"
    EXITED = "exited"
    DEAD = "dead"
    UNKNOWN = "unknown"


NO_STACKS = ",".join("0" for _ in StackState)
NO_CONTAINERS = ",".join("0" for _ in ContainerState)

_STACK_STATES = tuple(state.value for state in StackState)
_CONTAINER_STATES = tuple(state.value for state in ContainerState)

# Ended on purpose: by itself, by SIGKILL, by SIGTERM.
HARMLESS_EXIT_CODES = frozenset({0, 137, 143})


class ContainerFacts(Protocol):
    """What a stack's state looks at in a container."""

    @property
    def name(self) -> str: ...
    @property
    def service(self) -> str | None: ...
    @property
    def state(self) -> str: ...
    @property
    def health(self) -> str | None: ...
    @property
    def exit_code(self) -> int | None: ...
    @property
    def is_oom_killed(self) -> bool: ...


def is_in_error(container: ContainerFacts) -> bool:
    """Dead, restarting, unhealthy, killed for memory, or exited with a code that no stop explains.

    Docker calls every stopped container with a health check unhealthy, so health counts while it runs only.
    """
    return (
        container.state in ("dead", "restarting")
        or (container.health == "unhealthy" and container.state in ("running", "paused"))
        or container.is_oom_killed
        or (container.state == "exited" and (container.exit_code or 0) not in HARMLESS_EXIT_CODES)
    )


def stack_state(
    containers: Iterable[ContainerFacts], *, is_deploying: bool, has_failed_deploy: bool
) -> StackState:
    """The state of a stack with these containers; contract section 6.

    A service runs if any of its containers does; one whose containers all exited with 0 is done and counts
    neither way; a container without a service stands for itself.
    """
    if is_deploying:
        return StackState.DEPLOYING
    if has_failed_deploy:
        return StackState.ERROR
    running: set[tuple[str, str]] = set()
    waiting: set[tuple[str, str]] = set()
    for container in containers:
        if is_in_error(container):
            return StackState.ERROR
        service = (container.service, "") if container.service else ("", container.name)
        if container.state == "running":
            running.add(service)
        elif not (container.state == "exited" and not container.exit_code):
            waiting.add(service)
    if not running:
        return StackState.STOPPED
    return StackState.PARTIAL if waiting - running else StackState.RUNNING


def stack_counts(states: Iterable[str]) -> str:
    """The summary of stacks in these states: counts in the states' order, separated by commas."""
    return _counts(states, _STACK_STATES)


def container_counts(states: Iterable[str]) -> str:
    """The summary of containers in these states."""
    return _counts(states, _CONTAINER_STATES)


def _counts(states: Iterable[str], known: tuple[str, ...]) -> str:
    counted = Counter(states)
    return ",".join([str(counted[state]) for state in known])
