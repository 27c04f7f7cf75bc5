"""Tokens, roles and users in Django admin: the same forms, permissions and services as the Settings pages."""

from collections.abc import Callable
from typing import Any

from django import forms
from django.contrib import admin, messages
from django.contrib.admin.actions import delete_selected
from django.contrib.auth import admin as auth_admin  # noqa: F401  (registers Group)
from django.contrib.auth.models import Group
from django.core.exceptions import PermissionDenied
from django.db.models import QuerySet
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect
from django.template.response import TemplateResponse
from django.urls import reverse

from dockmesh.core import clock
from dockmesh.core.admin import OwnFiltersOnly
from dockmesh.core.errors import DomainError
from dockmesh.core.forms import add_refusal
from tokens import services
from tokens.forms import NewTokenForm, TokenForm
from tokens.forms import RoleForm as RoleDetailsForm
from tokens.models import ApiToken, Role, User
from tokens.permissions import Permission
from tokens.principals import Principal, principal_of
from tokens.user_forms import NewUserForm, RoleForm

# What users may do comes from their role; Django's groups would be a second, unseen way.
admin.site.unregister(Group)


class ServiceAdmin(OwnFiltersOnly):
    """Lists as Django admin does; adds, changes and deletes through the room's services only."""

    permission: Permission
    show_full_result_count = False
    actions: tuple[str, ...] = ("delete_selected",)

    def has_module_permission(self, request: HttpRequest) -> bool:
        """As on the Settings pages."""
        return self._may(request)

    def has_view_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """As on the Settings pages."""
        return self._may(request)

    def has_add_permission(self, request: HttpRequest) -> bool:
        """As on the Settings pages."""
        return self._may(request)

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """As on the Settings pages."""
        return self._may(request)

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """As on the Settings pages."""
        return self._may(request)

    def add_form(self, request: HttpRequest) -> forms.Form:
        """The form of a new object."""
        raise NotImplementedError

    def change_form_of(self, request: HttpRequest, obj: Any) -> forms.Form:
        """The form of a change."""
        raise NotImplementedError

    def add(self, request: HttpRequest, form: Any) -> HttpResponse | None:
        """Call the service; an answer of its own, or None to go back to the list."""
        raise NotImplementedError

    def change(self, request: HttpRequest, obj: Any, form: Any) -> None:
        """Call the service."""
        raise NotImplementedError

    def delete(self, principal: Principal, obj: Any) -> None:
        """Call the service."""
        raise NotImplementedError

    def add_view(
        self, request: HttpRequest, form_url: str = "", extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        """In place of Django's, which would save the model."""
        if not self.has_add_permission(request):
            raise PermissionDenied
        title = f"Add {self.opts.verbose_name}"
        return self._answer(
            request, self.add_form(request), lambda form: self.add(request, form), title, None
        )

    def change_view(
        self,
        request: HttpRequest,
        object_id: str,
        form_url: str = "",
        extra_context: dict[str, Any] | None = None,
    ) -> HttpResponse:
        """In place of Django's, which would save the model."""
        obj = self.get_object(request, object_id)
        if obj is None:
            raise Http404
        if not self.has_view_permission(request, obj):
            raise PermissionDenied
        may_change = self.has_change_permission(request, obj)
        if request.method == "POST" and not may_change:
            raise PermissionDenied
        form = self.change_form_of(request, obj) if may_change else None
        return self._answer(request, form, lambda form: self.change(request, obj, form), str(obj), obj)

    def delete_view(
        self, request: HttpRequest, object_id: str, extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        """Django's, with a refusal of the service as a message."""
        try:
            return super().delete_view(request, object_id, extra_context)
        except DomainError as error:
            self.message_user(request, error.detail, messages.ERROR)
            return self._to_list()

    def delete_model(self, request: HttpRequest, obj: Any) -> None:
        """By the service."""
        self.delete(self._principal(request), obj)

    @admin.action(description="Delete selected %(verbose_name_plural)s", permissions=["delete"])
    def delete_selected(self, request: HttpRequest, queryset: QuerySet[Any]) -> HttpResponse | None:
        """In place of Django's, which tells of success whatever the service refused: one after the other."""
        if not request.POST.get("post"):
            return delete_selected(self, request, queryset)
        done = 0
        for obj in queryset:
            try:
                self.delete(self._principal(request), obj)
                done += 1
            except DomainError as error:
                self.message_user(request, f"{obj}: {error.detail}", messages.ERROR)
        if done:
            name = self.opts.verbose_name if done == 1 else self.opts.verbose_name_plural
            self.message_user(request, f"Deleted {done} {name}.", messages.SUCCESS)
        return None

    def log_deletions(self, request: HttpRequest, queryset: QuerySet[Any]) -> list[Any]:
        """Nothing: Django writes its log before it deletes, also what is then refused. The audit log tells."""
        return []

    def _may(self, request: HttpRequest) -> bool:
        principal = principal_of(request)
        return principal is not None and principal.has(self.permission)

    def _principal(self, request: HttpRequest) -> Principal:
        principal = principal_of(request)
        if principal is None:
            raise PermissionDenied
        return principal

    def _to_list(self) -> HttpResponseRedirect:
        return HttpResponseRedirect(reverse(f"admin:{self.opts.app_label}_{self.opts.model_name}_changelist"))

    def _answer(
        self,
        request: HttpRequest,
        form: forms.Form | None,
        act: Callable[[forms.Form], HttpResponse | None],
        title: str,
        obj: Any,
    ) -> HttpResponse:
        status = 200
        if request.method == "POST" and form is not None:
            status = 400
            if form.is_valid():
                try:
                    return act(form) or self._to_list()
                except DomainError as error:
                    add_refusal(form, error)
                    status = error.status
        context = {
            **self.admin_site.each_context(request),
            "title": title,
            "opts": self.opts,
            "form": form,
            "original": obj,
            "settings_url": obj.get_absolute_url() if obj is not None else "",
            "delete_url": "delete" if obj is not None and self.has_delete_permission(request, obj) else "",
        }
        return TemplateResponse(request, "admin/tokens/service_form.html", context, status=status)


@admin.register(ApiToken)
class TokenAdmin(ServiceAdmin):
    """API tokens. Digests are never shown; a new token's text is, once."""

    permission = Permission.TOKENS_MANAGE
    list_display = ("name", "role", "state", "last_used_at", "expires_at", "created_by")
    list_filter = ("role", "is_enabled")
    list_select_related = ("role",)
    search_fields = ("name", "role__name")
    actions = ("delete_selected", "revoke_selected")

    @admin.display(description="State")
    def state(self, token: ApiToken) -> str:
        """Whether it works, and if not, why."""
        return token.state_at(clock.now()).label

    @admin.action(description="Revoke selected API tokens")
    def revoke_selected(self, request: HttpRequest, queryset: QuerySet[ApiToken]) -> None:
        """Ends them for good; their records stay."""
        for token in queryset:
            try:
                services.revoke_token(principal=self._principal(request), token_id=token.pk)
            except DomainError as error:
                self.message_user(request, f"{token}: {error.detail}", messages.ERROR)

    def add_form(self, request: HttpRequest) -> forms.Form:
        return NewTokenForm(request.POST or None, principal=self._principal(request))

    def change_form_of(self, request: HttpRequest, obj: ApiToken) -> forms.Form:
        return TokenForm(request.POST or None, principal=self._principal(request), token=obj)

    def add(self, request: HttpRequest, form: NewTokenForm) -> HttpResponse:
        issued = form.issue(self._principal(request))
        context = {
            **self.admin_site.each_context(request),
            "title": "Copy the token now",
            "opts": self.opts,
            "text": issued.text,
            "token": issued.token,
        }
        response = TemplateResponse(request, "admin/tokens/issued.html", context)
        response.headers["Cache-Control"] = "no-store"
        return response

    def change(self, request: HttpRequest, obj: ApiToken, form: TokenForm) -> None:
        services.change_token(principal=self._principal(request), token_id=obj.pk, **form.changes())

    def delete(self, principal: Principal, obj: ApiToken) -> None:
        services.delete_token(principal=principal, token_id=obj.pk)


@admin.register(Role)
class RoleAdmin(ServiceAdmin):
    """Roles; the built-in ones can be looked at."""

    permission = Permission.ROLES_MANAGE
    list_display = ("name", "is_builtin", "permissions_text")
    list_filter = ("is_builtin",)
    search_fields = ("name", "description")

    @admin.display(description="Permissions")
    def permissions_text(self, role: Role) -> str:
        """One after the other."""
        return ", ".join(role.permissions)

    def has_change_permission(self, request: HttpRequest, obj: Role | None = None) -> bool:
        return self._may(request) and not (obj is not None and obj.is_builtin)

    def has_delete_permission(self, request: HttpRequest, obj: Role | None = None) -> bool:
        return self.has_change_permission(request, obj)

    def add_form(self, request: HttpRequest) -> forms.Form:
        return RoleDetailsForm(request.POST or None, principal=self._principal(request))

    def change_form_of(self, request: HttpRequest, obj: Role) -> forms.Form:
        return RoleDetailsForm(request.POST or None, principal=self._principal(request), role=obj)

    def add(self, request: HttpRequest, form: RoleDetailsForm) -> None:
        services.create_role(principal=self._principal(request), **form.cleaned_data)

    def change(self, request: HttpRequest, obj: Role, form: RoleDetailsForm) -> None:
        services.change_role(principal=self._principal(request), role_id=obj.pk, **form.cleaned_data)

    def delete(self, principal: Principal, obj: Role) -> None:
        services.delete_role(principal=principal, role_id=obj.pk)


@admin.register(User)
class UserAdmin(ServiceAdmin):
    """Users are disabled, not deleted: the audit log names them."""

    permission = Permission.USERS_MANAGE
    list_display = ("username", "role", "is_active", "is_superuser", "last_login")
    list_filter = ("role", "is_active")
    list_select_related = ("role",)
    search_fields = ("username",)
    actions = ("disable_selected", "enable_selected")

    def has_delete_permission(self, request: HttpRequest, obj: User | None = None) -> bool:
        """Nobody deletes users."""
        return False

    def add_form(self, request: HttpRequest) -> forms.Form:
        return NewUserForm(request.POST or None, principal=self._principal(request))

    def change_form_of(self, request: HttpRequest, obj: User) -> forms.Form:
        return RoleForm(
            request.POST or None, principal=self._principal(request), initial={"role": obj.role_id}
        )

    def add(self, request: HttpRequest, form: NewUserForm) -> None:
        services.create_user(
            principal=self._principal(request),
            username=form.cleaned_data["username"],
            password=form.cleaned_data["password"],
            role_id=form.cleaned_data["role"].pk,
        )

    def change(self, request: HttpRequest, obj: User, form: RoleForm) -> None:
        services.change_user_role(
            principal=self._principal(request), user_id=obj.pk, role_id=form.cleaned_data["role"].pk
        )

    @admin.action(description="Disable selected users")
    def disable_selected(self, request: HttpRequest, queryset: QuerySet[User]) -> None:
        """They are signed out at their next request."""
        self._set_active(request, queryset, is_active=False)

    @admin.action(description="Enable selected users")
    def enable_selected(self, request: HttpRequest, queryset: QuerySet[User]) -> None:
        """They can sign in again."""
        self._set_active(request, queryset, is_active=True)

    def _set_active(self, request: HttpRequest, users: QuerySet[User], *, is_active: bool) -> None:
        for user in users:
            try:
                services.set_user_active(
                    principal=self._principal(request), user_id=user.pk, is_active=is_active
                )
            except DomainError as error:
                self.message_user(request, f"{user}: {error.detail}", messages.ERROR)
