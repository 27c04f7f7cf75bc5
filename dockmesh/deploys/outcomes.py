"""What an agent says of a deploy beside how it ended; whatever of it has another shape counts as not said."""

from collections.abc import Mapping
from typing import Any

MAX_ITEMS = 500
MAX_TEXT = 1000

IMAGE_KEYS = ("service", "image", "image_id", "digest")


def services(document: Mapping[str, Any]) -> list[str]:
    """The services of the Compose files."""
    return _texts(document.get("services"))


def removes(document: Mapping[str, Any]) -> list[dict[str, Any]]:
    """What is removed, or would be: `service`, the names of its `containers`, the `count` of them that go."""
    found = []
    for item in _items(document.get("removes")):
        service, names, count = item.get("service"), _texts(item.get("containers")), item.get("count")
        if _is_text(service) and names and isinstance(count, int) and 0 < count <= len(names):
            found.append({"service": service, "containers": names, "count": count})
    return found


def images(document: Mapping[str, Any]) -> list[dict[str, str]]:
    """What ran in the end: `service`, `image` as named, `image_id`, `digest` (empty for a local image)."""
    return [
        {key: item[key] for key in IMAGE_KEYS}
        for item in _items(document.get("images"))
        if all(_is_text(item.get(key)) for key in IMAGE_KEYS)
    ]


def is_changed(document: Mapping[str, Any]) -> bool | None:
    """Whether a container was made, started, stopped or removed; None where the agent does not say."""
    value = document.get("is_changed")
    return value if isinstance(value, bool) else None


def _items(value: object) -> list[dict[str, Any]]:
    found = value[:MAX_ITEMS] if isinstance(value, list) else []
    return [item for item in found if isinstance(item, dict)]


def _texts(value: object) -> list[str]:
    found = value[:MAX_ITEMS] if isinstance(value, list) else []
    return [item for item in found if _is_text(item)]


def _is_text(value: object) -> bool:
    return isinstance(value, str) and len(value) <= MAX_TEXT
