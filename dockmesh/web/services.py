"""Signing in and setting up."""

from __future__ import annotations

import hashlib
import secrets

from django.db import transaction
from django.http import HttpRequest

from dockmesh.audit.actions import Action
from dockmesh.audit.services import Actor, record_alone
from dockmesh.core import clock
from dockmesh.core.errors import Conflict, NotFound
from dockmesh.web.models import SetupCode
from tokens.models import User
from tokens.services import create_first_administrator, has_administrator


def address_of(request: HttpRequest) -> str:
    """The client's address."""
    return str(request.META.get("REMOTE_ADDR", ""))


def _digest(code: str) -> str:
    return hashlib.sha256(code.encode("utf-8", "surrogatepass")).hexdigest()


@transaction.atomic
def setup_link(base_url: str) -> str | None:
    """A new one-time link at which the first administrator is made; None once there is one.

    A link made earlier stops working. Only a digest of the code is stored.
    """
    if has_administrator():
        SetupCode.objects.all().delete()
        return None
    code = secrets.token_urlsafe(24)
    SetupCode.objects.update_or_create(pk=1, defaults={"digest": _digest(code), "created_at": clock.now()})
    return f"{base_url.rstrip('/')}/setup/{code}/"


def is_setup_code(code: str) -> bool:
    """Whether this code still makes the first administrator."""
    row = SetupCode.objects.filter(pk=1).first()
    return row is not None and secrets.compare_digest(row.digest, _digest(code)) and not has_administrator()


@transaction.atomic
def set_up(*, code: str, username: str, password: str, address: str) -> User:
    """Makes the first administrator and uses the code up.

    Raises `NotFound` for a code that does not count, `Conflict` where there is an administrator already.
    """
    row = SetupCode.objects.select_for_update().filter(pk=1).first()
    if row is None or not secrets.compare_digest(row.digest, _digest(code)):
        raise NotFound("This set-up link is not valid.")
    if has_administrator():
        raise Conflict("There is an administrator already.")
    row.delete()
    return create_first_administrator(
        username=username, password=password, actor=Actor("system", "", "set-up link", address)
    )


def record_sign_in(*, user: User, address: str) -> None:
    """Writes a good sign-in to the audit log."""
    record_alone(
        actor=Actor("user", str(user.pk), user.get_username(), address),
        action=Action.USER_SIGNED_IN,
        target_kind="user",
        target_id=user.pk,
        target_name=user.get_username(),
    )


def record_failed_sign_in(*, username: str, address: str) -> None:
    """Writes a bad sign-in to the audit log. An unknown name is left out: it may be a password."""
    user = User.objects.filter(username=username).first()
    record_alone(
        actor=Actor("user", "", "nobody", address),
        action=Action.USER_SIGN_IN_FAILED,
        target_kind="user",
        target_id=user.pk if user else "",
        target_name=user.get_username() if user else "an unknown name",
    )


def record_sign_out(*, user: User, address: str) -> None:
    """Writes a sign-out to the audit log."""
    record_alone(
        actor=Actor("user", str(user.pk), user.get_username(), address),
        action=Action.USER_SIGNED_OUT,
        target_kind="user",
        target_id=user.pk,
        target_name=user.get_username(),
    )
