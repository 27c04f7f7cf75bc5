"""Writing users: every way into being a user, or out of it, passes here."""

from __future__ import annotations

from django.contrib.auth.password_validation import validate_password
from django.core.exceptions import ValidationError
from django.db import transaction
from django.db.models import Q, QuerySet

from dockmesh.audit.actions import Action
from dockmesh.audit.services import Actor, record
from dockmesh.core.errors import Conflict, Forbidden, InvalidInput, NotFound
from dockmesh.core.text import clean_name
from tokens.models import Role, User
from tokens.permissions import ALL
from tokens.principals import Principal, principal_of_user

MOST_USERNAME = 150


def administrators() -> QuerySet[User]:
    """Active users who may do everything: superusers, and those with the built-in role admin."""
    return User.objects.filter(
        Q(is_superuser=True) | Q(role__name="admin", role__is_builtin=True), is_active=True
    )


def has_administrator() -> bool:
    """Whether anybody can administer this server."""
    return administrators().exists()


def _clean_username(value: str) -> str:
    name = clean_name("username", value, most=MOST_USERNAME)
    try:
        User.username_validator(name)
    except ValidationError as error:
        raise InvalidInput("username", str(error.messages[0])) from None
    if User.objects.filter(username__iexact=name).exists():
        raise InvalidInput("username", "is taken by another user.")
    return name


def _check_password(password: str, user: User) -> None:
    try:
        validate_password(password, user)
    except ValidationError as error:
        raise InvalidInput("password", " ".join(error.messages)) from None


@transaction.atomic
def create_first_administrator(*, username: str, password: str, actor: Actor) -> User:
    """The first administrator: a superuser with the role admin, who may use Django admin too."""
    role = Role.objects.get(name="admin", is_builtin=True)
    user = User(username=_clean_username(username), is_superuser=True, is_staff=True, role=role)
    _check_password(password, user)
    user.set_password(password)
    user.save()
    record(
        actor=actor,
        action=Action.USER_CREATED,
        target_kind="user",
        target_id=user.pk,
        target_name=user.username,
        changes={"role": "admin"},
    )
    return user


@transaction.atomic
def create_user(*, principal: Principal, username: str, password: str, role_id: int) -> User:
    """A user with a role whose permissions the principal holds all."""
    role = _grantable_role(principal, role_id)
    user = User(username=_clean_username(username), role=role, is_staff=_is_staff_role(role))
    _check_password(password, user)
    user.set_password(password)
    user.save()
    record(
        actor=principal.actor,
        action=Action.USER_CREATED,
        target_kind="user",
        target_id=user.pk,
        target_name=user.username,
        changes={"role": role.name},
    )
    return user


@transaction.atomic
def change_role(*, principal: Principal, user_id: int, role_id: int) -> User:
    """Gives the user another role. Nobody raises anyone above themselves, or changes who stands above them."""
    _lock_administrators()
    user = _manageable_user(principal, user_id)
    role = _grantable_role(principal, role_id)
    before = user.role.name if user.role else ""
    if user.role_id == role.pk and user.is_superuser == (role.is_builtin and role.name == "admin"):
        return user
    user.role = role
    user.is_superuser = user.is_superuser and role.is_builtin and role.name == "admin"
    user.is_staff = _is_staff_role(role)
    user.save(update_fields=["role", "is_superuser", "is_staff"])
    _keep_an_administrator("The last administrator must keep the role admin.")
    record(
        actor=principal.actor,
        action=Action.USER_CHANGED,
        target_kind="user",
        target_id=user.pk,
        target_name=user.username,
        changes={"role": [before, role.name]},
    )
    return user


@transaction.atomic
def set_active(*, principal: Principal, user_id: int, is_active: bool) -> User:
    """Disables or enables a user. A disabled one is signed out everywhere at their next request."""
    _lock_administrators()
    user = _manageable_user(principal, user_id)
    if user.is_active == is_active:
        return user
    if not is_active and principal.kind == "user" and principal.id == str(user.pk):
        raise Conflict("You can't disable yourself.")
    user.is_active = is_active
    user.save(update_fields=["is_active"])
    _keep_an_administrator("The last administrator can't be disabled.")
    record(
        actor=principal.actor,
        action=Action.USER_ENABLED if is_active else Action.USER_DISABLED,
        target_kind="user",
        target_id=user.pk,
        target_name=user.username,
    )
    return user


@transaction.atomic
def set_password(*, principal: Principal, user_id: int, password: str) -> User:
    """A new password, which ends the user's other sessions."""
    user = _manageable_user(principal, user_id)
    _check_password(password, user)
    user.set_password(password)
    user.save(update_fields=["password"])
    record(
        actor=principal.actor,
        action=Action.USER_PASSWORD_CHANGED,
        target_kind="user",
        target_id=user.pk,
        target_name=user.username,
    )
    return user


def _is_staff_role(role: Role) -> bool:
    """Django admin is for those who may do everything."""
    return role.is_builtin and role.name == "admin"


def _grantable_role(principal: Principal, role_id: int) -> Role:
    role = Role.objects.filter(pk=role_id).first()
    if role is None:
        raise InvalidInput("role", "there is no such role.")
    beyond = sorted(set(role.permissions) - set(principal.permissions))
    if beyond:
        raise Forbidden(f"The role {role.name} holds what you don't: {', '.join(beyond)}.")
    return role


def _manageable_user(principal: Principal, user_id: int) -> User:
    """The user, locked. Who may do more than the principal is out of the principal's reach."""
    user = User.objects.select_for_update().filter(pk=user_id).first()
    if user is None:
        raise NotFound("There is no such user.")
    held = ALL if user.is_superuser else principal_of_user(user).permissions
    if not set(held) <= set(principal.permissions):
        raise Forbidden(f"{user.username} may do more than you, so you can't change them.")
    return user


def _lock_administrators() -> None:
    """So that two of them can't disable each other at the same moment."""
    list(administrators().select_for_update(of=("self",)).order_by("pk"))


def _keep_an_administrator(message: str) -> None:
    if not has_administrator():
        raise Conflict(message)
