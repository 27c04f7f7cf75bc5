"""API tokens: made, changed, rotated, revoked, deleted. A token's text leaves these functions once."""

import datetime
import ipaddress
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TypedDict, Unpack

from django.db import IntegrityError, transaction

from dockmesh.audit import services as audit
from dockmesh.audit.actions import Action
from dockmesh.core import clock
from dockmesh.core.datetimes import read_datetime
from dockmesh.core.errors import Conflict, Forbidden, InvalidInput, NotFound
from dockmesh.core.text import clean_name, clean_number
from tokens import secret
from tokens.ceiling import require_all, service
from tokens.models import ApiToken, Role
from tokens.permissions import Permission
from tokens.principals import Principal
from tokens.services.roles import add_role, role_with_exactly

MAX_CIDRS = 64
MAX_OVERLAP_SECONDS = 30 * 24 * 3600
# The furthest expiry: some way before the last moment that a datetime can hold in every time zone.
# Rotations that come so close after one another are the same one, asked for twice.
AT_ONCE = datetime.timedelta(seconds=1)
LAST_MOMENT = datetime.datetime(9999, 12, 30, tzinfo=datetime.UTC)


@dataclass(frozen=True)
class Issued:
    """A token that was just made or rotated; `text` is the only copy of its secret."""

    token: ApiToken
    text: str = field(repr=False)


class TokenChanges(TypedDict, total=False):
    """What of a token can be changed; what is left out stays."""

    name: object
    role: object
    expires_at: object
    allowed_cidrs: object
    is_enabled: object


@service
def create_token(
    *,
    principal: Principal,
    name: object,
    role: object,
    expires_at: object = None,
    allowed_cidrs: object = (),
) -> Issued:
    """A new token. `role` is a `Role`, its name or its id; `expires_at` a datetime or its ISO 8601 text.

    Raises `InvalidInput`, `Conflict` for a taken name, `Forbidden` for a role above the principal's own.
    """
    return _create(principal, name, _role(role), expires_at, allowed_cidrs)


@service
def create_token_with_new_role(
    *,
    principal: Principal,
    name: object,
    role_name: object,
    permissions: object,
    expires_at: object = None,
    allowed_cidrs: object = (),
) -> Issued:
    """A new token with a custom role that is made right there; both or neither.

    Without a name for it, a role that holds exactly these permissions is used or made.
    """
    if not principal.has(Permission.ROLES_MANAGE):
        raise Forbidden("Making a role needs the permission roles.manage.")
    if role_name:
        role = add_role(principal, role_name, permissions, "", name_field="role_name")
    else:
        role = role_with_exactly(principal=principal, permissions=permissions)
    return _create(principal, name, role, expires_at, allowed_cidrs)


@service
def change_token(*, principal: Principal, token_id: int, **changes: Unpack[TokenChanges]) -> ApiToken:
    """Change a token that isn't revoked; its old and its new role must be within the principal's own."""
    token = _locked(token_id)
    _refuse_revoked(token)
    require_all(principal, token.role.permissions)
    before = _facts(token)
    if "name" in changes:
        token.name = clean_name("name", changes["name"])
    if "role" in changes:
        token.role = _role(changes["role"])
        require_all(principal, token.role.permissions)
    if "expires_at" in changes:
        token.expires_at = clean_expiry("expires_at", changes["expires_at"], unless=token.expires_at)
    if "allowed_cidrs" in changes:
        token.allowed_cidrs = clean_cidrs("allowed_cidrs", changes["allowed_cidrs"])
    if "is_enabled" in changes:
        if not isinstance(changes["is_enabled"], bool):
            raise InvalidInput("is_enabled", "must be true or false.")
        token.is_enabled = changes["is_enabled"]
    after = _facts(token)
    changed = {key: [before[key], after[key]] for key in after if before[key] != after[key]}
    if changed:
        _save(token)
        _record(principal, Action.TOKEN_CHANGED, token, changed)
    return token


