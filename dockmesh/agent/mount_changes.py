"""What a project's files would mount, as Compose itself reads them, beside what runs."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from typing import Any

from dockmesh.agent.document import JSON
from dockmesh.agent.labels import Mount


def mounts_of(config: Mapping[str, Any]) -> dict[tuple[str, str], str]:
    """{(service, target): path or volume's name} of what `docker compose config --format json` gives."""
    volumes = config.get("volumes") or {}
    found = {}
    for name, service in (config.get("services") or {}).items():
        for mount in service.get("volumes") or []:
            source = mount.get("source") or ""
            if mount.get("type") == "volume" and source:
                source = (volumes.get(source) or {}).get("name") or source
            if mount.get("type") in ("bind", "volume") and source:
                found[name, os.path.normpath(mount["target"])] = source
        for kind, root in (("secrets", "/run/secrets/"), ("configs", "/")):
            for use in service.get(kind) or []:
                file = ((config.get(kind) or {}).get(use.get("source")) or {}).get("file")
                if file:
                    target = os.path.join(root, use.get("target") or use["source"])
                    found[name, os.path.normpath(target)] = file
    return found


def compared(before: Iterable[Mount], config: Mapping[str, Any]) -> list[JSON]:
    """Each mount of what runs and of the files, with both sources (empty: not there) and whether what is mounted stays."""
    after = mounts_of(config)
    services = config.get("services") or {}
    # What a service takes over from another's container is none of its own.
    borrowing = {name for name, service in services.items() if service.get("volumes_from")}
    rows: dict[tuple[str, str], JSON] = {}
    for mount in before:
        key = (mount.service, os.path.normpath(mount.target))
        source = after.pop(key, rows[key]["after"] if key in rows else "")
        if not source and mount.service in borrowing:
            source = mount.source
        if key not in rows or rows[key]["is_kept"]:
            rows[key] = _row(key, mount.source, source)
    for key, source in after.items():
        rows[key] = _row(key, "", source) | {"is_kept": True}  # it takes nothing away
    return [rows[key] for key in sorted(rows)]


def _row(key: tuple[str, str], before: str, after: str) -> JSON:
    is_kept = before == after or bool(before and after and _resolved(before) == _resolved(after))
    return {"service": key[0], "target": key[1], "before": before, "after": after, "is_kept": is_kept}


def _resolved(source: str) -> str:
    return os.path.realpath(source) if os.path.isabs(source) else source
