"""The sidebar: which pages there are, and which of them this user sees."""

from __future__ import annotations

from dataclasses import dataclass

from django.urls import reverse

from tokens.permissions import Permission


@dataclass(frozen=True)
class Entry:
    label: str
    route: str
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
            Entry("Overview", "web:overview", "layout-dashboard", Permission.FLEET_READ),
            Entry("Hosts", "fleet:hosts", "server", Permission.FLEET_READ),
            Entry("Stacks", "deploys:stacks", "layers", Permission.FLEET_READ),
            Entry("Containers", "fleet:containers", "container", Permission.FLEET_READ),
            Entry("Deploys", "deploys:deploys", "rocket", Permission.FLEET_READ),
            Entry("Backups", "backups:jobs", "archive", Permission.FLEET_READ),
            Entry("Alerts", "alerts:alerts", "bell", Permission.FLEET_READ),
            Entry("Audit", "audit:entries", "scroll-text", Permission.AUDIT_READ),
        ),
    ),
    Group(
        "Settings",
        (
            Entry("API tokens", "tokens:tokens", "key-round", Permission.TOKENS_MANAGE),
            Entry("Roles", "tokens:roles", "shield", Permission.ROLES_MANAGE),
            Entry("Users", "tokens:users", "users", Permission.USERS_MANAGE),
            Entry("Metrics", "metrics:settings", "activity", Permission.METRICS_READ),
        ),
    ),
)


def shown(permissions: frozenset[str], current_path: str) -> list[ShownGroup]:
    """The groups with the entries that these permissions open."""
    home = reverse("web:overview")
    groups = []
    for group in GROUPS:
        entries = tuple(
            ShownEntry(entry.label, path, entry.icon, _is_current(path, current_path, home))
            for entry in group.entries
            if entry.permission in permissions
            for path in [reverse(entry.route)]
        )
        if entries:
            groups.append(ShownGroup(group.title, entries))
    return groups


def _is_current(path: str, current_path: str, home: str) -> bool:
    return current_path == path if path == home else current_path.startswith(path)
