"""Reading tokens, for other rooms."""

import datetime

from django.db.models import Q

from dockmesh.core.compiled import CompiledQuery
from tokens.models import ApiToken, TokenState, User
from tokens.permissions import Permission

TOKEN_EXPIRIES = CompiledQuery(
    lambda: (
        ApiToken.objects.filter(revoked_at=None, is_enabled=True)
        .exclude(expires_at=None)
        .order_by("name")
        .values_list("name", "expires_at")
    )
)


def token_expiries() -> list[tuple[str, float]]:
    """(name, Unix seconds of expiry) of every token that is neither revoked nor without an expiry, by name."""
    return [(name, expires_at.timestamp()) for name, expires_at in TOKEN_EXPIRIES.rows()]


def in_state(state: TokenState, now: datetime.datetime) -> Q:
    """The condition for tokens that are in that state at that moment; `ApiToken.state_at` as a query."""
    is_live, is_expired = Q(revoked_at=None), Q(expires_at__isnull=False, expires_at__lte=now)
    return {
        TokenState.REVOKED: ~is_live,
        TokenState.EXPIRED: is_live & is_expired,
        TokenState.DISABLED: is_live & ~is_expired & Q(is_enabled=False),
        TokenState.ACTIVE: is_live & ~is_expired & Q(is_enabled=True),
    }[state]


def scraper_progress() -> tuple[bool, bool]:
    """(a usable token that may read /metrics exists, one of them has been used)."""
    rows = ApiToken.objects.filter(revoked_at=None, is_enabled=True).values_list(
        "role__permissions", "last_used_at"
    )
    used = [last_used_at for permissions, last_used_at in rows if Permission.METRICS_READ in permissions]
    return bool(used), any(last_used_at is not None for last_used_at in used)


def user_named(username: str) -> User | None:
    """The user of this name; one query."""
    return User.objects.filter(username=username).first()


def tokens_named(pattern: str, *, created_by: str) -> list[tuple[int, str]]:
    """(id, name) of the API tokens that somebody made whose names match a regular expression; one query."""
    return list(ApiToken.objects.filter(name__regex=pattern, created_by=created_by).values_list("pk", "name"))
