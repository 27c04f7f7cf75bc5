"""Settings → API tokens and Settings → Roles."""

import hashlib
from collections.abc import Callable
from typing import Any

from django.contrib import messages
from django.db.models import Count, Q
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.urls import reverse
from django.views.decorators.http import require_http_methods, require_safe

from dockmesh.core import clock, scrapeconfig
from dockmesh.core.errors import Conflict, DomainError
from dockmesh.core.forms import ConfirmForm, add_refusal
from dockmesh.core.tables import Choice, Column, Filter, Table
from tokens import services
from tokens.decorators import page_permission
from tokens.forms import NewTokenForm, RoleForm, RotateForm, TokenForm
from tokens.models import ApiToken, Role, TokenState, User
from tokens.permissions import DESCRIPTIONS, Permission
from tokens.principals import Principal, principal_of
from tokens.selectors import in_state
from tokens.services import Issued

STATES = [
    Choice("active", "Active", "well"),
    Choice("expired", "Expired", "warning"),
    Choice("disabled", "Disabled", "idle"),
    Choice("revoked", "Revoked", "idle"),
]


@require_safe
@page_permission(Permission.TOKENS_MANAGE)
def token_list(request: HttpRequest) -> HttpResponse:
    """All tokens with their last use."""
    table = Table(
        request.GET,
        columns=[
            Column("name", "Name", ("name",)),
            Column("role", "Role", ("role__name",)),
            Column("state", "State"),
            Column("used", "Last used", ("last_used_at",)),
            Column("expires", "Expires", ("expires_at",)),
            Column("created", "Made", ("created_at",)),
        ],
        default_sort="name",
        filters=[Filter("state", "State", STATES)],
    )
    rows = table.ordered(ApiToken.objects.select_related("role"))
    if table.query:
        rows = rows.filter(
            Q(name__icontains=table.query)
            | Q(role__name__icontains=table.query)
            | Q(public_id=table.query.removeprefix("dmt_"))
        )
    if table.filter_value("state"):
        rows = rows.filter(in_state(TokenState(table.filter_value("state")), clock.now()))
    table.show(rows)
    states = [(token, token.state_at(clock.now()).value) for token in table]
    return render(request, "tokens/token_list.html", {"table": table, "tokens": states})


@require_http_methods(["GET", "HEAD", "POST"])
@page_permission(Permission.TOKENS_MANAGE)
def token_new(request: HttpRequest) -> HttpResponse:
    """Name, role, copy: the answer to the form is the one page that shows the token."""
    principal = _principal(request)
    form = NewTokenForm(request.POST or None, principal=principal)
    status = 200
    if request.method == "POST":
        status = 400
        if form.is_valid():
            try:
                return _issued_page(request, make_token(principal, form), is_new=True)
            except DomainError as error:
                add_refusal(form, error)
                status = error.status
    context = {"form": form, "may_make_roles": principal.has(Permission.ROLES_MANAGE)}
    return render(request, "tokens/token_new.html", context, status=status)


@require_safe
@page_permission(Permission.TOKENS_MANAGE)
def token_detail(request: HttpRequest, id: int) -> HttpResponse:
    """One token."""
    token = _token(id)
    now = clock.now()
    context = {
        "token": token,
        "state": token.state_at(now).value,
        "permissions": _described(token.role),
        "is_overlapping": token.is_overlapping_at(now),
        "uses": token.secret_uses.all(),
        "may_read_audit": _principal(request).has(Permission.AUDIT_READ),
    }
    return render(request, "tokens/token_detail.html", context)


@require_http_methods(["GET", "HEAD", "POST"])
@page_permission(Permission.TOKENS_MANAGE)
def token_edit(request: HttpRequest, id: int) -> HttpResponse:
    """Change what can be changed."""
    principal, token = _principal(request), _token(id)
    form = TokenForm(request.POST or None, principal=principal, token=token)
    status = 200
    if request.method == "POST":
        status = 400
        if form.is_valid():
            try:
                services.change_token(principal=principal, token_id=id, **form.changes())
            except DomainError as error:
                add_refusal(form, error)
                status = error.status
            else:
                messages.success(request, "The token was changed.")
                return redirect("tokens:token", id)
    return render(request, "tokens/token_edit.html", {"form": form, "token": token}, status=status)


@require_http_methods(["GET", "HEAD", "POST"])
@page_permission(Permission.TOKENS_MANAGE)
def token_rotate(request: HttpRequest, id: int) -> HttpResponse:
    """A new secret, shown once."""
    token = _token(id)
    form = RotateForm(request.POST or None, initial={"seen": _fingerprint(token)})
    status = 200
    if request.method == "POST":
        status = 400
        if form.is_valid():
            try:
                return _issued_page(request, _rotate(_principal(request), token, form), is_new=False)
            except DomainError as error:
                add_refusal(form, error)
                status = error.status
    return render(request, "tokens/token_rotate.html", {"form": form, "token": token}, status=status)


