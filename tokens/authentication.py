"""DRF's view of `tokens.bearer`: authentication classes and the permission that a view declares."""

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from rest_framework import authentication, exceptions, permissions
from rest_framework.request import Request

from tokens import bearer, refusals
from tokens.models import User
from tokens.permissions import Permission
from tokens.principals import Principal, principal_of_user

if TYPE_CHECKING:
    # DRF's views import this module while they are being imported.
    from rest_framework.views import APIView


class BearerAuthentication(authentication.BaseAuthentication):
    """`Authorization: Bearer dmt_…`; None where no bearer token was sent."""

    def authenticate(self, request: Request) -> tuple[None, Principal] | None:
        """Sets `request.principal`; a bad token is 401 (or 403, 429) with its challenge."""
        header = request.META.get("HTTP_AUTHORIZATION")
        if bearer.bearer_of(header) is None:
            return None
        try:
            principal = bearer.authenticate(
                header,
                address=request.META.get("REMOTE_ADDR", ""),
                user_agent=request.META.get("HTTP_USER_AGENT", ""),
            )
        except bearer.Refused as refused:
            raise refusal(refused) from None
        request._request.principal = principal  # type: ignore[attr-defined]
        return None, principal

    def authenticate_header(self, request: Request) -> str:
        """The challenge where no credential was sent."""
        return bearer.REALM


class SessionAuthentication(authentication.SessionAuthentication):
    """A signed-in user's session; writes need the CSRF token."""

    def authenticate(self, request: Request) -> tuple[User, Principal] | None:
        """Sets `request.principal`."""
        found = super().authenticate(request)
        if found is None:
            return None
        user = found[0]
        principal = principal_of_user(user, address=request.META.get("REMOTE_ADDR", ""))
        request._request.principal = principal  # type: ignore[attr-defined]
        return user, principal

    def enforce_csrf(self, request: Request) -> None:
        """As Django's middleware does; what is refused is audited."""
        try:
            super().enforce_csrf(request)
        except exceptions.PermissionDenied:
            user = request._request.user
            if isinstance(user, User):
                principal = principal_of_user(user, address=request.META.get("REMOTE_ADDR", ""))
                refusals.note(principal, why="CSRF", path=request.path)
            raise


class DeclaredPermission(permissions.BasePermission):
    """The view declares `required_permission`, for all methods or for each; else nobody gets in.

    It is one permission, or several of which one is enough.
    """

    def has_permission(self, request: Request, view: "APIView") -> bool:
        """401 without a principal; 405 for a method that isn't there; 403 without the permission."""
        principal = request.auth
        try:
            if not isinstance(principal, Principal):
                raise bearer.Refused(bearer.Reason.NO_CREDENTIAL)
            if not hasattr(view, (request.method or "").lower()):
                raise exceptions.MethodNotAllowed(request.method or "")
            bearer.require(principal, *required_permissions(view, request.method or ""), path=request.path)
        except bearer.Refused as refused:
            if isinstance(principal, Principal) and principal.kind != "token":
                return False
            raise refusal(refused) from None
        return True


def required_permissions(view: Any, method: str) -> tuple[Permission, ...]:
    """Those of which the view wants one for the method. HEAD counts as GET; OPTIONS as any method that it has."""
    declared = getattr(view, "required_permission", None)
    if isinstance(declared, dict):
        wanted = declared if method == "OPTIONS" else ["GET" if method == "HEAD" else method]
        return tuple({each: None for name in wanted for each in _several(declared.get(name))})
    return _several(declared)


def _several(declared: str | Iterable[str] | None) -> tuple[Permission, ...]:
    if declared is None:
        return ()
    return tuple(Permission(each) for each in ((declared,) if isinstance(declared, str) else declared))


def refusal(refused: bearer.Refused) -> exceptions.APIException:
    """The DRF exception with the refusal's status and challenge."""
    error = exceptions.APIException(refused.detail)
    error.status_code = refused.status
    error.auth_header = refused.challenge  # type: ignore[attr-defined]
    error.wait = refused.retry_after_seconds  # type: ignore[attr-defined]
    return error
