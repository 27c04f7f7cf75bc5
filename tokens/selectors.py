"""Reading tokens, for other rooms."""

from tokens.models import ApiToken


def token_expiries() -> list[tuple[str, float]]:
    """(name, Unix seconds of expiry) of every token that is neither revoked nor without an expiry, by name."""
    rows = (
        ApiToken.objects.filter(revoked_at=None, is_enabled=True)
        .exclude(expires_at=None)
        .order_by("name")
        .values_list("name", "expires_at")
    )
    return [(name, expires_at.timestamp()) for name, expires_at in rows if expires_at is not None]
