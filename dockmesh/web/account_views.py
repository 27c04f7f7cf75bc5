"""Pages about the visitor: sign-in, sign-out, password, set-up, theme."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

from django.conf import settings
from django.contrib import messages
from django.contrib.auth import authenticate, login, logout, update_session_auth_hash
from django.contrib.auth.views import redirect_to_login
from django.core.exceptions import PermissionDenied
from django.http import Http404, HttpRequest, HttpResponse
from django.http.response import HttpResponseBase
from django.shortcuts import redirect, render
from django.templatetags.static import static
from django.urls import reverse
from django.utils.decorators import method_decorator
from django.utils.http import url_has_allowed_host_and_scheme
from django.views.decorators.debug import sensitive_post_parameters
from django.views.decorators.http import require_POST, require_safe

from dockmesh.core import keptforms
from dockmesh.core.errors import Conflict, DomainError, NotFound
from dockmesh.core.pages import FormPage
from dockmesh.web import services, signins, theme
from dockmesh.web.forms import PasswordForm, SetupForm, SignInForm
from tokens import refusals
from tokens.principals import principal_of
from tokens.services import has_administrator, set_password

BACKEND = "django.contrib.auth.backends.ModelBackend"


def local_path(wanted: str, fallback: str = "") -> str:
    """`wanted` where it is a path of this server, else the fallback, which is the overview where none is given."""
    home = reverse("web:overview")
    parts = urlsplit(wanted) if url_has_allowed_host_and_scheme(wanted, allowed_hosts=None) else None
    is_local = parts is not None and not parts.scheme and not parts.netloc and wanted.startswith(home)
    return wanted if is_local else fallback or home


hides_passwords = method_decorator(sensitive_post_parameters(), name="dispatch")


class VisitorFormPage(FormPage):
    """A form for whoever comes: who it is turns out by what they type."""

    def authorise(self, permission: str) -> HttpResponseBase | None:
        return None


@hides_passwords
class SignIn(VisitorFormPage):
    """Name and password. Known, unknown and disabled users get the same answer."""

    template = "web/sign_in.html"
    form_class = SignInForm

    @property
    def goal(self) -> str:
        """The page that was asked for before."""
        return local_path(self.request.POST.get("next", self.request.GET.get("next", "")))

    def elsewhere(self) -> HttpResponseBase | None:
        is_form_wanted = self.request.method == "POST" or not self.request.user.is_authenticated
        return None if is_form_wanted else redirect(self.goal)

    def context(self) -> Mapping[str, Any]:
        return {
            "next": self.goal,
            "has_administrator": has_administrator(),
            "kept": self.request.POST.get("kept", ""),
        }

    def save(self, form: SignInForm) -> HttpResponseBase:
        name, password = form.cleaned_data["username"], form.cleaned_data["password"]
        address = services.address_of(self.request)
        if wait := signins.begin_attempt(name=name, address=address):
            refusals.note_visitor(address, why="too many sign-ins", path=self.request.path)
            form.add_error(None, f"Too many attempts. Try again in {-(-wait // 60)} min.")
            response = self.show(form=form, status=429)
            response.headers["Retry-After"] = str(wait)
            return response
        user = authenticate(self.request, username=name, password=password)
        if user is None:
            services.record_failed_sign_in(username=name, address=address)
            raise DomainError("Name or password is wrong.")
        signins.forgive(name=name, address=address)
        login(self.request, user)
        keptforms.put(self.request, self.request.POST.get("kept", ""))
        services.record_sign_in(user=user, address=address)
        return redirect(self.goal)


def sign_in_keeping(request: HttpRequest, kept: str) -> HttpResponse:
    """The sign-in page in answer to a form that was sent without a session; it keeps what was typed. Status 401."""
    context = {
        "form": SignInForm(),
        "next": request.get_full_path(),
        "has_administrator": has_administrator(),
        "kept": kept,
        "is_session_lost": True,
    }
    return render(request, "web/sign_in.html", context, status=401)


def admin_sign_in(request: HttpRequest) -> HttpResponse:
    """In place of Django admin's own: the one sign-in, then back; 403 for who is in but may not."""
    index, its_own = reverse("admin:index"), reverse("admin:login")
    goal = local_path(request.GET.get("next", ""), index)
    if not request.user.is_authenticated:
        return redirect_to_login(goal)
    if not getattr(request.user, "is_staff", False):
        raise PermissionDenied
    return redirect(index if goal.startswith(its_own) else goal)