@service
def rotate_token(
    *,
    principal: Principal,
    token_id: int,
    overlap_seconds: object = 0,
    seen_digest: str | None = None,
    asked_at: datetime.datetime | None = None,
) -> Issued:
    """Give the token a new secret; the old one stays valid for `overlap_seconds` more (30 days at most).

    Raises `Conflict` while the overlap of an earlier rotation runs, and where the secret is no longer the one
    whose digest the caller saw, or was made anew after `asked_at` or a moment before: of several rotations at once, one
    is done.
    """
    overlap = clean_overlap("overlap_seconds", overlap_seconds)
    token = _locked(token_id)
    _refuse_revoked(token)
    require_all(principal, token.role.permissions)
    now = clock.now()
    if token.expires_at is not None and token.expires_at <= now:
        raise Conflict("The token has expired. Change its expiry first.")
    if token.previous_valid_until is not None and now < token.previous_valid_until:
        raise Conflict(
            "The token was rotated already, and its old secret is valid until"
            f" {token.previous_valid_until.isoformat(timespec='seconds')}."
        )
    is_late = asked_at and token.rotated_at and token.rotated_at > asked_at - AT_ONCE
    if is_late or (seen_digest is not None and seen_digest != token.digest):
        raise Conflict("The token was rotated in the meantime.")
    text = secret.renewed(secret.Kind.API, token.public_id)
    digest = secret.digest(text)
    if token.previous_digest:
        ended = [[token.previous_digest, token.previous_pepper], *token.ended_digests]
        token.ended_digests = ended[: secret.MOST_ENDED]
    token.previous_digest, token.previous_pepper = token.digest, token.pepper
    token.previous_valid_until = now + datetime.timedelta(seconds=overlap) if overlap else None
    token.secret_uses.all().delete()
    token.digest, token.pepper, token.rotated_at = digest.value, digest.pepper, now
    token.save()
    _record(principal, Action.TOKEN_ROTATED, token, {"overlap_seconds": overlap})
    return Issued(token, str(text))


@service
def revoke_token(*, principal: Principal, token_id: int) -> ApiToken:
    """End a token for good, whatever its role; a token that is revoked already stays as it is."""
    token = _locked(token_id)
    if token.revoked_at is None:
        token.revoked_at = clock.now()
        token.previous_valid_until = None
        token.save()
        _record(principal, Action.TOKEN_REVOKED, token, {})
    return token


@service
def delete_token(*, principal: Principal, token_id: int) -> None:
    """Remove a token altogether; what it did stays in the audit log.

    Its role must be within the principal's own permissions: ending a token is a safety measure open to whoever
    manages tokens, but its record is not theirs to destroy.
    """
    token = _locked(token_id)
    require_all(principal, token.role.permissions, deed="delete a token that may do")
    facts = _facts(token)
    token_pk, name = token.pk, token.name
    token.delete()
    audit.record(
        actor=principal.actor,
        action=Action.TOKEN_DELETED,
        target_kind="token",
        target_id=token_pk,
        target_name=name,
        changes=facts,
    )


def clean_expiry(
    field_name: str, value: object, *, unless: datetime.datetime | None = None
) -> datetime.datetime | None:
    """None for never, or a moment in the future; the moment `unless` may stay though it has passed.

    A text without an offset is taken as UTC.
    """
    if value is None or value == "":
        return None
    if not isinstance(value, datetime.datetime):
        value = read_datetime(field_name, value)
    elif value.tzinfo is None:
        value = value.replace(tzinfo=datetime.UTC)
    if value == unless:
        return unless
    if value <= clock.now():
        raise InvalidInput(field_name, "must be in the future.")
    if value > LAST_MOMENT:
        raise InvalidInput(field_name, "must be before the year 10000.")
    return value.astimezone(datetime.UTC)


