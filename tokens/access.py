"""Who may see a page: settings name `authorise` for every page of `dockmesh.core.pages`."""

from django.contrib.auth.views import redirect_to_login
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest
from django.http.response import HttpResponseBase

from tokens import refusals
from tokens.principals import principal_of

UNDECLARED = "no permission is declared"


def authorise(request: HttpRequest, permission: str) -> HttpResponseBase | None:
    """Leads to sign-in without a user; raises `PermissionDenied` where the user's role lacks the permission.

    An empty permission, which a page that declares none has, is one that nobody holds.
    """
    principal = principal_of(request)
    if principal is None:
        return redirect_to_login(request.get_full_path())
    if not principal.has(permission):
        refusals.note(principal, why=str(permission) or UNDECLARED, path=request.path)
        raise PermissionDenied
    request.principal = principal  # type: ignore[attr-defined]
    return None
