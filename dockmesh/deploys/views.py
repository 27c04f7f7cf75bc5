"""The pages of stacks and deploys."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any

from django import forms
from django.contrib import messages
from django.db.models import Q, QuerySet
from django.http import Http404, HttpRequest, HttpResponse
from django.http.response import HttpResponseBase
from django.shortcuts import redirect

from dockmesh.core import clock
from dockmesh.core.errors import Conflict, DomainError
from dockmesh.core.pages import Action, ConfirmPage, DetailPage, FormPage, ListPage, LivePart, ObjectPage
from dockmesh.core.tables import Column, words
from dockmesh.deploys import causes, selectors, services, surveys
from dockmesh.deploys.adoption import SurveyNeeded
from dockmesh.deploys.envfiles import names_in
from dockmesh.deploys.forms import AdoptForm, ChangeStackForm, NewStackForm, PasteForm, RemoveStackForm
from dockmesh.deploys.models import Deploy, Survey
from dockmesh.deploys.selectors import StackView
from dockmesh.fleet import selectors as fleet
from dockmesh.fleet.selectors import in_shown_state
from dockmesh.fleet.selectors.images import newer_images
from dockmesh.fleet.selectors.summary import stack_counts
from dockmesh.fleet.states import StackState
from tokens.permissions import Permission

if TYPE_CHECKING:
    from dockmesh.fleet.models import Stack

RECENT = 10
STACKS = (("Stacks", "deploys:stacks"),)
DEPLOYS = (("Deploys", "deploys:deploys"),)


class StackList(ListPage):
    """All stacks."""

    required_permission = Permission.FLEET_READ
    template = part = "deploys/stacks.html"
    title = "Stacks"
    lead = "Compose projects: those that dockmesh deploys, and those that it found running."
    search_hint = "Search stacks and hosts"
    columns = (
        Column("name", "Name", ("name",)),
        Column("host", "Host", ("host__name",)),
        Column("state", "State", ("state",)),
        Column("changed", "Since", ("state_changed_at",), css="wide"),
        Column("kind", "Kind", ("is_managed",), css="wide"),
        Column("deploy", "Last deploy"),
    )
    default_sort = "name"
    filters = (
        words("state", "State", StackState, in_shown_state, counts=stack_counts, are_states=True),
        words(
            "kind", "Kind", {"managed": "", "discovered": ""}, lambda value: Q(is_managed=value == "managed")
        ),
    )
    ties = ("host__name", "name")
    search = ("name", "host__name")

    def rows(self) -> QuerySet[Stack]:
        return selectors.stacks()

    def shown(self) -> Iterable[StackView]:
        return selectors.complete(self.table)

    def context(self) -> Mapping[str, Any]:
        return {
            "may_deploy": self.may(Permission.STACKS_DEPLOY),
            "has_hosts": fleet.hosts().exists(),
        }


class StackPage(ObjectPage):
    """A page of one stack."""

    required_permission = Permission.STACKS_DEPLOY
    object: Stack
    queryset = selectors.stacks()
    kind = "stack"
    route = "deploys:stack"
    parents = STACKS


class StackFilesPage(StackPage):
    """A page of one stack that shows its files."""

    @cached_property
    def view(self) -> StackView:
        """The stack with its files; 404 where there is none."""
        view = selectors.detailed(self.kwargs["pk"])
        if view is None:
            raise Http404
        return view

    @cached_property
    def object(self) -> Stack:  # type: ignore[override]
        return self.view.stack


class StackDetail(StackFilesPage, DetailPage):
    """One stack: its containers, its deploys, what can be done."""

    required_permission = Permission.FLEET_READ
    template = "deploys/stack.html"
    part = "deploys/parts/stack.html"

    def context(self) -> Mapping[str, Any]:
        view, stack = self.view, self.object
        return {
            "view": view if selectors.may_read(self.principal) else view.without_files(),
            "cause": causes.of_stack(stack.pk) if view.state == StackState.ERROR else "",
            "newer_images": newer_images(stack.pk),
            "containers": stack.containers.order_by("service", "name")[:200],
            "deploys": _listed(Deploy.objects.filter(stack=stack))[:RECENT],
            "may_deploy": self.may(Permission.STACKS_DEPLOY),
        }


class FilesPage(FormPage):
    """Stores a stack's files; they stay stored whatever comes of what is asked of the host along with it."""

    not_kept = ("env_file",)

    def ask_host(self, stack: Stack, operation: Deploy.Operation, refused: str) -> HttpResponseBase:
        """To the deploy or the check of what is stored now, or to the stack, telling why there is none."""
        actor = self.principal.actor
        try:
            deploy = services.request_deploy(actor=actor, stack_id=stack.pk, operation=operation)
        except DomainError as error:
            messages.error(self.request, f"{refused} {error.detail}")
            return redirect("deploys:stack", stack.pk)
        return redirect("deploys:deploy", deploy.pk)

    def leave(self, stack: Stack) -> HttpResponseBase:
        """To what the host's Compose says of the files, where that was asked for; else to the stack."""
        if "check" not in self.request.POST:
            return redirect("deploys:stack", stack.pk)
        return self.ask_host(stack, Deploy.Operation.VALIDATE, "Compose was not asked about them:")


