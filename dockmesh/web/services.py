"""Signing in and setting up."""

from __future__ import annotations

import datetime
import hashlib
import hmac
import secrets
from typing import TYPE_CHECKING

from django.conf import settings
from django.db import transaction
from django.http import HttpRequest

from dockmesh.audit.actions import Action
from dockmesh.audit.services import Actor, record_alone, sign_anew
from dockmesh.core import clock, encrypted
from dockmesh.core.addresses import page_path
from dockmesh.core.errors import Conflict, NotFound
from dockmesh.web.models import SetupCode
from tokens.selectors import user_named
from tokens.services import create_first_administrator, has_administrator

if TYPE_CHECKING:
    from tokens.models import User

SETUP_LINK_LASTS = datetime.timedelta(hours=1)


class Ended(Exception):
    """The set-up link was a true one, but its hour is over."""


def take_secret_key() -> str:
    """Encrypt and sign anew what was under a former secret key; returns a sentence for the operator."""
    renewed, lost = encrypted.renew()
    sign_anew()
    said = f"Encrypted {renewed} texts anew; the audit log is signed with the secret key as it is now."
    return f"{said} {lost} texts were encrypted under none of the keys." if lost else said


def address_of(request: HttpRequest) -> str:
    """The client's address."""
    return str(request.META.get("REMOTE_ADDR", ""))


def _code(row: SetupCode) -> str:
    """The same on every replica; who has the database alone can't make it."""
    message = f"dockmesh set-up link 1\n{row.nonce}".encode()
    return hmac.digest(settings.SECRET_KEY.encode(), message, hashlib.sha256).hex()


@transaction.atomic
def setup_link(base_url: str) -> str | None:
    """The one-time link at which the first administrator is made, good for an hour from now; None once there is one.

    A link that is still good stays the same, whichever replica asks. Of its code nothing is stored.
    """
    if has_administrator():
        SetupCode.objects.all().delete()
        return None
    row = SetupCode.objects.select_for_update().filter(pk=1).first()
    if row is None:
        row = SetupCode(pk=1)
    if not row.nonce or _has_ended(row):
        row.nonce = secrets.token_hex(32)
    row.created_at = clock.now()
    row.save()
    return base_url.rstrip("/") + page_path("web:setup", _code(row))


def _has_ended(row: SetupCode) -> bool:
    return clock.now() - row.created_at >= SETUP_LINK_LASTS


def _is_code_of(row: SetupCode | None, code: str) -> bool:
    return row is not None and secrets.compare_digest(
        _code(row).encode(), code.encode("utf-8", "surrogatepass")
    )


def is_setup_code(code: str) -> bool:
    """Whether this code makes the first administrator; `Ended` where it is that of a link whose hour is over."""
    row = SetupCode.objects.filter(pk=1).first()
    if row is None or not _is_code_of(row, code) or has_administrator():
        return False
    if _has_ended(row):
        raise Ended
    return True


@transaction.atomic
def set_up(*, code: str, username: str, password: str, address: str) -> User:
    """Makes the first administrator and uses the code up.

    Raises `NotFound` for a code that does not count, `Conflict` where there is an administrator already.
    """
    row = SetupCode.objects.select_for_update().filter(pk=1).first()
    if row is None or not _is_code_of(row, code) or _has_ended(row):
        raise NotFound("This set-up link is not valid.")
    if has_administrator():
        raise Conflict("There is an administrator already.")
    row.delete()
    return create_first_administrator(
        username=username, password=password, actor=Actor("system", "", "set-up link", address)
    )


def record_sign_in(*, user: User, address: str) -> None:
    """Writes a good sign-in to the audit log."""
    _record_own(Action.USER_SIGNED_IN, user, address)


def record_failed_sign_in(*, username: str, address: str) -> None:
    """Writes a bad sign-in to the audit log. An unknown name is left out: it may be a password."""
    user = user_named(username)
    record_alone(
        actor=Actor("user", "", "nobody", address),
        action=Action.USER_SIGN_IN_FAILED,
        target_kind="user",
        target_id=user.pk if user else "",
        target_name=user.get_username() if user else "an unknown name",
    )


def record_sign_out(*, user: User, address: str) -> None:
    """Writes a sign-out to the audit log."""
    _record_own(Action.USER_SIGNED_OUT, user, address)


def _record_own(action: Action, user: User, address: str) -> None:
    name = user.get_username()
    record_alone(
        actor=Actor("user", str(user.pk), name, address),
        action=action,
        target_kind="user",
        target_id=user.pk,
        target_name=name,
    )
