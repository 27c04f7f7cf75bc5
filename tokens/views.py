"""Settings → API tokens and Settings → Roles."""

import hashlib
from collections.abc import Iterable, Mapping
from typing import Any

from django.contrib import messages
from django.db.models import Count, Q, QuerySet
from django.http import HttpResponse
from django.http.response import HttpResponseBase
from django.shortcuts import redirect
from django.urls import reverse

from dockmesh.core import clock, scrapeconfig
from dockmesh.core.errors import Conflict
from dockmesh.core.pages import ConfirmPage, DetailPage, FormPage, ListPage, ObjectPage, ServicePage
from dockmesh.core.tables import Choice, Column, Filter, words
from tokens import services
from tokens.forms import NewTokenForm, RoleForm, RotateForm, TokenForm
from tokens.models import ApiToken, Role, TokenState, User
from tokens.permissions import DESCRIPTIONS, Permission
from tokens.selectors import in_state
from tokens.services import Issued

STATES = words(
    "state",
    "State",
    {"active": "well", "expired": "warning", "disabled": "idle", "revoked": "idle"},
    lambda value: in_state(TokenState(value), clock.now()),
)
KINDS = Filter(
    "kind",
    "Kind",
    [Choice("builtin", "Built-in"), Choice("custom", "Custom")],
    where=lambda value: Q(is_builtin=value == "builtin"),
)


class PrincipalsService(ServicePage):
    """Services of this room are told who asks with what they may: nobody gives what they don't hold."""

    def caller(self) -> Mapping[str, Any]:
        return {"principal": self.principal}


class TokenList(ListPage):
    """All tokens with their last use."""

    required_permission = Permission.TOKENS_MANAGE
    template = "tokens/token_list.html"
    title = "API tokens"
    lead = "What Prometheus and other programs show to be let in. The secret itself is stored nowhere."
    search_hint = "Search tokens"
    queryset = ApiToken.objects.select_related("role")
    columns = (
        Column("name", "Name", ("name",)),
        Column("role", "Role", ("role__name",)),
        Column("state", "State"),
        Column("used", "Last used", ("last_used_at",)),
        Column("expires", "Expires", ("expires_at",)),
        Column("created", "Made", ("created_at",)),
    )
    default_sort = "name"
    filters = (STATES,)
    search = ("name", "role__name")

    def matching(self, text: str) -> Q:
        return super().matching(text) | Q(public_id=text.removeprefix("dmt_"))

    def shown(self) -> Iterable[tuple[ApiToken, str]]:
        return _with_states(self.table)


class TokenPage(ObjectPage):
    """A page of one token."""

    required_permission = Permission.TOKENS_MANAGE
    object: ApiToken
    queryset = ApiToken.objects.select_related("role")
    kind = "token"
    route = "tokens:token"
    parents = (("API tokens", "tokens:tokens"),)


class IssuingPage(PrincipalsService, FormPage):
    """A form whose answer is the one page that shows the token's secret."""

    def issued(self, issued: Issued, *, is_new: bool) -> HttpResponse:
        """The secret, this once: it is in this answer alone, kept by no session, no cache and no history."""
        base_url, token = scrapeconfig.base_url_of(self.request), issued.token
        response = self.show(
            "tokens/token_issued.html",
            crumbs=[
                ("API tokens", reverse("tokens:tokens")),
                (token.name, reverse("tokens:token", args=[token.pk])),
            ],
            token=token,
            text=issued.text,
            is_new=is_new,
            can_scrape=Permission.METRICS_READ in token.role.permissions,
            with_file=scrapeconfig.with_credentials_file(base_url),
            with_token=scrapeconfig.with_credentials(base_url).replace("<your-api-token>", issued.text),
            base_url=base_url,
        )
        response.headers["Cache-Control"] = "no-store"
        return response


class TokenAdd(IssuingPage):
    """Name, role, copy."""

    required_permission = Permission.TOKENS_MANAGE
    template = "tokens/token_new.html"
    parents = TokenPage.parents
    title = "New token"
    action_label = "Create token"
    form_class = NewTokenForm

    def form_options(self) -> Mapping[str, Any]:
        return {"principal": self.principal}

    def save(self, form: NewTokenForm) -> HttpResponseBase:
        return self.issued(form.issue(self.principal), is_new=True)

    def context(self) -> Mapping[str, Any]:
        return {"may_make_roles": self.may(Permission.ROLES_MANAGE)}


class TokenDetail(TokenPage, DetailPage):
    """One token."""

    template = "tokens/token_detail.html"

    def context(self) -> Mapping[str, Any]:
        now = clock.now()
        return {
            "state": self.object.state_at(now).value,
            "permissions": _described(self.object.role),
            "is_overlapping": self.object.is_overlapping_at(now),
            "uses": self.object.secret_uses.all(),
            "may_read_audit": self.may(Permission.AUDIT_READ),
        }


class TokenChange(TokenPage, PrincipalsService, FormPage):
    """Change what can be changed."""

    title = "Edit"
    form_class = TokenForm
    service = services.change_token
    done = "The token was changed."

    def form_options(self) -> Mapping[str, Any]:
        return {"principal": self.principal, "token": self.object}


