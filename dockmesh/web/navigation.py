"""The sidebar: which pages there are, and which of them this user sees."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

from django.urls import Resolver404, resolve

from tokens.permissions import Permission


@dataclass(frozen=True)
class Entry:
    label: str
    path: str
    icon: str
    permission: Permission


@dataclass(frozen=True)
class Group:
    title: str
    entries: tuple[Entry, ...]


@dataclass(frozen=True)
class ShownEntry:
    label: str
    path: str
    icon: str
    is_current: bool


@dataclass(frozen=True)
class ShownGroup:
    title: str
    entries: tuple[ShownEntry, ...]


GROUPS = (
    Group(
        "",
        (
            Entry("Overview", "/", "layout-dashboard", Permission.FLEET_READ),
            Entry("Hosts", "/hosts/", "server", Permission.FLEET_READ),
            Entry("Stacks", "/stacks/", "layers", Permission.FLEET_READ),
            Entry("Deploys", "/deploys/", "rocket", Permission.FLEET_READ),
            Entry("Backups", "/backups/", "archive", Permission.FLEET_READ),
            Entry("Alerts", "/alerts/", "bell", Permission.FLEET_READ),
            Entry("Audit", "/audit/", "scroll-text", Permission.AUDIT_READ),
        ),
    ),
    Group(
        "Settings",
        (
            Entry("API tokens", "/settings/tokens/", "key-round", Permission.TOKENS_MANAGE),
            Entry("Roles", "/settings/roles/", "shield", Permission.ROLES_MANAGE),
            Entry("Users", "/settings/users/", "users", Permission.USERS_MANAGE),
            Entry("Metrics", "/settings/metrics/", "activity", Permission.METRICS_READ),
        ),
    ),
)


@cache
def exists(path: str) -> bool:
    """Whether a page answers at this path."""
    try:
        resolve(path)
    except Resolver404:
        return False
    return True


def shown(permissions: frozenset[str], current_path: str) -> list[ShownGroup]:
    """The groups with the entries that exist and that these permissions open."""
    groups = []
    for group in GROUPS:
        entries = tuple(
            ShownEntry(entry.label, entry.path, entry.icon, _is_current(entry.path, current_path))
            for entry in group.entries
            if entry.permission in permissions and exists(entry.path)
        )
        if entries:
            groups.append(ShownGroup(group.title, entries))
    return groups


def _is_current(path: str, current_path: str) -> bool:
    return current_path == path if path == "/" else current_path.startswith(path)
