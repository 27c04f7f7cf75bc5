"""What a host's agent says that it can carry out; what it does not say is not known, and not refused."""

from collections.abc import Mapping
from typing import Any

from dockmesh.fleet.models import Host

_TOO_OLD = {
    "preview": "The agent of {host} is too old to tell what a deploy would do: update it.",
    "cancel": "The agent of {host} is too old to end what it has begun: update it.",
    "containers": "The agent of {host} is too old to start and stop containers: update it.",
    "logs": "The agent of {host} is too old to send logs: update it.",
    "agent-update": "The agent of {host} is too old to update itself: run the install script there once more.",
    "inspect": "The agent of {host} is too old to tell more of a container: update it.",
}
# What takes Compose as well, which may be what is missing.
_OF_COMPOSE = frozenset({"preview", "cancel"})
_PROGRAMS = {
    "deploy": ("compose_version", "Docker Compose 2.20 or newer"),
    "backup": ("restic_version", "restic"),
}


def why_not(host: Host, ability: str) -> str:
    """Why the host can't carry that out, in a sentence; empty where it can or nobody knows.

    `ability` is `deploy` or `backup`, or what newer agents can: `preview`, `cancel`, `containers`, `logs`,
    `inspect`, `agent-update`.
    """
    info: Mapping[str, Any] = host.agent_info
    able = info.get("capabilities")
    if able is None or ability in able:
        return ""
    if info.get("is_monitor_only"):
        return f"The agent of {host.name} only watches: it was started with --monitor-only."
    if ability == "agent-update" and (reason := info.get("cannot_update")):
        return f"The agent of {host.name} can't update itself: {reason}."
    if ability in _TOO_OLD and (ability not in _OF_COMPOSE or "deploy" in able):
        return too_old(host, ability)
    key, program = _PROGRAMS.get(ability, _PROGRAMS["deploy"])
    version = info.get(key)
    if version == "":
        return f"{host.name} has no {program}."
    if version and key == "compose_version":
        return f"{host.name} has Docker Compose {version}, which is too old: it takes {program}."
    if ability == "backup" and not info.get("repositories"):
        return f"The agent of {host.name} knows no backup repository: its agent.toml names none."
    return f"The agent of {host.name} says that it carries out no {ability}s."


def too_old(host: Host, ability: str) -> str:
    """That the host's agent is of before the time in which agents could."""
    return _TOO_OLD[ability].format(host=host.name)


def no_such_repository(host: Host, repository: str) -> str:
    """Why the host can't back up into that repository; empty where it can or nobody knows."""
    known = host.agent_info.get("repositories")
    if known is None or repository in known:
        return ""
    has = f"it has {', '.join(known)}" if known else "it has none"
    return f"The agent of {host.name} has no repository {repository} in its agent.toml: {has}."
