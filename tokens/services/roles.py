"""Roles: named sets of permissions. The built-in ones can't be changed."""

from collections.abc import Iterable, Mapping
from typing import TypedDict, Unpack

from django.db import IntegrityError, transaction
from django.db.models import ProtectedError

from dockmesh.audit import services as audit
from dockmesh.audit.actions import Action
from dockmesh.core.errors import Conflict, InvalidInput, NotFound
from dockmesh.core.text import clean_name, clean_text
from tokens.ceiling import require_all, service
from tokens.models import Role
from tokens.permissions import ALL, BUILT_IN_ROLES, in_order
from tokens.principals import Principal

MAX_DESCRIPTION = 500


class RoleChanges(TypedDict, total=False):
    """What of a role can be changed; what is left out stays."""

    name: object
    description: object
    permissions: object


@transaction.atomic
def make_built_in_roles() -> None:
    """Make the built-in roles, or bring them to what this version says they hold."""
    for name, permissions in BUILT_IN_ROLES.items():
        Role.objects.update_or_create(
            name=name, defaults={"permissions": in_order(permissions), "is_builtin": True}
        )


@service
def create_role(*, principal: Principal, name: object, permissions: object, description: object = "") -> Role:
    """A custom role. Raises `InvalidInput`, `Conflict` for a taken name, `Forbidden` above one's own."""
    return add_role(principal, name, permissions, description)


@service
def change_role(*, principal: Principal, role_id: int, **changes: Unpack[RoleChanges]) -> Role:
    """Change a custom role; what its tokens and users may do changes with it, from their next request.

    Both what the role held and what it shall hold must be within the principal's own permissions.
    """
    role = _locked(role_id)
    _refuse_built_in(role)
    new = {
        "name": clean_name("name", changes["name"]) if "name" in changes else role.name,
        "description": clean_text("description", changes["description"], most=MAX_DESCRIPTION)
        if "description" in changes
        else role.description,
        "permissions": clean_permissions("permissions", changes["permissions"])
        if "permissions" in changes
        else role.permissions,
    }
    require_all(principal, {*role.permissions, *new["permissions"]})
    changed = {
        field: [getattr(role, field), value] for field, value in new.items() if getattr(role, field) != value
    }
    if not changed:
        return role
    for field, (_, value) in changed.items():
        setattr(role, field, value)
    _save(role, "name")
    _record(principal, Action.ROLE_CHANGED, role, changed)
    return role


@service
def delete_role(*, principal: Principal, role_id: int) -> None:
    """Remove a custom role within the principal's own permissions; raises `Conflict` while it is in use."""
    role = _locked(role_id)
    _refuse_built_in(role)
    require_all(principal, role.permissions, deed="delete a role with")
    target = (role.pk, role.name)
    try:
        with transaction.atomic():
            role.delete()
    except (ProtectedError, IntegrityError):
        raise Conflict(f"The role {role.name!r} is in use: tokens or users have it.") from None
    audit.record(
        actor=principal.actor,
        action=Action.ROLE_DELETED,
        target_kind="role",
        target_id=target[0],
        target_name=target[1],
    )


@service
def role_with_exactly(*, principal: Principal, permissions: object) -> Role:
    """The oldest custom role that holds exactly these permissions, or a new one named after them."""
    wanted = clean_permissions("permissions", permissions)
    for role in Role.objects.filter(is_builtin=False).order_by("pk"):
        if set(role.permissions) == set(wanted):
            require_all(principal, wanted)
            return role
    taken = set(Role.objects.values_list("name", flat=True))
    stem = ", ".join(wanted)[:150] or "no permissions"
    name = next(name for name in _numbered(stem) if name not in taken)
    return add_role(principal, name, wanted, "")


def add_role(
    principal: Principal, name: object, permissions: object, description: object, *, name_field: str = "name"
) -> Role:
    """`create_role` inside the transaction of another service, whose name for the role's is `name_field`."""
    role = Role(
        name=clean_name(name_field, name),
        description=clean_text("description", description, most=MAX_DESCRIPTION),
        permissions=clean_permissions("permissions", permissions),
    )
    require_all(principal, role.permissions)
    _save(role, name_field)
    _record(
        principal,
        Action.ROLE_CREATED,
        role,
        {"permissions": role.permissions, "description": role.description},
    )
    return role


def clean_permissions(field: str, value: object) -> list[str]:
    """The permissions in the order of the closed list; raises `InvalidInput` for one that nobody knows."""
    if not isinstance(value, list | tuple | set | frozenset) or not all(
        isinstance(name, str) for name in value
    ):
        raise InvalidInput(field, "must be a list of permissions.")
    unknown = sorted(set(value) - ALL)
    if unknown:
        raise InvalidInput(
            field, f"has no such permission: {unknown[0][:80]!r}. There are: {', '.join(in_order(ALL))}."
        )
    return in_order(value)


def _numbered(stem: str) -> Iterable[str]:
    yield stem
    number = 2
    while True:
        yield f"{stem} ({number})"
        number += 1


def _locked(role_id: int) -> Role:
    role = Role.objects.select_for_update().filter(pk=role_id).first()
    if role is None:
        raise NotFound("There is no such role.")
    return role


def _refuse_built_in(role: Role) -> None:
    if role.is_builtin:
        raise Conflict(f"{role.name!r} is a built-in role and can't be changed. Make a custom role instead.")


def _save(role: Role, name_field: str) -> None:
    # "Admin" beside the built-in "admin" would be a trap.
    if (
        role.name.lower() in BUILT_IN_ROLES
        or Role.objects.filter(name=role.name).exclude(pk=role.pk).exists()
    ):
        raise _taken(name_field, role.name)
    try:
        with transaction.atomic():
            role.save()
    except IntegrityError:
        raise _taken(name_field, role.name) from None


def _taken(field: str, name: str) -> Conflict:
    message = f"There is a role named {name!r} already."
    return Conflict(message, errors={field: [message]})


def _record(principal: Principal, action: Action, role: Role, changes: Mapping[str, object]) -> None:
    audit.record(
        actor=principal.actor,
        action=action,
        target_kind="role",
        target_id=role.pk,
        target_name=role.name,
        changes=changes,
    )
