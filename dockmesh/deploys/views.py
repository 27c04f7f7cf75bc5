"""The pages of stacks and deploys."""

from collections.abc import Mapping
from typing import Any

from django.contrib import messages
from django.db.models import QuerySet
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.urls import reverse
from django.views.decorators.http import require_GET, require_http_methods, require_POST

from dockmesh.core import clock
from dockmesh.core.errors import Conflict, DomainError
from dockmesh.core.forms import ConfirmForm, add_refusal
from dockmesh.core.tables import Choice, Column, Filter, Table
from dockmesh.deploys import causes, selectors, services, surveys
from dockmesh.deploys.adoption import SurveyNeeded
from dockmesh.deploys.envfiles import names_in
from dockmesh.deploys.forms import AdoptForm, ChangeStackForm, NewStackForm, PasteForm, RemoveStackForm
from dockmesh.deploys.models import Deploy
from dockmesh.deploys.selectors import StackView
from dockmesh.fleet.models import Host, Stack
from dockmesh.fleet.states import StackState
from tokens.decorators import page_permission
from tokens.permissions import Permission
from tokens.principals import actor_of, principal_of

FORM_METHODS = require_http_methods(["GET", "HEAD", "POST"])
RECENT = 10

STATES = Filter("state", "State", [Choice(state.value, state.value.capitalize(), "") for state in StackState])
KINDS = Filter("kind", "Kind", [Choice("managed", "Managed"), Choice("discovered", "Discovered")])
STATUSES = Filter(
    "status",
    "Status",
    [
        Choice("queued", "Queued", "working"),
        Choice("running", "Running", "working"),
        Choice("success", "Success", "well"),
        Choice("failure", "Failure", "bad"),
        Choice("cancelled", "Cancelled"),
    ],
)
OPERATIONS = Filter(
    "operation", "Operation", [Choice(value, value.capitalize()) for value in Deploy.Operation]
)


@require_GET
@page_permission(Permission.FLEET_READ)
def stacks(request: HttpRequest) -> HttpResponse:
    """All stacks."""
    table = Table(
        request.GET,
        columns=[
            Column("name", "Name", ("name",)),
            Column("host", "Host", ("host__name",)),
            Column("state", "State", ("state",)),
            Column("changed", "Since", ("state_changed_at",)),
            Column("kind", "Kind", ("is_managed",)),
            Column("deploy", "Last deploy"),
        ],
        default_sort="name",
        filters=[STATES, KINDS],
    )
    rows = table.ordered(selectors.stacks())
    if table.query:
        rows = rows.filter(name__icontains=table.query) | rows.filter(host__name__icontains=table.query)
    if state := table.filter_value("state"):
        rows = rows.filter(selectors.in_state(state))
    if kind := table.filter_value("kind"):
        rows = rows.filter(is_managed=kind == "managed")
    table.show(rows)
    context = {
        "table": table,
        "stacks": selectors.complete(table.rows),
        "may_deploy": _may_deploy(request),
        "has_hosts": Host.objects.exists(),
    }
    return render(request, "deploys/stacks.html", context)


@require_GET
@page_permission(Permission.FLEET_READ)
def stack(request: HttpRequest, pk: int) -> HttpResponse:
    """One stack: its containers, its deploys, what can be done. `?part=live` refreshes itself."""
    view = _view(pk)
    if not selectors.may_read(principal_of(request)):
        view = view.without_files()
    context = {
        "view": view,
        "stack": view.stack,
        "cause": causes.of_stack(pk) if view.state == StackState.ERROR else "",
        "containers": view.stack.containers.order_by("service", "name")[:200],
        "deploys": _listed(Deploy.objects.filter(stack=view.stack))[:RECENT],
        "may_deploy": _may_deploy(request),
    }
    return _page(request, "deploys/stack.html", "deploys/parts/stack.html", context)


