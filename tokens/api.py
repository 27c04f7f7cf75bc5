"""The REST API of tokens and roles."""

import datetime
import time
from typing import Any

from django.db.models import Q, QuerySet
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework import generics, status
from rest_framework.request import Request
from rest_framework.response import Response

from dockmesh.core import clock
from dockmesh.core.api import StrictSerializer, filtered
from dockmesh.core.errors import InvalidInput, NotFound
from tokens import services
from tokens.models import ApiToken, Role, TokenState
from tokens.permissions import Permission
from tokens.principals import Principal
from tokens.selectors import in_state
from tokens.serializers import (
    IssuedOutput,
    RoleChange,
    RoleInput,
    RoleOutput,
    RotationInput,
    TokenChange,
    TokenInput,
    TokenOutput,
)
from tokens.services import Issued

NO_STORE = {"Cache-Control": "no-store"}
# Whoever makes tokens has to know which roles there are.
READ_ROLES = (Permission.TOKENS_MANAGE, Permission.ROLES_MANAGE)


def principal(request: Request) -> Principal:
    """Who asks; the view's declared permission has made sure that somebody does."""
    assert isinstance(request.auth, Principal)
    return request.auth


def values(shape: type[StrictSerializer], request: Request) -> dict[str, Any]:
    """The body's checked fields."""
    body = shape(data=request.data)
    body.is_valid(raise_exception=True)
    return dict(body.validated_data)


class TokenCollection(generics.GenericAPIView[ApiToken]):
    """All API tokens."""

    required_permission = Permission.TOKENS_MANAGE
    serializer_class = TokenOutput
    queryset = ApiToken.objects.select_related("role").order_by("name", "id")

    @extend_schema(
        summary="List tokens",
        operation_id="tokens_list",
        responses=TokenOutput(many=True),
        parameters=[
            OpenApiParameter("name", str),
            OpenApiParameter("role", str, description="Name of a role."),
            OpenApiParameter("state", str, enum=TokenState.values),
        ],
    )
    def get(self, request: Request) -> Response:
        """Every token, without its secret."""
        rows: QuerySet[ApiToken] = filtered(
            self.get_queryset(), request, {"name": "name", "role": "role__name", "state": _state}
        )
        page = self.paginate_queryset(rows)
        return self.get_paginated_response(TokenOutput(page, many=True).data)

    @extend_schema(summary="Make a token", request=TokenInput, responses={201: IssuedOutput})
    def post(self, request: Request) -> Response:
        """Make a token. Its text is in this answer and never shown again."""
        return _issued(services.create_token(principal=principal(request), **values(TokenInput, request)))


class TokenDetail(generics.GenericAPIView[ApiToken]):
    """One API token."""

    required_permission = Permission.TOKENS_MANAGE
    serializer_class = TokenOutput

    @extend_schema(summary="Show a token", responses=TokenOutput)
    def get(self, request: Request, id: int) -> Response:
        """The token, without its secret."""
        return Response(TokenOutput(_token(id)).data)

    @extend_schema(summary="Change a token", request=TokenChange, responses=TokenOutput)
    def patch(self, request: Request, id: int) -> Response:
        """Change name, role, expiry, allow-list, or whether it is enabled. It holds from the next request."""
        token = services.change_token(
            principal=principal(request), token_id=id, **values(TokenChange, request)
        )
        return Response(TokenOutput(token).data)

    @extend_schema(summary="Delete a token", responses={204: None})
    def delete(self, request: Request, id: int) -> Response:
        """Remove the token altogether. To end it but keep its record, revoke it.

        403 where the token may do more than you: such a one can only be revoked.
        """
        services.delete_token(principal=principal(request), token_id=id)
        return Response(status=status.HTTP_204_NO_CONTENT)


class TokenRotation(generics.GenericAPIView[ApiToken]):
    """A token's new secret."""

    required_permission = Permission.TOKENS_MANAGE
    serializer_class = RotationInput

    @extend_schema(summary="Rotate a token", request=RotationInput, responses={201: IssuedOutput})
    def post(self, request: Request, id: int) -> Response:
        """Give the token a new secret.

        409 while the overlap of an earlier rotation runs, and where one was done at the same moment.
        """
        seen_digest = _token(id).digest
        return _issued(
            services.rotate_token(
                principal=principal(request),
                token_id=id,
                seen_digest=seen_digest,
                asked_at=_arrival(request),
                **values(RotationInput, request),
            )
        )


