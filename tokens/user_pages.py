"""Settings → Users: who may sign in, and as what."""

from __future__ import annotations

from collections.abc import Callable

from django.contrib import messages
from django.contrib.auth import update_session_auth_hash
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.views.decorators.debug import sensitive_post_parameters
from django.views.decorators.http import require_http_methods, require_POST, require_safe

from dockmesh.core.errors import DomainError, NotFound
from dockmesh.core.forms import add_refusal
from dockmesh.core.tables import Choice, Column, Filter, Table
from tokens import services
from tokens.decorators import page_permission
from tokens.models import User
from tokens.permissions import Permission
from tokens.principals import Principal, principal_of
from tokens.user_forms import NewUserForm, PasswordForm, RoleForm

COLUMNS = (
    Column("name", "Name", ("username",)),
    Column("role", "Role", ("role__name",)),
    Column("state", "State", ("-is_active",)),
    Column("signed_in", "Last signed in", ("last_login",)),
    Column("made", "Made", ("date_joined",)),
)
STATES = Filter(
    "state", "State", (Choice("active", "Active", "well"), Choice("disabled", "Disabled", "idle"))
)


def _principal(request: HttpRequest) -> Principal:
    principal = principal_of(request)
    assert principal is not None  # the decorator has seen to it
    return principal


@require_safe
@page_permission(Permission.USERS_MANAGE)
def list_users(request: HttpRequest) -> HttpResponse:
    """All users."""
    table = Table(request.GET, columns=COLUMNS, default_sort="name", filters=(STATES,))
    users = table.ordered(User.objects.select_related("role"))
    if table.query:
        users = users.filter(username__icontains=table.query)
    if table.filter_value("state"):
        users = users.filter(is_active=table.filter_value("state") == "active")
    return render(request, "tokens/users.html", {"table": table.show(users)})


@sensitive_post_parameters("password")
@require_http_methods(["GET", "HEAD", "POST"])
@page_permission(Permission.USERS_MANAGE)
def add_user(request: HttpRequest) -> HttpResponse:
    """A new user."""
    principal = _principal(request)
    form = NewUserForm(request.POST or None, principal=principal)
    if request.method == "POST" and form.is_valid():
        data = form.cleaned_data
        try:
            user = services.create_user(
                principal=principal,
                username=data["username"],
                password=data["password"],
                role_id=data["role"].pk,
            )
        except DomainError as error:
            add_refusal(form, error)
        else:
            messages.success(request, f"{user.username} can sign in now.")
            return redirect("users:users")
    return render(request, "tokens/user_new.html", {"form": form})


@sensitive_post_parameters("password")
@require_http_methods(["GET", "HEAD", "POST"])
@page_permission(Permission.USERS_MANAGE)
def show_user(request: HttpRequest, user_id: int) -> HttpResponse:
    """One user: role, password, disable."""
    principal = _principal(request)
    user = User.objects.select_related("role").filter(pk=user_id).first()
    if user is None:
        raise Http404
    what = request.POST.get("what", "")
    role_form = RoleForm(
        request.POST if what == "role" else None, principal=principal, initial={"role": user.role}
    )
    password_form = PasswordForm(request.POST if what == "password" else None)
    if what == "role" and role_form.is_valid():
        role = role_form.cleaned_data["role"]
        if _done(
            role_form,
            lambda: services.change_user_role(principal=principal, user_id=user_id, role_id=role.pk),
        ):
            messages.success(request, f"{user.username} has the role {role.name} now.")
            return redirect("users:user", user_id)
    if what == "password" and password_form.is_valid():
        password = password_form.cleaned_data["password"]
        if _done(
            password_form,
            lambda: services.set_password(principal=principal, user_id=user_id, password=password),
        ):
            if user_id == request.user.pk:
                update_session_auth_hash(request, User.objects.get(pk=user_id))
            messages.success(request, f"{user.username} has a new password. Their other sessions have ended.")
            return redirect("users:user", user_id)
    context = {"shown": user, "role_form": role_form, "password_form": password_form}
    return render(request, "tokens/user.html", context)


@require_POST
@page_permission(Permission.USERS_MANAGE)
def switch_user(request: HttpRequest, user_id: int) -> HttpResponse:
    """Disables or enables a user, by the posted `is_active`."""
    is_active = request.POST.get("is_active") == "true"
    try:
        user = services.set_user_active(principal=_principal(request), user_id=user_id, is_active=is_active)
    except NotFound:
        raise Http404 from None
    except DomainError as error:
        messages.error(request, error.detail)
    else:
        words = "can sign in again." if is_active else "is disabled and signed out everywhere."
        messages.success(request, f"{user.username} {words}")
    return redirect("users:user", user_id)


def _done(form: RoleForm | PasswordForm, change: Callable[[], User]) -> bool:
    try:
        change()
    except DomainError as error:
        add_refusal(form, error)
        return False
    return True