class StackAdd(FilesPage):
    """Stores a stack, and deploys it if wanted."""

    required_permission = Permission.STACKS_DEPLOY
    template = "deploys/stack_new.html"
    parents = STACKS
    title = "New stack"
    form_class = NewStackForm
    service = services.create_stack

    def form_options(self) -> Mapping[str, Any]:
        return {"initial": {"host": self.request.GET.get("host", "")}}

    def save(self, form: NewStackForm) -> HttpResponseBase:
        values = dict(form.cleaned_data)
        is_deployed = values.pop("is_deployed")
        stack = self.call(host_id=values.pop("host"), **values)
        if is_deployed:
            return self.ask_host(
                stack, Deploy.Operation.UP, f"The stack {stack.name} is stored, not deployed:"
            )
        messages.success(self.request, f"The stack {stack.name} is stored.")
        return self.leave(stack)

    def context(self) -> Mapping[str, Any]:
        return {"has_hosts": fleet.hosts().exists()}


class StackChange(StackFilesPage, FilesPage):
    """Changes what the next deploy will use."""

    template = "deploys/stack_form.html"
    title = "Change"
    lead = "What runs is not touched before the next deploy."
    form_class = ChangeStackForm
    service = services.change_stack
    done = "The files are stored. Deploy the stack to use them."

    def elsewhere(self) -> HttpResponseBase | None:
        return None if self.object.is_managed else redirect("deploys:stack-adopt", self.object.pk)

    def form_options(self) -> Mapping[str, Any]:
        shown = ("compose_file", "timeout_seconds", "project_directory", "auto_rollback")
        return {
            "initial": {name: getattr(self.view, name) for name in shown},
            "env_names": self.view.env_names or [],
            "override_files": self.view.override_files or [],
        }

    def save(self, form: ChangeStackForm) -> HttpResponseBase:
        return self.leave(self.call(**form.wish()))

    def context(self) -> Mapping[str, Any]:
        return {"complaint": selectors.complaint(self.object.pk)}


