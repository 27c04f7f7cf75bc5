"""Who makes a request, and what they may do."""

from dataclasses import dataclass

from django.http import HttpRequest

from dockmesh.audit.services import Actor
from tokens.models import User
from tokens.permissions import ALL


@dataclass(frozen=True)
class Principal:
    """A user, an API token, an agent or the system itself. `address` is the client's."""

    kind: str
    id: str
    name: str
    permissions: frozenset[str]
    address: str = ""

    @property
    def actor(self) -> Actor:
        """This principal as the audit log names it."""
        return Actor(self.kind, self.id, self.name, self.address)

    def has(self, permission: str) -> bool:
        """Whether it holds the permission."""
        return permission in self.permissions


SYSTEM = Principal("system", "", "dockmesh", frozenset(ALL))


def principal_of(request: HttpRequest) -> Principal | None:
    """The principal of a page's or an endpoint's request; None while nobody has signed in."""
    known = getattr(request, "principal", None)
    if isinstance(known, Principal):
        return known
    user = getattr(request, "user", None)
    if isinstance(user, User) and user.is_active:
        return principal_of_user(user, address=request.META.get("REMOTE_ADDR", ""))
    return None


def principal_of_user(user: User, *, address: str = "") -> Principal:
    """A superuser holds all permissions, others those of their role."""
    if user.is_superuser:
        permissions: frozenset[str] = frozenset(ALL)
    else:
        permissions = frozenset(user.role.permissions if user.role else ())
    return Principal("user", str(user.pk), user.get_username(), permissions, address)
