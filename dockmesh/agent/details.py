"""Tells more of one container than each heartbeat does: whenever somebody looks at it.

Payload: `container`, `name`. Of the environment names alone are told, never a value.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from dockmesh.agent.actions import container_of
from dockmesh.agent.commands import CommandError, Run
from dockmesh.agent.document import JSON
from dockmesh.agent.engine import FAILURES, Engine, EngineError, explain
from dockmesh.agent.exits import KEPT, Exits
from dockmesh.agent.place import own_container
from dockmesh.agent.text import IMAGE_BYTES, clean, clean_output, cut

KIND = "container-inspect"
MOST_ENTRIES = 200
LABEL_BYTES = 500
HEALTH_LOOKS = 5
HEALTH_BYTES = 4 * 1024
_NOT_FOUND = 404
# Docker's "never".
_NEVER = "0001-"


class Details:
    """Executor of `container-inspect`. Its result has `found`, which is not kept longer than it takes to report it."""

    def __init__(self, docker_host: str, exits: Exits) -> None:
        self._docker_host = docker_host
        self._exits = exits

    def __call__(self, run: Run) -> JSON:
        identity = container_of(run)
        try:
            with Engine.open(self._docker_host) as engine:
                inspected = engine.get(f"/containers/{identity}/json")
                if not isinstance(inspected, Mapping):
                    raise CommandError("Docker's answer is not an object")
                image = _image(engine, str(inspected.get("Image") or ""))
        except EngineError as error:
            if error.status == _NOT_FOUND:
                name = run.text("name", "") or identity[:12]
                raise CommandError(f"{name} is gone: Docker has no such container any more") from None
            raise CommandError(str(error)) from None
        except FAILURES as error:
            raise CommandError(explain(error, self._docker_host)) from None
        return {"found": self.found(inspected, image)}

    def found(self, inspected: Mapping[str, Any], image: Mapping[str, Any]) -> JSON:
        """What is told of a container."""
        state, config = _part(inspected, "State"), _part(inspected, "Config")
        host, network = _part(inspected, "HostConfig"), _part(inspected, "NetworkSettings")
        name = clean(str(inspected.get("Name") or "").removeprefix("/")) if inspected.get("Name") else ""
        own = own_container()
        return {
            "is_agent": bool(own) and str(inspected.get("Id") or "").startswith(own),
            "exits": self._history(name, state),
            "health": _health(_part(state, "Health")),
            "restart_count": inspected.get("RestartCount") or 0,
            "restart_policy": clean(_part(host, "RestartPolicy").get("Name")),
            "log_driver": clean(_part(host, "LogConfig").get("Type")),
            "is_terminal": config.get("Tty") is True,
            "image": clean(config.get("Image"), limit=IMAGE_BYTES),
            "image_id": clean(inspected.get("Image")),
            "image_digests": [
                clean(each, limit=IMAGE_BYTES) for each in _list(image.get("RepoDigests"))[:MOST_ENTRIES]
            ],
            "ports": _ports(_part(network, "Ports")),
            "mounts": [_mount(each) for each in _objects(inspected.get("Mounts"))[:MOST_ENTRIES]],
            "networks": [
                {"name": clean(key), "address": clean(each.get("IPAddress") or each.get("GlobalIPv6Address"))}
                for key, each in list(_part(network, "Networks").items())[:MOST_ENTRIES]
                if isinstance(each, Mapping)
            ],
            "labels": [
                [clean(key), clean(value, limit=LABEL_BYTES)]
                for key, value in sorted(_part(config, "Labels").items())[:MOST_ENTRIES]
            ],
            "environment": sorted({clean(str(each).partition("=")[0]) for each in _list(config.get("Env"))})[
                :MOST_ENTRIES
            ],
        }

    def _history(self, name: str, state: Mapping[str, Any]) -> list[JSON]:
        """The last exits, the newest first; of one that the agent has not seen itself, what Docker says of it."""
        known = self._exits.of(name)
        finished = str(state.get("FinishedAt") or "")
        if not finished or finished.startswith(_NEVER):
            return known
        # The event's time and this one are apart by the time that it takes to tell.
        if known and str(known[0]["at"])[:18] >= finished[:18]:
            return known
        is_up = state.get("Running") is True and state.get("Restarting") is not True
        if is_up and known:
            return known
        last = {
            "at": clean(finished),
            # While it runs again nobody knows how it ended before.
            "exit_code": None if is_up else state.get("ExitCode"),
            "oom_killed": state.get("OOMKilled") is True and not is_up,
        }
        return [last, *known][:KEPT]


def _image(engine: Engine, identity: str) -> Mapping[str, Any]:
    try:
        found = engine.get(f"/images/{identity}/json") if identity else {}
    except FAILURES:
        return {}  # removed, or may not be asked
    return found if isinstance(found, Mapping) else {}


def _health(health: Mapping[str, Any]) -> JSON | None:
    if not health:
        return None
    looks = _objects(health.get("Log"))[-HEALTH_LOOKS:]
    return {
        "status": clean(health.get("Status")),
        "failing_streak": health.get("FailingStreak") or 0,
        "looks": [
            {
                "at": clean(each.get("End") or each.get("Start")),
                "exit_code": each.get("ExitCode"),
                "output": cut(clean_output(str(each.get("Output") or "")), limit=HEALTH_BYTES),
            }
            for each in reversed(looks)
        ],
    }


def _ports(ports: Mapping[str, Any]) -> list[str]:
    """`0.0.0.0:8080 → 80/tcp`, or `80/tcp` where it is not published."""
    found = []
    for inner, bindings in list(ports.items())[:MOST_ENTRIES]:
        published = _objects(bindings)
        found += [
            clean(f"{_host(each.get('HostIp'))}{each.get('HostPort')} → {inner}") for each in published
        ] or [clean(inner)]
    return found[:MOST_ENTRIES]


def _host(address: object) -> str:
    text = str(address or "")
    return f"[{text}]:" if ":" in text else f"{text}:" if text else ""


def _mount(mount: Mapping[str, Any]) -> JSON:
    kind = clean(mount.get("Type"))
    return {
        "type": kind,
        "source": clean(mount.get("Name") if kind == "volume" else mount.get("Source"), limit=IMAGE_BYTES),
        "target": clean(mount.get("Destination"), limit=IMAGE_BYTES),
        "is_writable": mount.get("RW") is not False,
    }


def _part(value: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    part = value.get(key)
    return part if isinstance(part, Mapping) else {}


def _list(value: object) -> list[Any]:
    return value if isinstance(value, list) else []


def _objects(value: object) -> list[Mapping[str, Any]]:
    found: Iterable[Any] = _list(value)
    return [each for each in found if isinstance(each, Mapping)]