@require_http_methods(["GET", "HEAD", "POST"])
@page_permission(Permission.TOKENS_MANAGE)
def token_revoke(request: HttpRequest, id: int) -> HttpResponse:
    """Ends a token for good, after asking for its name."""
    token = _token(id)
    form = ConfirmForm(request.POST or None, expected=token.name)
    if request.method == "POST" and form.is_valid():
        try:
            services.revoke_token(principal=_principal(request), token_id=id)
        except DomainError as error:
            add_refusal(form, error)
        else:
            messages.success(request, "The token is revoked.")
            return redirect("tokens:token", id)
    context = {
        "title": "Revoke token",
        "object_kind": "token",
        "object_name": token.name,
        "consequences": [
            "Whatever uses it is refused from its next request on.",
            "It can't be brought back; its record stays here.",
        ],
        "action_label": "Revoke token",
        "back_url": reverse("tokens:token", args=[id]),
        "form": form,
    }
    return render(request, "web/confirm.html", context, status=400 if form.errors else 200)


@require_http_methods(["GET", "HEAD", "POST"])
@page_permission(Permission.TOKENS_MANAGE)
def token_delete(request: HttpRequest, id: int) -> HttpResponse:
    """Removes a token and its record, after asking for its name."""
    token = _token(id)
    return _deletion(
        request,
        token,
        kind="token",
        consequence="It ends at once and leaves this list. What it did stays in the audit log.",
        delete=lambda: services.delete_token(principal=_principal(request), token_id=id),
    )


@require_safe
@page_permission(Permission.ROLES_MANAGE)
def role_list(request: HttpRequest) -> HttpResponse:
    """Built-in and custom roles with how many have them."""
    table = Table(
        request.GET,
        columns=[
            Column("name", "Name", ("name",)),
            Column("kind", "Kind", ("-is_builtin", "name")),
            Column("permissions", "Permissions"),
            Column("tokens", "Tokens", ("token_count",), "num"),
            Column("users", "Users", ("user_count",), "num"),
        ],
        default_sort="kind",
        filters=[Filter("kind", "Kind", [Choice("builtin", "Built-in"), Choice("custom", "Custom")])],
    )
    rows = table.ordered(
        Role.objects.annotate(
            token_count=Count("tokens", filter=Q(tokens__revoked_at=None), distinct=True),
            user_count=Count("users", distinct=True),
        )
    )
    if table.query:
        rows = rows.filter(Q(name__icontains=table.query) | Q(description__icontains=table.query))
    if table.filter_value("kind"):
        rows = rows.filter(is_builtin=table.filter_value("kind") == "builtin")
    return render(request, "tokens/role_list.html", {"table": table.show(rows), "all_count": len(Permission)})


@require_http_methods(["GET", "HEAD", "POST"])
@page_permission(Permission.ROLES_MANAGE)
def role_new(request: HttpRequest) -> HttpResponse:
    """A custom role."""
    principal = _principal(request)
    form = RoleForm(request.POST or None, principal=principal)
    status = 200
    if request.method == "POST":
        status = 400
        if form.is_valid():
            try:
                role = services.create_role(principal=principal, **form.cleaned_data)
            except DomainError as error:
                add_refusal(form, error)
                status = error.status
            else:
                messages.success(request, "The role was made.")
                return redirect("tokens:role", role.pk)
    return render(request, "tokens/role_form.html", {"form": form, "role": None}, status=status)


@require_safe
@page_permission(Permission.ROLES_MANAGE)
def role_detail(request: HttpRequest, id: int) -> HttpResponse:
    """One role, and who has it."""
    role = _role(id)
    now = clock.now()
    tokens = ApiToken.objects.filter(role=role, revoked_at=None).order_by("name")[:100]
    context = {
        "role": role,
        "permissions": _described(role),
        "tokens": [(token, token.state_at(now).value) for token in tokens],
        "users": User.objects.filter(role=role).order_by("username")[:100],
    }
    return render(request, "tokens/role_detail.html", context)