class TokenRotate(TokenPage, IssuingPage):
    """A new secret, shown once."""

    title = "Rotate"
    lead = "Gives {object.name} a new secret, which the next page shows once. Name, role and expiry stay."
    action_label = "Rotate token"
    form_class = RotateForm
    service = services.rotate_token

    def form_options(self) -> Mapping[str, Any]:
        return {"initial": {"seen": self.fingerprint()}}

    def fingerprint(self) -> str:
        """Tells one secret of the token from the next, without telling anything of either."""
        return hashlib.sha256(f"{self.object.pk}:{self.object.digest}".encode()).hexdigest()

    def save(self, form: RotateForm) -> HttpResponseBase:
        if form.cleaned_data["seen"] != self.fingerprint():
            raise Conflict(
                "The token was rotated in the meantime. Its secret was shown then, and can't be again."
            )
        overlap_seconds = form.cleaned_data["overlap_seconds"]
        issued = self.call(overlap_seconds=overlap_seconds, seen_digest=self.object.digest)
        return self.issued(issued, is_new=False)


class TokenRevoke(TokenPage, PrincipalsService, ConfirmPage):
    """Ends a token for good, after asking for its name."""

    title = "Revoke token"
    consequences = (
        "Whatever uses it is refused from its next request on.",
        "It can't be brought back; its record stays here.",
    )
    service = services.revoke_token
    done = "The token is revoked."


class TokenRemove(TokenPage, PrincipalsService, ConfirmPage):
    """Removes a token and its record, after asking for its name."""

    title = "Delete token"
    consequences = ("It ends at once and leaves this list. What it did stays in the audit log.",)
    service = services.delete_token
    done = "The token {object.name} was deleted."
    next_route = "tokens:tokens"


class RoleList(ListPage):
    """Built-in and custom roles with how many have them."""

    required_permission = Permission.ROLES_MANAGE
    template = "tokens/role_list.html"
    title = "Roles"
    lead = "Named sets of permissions that tokens and users are given."
    search_hint = "Search roles"
    columns = (
        Column("name", "Name", ("name",)),
        Column("kind", "Kind", ("-is_builtin", "name")),
        Column("permissions", "Permissions"),
        Column("tokens", "Tokens", ("token_count",), "num"),
        Column("users", "Users", ("user_count",), "num"),
    )
    default_sort = "kind"
    filters = (KINDS,)
    search = ("name", "description")

    def rows(self) -> QuerySet[Role]:
        return Role.objects.annotate(
            token_count=Count("tokens", filter=Q(tokens__revoked_at=None), distinct=True),
            user_count=Count("users", distinct=True),
        )

    def context(self) -> Mapping[str, Any]:
        return {"all_count": len(Permission)}


class RolePage(ObjectPage):
    """A page of one role."""

    required_permission = Permission.ROLES_MANAGE
    object: Role
    queryset = Role.objects.all()
    kind = "role"
    route = "tokens:role"
    parents = (("Roles", "tokens:roles"),)


class RoleAdd(PrincipalsService, FormPage):
    """A custom role."""

    required_permission = Permission.ROLES_MANAGE
    parents = RolePage.parents
    title = "New role"
    action_label = "Create role"
    form_class = RoleForm
    service = services.create_role
    done = "The role was made."
    result_route = "tokens:role"

    def form_options(self) -> Mapping[str, Any]:
        return {"principal": self.principal}


class RoleDetail(RolePage, DetailPage):
    """One role, and who has it."""

    template = "tokens/role_detail.html"

    def context(self) -> Mapping[str, Any]:
        tokens = ApiToken.objects.filter(role=self.object, revoked_at=None).order_by("name")
        return {
            "permissions": _described(self.object),
            "tokens": _with_states(tokens[:100]),
            "users": User.objects.filter(role=self.object).order_by("username")[:100],
        }


class RoleChange(RolePage, PrincipalsService, FormPage):
    """Change a custom role."""

    title = "Edit"
    lead = "Tokens and users with this role may do what it says from their next request on."
    form_class = RoleForm
    service = services.change_role
    done = "The role was changed."

    def elsewhere(self) -> HttpResponseBase | None:
        if not self.object.is_builtin:
            return None
        messages.error(self.request, "Built-in roles can't be changed. Make a custom role instead.")
        return redirect(self.url())

    def form_options(self) -> Mapping[str, Any]:
        return {"principal": self.principal, "role": self.object}


class RoleRemove(RolePage, PrincipalsService, ConfirmPage):
    """Removes a custom role that nobody has."""

    title = "Delete role"
    consequences = ("Only a role that no token and no user has can be deleted.",)
    service = services.delete_role
    done = "The role {object.name} was deleted."
    next_route = "tokens:roles"


def _with_states(tokens: Iterable[ApiToken]) -> list[tuple[ApiToken, str]]:
    now = clock.now()
    return [(token, token.state_at(now).value) for token in tokens]


def _described(role: Role) -> list[tuple[str, str]]:
    return [(name, DESCRIPTIONS[Permission(name)]) for name in role.permissions if name in DESCRIPTIONS]
