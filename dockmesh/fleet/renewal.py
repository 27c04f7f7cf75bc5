"""Who may have a known host's agent token renewed."""

from dockmesh.core.errors import Forbidden
from tokens import refusals
from tokens.permissions import Permission
from tokens.principals import Principal

# Whoever enrols as a known host is handed its later commands, with the secrets in them, and reports their results.
NEEDED = (Permission.FLEET_MANAGE, Permission.STACKS_DEPLOY, Permission.BACKUPS_MANAGE)


def lacking(principal: Principal | None) -> list[Permission]:
    """The permissions that it would still take; none where the principal may do it."""
    return [each for each in NEEDED if principal is None or not principal.has(each)]


def require(principal: Principal, *, path: str) -> None:
    """Raises `Forbidden`, audited, unless the principal may have a known host's agent token renewed."""
    missing = lacking(principal)
    if missing:
        refusals.note(principal, why=", ".join(missing), path=path)
        raise Forbidden(f"A new agent token for a known host also takes {' and '.join(missing)}.")