@require_POST
def sign_out(request: HttpRequest) -> HttpResponse:
    """Ends the session: its cookie opens nothing afterwards."""
    user = request.user
    logout(request)
    if user.is_authenticated:
        services.record_sign_out(user=user, address=services.address_of(request))
    return redirect("web:sign-in")


@hides_passwords
class Password(FormPage):
    """The signed-in user's own password; their other sessions end with the old one."""

    title = "Password"
    lead = "A new password signs you out everywhere else."
    action_label = "Change the password"
    form_class = PasswordForm

    def authorise(self, permission: str) -> HttpResponseBase | None:
        """Everybody who is signed in, whatever their role."""
        request, principal = self.request, principal_of(self.request)
        if principal is None or not request.user.is_authenticated:
            return redirect_to_login(request.get_full_path())
        request.principal = principal  # type: ignore[attr-defined]
        return None

    def form_options(self) -> Mapping[str, Any]:
        return {"user": self.request.user}

    def show(self, template: str = "", *, status: int = 200, **more: Any) -> HttpResponse:
        if more["form"].is_current_wrong:
            refusals.note(self.principal, why="wrong current password", path=self.request.path)
        return super().show(template, status=status, **more)

    def save(self, form: PasswordForm) -> HttpResponseBase:
        new, user_id = form.cleaned_data["password"], int(self.principal.id)
        user = set_password(principal=self.principal, user_id=user_id, password=new)
        update_session_auth_hash(self.request, user)
        messages.success(self.request, "The password is changed. Your other sessions are signed out.")
        return redirect("web:password")


@hides_passwords
class Setup(VisitorFormPage):
    """The one-time link at which the first administrator is made."""

    template = "web/setup.html"
    form_class = SetupForm

    def elsewhere(self) -> HttpResponseBase | None:
        try:
            if not services.is_setup_code(self.kwargs["code"]):
                return self.show_used()
        except services.Ended:
            return self.show("web/setup_ended.html", status=410)
        return None

    def show_used(self) -> HttpResponse:
        """404: whatever the code, once there is an administrator the links have done what they are for."""
        if not has_administrator():
            raise Http404
        return self.show("web/setup_used.html", status=404)

    def save(self, form: SetupForm) -> HttpResponseBase:
        address, data = services.address_of(self.request), form.cleaned_data
        try:
            user = services.set_up(
                code=self.kwargs["code"],
                username=data["username"],
                password=data["password"],
                address=address,
            )
        except (NotFound, Conflict):
            return self.show_used()
        login(self.request, user, backend=BACKEND)
        services.record_sign_in(user=user, address=address)
        return redirect("web:overview")


@require_safe
def favicon(request: HttpRequest) -> HttpResponse:
    """For pages that don't name their icon, such as Django admin's."""
    return redirect(static("web/favicon.svg"))


@require_POST
def choose_theme(request: HttpRequest) -> HttpResponse:
    """Remembers light or dark, or forgets it for `system`, for browsers without JavaScript."""
    response = redirect(local_path(request.POST.get("next", "")))
    chosen = request.POST.get("theme", "")
    if chosen in theme.THEMES:
        response.set_cookie(
            theme.COOKIE,
            chosen,
            max_age=theme.YEAR_SECONDS,
            path=settings.SESSION_COOKIE_PATH,
            samesite="Lax",
        )
    elif chosen == theme.SYSTEM:
        response.delete_cookie(theme.COOKIE, path=settings.SESSION_COOKIE_PATH, samesite="Lax")
    return response
