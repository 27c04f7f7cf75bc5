"""Writing tokens and roles: the pages, the admin, the API and the commands all go through here."""

from tokens.services.api_tokens import (
    Issued,
    TokenChanges,
    change_token,
    create_token,
    create_token_with_new_role,
    delete_token,
    revoke_token,
    rotate_token,
)
from tokens.services.roles import (
    RoleChanges,
    change_role,
    create_role,
    delete_role,
    make_built_in_roles,
    role_with_exactly,
)
from tokens.services.users import (
    change_user_role,
    create_first_administrator,
    create_user,
    has_administrator,
    set_password,
    set_user_active,
)

__all__ = [
    "Issued",
    "RoleChanges",
    "TokenChanges",
    "change_role",
    "change_token",
    "change_user_role",
    "create_first_administrator",
    "create_role",
    "create_token",
    "create_token_with_new_role",
    "create_user",
    "delete_role",
    "delete_token",
    "has_administrator",
    "make_built_in_roles",
    "revoke_token",
    "role_with_exactly",
    "rotate_token",
    "set_password",
    "set_user_active",
]
