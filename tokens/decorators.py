"""What a page declares: signed in, and with which permission."""

from collections.abc import Callable
from functools import wraps
from typing import Any

from django.contrib.auth.views import redirect_to_login
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponseBase

from tokens import refusals
from tokens.permissions import Permission
from tokens.principals import principal_of

View = Callable[..., HttpResponseBase]


def page_permission(permission: Permission | str) -> Callable[[View], View]:
    """Leads to sign-in without a user; 403 where the user's role lacks the permission."""
    needed = Permission(permission)

    def decorate(view: View) -> View:
        @wraps(view)
        def checked(request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponseBase:
            principal = principal_of(request)
            if principal is None:
                return redirect_to_login(request.get_full_path())
            if not principal.has(needed):
                refusals.note(principal, why=needed.value, path=request.path)
                raise PermissionDenied
            request.principal = principal  # type: ignore[attr-defined]
            return view(request, *args, **kwargs)

        return checked

    return decorate