def _arrival(request: Request) -> datetime.datetime:
    """When the server had the request whole: dockmesh's own says so, since it may have waited for a thread."""
    now = time.monotonic()
    waited = now - float(request.META.get("dockmesh.arrived", now))
    return clock.now() - datetime.timedelta(seconds=waited)


class TokenRevocation(generics.GenericAPIView[ApiToken]):
    """A token's end."""

    required_permission = Permission.TOKENS_MANAGE
    serializer_class = TokenOutput

    @extend_schema(summary="Revoke a token", request=None, responses=TokenOutput)
    def post(self, request: Request, id: int) -> Response:
        """End the token for good, from the next request on, whatever its role. Revoking it again changes nothing."""
        values(StrictSerializer, request)
        return Response(TokenOutput(services.revoke_token(principal=principal(request), token_id=id)).data)


class RoleCollection(generics.GenericAPIView[Role]):
    """All roles."""

    required_permission = {"GET": READ_ROLES, "POST": Permission.ROLES_MANAGE}
    serializer_class = RoleOutput
    queryset = Role.objects.order_by("name")

    @extend_schema(
        summary="List roles",
        operation_id="roles_list",
        responses=RoleOutput(many=True),
        parameters=[OpenApiParameter("name", str), OpenApiParameter("is_builtin", OpenApiTypes.BOOL)],
    )
    def get(self, request: Request) -> Response:
        """Built-in and custom roles."""
        rows = filtered(self.get_queryset(), request, {"name": "name", "is_builtin": _built_in})
        page = self.paginate_queryset(rows)
        return self.get_paginated_response(RoleOutput(page, many=True).data)

    @extend_schema(summary="Make a role", request=RoleInput, responses={201: RoleOutput})
    def post(self, request: Request) -> Response:
        """Make a custom role."""
        role = services.create_role(principal=principal(request), **values(RoleInput, request))
        headers = {"Location": f"/api/v1/roles/{role.pk}"}
        return Response(RoleOutput(role).data, status=status.HTTP_201_CREATED, headers=headers)


class RoleDetail(generics.GenericAPIView[Role]):
    """One role."""

    required_permission = {
        "GET": READ_ROLES,
        "PATCH": Permission.ROLES_MANAGE,
        "DELETE": Permission.ROLES_MANAGE,
    }
    serializer_class = RoleOutput

    @extend_schema(summary="Show a role", responses=RoleOutput)
    def get(self, request: Request, id: int) -> Response:
        """The role and its permissions."""
        role = Role.objects.filter(pk=id).first()
        if role is None:
            raise NotFound("There is no such role.")
        return Response(RoleOutput(role).data)

    @extend_schema(summary="Change a role", request=RoleChange, responses=RoleOutput)
    def patch(self, request: Request, id: int) -> Response:
        """Change a custom role. Its tokens and users may do what it says from their next request."""
        role = services.change_role(principal=principal(request), role_id=id, **values(RoleChange, request))
        return Response(RoleOutput(role).data)

    @extend_schema(summary="Delete a role", responses={204: None})
    def delete(self, request: Request, id: int) -> Response:
        """Remove a custom role that no token and no user has. 403 where it holds more than you do."""
        services.delete_role(principal=principal(request), role_id=id)
        return Response(status=status.HTTP_204_NO_CONTENT)


def _token(token_id: int) -> ApiToken:
    token = ApiToken.objects.select_related("role").filter(pk=token_id).first()
    if token is None:
        raise NotFound("There is no such token.")
    return token


def _issued(issued: Issued) -> Response:
    body = {**TokenOutput(issued.token).data, "token": issued.text}
    headers = {**NO_STORE, "Location": f"/api/v1/tokens/{issued.token.pk}"}
    return Response(body, status=status.HTTP_201_CREATED, headers=headers)


def _state(value: str) -> Q:
    if value not in TokenState.values:
        raise InvalidInput("state", f"must be one of: {', '.join(TokenState.values)}.")
    return in_state(TokenState(value), clock.now())


def _built_in(value: str) -> Q:
    if value not in ("true", "false"):
        raise InvalidInput("is_builtin", "must be true or false.")
    return Q(is_builtin=value == "true")
