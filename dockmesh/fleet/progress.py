"""How far a new host is: the steps from its first word to its first inventory, each as it is known now."""

from __future__ import annotations

import datetime
from dataclasses import dataclass

from dockmesh.fleet.models import EnrollmentToken, Host
from dockmesh.fleet.rows import is_reporting


@dataclass(frozen=True)
class Step:
    """One step. `state` is a state of the pages: `well`, `warning`, or `unknown` while nothing is known of it."""

    label: str
    state: str
    detail: str = ""
    at: datetime.datetime | None = None

    @property
    def icon(self) -> str:
        """Its shape beside the colour."""
        return _LOOKS[self.state][0]

    @property
    def word(self) -> str:
        """The same for whoever sees neither."""
        return _LOOKS[self.state][1]


_LOOKS = {
    "well": ("circle-check", "yes"),
    "warning": ("triangle-alert", "no"),
    "unknown": ("circle-dashed", "not known yet"),
}


def steps(token: EnrollmentToken) -> list[Step]:
    """From the first fetch of the agent with this token to the inventory; the token's host has been read along."""
    host = token.host if token.used_at is not None else None
    heard = host if host is not None and is_reporting(token) else None
    return [
        _at("This server is reached from there", token.reached_at or token.used_at),
        _at("The host is enrolled", token.used_at),
        _docker(heard),
        _compose(heard),
        _repositories(heard),
        _at("The first inventory is here", heard.heartbeat_state.inventory_at if heard else None),
    ]


def _at(label: str, at: datetime.datetime | None) -> Step:
    return Step(label, "well" if at else "unknown", at=at)


def _docker(host: Host | None) -> Step:
    label = "Docker answers"
    if host is None:
        return Step(label, "unknown")
    if host.heartbeat_state.is_degraded:
        return Step(label, "warning", host.docker_error or "It does not.")
    return Step(label, "well", f"Docker {host.docker_version}" if host.docker_version else "")


def _compose(host: Host | None) -> Step:
    label = "Compose is found"
    version = host.agent_info.get("compose_version") if host else None
    if host is None or version is None:
        return Step(label, "unknown")
    if "deploy" in host.agent_info.get("capabilities", ()):
        return Step(label, "well", f"Compose {version}")
    what = f"Compose {version} is too old" if version else "There is none"
    return Step(label, "warning", f"{what}: deploys need 2.20 or newer.")


def _repositories(host: Host | None) -> Step:
    label = "Backup repositories are found"
    known = host.agent_info.get("repositories") if host else None
    if known is None:
        return Step(label, "unknown")
    if known:
        return Step(label, "well", ", ".join(known))
    return Step(label, "unknown", "None yet: backups need one in /etc/dockmesh/agent.toml on the host.")