@require_http_methods(["GET", "HEAD", "POST"])
@page_permission(Permission.ROLES_MANAGE)
def role_edit(request: HttpRequest, id: int) -> HttpResponse:
    """Change a custom role."""
    principal, role = _principal(request), _role(id)
    if role.is_builtin:
        messages.error(request, "Built-in roles can't be changed. Make a custom role instead.")
        return redirect("tokens:role", id)
    form = RoleForm(request.POST or None, principal=principal, role=role)
    status = 200
    if request.method == "POST":
        status = 400
        if form.is_valid():
            try:
                services.change_role(principal=principal, role_id=id, **form.changes())
            except DomainError as error:
                add_refusal(form, error)
                status = error.status
            else:
                messages.success(request, "The role was changed.")
                return redirect("tokens:role", id)
    return render(request, "tokens/role_form.html", {"form": form, "role": role}, status=status)


@require_http_methods(["GET", "HEAD", "POST"])
@page_permission(Permission.ROLES_MANAGE)
def role_delete(request: HttpRequest, id: int) -> HttpResponse:
    """Removes a custom role that nobody has."""
    role = _role(id)
    return _deletion(
        request,
        role,
        kind="role",
        consequence="Only a role that no token and no user has can be deleted.",
        delete=lambda: services.delete_role(principal=_principal(request), role_id=id),
    )


def _deletion(
    request: HttpRequest, found: ApiToken | Role, *, kind: str, consequence: str, delete: Callable[[], None]
) -> HttpResponse:
    """Asks for the name, deletes and goes back to the list; a service's refusal is shown beside the form."""
    form = ConfirmForm(request.POST or None, expected=found.name)
    status = 200
    if request.method == "POST":
        status = 400
        if form.is_valid():
            try:
                delete()
            except DomainError as error:
                add_refusal(form, error)
                status = error.status
            else:
                messages.success(request, f"The {kind} {found.name} was deleted.")
                return redirect(f"tokens:{kind}s")
    context = {
        "title": f"Delete {kind}",
        "object_kind": kind,
        "object_name": found.name,
        "consequences": [consequence],
        "action_label": f"Delete {kind}",
        "back_url": reverse(f"tokens:{kind}", args=[found.pk]),
        "form": form,
    }
    return render(request, "web/confirm.html", context, status=status)


def _principal(request: HttpRequest) -> Principal:
    principal = principal_of(request)
    assert principal is not None  # `page_permission` has seen to it
    return principal


def _token(token_id: int) -> ApiToken:
    token = ApiToken.objects.select_related("role").filter(pk=token_id).first()
    if token is None:
        raise Http404
    return token


def _role(role_id: int) -> Role:
    role = Role.objects.filter(pk=role_id).first()
    if role is None:
        raise Http404
    return role


def _described(role: Role) -> list[tuple[str, str]]:
    return [(name, DESCRIPTIONS[Permission(name)]) for name in role.permissions if name in DESCRIPTIONS]


def _fingerprint(token: ApiToken) -> str:
    """Tells one secret of the token from the next, without telling anything of either."""
    return hashlib.sha256(f"{token.pk}:{token.digest}".encode()).hexdigest()


def make_token(principal: Principal, form: NewTokenForm) -> Issued:
    """What the form asks for; raises `DomainError`."""
    data: dict[str, Any] = {
        "principal": principal,
        "name": form.cleaned_data["name"],
        "expires_at": form.expiry(),
        "allowed_cidrs": form.cleaned_data["allowed_cidrs"],
    }
    if form.wants_new_role:
        return services.create_token_with_new_role(
            role_name=form.cleaned_data["role_name"], permissions=form.cleaned_data["permissions"], **data
        )
    return services.create_token(role=int(form.cleaned_data["role"]), **data)


def _rotate(principal: Principal, token: ApiToken, form: RotateForm) -> Issued:
    """A new secret of the token as it was when the form was shown; raises `DomainError`."""
    if form.cleaned_data["seen"] != _fingerprint(token):
        raise Conflict(
            "The token was rotated in the meantime. Its secret was shown then, and can't be again."
        )
    return services.rotate_token(
        principal=principal,
        token_id=token.pk,
        overlap_seconds=form.cleaned_data["overlap_seconds"],
        seen_digest=token.digest,
    )


def _issued_page(request: HttpRequest, issued: Issued, *, is_new: bool) -> HttpResponse:
    """The secret, this once: it is in this answer alone, kept by no session, no cache and no history."""
    base_url = scrapeconfig.base_url_of(request)
    context = {
        "token": issued.token,
        "text": issued.text,
        "is_new": is_new,
        "can_scrape": Permission.METRICS_READ in issued.token.role.permissions,
        "with_file": scrapeconfig.with_credentials_file(base_url),
        "with_token": scrapeconfig.with_credentials(base_url).replace("<your-api-token>", issued.text),
        "base_url": base_url,
    }
    response = render(request, "tokens/token_issued.html", context)
    response.headers["Cache-Control"] = "no-store"
    return response