@FORM_METHODS
@page_permission(Permission.STACKS_DEPLOY)
def new_stack(request: HttpRequest) -> HttpResponse:
    """Store a stack, and deploy it if wanted."""
    form = NewStackForm(request.POST or None, initial={"host": request.GET.get("host", "")})
    if request.method == "POST" and form.is_valid():
        values = dict(form.cleaned_data)
        is_deployed = values.pop("is_deployed")
        try:
            made = services.create_stack(actor=actor_of(request), host_id=values.pop("host"), **values)
            if is_deployed:
                deploy = services.request_deploy(actor=actor_of(request), stack_id=made.pk)
                return redirect("deploys:deploy", deploy.pk)
        except DomainError as error:
            add_refusal(form, error)
        else:
            messages.success(request, f"The stack {made.name} is stored.")
            return (
                _checked(request, made.pk) if "check" in request.POST else redirect("deploys:stack", made.pk)
            )
    return render(request, "deploys/stack_new.html", {"form": form, "has_hosts": Host.objects.exists()})


@FORM_METHODS
@page_permission(Permission.STACKS_DEPLOY)
def change_stack(request: HttpRequest, pk: int) -> HttpResponse:
    """Change what the next deploy will use."""
    view = _view(pk)
    if not view.stack.is_managed:
        return redirect("deploys:stack-adopt", pk)
    initial = {
        "compose_file": view.compose_file,
        "timeout_seconds": view.timeout_seconds,
        "project_directory": view.project_directory,
        "auto_rollback": view.auto_rollback,
    }
    form = ChangeStackForm(
        request.POST or None,
        initial=initial,
        env_names=view.env_names or [],
        override_files=view.override_files or [],
    )
    if request.method == "POST" and form.is_valid():
        try:
            services.change_stack(actor=actor_of(request), stack_id=pk, **form.wish())
        except DomainError as error:
            add_refusal(form, error)
        else:
            messages.success(request, "The files are stored. Deploy the stack to use them.")
            return _checked(request, pk) if "check" in request.POST else redirect("deploys:stack", pk)
    context = {
        "form": form,
        "stack": view.stack,
        "title": "Change",
        "action": "Save files",
        "complaint": selectors.complaint(pk),
    }
    return render(request, "deploys/stack_form.html", context)


def _checked(request: HttpRequest, pk: int) -> HttpResponse:
    """To what the host's Compose says of the stored files; where it can't be asked, they are stored all the same."""
    try:
        check = services.request_deploy(
            actor=actor_of(request), stack_id=pk, operation=Deploy.Operation.VALIDATE
        )
    except DomainError as error:
        messages.error(request, f"Compose was not asked about them: {error.detail}")
        return redirect("deploys:stack", pk)
    return redirect("deploys:deploy", check.pk)


@FORM_METHODS
@page_permission(Permission.STACKS_DEPLOY)
def adopt_stack(request: HttpRequest, pk: int) -> HttpResponse:
    """Manage a discovered stack, by what a survey found or by files that are given. `?part=live` is the survey."""
    found = get_object_or_404(Stack.objects.select_related("host"), pk=pk)
    if found.is_managed:
        return redirect("deploys:stack", pk)
    latest = surveys.latest(pk)
    survey = surveys.view(latest) if latest else None
    answer = surveys.found(latest)
    has_changes = answer is not None and bool(answer.changed_mounts or answer.compose_error)
    posted = request.POST if request.method == "POST" else None
    is_pasted = posted is not None and "compose_file" in posted
    initial = {"survey": survey["request_id"]} if survey else {}
    form = AdoptForm(posted if not is_pasted else None, initial=initial, has_changes=has_changes)
    paste = PasteForm(posted if is_pasted else None)
    used = paste if is_pasted else form
    if posted is not None and used.is_valid():
        values = dict(form.cleaned_data) if not is_pasted else paste.wish()
        if not is_pasted:
            values["survey_id"] = values.pop("survey")
        try:
            services.adopt_stack(actor=actor_of(request), stack_id=pk, **values)
        except SurveyNeeded as needed:
            add_refusal(used, _asked(request, pk, needed))
            latest = surveys.latest(pk)
            survey = surveys.view(latest) if latest else None
        except DomainError as error:
            add_refusal(used, error)
        else:
            messages.success(request, f"dockmesh manages {found.name} now; nothing was changed on its host.")
            return redirect("deploys:stack", pk)
    context = {
        "stack": found,
        "survey": survey,
        "form": form,
        "paste": paste,
        "is_pasted": is_pasted,
        "has_changes": has_changes,
        "is_adoptable": answer is not None
        and answer.is_directory_visible
        and bool(answer.config_files)
        and all(file.content is not None for file in answer.config_files),
    }
    return _page(request, "deploys/adopt.html", "deploys/parts/survey.html", context)


