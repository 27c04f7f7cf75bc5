"""The closed sets of states, in the order in which summaries and /metrics have them."""

from enum import StrEnum


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
