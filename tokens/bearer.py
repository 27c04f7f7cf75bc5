"""From an Authorization header to a principal, or to the reason why not.

One query finds token and role; whatever is wrong with a token, the client sees the same answer, and the
reason goes to Settings → Metrics and the audit log only.

A view that is no DRF view does::

    try:
        principal = bearer.authenticate(header, address=…, user_agent=…, permission=Permission.METRICS_READ)
    except bearer.Refused as refused:
        return bearer.refusal_response(refused)

and one that takes tokens of another kind reads them with `credential` and refuses with `bad_token`.
"""

import datetime
import ipaddress
import logging
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, NamedTuple

from django.db import DatabaseError
from django.http import JsonResponse

from dockmesh.core import clock
from dockmesh.core.compiled import CompiledQuery
from dockmesh.core.ip import parse_address
from dockmesh.core.problems import problem_answer
from dockmesh.core.text import CONTROLS, in_one_line
from tokens import refusals, secret, throttle, uses
from tokens.models import ApiToken
from tokens.permissions import Permission
from tokens.principals import Principal

logger = logging.getLogger(__name__)

LAST_USED_EVERY = datetime.timedelta(minutes=1)
REALM = 'Bearer realm="dockmesh"'


class Reason(StrEnum):
    """Why a request was refused."""

    NO_CREDENTIAL = "no credential"
    MALFORMED = "malformed"
    UNKNOWN = "unknown token"
    WRONG_SECRET = "wrong secret"
    ENDED_SECRET = "old secret, ended by a rotation"
    EXPIRED = "expired"
    REVOKED = "revoked"
    DISABLED = "disabled"
    WRONG_KIND = "wrong kind of token"
    NOT_PERMITTED = "lacks the permission"
    ADDRESS = "address not in the allow-list"
    THROTTLED = "too many bad tokens from this address"


# What somebody gets who tries texts. The holder of a token or a secret that has ended knew it: they are told no
# more than others, but aren't counted, so that the operator sees the true reason however often they come.
GUESSES = frozenset({Reason.MALFORMED, Reason.UNKNOWN, Reason.WRONG_SECRET, Reason.WRONG_KIND})


class Refused(Exception):
    """The request is not let in. `token_name` is set where the token is known."""

    def __init__(self, reason: Reason, *, token_name: str = "", retry_after_seconds: int = 0) -> None:
        super().__init__(reason.value)
        self.reason = reason
        self.token_name = token_name
        self.retry_after_seconds = retry_after_seconds

    @property
    def status(self) -> int:
        """401 for a bad credential, 403 for a good one that doesn't suffice, 429 when throttled."""
        if self.reason in (Reason.NOT_PERMITTED, Reason.ADDRESS):
            return 403
        return 429 if self.reason is Reason.THROTTLED else 401

    @property
    def challenge(self) -> str:
        """The value of `WWW-Authenticate`; RFC 6750 section 3."""
        if self.reason is Reason.NO_CREDENTIAL:
            return REALM
        if self.status == 403:
            return f'{REALM}, error="insufficient_scope"'
        return f'{REALM}, error="invalid_token"'

    @property
    def detail(self) -> str:
        """What the client is told: the same for every bad token."""
        if self.reason is Reason.NO_CREDENTIAL:
            return "A bearer token is needed."
        if self.status == 403:
            return "The token does not allow this."
        return "Too many bad tokens." if self.status == 429 else "The token is not valid."

    @property
    def headers(self) -> dict[str, str]:
        """The answer's own headers."""
        headers = {"WWW-Authenticate": self.challenge}
        if self.retry_after_seconds:
            headers["Retry-After"] = str(self.retry_after_seconds)
        return headers


class _Stored(NamedTuple):
    """What is stored of a token, as far as authentication needs it."""

    pk: int
    name: str
    digest: str
    pepper: int
    previous_digest: str
    previous_pepper: int
    previous_valid_until: datetime.datetime | None
    ended_digests: list[list[Any]]
    allowed_cidrs: list[str]
    expires_at: datetime.datetime | None
    is_enabled: bool
    revoked_at: datetime.datetime | None
    last_used_at: datetime.datetime | None
    permissions: list[str]


# Compiled once: it is made by every scrape and every request to the API.
_query = CompiledQuery(
    lambda: ApiToken.objects.filter(public_id="<public id>").values_list(
        *_Stored._fields[:-1], "role__permissions"
    )
)


def _stored(public_id: str) -> _Stored | None:
    rows = _query.rows({"<public id>": public_id})
    return _Stored(*rows[0]) if rows else None


@dataclass(frozen=True)
class Bearer:
    """A header's credential: its scheme is Bearer in any case."""

    text: str


def bearer_of(header: str | None) -> Bearer | None:
    """The credential of an `Authorization: Bearer …` header; None where there is none of that scheme."""
    scheme, _, text = (header or "").partition(" ")
    return Bearer(text.strip(" \t")) if scheme.lower() == "bearer" else None


