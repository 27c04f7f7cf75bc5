"""From an Authorization header to a principal, or to the reason why not.

One query finds token and role; whatever is wrong with a token, the client sees the same answer, and the
reason goes to Settings → Metrics and the audit log only.
"""

import datetime
import ipaddress
from dataclasses import dataclass
from enum import StrEnum

from dockmesh.core import clock
from tokens import secret
from tokens.models import ApiToken
from tokens.principals import Principal

LAST_USED_EVERY = datetime.timedelta(minutes=1)
REALM = 'Bearer realm="dockmesh"'


class Reason(StrEnum):
    """Why a request was refused."""

    NO_CREDENTIAL = "no credential"
    MALFORMED = "malformed"
    UNKNOWN = "unknown token"
    WRONG_SECRET = "wrong secret"
    EXPIRED = "expired"
    REVOKED = "revoked"
    DISABLED = "disabled"
    WRONG_KIND = "wrong kind of token"
    NOT_PERMITTED = "lacks the permission"
    ADDRESS = "address not in the allow-list"
    THROTTLED = "too many bad tokens from this address"


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


@dataclass(frozen=True)
class Bearer:
    """A header's credential: its scheme is Bearer in any case."""

    text: str


def bearer_of(header: str | None) -> Bearer | None:
    """The credential of an `Authorization: Bearer …` header; None where there is none of that scheme."""
    scheme, _, text = (header or "").partition(" ")
    return Bearer(text.strip()) if scheme.lower() == "bearer" else None


def authenticate(header: str | None, *, address: str, user_agent: str = "") -> Principal:
    """The API token's principal; raises `Refused`. One query, and at most once a minute one write."""
    bearer = bearer_of(header)
    if bearer is None:
        raise Refused(Reason.NO_CREDENTIAL)
    token = secret.parse(bearer.text)
    if token is None:
        raise Refused(Reason.MALFORMED)
    if token.kind is not secret.Kind.API:
        raise Refused(Reason.WRONG_KIND)
    row = ApiToken.objects.select_related("role").filter(public_id=token.public_id).first()
    now = clock.now()
    _check(row, token, now)
    assert row is not None
    if row.allowed_cidrs and not _is_within(address, row.allowed_cidrs):
        raise Refused(Reason.ADDRESS, token_name=row.name)
    if row.last_used_at is None or now - row.last_used_at >= LAST_USED_EVERY:
        _write_last_used(row, now, address, user_agent)
    return Principal("token", str(row.pk), row.name, frozenset(row.role.permissions), address)


def _check(row: ApiToken | None, token: secret.TokenText, now: datetime.datetime) -> None:
    """The same work for every outcome, so that the time taken tells nothing."""
    is_current = secret.matches(token, secret.Digest(row.digest, row.pepper) if row else None)
    is_previous = secret.matches(
        token,
        secret.Digest(row.previous_digest, row.previous_pepper) if row and row.previous_digest else None,
    )
    if row is None:
        raise Refused(Reason.UNKNOWN)
    is_overlapping = row.previous_valid_until is not None and now < row.previous_valid_until
    if not is_current and not (is_previous and is_overlapping):
        raise Refused(Reason.WRONG_SECRET, token_name=row.name)
    if row.revoked_at is not None:
        raise Refused(Reason.REVOKED, token_name=row.name)
    if not row.is_enabled:
        raise Refused(Reason.DISABLED, token_name=row.name)
    if row.expires_at is not None and row.expires_at <= now:
        raise Refused(Reason.EXPIRED, token_name=row.name)


def _is_within(address: str, cidrs: list[str]) -> bool:
    try:
        client = ipaddress.ip_address(address)
    except ValueError:
        return False
    return any(client in ipaddress.ip_network(cidr) for cidr in cidrs)


def _write_last_used(row: ApiToken, now: datetime.datetime, address: str, user_agent: str) -> None:
    # Conditional, so that of many requests at once one writes.
    ApiToken.objects.filter(pk=row.pk, last_used_at=row.last_used_at).update(
        last_used_at=now, last_used_address=address[:64], last_used_user_agent=user_agent[:200]
    )
