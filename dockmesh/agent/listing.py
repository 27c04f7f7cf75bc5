"""What the Engine's list of containers tells of one: enough to see that it changed, and to report one that can't be
inspected."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import Any

from dockmesh.agent.document import JSON, container

_HEALTH = re.compile(r"\((?:health: )?(starting|healthy|unhealthy)\)")
_EXIT_CODE = re.compile(r"(?:Exited|Restarting) \((-?\d{1,10})\)")
_AGE = re.compile(r"(\d{1,6}|About an?|Less than a) (second|minute|hour|day|week|month|year)", re.IGNORECASE)
_SECONDS = {
    "second": 1, "minute": 60, "hour": 3600, "day": 86400, "week": 7 * 86400, "month": 30 * 86400, "year": 365 * 86400,
}  # fmt: skip
# An inspection says it only; while there is none, what the last one said holds.
_KEPT = ("image_digest", "restart_count", "restart_policy", "stop_signal")
_KEPT_IN_THE_SAME_STATE = ("exit_code", "oom_killed", "error", "started_at", "finished_at")
# Podman's, and that of Kubernetes on Docker.
_INFRA_IMAGE = re.compile(r"(^|/)podman-pause(:|$)")
_INFRA_NAME = re.compile(r"[0-9a-f]{12}-infra")
_KUBERNETES_KIND = "io.kubernetes.docker.type"


@dataclass(frozen=True)
class Mark:
    """What the list tells of a container; another mark means that it is to be inspected again."""

    key: tuple[object, ...]
    # Since when it is in its state, roughly, as the text says it: "Up 5 minutes".
    age_seconds: int | None

    def is_newer_than(self, other: Mark) -> bool:
        """Whether the container has changed since `other`; a time that is shorter than before began anew."""
        return self.key != other.key or (
            self.age_seconds is not None
            and other.age_seconds is not None
            and self.age_seconds < other.age_seconds
        )

    @property
    def is_fresh(self) -> bool:
        """It has been in its state so short that it may have left it and come back since the last look."""
        return self.age_seconds is not None and self.age_seconds < 60


def mark(item: Mapping[str, Any]) -> Mark:
    status = str(item.get("Status") or "")
    found = _AGE.search(status)
    age = None
    if found:
        word, unit = found[1].lower(), _SECONDS[found[2].lower()]
        age = 0 if word == "less than a" else unit if word.startswith("about") else int(word) * unit
    key = (_state(item), _health(item), _exit_code(item), tuple(_names(item)), str(item.get("Image")))
    return Mark(key, age)


def told(item: Mapping[str, Any], known: JSON | None) -> JSON:
    """The container as the list tells it, and as the last inspection did where the list says nothing."""
    labels = item.get("Labels")
    entry = container(
        {
            "Id": item["Id"],
            "Name": name(item),
            "Image": item.get("ImageID"),
            "Config": {"Image": item.get("Image"), "Labels": labels},
            "State": {
                "Status": _state(item),
                "Health": {"Status": _health(item)},
                "ExitCode": _exit_code(item),
            },
            "Created": _created(item.get("Created")),
        }
    )
    entry["stop_signal"] = ""
    if known is not None:
        kept = _KEPT + (_KEPT_IN_THE_SAME_STATE if known["state"] == entry["state"] else ())
        entry |= {key: known[key] for key in kept}
    return entry


def name(item: Mapping[str, Any]) -> str:
    """Its own name: the others are what links of other containers call it and have a second slash."""
    names = _names(item)
    own = next((each for each in names if "/" not in each.removeprefix("/")), "")
    return (own or (names[0] if names else "")).removeprefix("/")


def is_infra(names: object, image: object, labels: object) -> bool:
    """Whether it only holds a pod's name spaces, and is nobody's container."""
    if isinstance(labels, Mapping) and labels.get(_KUBERNETES_KIND) == "podsandbox":
        return True
    if _INFRA_IMAGE.search(str(image or "")):
        return True
    # Podman's newest make it of no image at all.
    return not image and any(_INFRA_NAME.fullmatch(each.removeprefix("/")) for each in texts(names))


def texts(value: object) -> list[str]:
    return [each for each in value if isinstance(each, str) and each] if isinstance(value, list) else []


def _names(item: Mapping[str, Any]) -> list[str]:
    return texts(item.get("Names"))


def _state(item: Mapping[str, Any]) -> str:
    return str(item.get("State") or "").lower()


def _health(item: Mapping[str, Any]) -> str:
    """The field that newer Engines have, else the text's."""
    health = item.get("Health")
    if isinstance(health, Mapping) and isinstance(health.get("Status"), str):
        return str(health["Status"])
    found = _HEALTH.search(str(item.get("Status") or ""))
    return found[1] if found else ""


def _exit_code(item: Mapping[str, Any]) -> int:
    found = _EXIT_CODE.match(str(item.get("Status") or ""))
    return int(found[1]) if found else 0


def _created(value: object) -> str:
    try:
        return (
            datetime.fromtimestamp(value, timezone.utc).isoformat() if isinstance(value, (int, float)) else ""
        )
    except (ValueError, OverflowError, OSError):
        return ""
