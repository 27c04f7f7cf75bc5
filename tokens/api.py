"""The REST API of tokens and roles."""

import datetime
import time
from typing import Any

from django.db.models import Q
from rest_framework.request import Request

from dockmesh.core import clock
from dockmesh.core.api import StrictSerializer
from dockmesh.core.filters import BooleanFilter, FilterSet, TextFilter
from dockmesh.core.viewsets import ServiceViewSet, operation
from tokens import services
from tokens.models import ApiToken, Role, TokenState
from tokens.permissions import Permission
from tokens.selectors import in_state
from tokens.serializers import (
    RoleChangeSerializer,
    RoleCreateSerializer,
    RoleSerializer,
    RotateSerializer,
    TokenChangeSerializer,
    TokenCreateSerializer,
    TokenIssuedSerializer,
    TokenSerializer,
)
from tokens.services import Issued


def _in_state(value: str) -> Q:
    return in_state(TokenState(value), clock.now())


class TokenFilter(FilterSet):
    """Filters of tokens."""

    name = TextFilter()
    role = TextFilter("role__name", help_text="Name of a role.")
    state = TextFilter(choices=TokenState.values, condition=_in_state)


class TokenViewSet(ServiceViewSet[ApiToken]):
    """API tokens by name, without their secrets."""

    noun = "token"
    queryset = ApiToken.objects.select_related("role").order_by("name", "id")
    serializer_class = TokenSerializer
    filterset_class = TokenFilter
    read_permission = Permission.TOKENS_MANAGE

    @operation(Permission.TOKENS_MANAGE, body=TokenCreateSerializer, answer=TokenIssuedSerializer)
    def create(self, **values: Any) -> Issued:
        """Make a token. Its text is in this answer and never shown again."""
        return services.create_token(principal=self.principal, **values)

    @operation(Permission.TOKENS_MANAGE, body=TokenChangeSerializer)
    def change(self, id: int, **values: Any) -> ApiToken:
        """Change name, role, expiry, allow-list, or whether it is enabled. It holds from the next request."""
        return services.change_token(principal=self.principal, token_id=id, **values)

    @operation(Permission.TOKENS_MANAGE)
    def remove(self, id: int) -> None:
        """Remove the token altogether. To end it but keep its record, revoke it.

        403 where the token may do more than you: such a one can only be revoked.
        """
        services.delete_token(principal=self.principal, token_id=id)

    @operation(Permission.TOKENS_MANAGE, body=RotateSerializer, answer=TokenIssuedSerializer, status=201)
    def rotate(self, id: int, **values: Any) -> Issued:
        """Give the token a new secret.

        409 while the overlap of an earlier rotation runs, and where one was done at the same moment.
        """
        return services.rotate_token(
            principal=self.principal,
            token_id=id,
            seen_digest=self.one(id).digest,
            asked_at=_arrival(self.request),
            **values,
        )

    @operation(Permission.TOKENS_MANAGE, body=StrictSerializer)
    def revoke(self, id: int) -> ApiToken:
        """End the token for good, from the next request on, whatever its role. Revoking it again changes nothing."""
        return services.revoke_token(principal=self.principal, token_id=id)


def _arrival(request: Request) -> datetime.datetime:
    """When the server had the request whole: dockmesh's own says so, since it may have waited for a thread."""
    now = time.monotonic()
    waited = now - float(request.META.get("dockmesh.arrived", now))
    return clock.now() - datetime.timedelta(seconds=waited)


class RoleFilter(FilterSet):
    """Filters of roles."""

    name = TextFilter()
    is_builtin = BooleanFilter()


class RoleViewSet(ServiceViewSet[Role]):
    """Built-in and custom roles by name."""

    noun = "role"
    queryset = Role.objects.order_by("name")
    serializer_class = RoleSerializer
    filterset_class = RoleFilter
    # Whoever makes tokens has to know which roles there are.
    read_permission = (Permission.TOKENS_MANAGE, Permission.ROLES_MANAGE)

    @operation(Permission.ROLES_MANAGE, body=RoleCreateSerializer)
    def create(self, **values: Any) -> Role:
        """Make a custom role."""
        return services.create_role(principal=self.principal, **values)

    @operation(Permission.ROLES_MANAGE, body=RoleChangeSerializer)
    def change(self, id: int, **values: Any) -> Role:
        """Change a custom role. Its tokens and users may do what it says from their next request."""
        return services.change_role(principal=self.principal, role_id=id, **values)

    @operation(Permission.ROLES_MANAGE)
    def remove(self, id: int) -> None:
        """Remove a custom role that no token and no user has. 403 where it holds more than you do."""
        services.delete_role(principal=self.principal, role_id=id)
