"""Writing users, roles and tokens."""

from django.db import transaction

from tokens.models import Role
from tokens.permissions import BUILT_IN_ROLES, in_order


@transaction.atomic
def make_built_in_roles() -> None:
    """Make the built-in roles, or bring them to what this version says they hold."""
    for name, permissions in BUILT_IN_ROLES.items():
        Role.objects.update_or_create(
            name=name, defaults={"permissions": in_order(permissions), "is_builtin": True}
        )
