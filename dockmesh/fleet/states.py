"""The closed sets of states, in the order in which summaries and /metrics have them, and what makes a state."""

from collections import Counter
from collections.abc import Iterable
from enum import StrEnum
from typing import Protocol

from msgspec import UnsetType


class HostStatus(StrEnum):
    """What a host is in; offline is a matter of time and never stored."""

    ONLINE = "online"
    OFFLINE = "offline"
    DEGRADED = "degraded"


def host_status(*, is_offline: bool, is_degraded: bool) -> HostStatus:
    """The status of a host of whose silence is known whether it is too long."""
    if is_offline:
        return HostStatus.OFFLINE
    return HostStatus.DEGRADED if is_degraded else HostStatus.ONLINE


class HostWorst(StrEnum):
    """The worst that is on a host, the mildest first: its own status, or what of its stacks and containers is wrong."""

    WELL = "well"
    FAILING = "failing"
    ERROR = "error"
    DEGRADED = "degraded"
    OFFLINE = "offline"


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


UNKNOWN = "unknown"


def shown_state(state: str, *, is_offline: bool) -> str:
    """A stack's or container's state as it is shown: nobody knows what an offline host has."""
    return UNKNOWN if is_offline else state


NO_STACKS = ",".join("0" for _ in StackState)
NO_CONTAINERS = ",".join("0" for _ in ContainerState)

_STACK_STATES = tuple(state.value for state in StackState)
_CONTAINER_STATES = tuple(state.value for state in ContainerState)

# Ended on purpose: by itself, by SIGKILL, by SIGTERM.
HARMLESS_EXIT_CODES = frozenset({0, 137, 143})
# With one of these, who ended by itself is meant to run.
_KEPT_UP = ("always", "unless-stopped")
# Linux's numbers, from 1 on: the server itself may run elsewhere.
# fmt: off
_SIGNALS = (
    "HUP", "INT", "QUIT", "ILL", "TRAP", "ABRT", "BUS", "FPE", "KILL", "USR1", "SEGV", "USR2", "PIPE", "ALRM", "TERM",
    "STKFLT", "CHLD", "CONT", "STOP", "TSTP", "TTIN", "TTOU", "URG", "XCPU", "XFSZ", "VTALRM", "PROF", "WINCH", "IO",
    "PWR", "SYS",
)
# fmt: on
_SIGNAL_NUMBERS = (
    {name: number for number, name in enumerate(_SIGNALS, start=1)}
    | {"IOT": 6, "CLD": 17, "POLL": 29, "RTMIN": 34, "RTMAX": 64}
    | {f"RTMIN+{more}": 34 + more for more in range(1, 16)}
    | {f"RTMAX-{less}": 64 - less for less in range(1, 15)}
)


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
    @property
    def restart_policy(self) -> str | UnsetType | None: ...
    @property
    def is_oneoff(self) -> bool | UnsetType: ...
    @property
    def stop_signal(self) -> str | UnsetType | None: ...
    @property
    def error(self) -> str | UnsetType | None: ...


def signal_number(signal: str) -> int | None:
    """The number of a stop signal as images and Compose files name it (`SIGINT`, `int`, `2`); None for none."""
    if signal.isascii() and signal.isdecimal():
        return int(signal[:4])
    return _SIGNAL_NUMBERS.get(signal.upper().removeprefix("SIG"))


def is_harmless_exit(exit_code: int, stop_signal: str | UnsetType | None) -> bool:
    """Whether it ended well or was stopped, with Docker's own signals or with that which its image asks for."""
    if exit_code in HARMLESS_EXIT_CODES:
        return True
    return isinstance(stop_signal, str) and exit_code > 128 and signal_number(stop_signal) == exit_code - 128


def is_in_error(container: ContainerFacts) -> bool:
    """Dead, restarting, unhealthy, killed for memory, never started, or exited with a code that no stop explains.

    Docker calls every stopped container with a health check unhealthy, so health counts while it runs only; and
    keeps on saying of one that runs again that some process of it was killed for memory.
    """
    state = container.state
    if state in ("running", "paused"):
        return container.health == "unhealthy"
    if container.is_oom_killed or state in ("dead", "restarting"):
        return True
    if state == "exited":
        return not is_harmless_exit(container.exit_code or 0, container.stop_signal)
    return state == "created" and bool(container.exit_code or container.error)


def stack_state(
    containers: Iterable[ContainerFacts], *, is_deploying: bool, has_failed_deploy: bool
) -> StackState:
    """The state of a stack with these containers; contract section 6.

    A service runs if any of its containers does; one whose containers all exited with 0 is done and counts
    neither way, unless its restart policy would have kept it up; so do the containers of `docker compose run`,
    however they ended; a container without a service stands for itself.
    """
    if is_deploying:
        return StackState.DEPLOYING
    if has_failed_deploy:
        return StackState.ERROR
    running: set[tuple[str, str]] = set()
    waiting: set[tuple[str, str]] = set()
    for container in containers:
        if container.is_oneoff:
            continue
        if is_in_error(container):
            return StackState.ERROR
        service = (container.service, "") if container.service else ("", container.name)
        if container.state == "running":
            running.add(service)
        elif not _is_done(container):
            waiting.add(service)
    if not running:
        return StackState.STOPPED
    return StackState.PARTIAL if waiting - running else StackState.RUNNING


def _is_done(container: ContainerFacts) -> bool:
    return (
        container.state == "exited" and not container.exit_code and container.restart_policy not in _KEPT_UP
    )


def stack_counts(states: Iterable[str]) -> str:
    """The summary of stacks in these states: counts in the states' order, separated by commas."""
    return _counts(states, _STACK_STATES)


def container_counts(states: Iterable[str]) -> str:
    """The summary of containers in these states."""
    return _counts(states, _CONTAINER_STATES)


def _counts(states: Iterable[str], known: tuple[str, ...]) -> str:
    counted = Counter(states)
    return ",".join([str(counted[state]) for state in known])
