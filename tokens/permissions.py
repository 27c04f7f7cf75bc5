"""The closed list of permissions and the built-in roles."""

from collections.abc import Iterable
from enum import StrEnum


class Permission(StrEnum):
    """What a token, or a user by their role, may do."""

    METRICS_READ = "metrics.read"
    DISCOVERY_READ = "discovery.read"
    FLEET_READ = "fleet.read"
    FLEET_MANAGE = "fleet.manage"
    STACKS_READ = "stacks.read"
    STACKS_DEPLOY = "stacks.deploy"
    CONTAINERS_OPERATE = "containers.operate"
    CONTAINERS_LOGS = "containers.logs"
    BACKUPS_MANAGE = "backups.manage"
    ALERTS_MANAGE = "alerts.manage"
    AUDIT_READ = "audit.read"
    TOKENS_MANAGE = "tokens.manage"
    ROLES_MANAGE = "roles.manage"
    USERS_MANAGE = "users.manage"


DESCRIPTIONS: dict[Permission, str] = {
    Permission.METRICS_READ: "Scrape /metrics.",
    Permission.DISCOVERY_READ: "Read the list of exporters for Prometheus's service discovery.",
    Permission.FLEET_READ: "See hosts, stacks, containers, deploys, backups and alerts.",
    Permission.FLEET_MANAGE: "Add, rename, label and remove hosts.",
    Permission.STACKS_READ: "Read Compose files and the output of deploys, which may hold secrets.",
    Permission.STACKS_DEPLOY: "Create, change, read, deploy, stop and remove stacks: root on the hosts, by what a Compose file mounts.",
    Permission.CONTAINERS_OPERATE: "Start, stop, restart and kill containers.",
    Permission.CONTAINERS_LOGS: "Read the containers' logs, which may hold secrets.",
    Permission.BACKUPS_MANAGE: "Create, change, run and restore backups: root on the hosts, by commands and restores.",
    Permission.ALERTS_MANAGE: "Create, change and mute alert rules.",
    Permission.AUDIT_READ: "Read the audit log.",
    Permission.TOKENS_MANAGE: "Make, rotate and revoke API tokens.",
    Permission.ROLES_MANAGE: "Make and change custom roles.",
    Permission.USERS_MANAGE: "Make, change and disable users.",
}

ALL = frozenset(Permission)

BUILT_IN_ROLES: dict[str, frozenset[Permission]] = {
    "admin": ALL,
    "operator": frozenset(
        {
            Permission.FLEET_READ,
            Permission.FLEET_MANAGE,
            Permission.STACKS_READ,
            Permission.STACKS_DEPLOY,
            Permission.CONTAINERS_OPERATE,
            Permission.CONTAINERS_LOGS,
            Permission.BACKUPS_MANAGE,
            Permission.ALERTS_MANAGE,
            Permission.METRICS_READ,
            Permission.DISCOVERY_READ,
        }
    ),
    "viewer": frozenset({Permission.FLEET_READ}),
}


def in_order(permissions: Iterable[str]) -> list[str]:
    """The permissions as texts in the order of the list above, each once; unknown ones are left out."""
    held = set(permissions)
    return [permission.value for permission in Permission if permission.value in held]