def clean_cidrs(field_name: str, value: object) -> list[str]:
    """Networks or single addresses in their usual spelling, each once; none or an empty list: every address."""
    if value is None:
        return []
    if not isinstance(value, list | tuple):
        raise InvalidInput(field_name, "must be a list of networks like 10.0.0.0/8.")
    if len(value) > MAX_CIDRS:
        raise InvalidInput(field_name, f"must be at most {MAX_CIDRS} networks.")
    return list(dict.fromkeys(_network(f"{field_name}[{index}]", text) for index, text in enumerate(value)))


def clean_overlap(field_name: str, value: object) -> int:
    """A whole number of seconds from 0 to 30 days."""
    return clean_number(field_name, value, least=0, most=MAX_OVERLAP_SECONDS)


def _network(path: str, text: object) -> str:
    if not isinstance(text, str) or "%" in text or len(text) > 64:
        raise InvalidInput(path, "must be a network like 10.0.0.0/8.")
    try:
        network = ipaddress.ip_network(text.strip(), strict=False)
        ipaddress.ip_network(text.strip())
    except ValueError as error:
        hint = f" Did you mean {network}?" if "host bits" in str(error) else ""
        raise InvalidInput(path, f"must be a network like 10.0.0.0/8.{hint}") from None
    if isinstance(network, ipaddress.IPv6Network):
        mapped = network.network_address.ipv4_mapped
        if mapped is not None and network.prefixlen >= 96:
            return str(ipaddress.ip_network((int(mapped), network.prefixlen - 96)))
    return str(network)


def _role(value: object) -> Role:
    """By object, name or id."""
    if isinstance(value, Role):
        return value
    found: Role | None = None
    if isinstance(value, str):
        found = Role.objects.filter(name=clean_name("role", value)).first()
    elif isinstance(value, int) and not isinstance(value, bool):
        found = Role.objects.filter(pk=value).first()
    else:
        raise InvalidInput("role", "must be the name or the id of a role.")
    if found is None:
        raise InvalidInput("role", "There is no such role.")
    return found


def _create(
    principal: Principal, name: object, role: Role, expires_at: object, allowed_cidrs: object
) -> Issued:
    text = secret.generate(secret.Kind.API)
    digest = secret.digest(text)
    token = ApiToken(
        name=clean_name("name", name),
        public_id=text.public_id,
        digest=digest.value,
        pepper=digest.pepper,
        role=role,
        allowed_cidrs=clean_cidrs("allowed_cidrs", allowed_cidrs),
        expires_at=clean_expiry("expires_at", expires_at),
        created_by=principal.name[:255],
    )
    require_all(principal, role.permissions)
    _save(token)
    _record(principal, Action.TOKEN_CREATED, token, _facts(token))
    return Issued(token, str(text))


def _locked(token_id: int) -> ApiToken:
    token = (
        ApiToken.objects.select_for_update(of=("self",)).select_related("role").filter(pk=token_id).first()
    )
    if token is None:
        raise NotFound("There is no such token.")
    return token


def _refuse_revoked(token: ApiToken) -> None:
    if token.revoked_at is not None:
        raise Conflict("The token is revoked. Make a new one.")


def _save(token: ApiToken) -> None:
    if ApiToken.objects.filter(name=token.name, revoked_at=None).exclude(pk=token.pk).exists():
        raise _taken(token.name)
    try:
        with transaction.atomic():
            token.save()
    except IntegrityError:
        raise _taken(token.name) from None


def _taken(name: str) -> Conflict:
    message = f"There is a token named {name!r} already."
    return Conflict(message, errors={"name": [message]})


def _facts(token: ApiToken) -> dict[str, object]:
    """What the audit log tells of a token."""
    return {
        "name": token.name,
        "role": token.role.name,
        "expires_at": token.expires_at.isoformat() if token.expires_at else None,
        "allowed_cidrs": token.allowed_cidrs,
        "is_enabled": token.is_enabled,
    }


def _record(principal: Principal, action: Action, token: ApiToken, changes: Mapping[str, object]) -> None:
    audit.record(
        actor=principal.actor,
        action=action,
        target_kind="token",
        target_id=token.pk,
        target_name=token.name,
        changes=changes,
    )
