"""Pages about the visitor: sign-in, sign-out, password, set-up, theme."""

from __future__ import annotations

from urllib.parse import urlsplit

from django.contrib import messages
from django.contrib.auth import authenticate, login, logout, update_session_auth_hash
from django.contrib.auth.views import redirect_to_login
from django.core.exceptions import PermissionDenied
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.templatetags.static import static
from django.urls import reverse
from django.utils.http import url_has_allowed_host_and_scheme
from django.views.decorators.debug import sensitive_post_parameters
from django.views.decorators.http import require_http_methods, require_POST, require_safe

from dockmesh.core.errors import Conflict, DomainError, NotFound
from dockmesh.core.forms import add_refusal
from dockmesh.web import services, signins, theme
from dockmesh.web.forms import PasswordForm, SetupForm, SignInForm
from tokens import refusals
from tokens.models import User
from tokens.principals import principal_of
from tokens.services import has_administrator, set_password

BACKEND = "django.contrib.auth.backends.ModelBackend"


def local_path(wanted: str, fallback: str = "") -> str:
    """`wanted` where it is a path of this server, else the fallback, which is the overview where none is given."""
    home = reverse("web:overview")
    parts = urlsplit(wanted) if url_has_allowed_host_and_scheme(wanted, allowed_hosts=None) else None
    is_local = parts is not None and not parts.scheme and not parts.netloc and wanted.startswith(home)
    return wanted if is_local else fallback or home


@sensitive_post_parameters("password")
@require_http_methods(["GET", "HEAD", "POST"])
def sign_in(request: HttpRequest) -> HttpResponse:
    """Name and password. Known, unknown and disabled users get the same answer."""
    goal = local_path(request.POST.get("next", request.GET.get("next", "")))
    if request.method != "POST":
        if request.user.is_authenticated:
            return redirect(goal)
        return _sign_in_page(request, SignInForm(), goal)
    form = SignInForm(request.POST)
    if not form.is_valid():
        return _sign_in_page(request, form, goal)
    name, password = form.cleaned_data["username"], form.cleaned_data["password"]
    address = services.address_of(request)
    wait = signins.begin_attempt(name=name, address=address)
    if wait:
        refusals.note_visitor(address, why="too many sign-ins", path=request.path)
        form.add_error(None, f"Too many attempts. Try again in {-(-wait // 60)} min.")
        response = _sign_in_page(request, form, goal, status=429)
        response.headers["Retry-After"] = str(wait)
        return response
    user = authenticate(request, username=name, password=password)
    if not isinstance(user, User):
        services.record_failed_sign_in(username=name, address=address)
        form.add_error(None, "Name or password is wrong.")
        return _sign_in_page(request, form, goal)
    signins.forgive(name=name, address=address)
    login(request, user)
    services.record_sign_in(user=user, address=address)
    return redirect(goal)


def _sign_in_page(request: HttpRequest, form: SignInForm, goal: str, status: int = 200) -> HttpResponse:
    context = {"form": form, "next": goal, "has_administrator": has_administrator()}
    return render(request, "web/sign_in.html", context, status=status)


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
    if isinstance(user, User):
        services.record_sign_out(user=user, address=services.address_of(request))
    return redirect("web:sign-in")


@sensitive_post_parameters()
@require_http_methods(["GET", "HEAD", "POST"])
def password(request: HttpRequest) -> HttpResponse:
    """The signed-in user's own password; their other sessions end with the old one."""
    principal = principal_of(request)
    if principal is None or not isinstance(request.user, User):
        return redirect_to_login(request.get_full_path())
    form = PasswordForm(request.POST or None, user=request.user)
    if request.method == "POST" and not form.is_valid() and form.is_current_wrong:
        refusals.note(principal, why="wrong current password", path=request.path)
    if request.method == "POST" and form.is_valid():
        try:
            user = set_password(
                principal=principal, user_id=request.user.pk, password=form.cleaned_data["password"]
            )
        except DomainError as error:
            add_refusal(form, error)
        else:
            update_session_auth_hash(request, user)
            messages.success(request, "The password is changed. Your other sessions are signed out.")
            return redirect("web:password")
    return render(request, "web/password.html", {"form": form})


@sensitive_post_parameters()
@require_http_methods(["GET", "HEAD", "POST"])
def setup(request: HttpRequest, code: str) -> HttpResponse:
    """The one-time link at which the first administrator is made."""
    try:
        if not services.is_setup_code(code):
            raise Http404
    except services.Ended:
        return render(request, "web/setup_ended.html", status=410)
    form = SetupForm(request.POST or None)
    if request.method == "POST" and form.is_valid():
        data = form.cleaned_data
        address = services.address_of(request)
        try:
            user = services.set_up(
                code=code, username=data["username"], password=data["password"], address=address
            )
        except (NotFound, Conflict):
            raise Http404 from None
        except DomainError as error:
            add_refusal(form, error)
        else:
            login(request, user, backend=BACKEND)
            services.record_sign_in(user=user, address=address)
            return redirect("web:overview")
    return render(request, "web/setup.html", {"form": form})


@require_safe
def favicon(request: HttpRequest) -> HttpResponse:
    """For pages that don't name their icon, such as Django admin's."""
    return redirect(static("web/favicon.svg"))


@require_POST
def choose_theme(request: HttpRequest) -> HttpResponse:
    """Remembers light or dark, for browsers without JavaScript."""
    response = redirect(local_path(request.POST.get("next", "")))
    chosen = request.POST.get("theme", "")
    if chosen in theme.THEMES:
        response.set_cookie(theme.COOKIE, chosen, max_age=theme.YEAR_SECONDS, samesite="Lax")
    return response