def _asked(request: HttpRequest, pk: int, needed: SurveyNeeded) -> DomainError:
    """Have the survey made that is needed; what to tell meanwhile."""
    try:
        surveys.request_survey(actor=actor_of(request), stack_id=pk)
    except DomainError as error:
        return Conflict(f"{error.detail} {needed.detail}")
    return needed


@require_POST
@page_permission(Permission.STACKS_DEPLOY)
def survey_stack(request: HttpRequest, pk: int) -> HttpResponse:
    """Have the agent read a discovered stack's files."""
    try:
        surveys.request_survey(actor=actor_of(request), stack_id=pk)
    except DomainError as error:
        messages.error(request, error.detail)
    return redirect("deploys:stack-adopt", pk)


@require_POST
@page_permission(Permission.STACKS_DEPLOY)
def operate(request: HttpRequest, pk: int) -> HttpResponse:
    """Deploy, restart or check, as the button says."""
    operation = request.POST.get("operation", "")
    if operation not in (Deploy.Operation.UP, Deploy.Operation.RESTART, Deploy.Operation.VALIDATE):
        raise Http404
    try:
        deploy = services.request_deploy(actor=actor_of(request), stack_id=pk, operation=operation)
    except DomainError as error:
        messages.error(request, error.detail)
        return redirect("deploys:stack", pk)
    return redirect("deploys:deploy", deploy.pk)


@require_POST
@page_permission(Permission.STACKS_DEPLOY)
def preview_stack(request: HttpRequest, pk: int) -> HttpResponse:
    """Ask what a deploy would do; the answer comes on the preview's own page."""
    try:
        made = services.request_preview(actor=actor_of(request), stack_id=pk)
    except DomainError as error:
        messages.error(request, error.detail)
        return redirect("deploys:stack", pk)
    return redirect("deploys:deploy", made.pk)


@FORM_METHODS
@page_permission(Permission.STACKS_DEPLOY)
def stop_stack(request: HttpRequest, pk: int) -> HttpResponse:
    """Stop a stack after its name was typed."""
    found = get_object_or_404(Stack.objects.select_related("host"), pk=pk)
    form = ConfirmForm(request.POST or None, expected=found.name)
    if request.method == "POST" and form.is_valid():
        try:
            deploy = services.request_deploy(
                actor=actor_of(request), stack_id=pk, operation=Deploy.Operation.STOP
            )
        except DomainError as error:
            add_refusal(form, error)
        else:
            return redirect("deploys:deploy", deploy.pk)
    return _confirm(
        request,
        form,
        found,
        title="Stop stack",
        consequences=[
            f"All its containers on {found.host.name} are stopped. They stay, and the next deploy starts them again."
        ],
    )


