"""Settings → Users: who may sign in, and as what."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from django import forms
from django.contrib import messages
from django.contrib.auth import update_session_auth_hash
from django.db.models import Q
from django.http import HttpResponse
from django.http.response import HttpResponseBase
from django.shortcuts import redirect
from django.utils.decorators import method_decorator
from django.views.decorators.debug import sensitive_post_parameters

from dockmesh.core.pages import Action, FormPage, ListPage, ObjectPage
from dockmesh.core.tables import Column, words
from tokens import services
from tokens.models import User
from tokens.permissions import Permission
from tokens.user_forms import NewUserForm, PasswordForm, RoleForm
from tokens.views import PrincipalsService

PARENTS = (("Users", "tokens:users"),)
hides_password = method_decorator(sensitive_post_parameters("password"), name="dispatch")


class UserList(ListPage):
    """All users."""

    required_permission = Permission.USERS_MANAGE
    template = "tokens/users.html"
    title = "Users"
    lead = "People who sign in here. What they may do comes from their role; machines use API tokens instead."
    search_hint = "Search users"
    queryset = User.objects.select_related("role")
    columns = (
        Column("name", "Name", ("username",)),
        Column("role", "Role", ("role__name",)),
        Column("state", "State", ("-is_active",)),
        Column("signed_in", "Last signed in", ("last_login",)),
        Column("made", "Made", ("date_joined",), css="wide"),
    )
    default_sort = "name"
    filters = (
        words(
            "state",
            "State",
            {"active": "well", "disabled": "idle"},
            lambda value: Q(is_active=value == "active"),
        ),
    )
    ties = ("username",)
    search = ("username",)


class UserPage(ObjectPage):
    """A page of one user."""

    required_permission = Permission.USERS_MANAGE
    object: User
    queryset = User.objects.select_related("role")
    kind = "user"
    route = "tokens:user"
    parents = PARENTS

    @property
    def object_name(self) -> str:
        return self.object.username


@hides_password
class UserAdd(PrincipalsService, FormPage):
    """A new user."""

    required_permission = Permission.USERS_MANAGE
    parents = PARENTS
    title = "New user"
    action_label = "Make the user"
    form_class = NewUserForm
    service = services.create_user
    done = "{result.username} can sign in now."
    next_route = "tokens:users"

    def form_options(self) -> Mapping[str, Any]:
        return {"principal": self.principal}

    def arguments(self, form: NewUserForm) -> Mapping[str, Any]:
        data = dict(form.cleaned_data)
        return {"role_id": data.pop("role").pk, **data}


@hides_password
class UserDetail(UserPage, PrincipalsService, FormPage):
    """One user, with a form for the role and one for a new password; `what` tells which of them was sent."""

    template = "tokens/user.html"

    def form(self) -> forms.Form:
        if self.posted is not None and self.posted.get("what") == "password":
            return PasswordForm(self.posted)
        return RoleForm(self.posted, principal=self.principal, initial={"role": self.object.role})

    def save(self, form: RoleForm | PasswordForm) -> HttpResponseBase:
        if isinstance(form, PasswordForm):
            self.set_password(form.cleaned_data["password"])
        else:
            role = form.cleaned_data["role"]
            services.change_user_role(principal=self.principal, user_id=self.object.pk, role_id=role.pk)
            messages.success(self.request, f"{self.object.username} has the role {role.name} now.")
        return redirect(self.url())

    def set_password(self, password: str) -> None:
        """Does not end the session in which somebody gives themselves a new one; raises `DomainError`."""
        user = services.set_password(principal=self.principal, user_id=self.object.pk, password=password)
        if user.pk == self.request.user.pk:
            update_session_auth_hash(self.request, user)
        messages.success(
            self.request, f"{user.username} has a new password. Their other sessions have ended."
        )

    def context(self) -> Mapping[str, Any]:
        role_form = RoleForm(principal=self.principal, initial={"role": self.object.role})
        return {"role_form": role_form, "password_form": PasswordForm()}

    def show(self, template: str = "", *, status: int = 200, **more: Any) -> HttpResponse:
        form = more["form"]
        name = "password_form" if isinstance(form, PasswordForm) else "role_form"
        return super().show(template, status=status, **{name: form})


class UserSwitch(UserPage, PrincipalsService, Action):
    """Disables or enables a user, by the posted `is_active`."""

    def act(self) -> HttpResponseBase:
        is_active = self.request.POST.get("is_active") == "true"
        services.set_user_active(principal=self.principal, user_id=self.object.pk, is_active=is_active)
        words = "can sign in again." if is_active else "is disabled and signed out everywhere."
        messages.success(self.request, f"{self.object.username} {words}")
        return redirect(self.url())