class StackAdopt(StackPage, LivePart, FormPage):
    """Manages a discovered stack, by what a survey found or by files that are given. Its live part is the survey."""

    template = "deploys/adopt.html"
    part = "deploys/parts/survey.html"
    not_kept = ("env_file",)
    title = "Adopt"
    service = services.adopt_stack
    done = "dockmesh manages {object.name} now; nothing was changed on its host."

    @cached_property
    def survey(self) -> Survey | None:
        """The latest one."""
        return surveys.latest(self.object.pk)

    @cached_property
    def answer(self) -> surveys.Found | None:
        """What it found, once the agent has answered."""
        return surveys.found(self.survey)

    @property
    def has_changes(self) -> bool:
        """Whether the next deploy would change what runs."""
        return self.answer is not None and bool(self.answer.changed_mounts or self.answer.compose_error)

    def elsewhere(self) -> HttpResponseBase | None:
        return redirect(self.url()) if self.object.is_managed else None

    def adopt_form(self, posted: Any = None) -> AdoptForm:
        """Adopts what the survey found that is shown."""
        initial = {"survey": self.survey.request_id} if self.survey else {}
        return AdoptForm(posted, initial=initial, has_changes=self.has_changes)

    def form(self) -> forms.Form:
        is_pasted = "compose_file" in (self.posted or {})
        return PasteForm(self.posted) if is_pasted else self.adopt_form(self.posted)

    def get(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponseBase:
        return self.show_live(form=self.form())

    def arguments(self, form: AdoptForm | PasteForm) -> Mapping[str, Any]:
        if isinstance(form, PasteForm):
            return form.wish()
        values = dict(form.cleaned_data)
        return {"survey_id": values.pop("survey"), **values}

    def save(self, form: AdoptForm | PasteForm) -> HttpResponseBase:
        try:
            return super().save(form)
        except SurveyNeeded as needed:
            refusal = self.ask_agent(needed)
            self.survey = surveys.latest(self.object.pk)
            raise refusal from None

    def ask_agent(self, needed: SurveyNeeded) -> DomainError:
        """Has the survey made that is needed; what to tell meanwhile."""
        try:
            surveys.request_survey(actor=self.principal.actor, stack_id=self.object.pk)
        except DomainError as error:
            return Conflict(f"{error.detail} {needed.detail}")
        return needed

    def context(self) -> Mapping[str, Any]:
        answer = self.answer
        return {
            "survey": surveys.view(self.survey) if self.survey else None,
            "has_changes": self.has_changes,
            "is_adoptable": answer is not None
            and answer.is_directory_visible
            and bool(answer.config_files)
            and all(file.content is not None for file in answer.config_files),
        }

    def show(self, template: str = "", *, status: int = 200, **more: Any) -> HttpResponse:
        form = more["form"]
        is_pasted = isinstance(form, PasteForm)
        more = {
            "form": self.adopt_form() if is_pasted else form,
            "paste": form if is_pasted else PasteForm(),
            "is_pasted": is_pasted,
        }
        return super().show(template, status=status, **more)


class StackSurvey(StackPage, Action):
    """Has the agent read a discovered stack's files."""

    route = "deploys:stack-adopt"
    service = surveys.request_survey


class StackOperate(StackPage, Action):
    """Deploys, restarts or checks, as the button says."""

    service = services.request_deploy
    result_route = "deploys:deploy"

    def act(self) -> HttpResponseBase:
        operation = self.request.POST.get("operation", "")
        if operation not in (Deploy.Operation.UP, Deploy.Operation.RESTART, Deploy.Operation.VALIDATE):
            raise Http404
        return redirect(self.next_url(self.call(operation=operation)))


class StackPreview(StackPage, Action):
    """Asks what a deploy would do; the answer comes on the preview's own page."""

    service = services.request_preview
    result_route = "deploys:deploy"


class StackStop(StackPage, ConfirmPage):
    """Stops a stack after its name was typed."""

    title = "Stop stack"
    consequences = (
        "All its containers on {object.host.name} are stopped. They stay, and the next deploy starts them again.",
    )
    service = services.request_deploy
    result_route = "deploys:deploy"

    def arguments(self, form: Any) -> Mapping[str, Any]:
        return {"operation": Deploy.Operation.STOP}


class StackRemove(StackPage, ConfirmPage):
    """Removes a stack after its name was typed."""

    title = "Remove stack"
    consequences = (
        "Its Compose file and env file on {object.host.name} go, and its series on /metrics once no other host"
        " has a stack of this name. Its deploys stay in the history.",
    )
    form_class = RemoveStackForm
    service = services.remove_stack

    def save(self, form: RemoveStackForm) -> HttpResponseBase:
        if form.cleaned_data["how"] == "down":
            return redirect("deploys:deploy", self.call().pk)
        services.forget_stack(actor=self.principal.actor, stack_id=self.object.pk)
        messages.success(self.request, f"The stack {self.object.name} is removed.")
        return redirect("deploys:stacks")


class DeployList(ListPage):
    """All deploys, the newest first."""

    required_permission = Permission.FLEET_READ
    template = part = "deploys/deploys.html"
    title = "Deploys"
    lead = "What was asked of the hosts' agents, by whom, and how it ended."
    search_hint = "Search stacks and hosts"
    columns = (
        Column("number", "Deploy", ("pk",)),
        Column("stack", "Stack", ("stack_name",)),
        Column("host", "Host", ("host_name",)),
        Column("operation", "Operation", ("operation",)),
        Column("status", "Status", ("status",)),
        Column("requested", "Asked for", ("requested_at",)),
        Column("took", "Took", ("duration_seconds",), css="num wide"),
        Column("by", "By", ("requested_by",), css="wide"),
    )
    default_sort = "-number"
    filters = (
        words(
            "status",
            "Status",
            {
                "queued": "working",
                "running": "working",
                "success": "well",
                "failure": "bad",
                "cancelled": "idle",
            },
        ),
        words("operation", "Operation", Deploy.Operation, labels={"up": "Deploy"}),
    )
    ties = ("host_name", "stack_name")
    search = ("stack_name", "host_name")

    def rows(self) -> QuerySet[Deploy]:
        return _listed(Deploy.objects.all())


class DeployPage(ObjectPage):
    """A page of one deploy."""

    required_permission = Permission.STACKS_DEPLOY
    object: Deploy
    queryset = Deploy.objects.select_related("stack__host__heartbeat_state")
    kind = "deploy"
    route = "deploys:deploy"
    parents = DEPLOYS


class DeployDetail(DeployPage, DetailPage):
    """One deploy, live while it runs."""

    required_permission = Permission.FLEET_READ
    template = "deploys/deploy.html"
    part = "deploys/parts/deploy.html"

    def context(self) -> Mapping[str, Any]:
        deploy = self.object
        begun = deploy.started_at or deploy.requested_at
        may_deploy = self.may(Permission.STACKS_DEPLOY) and deploy.stack_id is not None
        return {
            "elapsed": deploy.duration_seconds
            if deploy.finished_at
            else (clock.now() - begun).total_seconds(),
            "env_names": names_in(deploy.encrypted_env_file),
            "heartbeat_state": deploy.stack.host.heartbeat_state if deploy.stack else None,
            "may_read_files": selectors.may_read(self.principal),
            "may_deploy": may_deploy,
            "may_roll_back": may_deploy
            and deploy.operation == Deploy.Operation.UP
            and deploy.status == Deploy.Status.SUCCESS,
            "is_unconfirmed": _is_unconfirmed(deploy),
            "is_check": deploy.operation == Deploy.Operation.VALIDATE,
        }


class DeployCancel(DeployPage, Action):
    """Cancels a deploy; its own page then tells what became of it."""

    service = services.cancel_deploy


class DeployConfirm(DeployPage, ConfirmPage):
    """Deploys again with what would be removed confirmed, after the stack's name was typed."""

    title = "Deploy and remove"

    def elsewhere(self) -> HttpResponseBase | None:
        is_asked = self.object.stack_id is not None and _is_unconfirmed(self.object)
        return None if is_asked else redirect(self.url())

    def asked(self) -> tuple[str, str]:
        return "stack", self.object.stack_name

    def told(self) -> Sequence[str]:
        fetched = "Images are fetched first: if one can't be had, nothing is removed. Volumes stay."
        return [*map(_said, self.object.removes), fetched]

    def save(self, form: Any) -> HttpResponseBase:
        actor, remove = self.principal.actor, [each["service"] for each in self.object.removes]
        if self.object.rollback_of_id is not None:
            made = services.roll_back(actor=actor, deploy_id=self.object.rollback_of_id, remove=remove)
        else:
            assert self.object.stack_id is not None  # else it is elsewhere
            made = services.request_deploy(actor=actor, stack_id=self.object.stack_id, remove=remove)
        return redirect("deploys:deploy", made.pk)


class DeployRollback(DeployPage, ConfirmPage):
    """Rolls back to a deploy after the stack's name was typed."""

    title = "Roll back"
    heading = "Roll back to deploy {object.pk}"
    consequences = (
        "It is deployed with the Compose file, the env file and the images of deploy {object.pk},"
        " and these are its files from then on. Volumes are left as they are.",
    )
    service = services.roll_back
    result_route = "deploys:deploy"

    def asked(self) -> tuple[str, str]:
        return "stack", self.object.stack_name


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