@FORM_METHODS
@page_permission(Permission.STACKS_DEPLOY)
def remove_stack(request: HttpRequest, pk: int) -> HttpResponse:
    """Remove a stack after its name was typed."""
    found = get_object_or_404(Stack.objects.select_related("host"), pk=pk)
    form = RemoveStackForm(request.POST or None, expected=found.name, initial={"how": "down"})
    if request.method == "POST" and form.is_valid():
        try:
            if form.cleaned_data["how"] == "down":
                deploy = services.remove_stack(actor=actor_of(request), stack_id=pk)
                return redirect("deploys:deploy", deploy.pk)
            services.forget_stack(actor=actor_of(request), stack_id=pk)
        except DomainError as error:
            add_refusal(form, error)
        else:
            messages.success(request, f"The stack {found.name} is removed.")
            return redirect("deploys:stacks")
    consequences = [
        f"Its Compose file and env file on {found.host.name} go, and its series on /metrics once no other host"
        " has a stack of this name. Its deploys stay in the history."
    ]
    return _confirm(request, form, found, title="Remove stack", consequences=consequences)


@require_GET
@page_permission(Permission.FLEET_READ)
def deploys(request: HttpRequest) -> HttpResponse:
    """All deploys, the newest first."""
    table = Table(
        request.GET,
        columns=[
            Column("number", "Deploy", ("pk",)),
            Column("stack", "Stack", ("stack_name",)),
            Column("host", "Host", ("host_name",)),
            Column("operation", "Operation", ("operation",)),
            Column("status", "Status", ("status",)),
            Column("requested", "Asked for", ("requested_at",)),
            Column("took", "Took", ("duration_seconds",), css="num"),
            Column("by", "By", ("requested_by",)),
        ],
        default_sort="-number",
        filters=[STATUSES, OPERATIONS],
    )
    rows = table.ordered(_listed(Deploy.objects.all()))
    if table.query:
        rows = rows.filter(stack_name__icontains=table.query) | rows.filter(host_name__icontains=table.query)
    for key in ("status", "operation"):
        if value := table.filter_value(key):
            rows = rows.filter(**{key: value})
    return render(request, "deploys/deploys.html", {"table": table.show(rows)})


@require_GET
@page_permission(Permission.FLEET_READ)
def deploy(request: HttpRequest, pk: int) -> HttpResponse:
    """One deploy, live while it runs. `?part=live` refreshes itself."""
    found = get_object_or_404(Deploy.objects.select_related("stack__host__heartbeat_state"), pk=pk)
    begun = found.started_at or found.requested_at
    context = {
        "deploy": found,
        "elapsed": found.duration_seconds if found.finished_at else (clock.now() - begun).total_seconds(),
        "env_names": names_in(found.encrypted_env_file),
        "heartbeat_state": found.stack.host.heartbeat_state if found.stack else None,
        "may_read_files": selectors.may_read(principal_of(request)),
        "may_deploy": _may_deploy(request) and found.stack_id is not None,
        "may_roll_back": _may_deploy(request)
        and found.stack_id is not None
        and found.operation == Deploy.Operation.UP
        and found.status == Deploy.Status.SUCCESS,
        "is_unconfirmed": _is_unconfirmed(found),
        "is_check": found.operation == Deploy.Operation.VALIDATE,
    }
    return _page(request, "deploys/deploy.html", "deploys/parts/deploy.html", context)


@require_POST
@page_permission(Permission.STACKS_DEPLOY)
def cancel_deploy(request: HttpRequest, pk: int) -> HttpResponse:
    """Cancel a deploy; its own page then tells what became of it."""
    try:
        services.cancel_deploy(actor=actor_of(request), deploy_id=pk)
    except DomainError as error:
        messages.error(request, error.detail)
    return redirect("deploys:deploy", pk)


