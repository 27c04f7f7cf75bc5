"""Makes tokens, roles and users for the tests, through the services."""

from collections.abc import Iterable
from typing import Any

from tokens import secret
from tokens.models import ApiToken, Role, User


def role_with(*permissions: str, name: str = "") -> Role:
    """A custom role with these permissions."""
    return Role.objects.create(
        name=name or "role with " + (" ".join(permissions) or "nothing"), permissions=list(permissions)
    )


def token_with(*permissions: str, name: str = "tok", **columns: Any) -> tuple[ApiToken, str]:
    """A token whose own role holds these permissions: the row and the text."""
    text = secret.generate(secret.Kind.API)
    digest = secret.digest(text)
    row = ApiToken.objects.create(
        name=name,
        public_id=text.public_id,
        digest=digest.value,
        pepper=digest.pepper,
        role=role_with(*permissions, name=f"role of {name}"),
        created_by="test",
        **columns,
    )
    return row, str(text)


def user_with(*permissions: str, name: str = "ann", **columns: Any) -> User:
    """A user whose own role holds these permissions."""
    return User.objects.create(
        username=name, password="!", role=role_with(*permissions, name=f"role of {name}"), **columns
    )


def bearer(text: str) -> dict[str, str]:
    """The headers of a request with that token, for Django's test client."""
    return {"authorization": f"Bearer {text}"}


def texts(pairs: Iterable[tuple[str, Any]]) -> dict[str, str]:
    """Headers in lower case."""
    return {name.lower(): str(value) for name, value in pairs}


def secret_of(text: str) -> str:
    """The secret part of a whole token."""
    parsed = secret.parse(text)
    assert parsed is not None
    return parsed.secret