def credential(header: str | None, *, kind: secret.Kind, address: str) -> secret.TokenText:
    """The header's token of that kind, its shape and checksum checked without a query; raises `Refused`."""
    bearer = bearer_of(header)
    if bearer is None:
        raise Refused(Reason.NO_CREDENTIAL)
    token = secret.parse(bearer.text)
    if token is None:
        raise bad_token(Reason.MALFORMED, address=address)
    if token.kind is not kind:
        raise bad_token(Reason.WRONG_KIND, address=address)
    return token


def bad_token(reason: Reason, *, address: str, token_name: str = "") -> Refused:
    """The refusal of a bad token; guesses are counted, and of too many from one address it says that instead."""
    retry_after_seconds = throttle.count_bad(address) if reason in GUESSES else 0
    if retry_after_seconds:
        reason = Reason.THROTTLED
    return Refused(reason, token_name=token_name, retry_after_seconds=retry_after_seconds)


def refusal_response(refused: Refused) -> JsonResponse:
    """The problem answer with its challenge, byte for byte what the REST API gives."""
    return problem_answer(refused.status, refused.detail, headers=refused.headers)


def authenticate(
    header: str | None, *, address: str, user_agent: str = "", permission: Permission | None = None
) -> Principal:
    """The API token's principal, which holds `permission` if one is named; raises `Refused`.

    One query, and at most once a minute one write, or two while the overlap of a rotation runs. A lacking permission is audited.
    """
    token = credential(header, kind=secret.Kind.API, address=address)
    row = _stored(token.public_id)
    now = clock.now()
    reason, is_previous = _fault(row, token, now)
    if reason is not None or row is None:
        if reason is Reason.ENDED_SECRET and row is not None:
            holder = Principal("token", str(row.pk), row.name, frozenset(), address)
            refusals.note(holder, why=reason.value)
        raise bad_token(
            reason or Reason.UNKNOWN, address=address, token_name=row.name if row is not None else ""
        )
    principal = Principal("token", str(row.pk), row.name, frozenset(row.permissions), address)
    if row.allowed_cidrs and not is_within(address, row.allowed_cidrs):
        refusals.note(principal, why=Reason.ADDRESS.value)
        raise Refused(Reason.ADDRESS, token_name=row.name)
    agent = CONTROLS.sub("?", user_agent)[:200]
    if row.previous_valid_until is not None and now < row.previous_valid_until:
        uses.note(
            row.pk,
            overlap_ends_at=row.previous_valid_until,
            is_previous=is_previous,
            address=address,
            user_agent=agent,
            now=now,
        )
    if row.last_used_at is None or now - row.last_used_at >= LAST_USED_EVERY:
        _write_last_used(row, now, address, agent)
    if permission is not None:
        require(principal, permission)
    return principal


def require(principal: Principal, *any_of: Permission, path: str = "") -> None:
    """Raises `Refused`, audited, unless the principal holds one of the permissions; none at all lets nobody in."""
    if not any(principal.has(permission) for permission in any_of):
        refusals.note(principal, why=" or ".join(any_of) or "undeclared", path=path)
        raise Refused(Reason.NOT_PERMITTED, token_name=principal.name)


def is_within(address: str, cidrs: list[str]) -> bool:
    """Whether the address is in one of the networks; an IPv4 address written as IPv6 counts as IPv4."""
    client = parse_address(address)
    return client is not None and any(client in ipaddress.ip_network(cidr) for cidr in cidrs)


def _fault(
    row: _Stored | None, token: secret.TokenText, now: datetime.datetime
) -> tuple[Reason | None, bool]:
    """What is wrong with the token, and whether its secret is one from before the last rotation.

    The same work for every outcome, so that the time taken tells nothing.
    """
    current = secret.Digest(row.digest, row.pepper) if row else None
    previous = (
        secret.Digest(row.previous_digest, row.previous_pepper) if row and row.previous_digest else None
    )
    ended = [secret.Digest(*each) for each in row.ended_digests] if row else []
    is_current, is_previous, *known = secret.matching(
        token, (current, previous, *ended, *[None] * secret.MOST_ENDED)[: 2 + secret.MOST_ENDED]
    )
    if row is None:
        return Reason.UNKNOWN, False
    is_old = is_previous or any(known)
    is_overlapping = row.previous_valid_until is not None and now < row.previous_valid_until
    if not (is_current or is_old):
        return Reason.WRONG_SECRET, False
    if row.revoked_at is not None:
        return Reason.REVOKED, is_old
    if not is_current and not (is_previous and is_overlapping):
        return Reason.ENDED_SECRET, True
    if not row.is_enabled:
        return Reason.DISABLED, is_old
    if row.expires_at is not None and row.expires_at <= now:
        return Reason.EXPIRED, is_old
    return None, not is_current


def _write_last_used(row: _Stored, now: datetime.datetime, address: str, user_agent: str) -> None:
    try:
        # Conditional, so that of many requests at once one writes.
        ApiToken.objects.filter(pk=row.pk, last_used_at=row.last_used_at).update(
            last_used_at=now,
            last_used_address=address[:64],
            last_used_user_agent=user_agent,
        )
    except DatabaseError as error:
        # A full disk, a busy or a read-only database must not take a read away.
        reason = in_one_line(error, most=200)
        logger.warning("The time of the last use of token %s could not be written: %s", row.pk, reason)
