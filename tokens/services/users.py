"""Writing users: every way into being a user, or out of it, passes here."""

from __future__ import annotations

from collections.abc import Mapping

from django.contrib.auth.password_validation import validate_password
from django.core.exceptions import ValidationError
from django.db import IntegrityError, transaction
from django.db.models import Q, QuerySet

from dockmesh.audit.actions import Action
from dockmesh.audit.services import Actor, record
from dockmesh.core.errors import Conflict, InvalidInput, NotFound
from dockmesh.core.text import clean_name
from tokens.ceiling import require_all, service
from tokens.models import Role, User
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


@service
def create_user(*, principal: Principal, username: str, password: str, role_id: int) -> User:
    """A user with a role of which the principal holds every permission."""
    role = _role(role_id)
    require_all(principal, role.permissions)
    user = User(username=_clean_username(username), role=role, is_staff=_is_admin_role(role))
    _check_password(password, user)
    user.set_password(password)
    try:
        with transaction.atomic():
            user.save()
    except IntegrityError:
        raise InvalidInput("username", "is taken by another user.") from None
    _record(principal, Action.USER_CREATED, user, {"role": role.name})
    return user


@service
def change_user_role(*, principal: Principal, user_id: int, role_id: int) -> User:
    """Gives the user another role. Nobody raises anyone above themselves, nor changes who stands above them.

    Raises `Conflict` where no administrator would be left.
    """
    _lock_administrators()
    user = _within_reach(principal, user_id)
    role = _role(role_id)
    require_all(principal, role.permissions)
    before = user.role.name if user.role else ""
    if user.role_id == role.pk:
        return user
    user.role = role
    user.is_superuser = user.is_superuser and _is_admin_role(role)
    user.is_staff = _is_admin_role(role)
    user.save(update_fields=["role", "is_superuser", "is_staff"])
    if not has_administrator():
        raise Conflict("The last administrator must keep the role admin.")
    _record(principal, Action.USER_CHANGED, user, {"role": [before, role.name]})
    return user


@service
def set_user_active(*, principal: Principal, user_id: int, is_active: bool) -> User:
    """Disables or enables a user. A disabled one is signed out everywhere at their next request."""
    _lock_administrators()
    user = _within_reach(principal, user_id)
    if user.is_active == is_active:
        return user
    user.is_active = is_active
    user.save(update_fields=["is_active"])
    if not has_administrator():
        raise Conflict("The last active administrator can't be disabled.")
    if principal.kind == "user" and principal.id == str(user.pk):
        raise Conflict("You can't disable yourself.")
    _record(principal, Action.USER_ENABLED if is_active else Action.USER_DISABLED, user)
    return user


@service
def set_password(*, principal: Principal, user_id: int, password: str) -> User:
    """A new password, which ends the user's other sessions."""
    user = _within_reach(principal, user_id)
    _check_password(password, user)
    user.set_password(password)
    user.save(update_fields=["password"])
    _record(principal, Action.USER_PASSWORD_CHANGED, user)
    return user


def _record(
    principal: Principal, action: Action, user: User, changes: Mapping[str, object] | None = None
) -> None:
    record(
        actor=principal.actor,
        action=action,
        target_kind="user",
        target_id=user.pk,
        target_name=user.username,
        changes=changes,
    )


def _is_admin_role(role: Role) -> bool:
    """Whether it is the one role whose users may use Django admin too."""
    return role.is_builtin and role.name == "admin"


def _role(role_id: int) -> Role:
    role = Role.objects.filter(pk=role_id).first()
    if role is None:
        raise InvalidInput("role", "there is no such role.")
    return role


def _within_reach(principal: Principal, user_id: int) -> User:
    """The user, locked. Who may do more than the principal is out of the principal's reach."""
    user = User.objects.select_for_update(of=("self",)).select_related("role").filter(pk=user_id).first()
    if user is None:
        raise NotFound("There is no such user.")
    require_all(principal, principal_of_user(user).permissions)
    return user


def _lock_administrators() -> None:
    """So that two of them can't disable each other at the same moment."""
    list(administrators().select_for_update(of=("self",)).order_by("pk"))
