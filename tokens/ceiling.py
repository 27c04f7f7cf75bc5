"""Nobody hands out a permission that they don't hold: neither by a token, nor by a role, nor to a user."""

from collections.abc import Callable, Iterable
from functools import wraps
from typing import ParamSpec, TypeVar

from django.db import transaction

from dockmesh.core.errors import Forbidden
from tokens import refusals
from tokens.permissions import in_order
from tokens.principals import Principal

P = ParamSpec("P")
R = TypeVar("R")


class AboveCeiling(Forbidden):
    """The principal lacks permissions that it would hand out, or that what it would delete holds."""

    def __init__(self, principal: Principal, missing: list[str], deed: str) -> None:
        super().__init__(f"You can't {deed} what you don't hold yourself: {', '.join(missing)}.")
        self.principal = principal
        self.missing = missing


def require_all(principal: Principal, permissions: Iterable[str], *, deed: str = "hand out") -> None:
    """Raises `AboveCeiling`, which names the deed, unless the principal holds every one of the permissions."""
    # A permission that an older version knew gives nobody anything.
    missing = in_order(set(permissions) - principal.permissions)
    if missing:
        raise AboveCeiling(principal, missing, deed)


def service(function: Callable[P, R]) -> Callable[P, R]:
    """One transaction around a service; what the ceiling refuses is audited after it was rolled back."""

    @wraps(function)
    def run(*args: P.args, **kwargs: P.kwargs) -> R:
        try:
            with transaction.atomic():
                return function(*args, **kwargs)
        except AboveCeiling as refused:
            refusals.note(refused.principal, why=", ".join(refused.missing))
            raise

    return run