@FORM_METHODS
@page_permission(Permission.STACKS_DEPLOY)
def confirm_removal(request: HttpRequest, pk: int) -> HttpResponse:
    """Deploy again with what would be removed confirmed, after the stack's name was typed."""
    found = get_object_or_404(Deploy.objects.select_related("stack"), pk=pk)
    if found.stack_id is None or not _is_unconfirmed(found):
        return redirect("deploys:deploy", pk)
    form = ConfirmForm(request.POST or None, expected=found.stack_name)
    if request.method == "POST" and form.is_valid():
        remove = [each["service"] for each in found.removes]
        try:
            if found.rollback_of_id is not None:
                made = services.roll_back(
                    actor=actor_of(request), deploy_id=found.rollback_of_id, remove=remove
                )
            else:
                made = services.request_deploy(
                    actor=actor_of(request), stack_id=found.stack_id, remove=remove
                )
        except DomainError as error:
            add_refusal(form, error)
        else:
            return redirect("deploys:deploy", made.pk)
    context = {
        "title": "Deploy and remove",
        "object_kind": "stack",
        "object_name": found.stack_name,
        "consequences": [
            *map(_said, found.removes),
            "Images are fetched first: if one can't be had, nothing is removed. Volumes stay.",
        ],
        "action_label": "Deploy and remove",
        "back_url": reverse("deploys:deploy", args=[pk]),
        "form": form,
    }
    return render(request, "web/confirm.html", context)


@FORM_METHODS
@page_permission(Permission.STACKS_DEPLOY)
def roll_back(request: HttpRequest, pk: int) -> HttpResponse:
    """Roll back to a deploy after the stack's name was typed."""
    found = get_object_or_404(Deploy.objects.select_related("stack"), pk=pk)
    form = ConfirmForm(request.POST or None, expected=found.stack_name)
    if request.method == "POST" and form.is_valid():
        try:
            made = services.roll_back(actor=actor_of(request), deploy_id=pk)
        except DomainError as error:
            add_refusal(form, error)
        else:
            return redirect("deploys:deploy", made.pk)
    context = {
        "title": f"Roll back to deploy {pk}",
        "object_kind": "stack",
        "object_name": found.stack_name,
        "consequences": [
            f"It is deployed with the Compose file, the env file and the images of deploy {pk},"
            " and these are its files from then on. Volumes are left as they are."
        ],
        "action_label": "Roll back",
        "back_url": reverse("deploys:deploy", args=[pk]),
        "form": form,
    }
    return render(request, "web/confirm.html", context)


def _view(pk: int) -> StackView:
    view = selectors.detailed(pk)
    if view is None:
        raise Http404
    return view


def _listed(rows: QuerySet[Deploy]) -> QuerySet[Deploy]:
    """Without the columns that a list doesn't show, which are large."""
    return rows.defer(*selectors.LARGE)


def _is_unconfirmed(deploy: Deploy) -> bool:
    """Whether it names containers that nobody has confirmed the removal of."""
    is_told = deploy.operation == Deploy.Operation.PREVIEW and deploy.status == Deploy.Status.SUCCESS
    is_refused = deploy.status == Deploy.Status.FAILURE and deploy.is_changed is False
    return (is_told or is_refused) and any(each["service"] not in deploy.remove for each in deploy.removes)


def _said(removal: Mapping[str, Any]) -> str:
    """What goes of a service, in a sentence."""
    names = ", ".join(removal["containers"])
    if removal["count"] == len(removal["containers"]):
        return f"The service {removal['service']} goes, with {names}."
    return f"{removal['count']} of the containers of {removal['service']} go: it has {names}."


def _may_deploy(request: HttpRequest) -> bool:
    principal = principal_of(request)
    return principal is not None and principal.has(Permission.STACKS_DEPLOY)


def _page(request: HttpRequest, template: str, part: str, context: Mapping[str, object]) -> HttpResponse:
    if request.GET.get("part") == "live":
        response = render(request, part, dict(context))
        response.headers["X-Dockmesh-Part"] = "live"
        return response
    return render(request, template, dict(context))


def _confirm(
    request: HttpRequest, form: ConfirmForm, found: Stack, *, title: str, consequences: list[str]
) -> HttpResponse:
    context = {
        "title": title,
        "object_kind": "stack",
        "object_name": found.name,
        "consequences": consequences,
        "action_label": title,
        "back_url": reverse("deploys:stack", args=[found.pk]),
        "form": form,
    }
    return render(request, "web/confirm.html", context)
