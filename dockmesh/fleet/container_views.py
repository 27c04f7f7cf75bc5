"""The pages of containers: the list, one of them, what is done with them, their logs."""

import datetime
import uuid
from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property
from typing import Any

from django.contrib import messages
from django.db.models import Q, QuerySet
from django.http import Http404, JsonResponse
from django.http.response import HttpResponseBase
from django.shortcuts import redirect
from django.urls import reverse

from dockmesh.core import clock
from dockmesh.core.errors import DomainError
from dockmesh.core.pages import DetailPage, ListPage, ObjectPage, Page
from dockmesh.core.strictjson import MAX_INTEGER
from dockmesh.core.tables import Column, Table, words
from dockmesh.env import digits
from dockmesh.fleet import container_page, rows, selectors
from dockmesh.fleet.container_api import log_response
from dockmesh.fleet.listening import offline_before
from dockmesh.fleet.models import Container, ContainerCounts
from dockmesh.fleet.selectors import summary, usage
from dockmesh.fleet.selectors.images import check_of, is_newer_image_known
from dockmesh.fleet.services import containers, details, logs
from dockmesh.fleet.services.containers import ContainerAction
from dockmesh.fleet.states import ContainerState
from tokens.permissions import Permission

# The page without a script waits this long for a log, in a thread.
LOG_SECONDS = 10.0
ICONS = {"start": "play", "stop": "square", "restart": "rotate-ccw", "kill": "x"}
CONSEQUENCES = {
    ContainerAction.START: "Docker starts what does not run; what runs stays as it is.",
    ContainerAction.STOP: "Each gets the time that it has to end, and is killed after that. Docker starts it again"
    " only when somebody does, or when the Engine restarts and its restart policy is `always`.",
    ContainerAction.RESTART: "Each is stopped, with the time that it has to end, and started again.",
    ContainerAction.KILL: "Each is ended at once, and can't finish what it is about. With a restart policy Docker may"
    " start it again.",
}


class ContainerList(ListPage):
    """All containers."""

    required_permission = Permission.FLEET_READ
    template = part = "fleet/containers.html"
    title = "Containers"
    lead = "Every container of the fleet, as its host reported it last."
    search_hint = "Search names, images, hosts, stacks"
    queryset = Container.objects.select_related("host__heartbeat_state", "stack").annotate(
        has_newer_image=is_newer_image_known()
    )
    columns = (
        Column("name", "Name", ("name",)),
        Column("host", "Host", ("host__name",)),
        Column("stack", "Stack", ("stack__name",)),
        Column("state", "State", ("state",)),
        Column("health", "Health", ("health",), css="wide"),
        Column("image", "Image", ("image",), css="wide"),
        Column("cpu", "CPU", ("cpu",), css="num", is_largest_first=True),
        Column("memory", "Memory", ("memory",), css="num", is_largest_first=True),
        Column("restarts", "Restarts", ("restart_count",), css="num wide"),
        Column("changed", "Changed", ("-changed_at",), css="wide"),
    )
    default_sort = "name"
    filters = (
        words(
            "state",
            "State",
            ContainerState,
            selectors.in_shown_state,
            counts=summary.container_counts,
            are_states=True,
        ),
        words("image", "Image", {"newer": "info"}, lambda _: Q(has_newer_image=True)),
    )
    ties = ("host__name", "name")
    search = ("name", "image", "host__name", "stack__name")

    def shown_columns(self) -> Sequence[Column]:
        """With one for the choice where something can be done with it."""
        choice = (Column("choice", "Chosen", is_hidden=True),) if self.may_operate else ()
        return (*choice, *self.columns)

    @property
    def may_operate(self) -> bool:
        """Whether the visitor may start and stop them."""
        return self.may(Permission.CONTAINERS_OPERATE)

    @cached_property
    def _moments(self) -> tuple[datetime.datetime, datetime.datetime]:
        """Now, and `offline_before`."""
        now = clock.now()
        return now, offline_before(now)

    def ordered(self, table: Table, rows: QuerySet[Container]) -> Any:
        """What each uses is no column of the containers' rows."""
        key = table.sort.removeprefix("-")
        if key not in ("cpu", "memory"):
            return super().ordered(table, rows)
        now, before = self._moments
        return usage.ByUsage(rows, key, is_descending=table.is_descending, now=now, before=before)

    def shown(self) -> Iterable[rows.ContainerRow]:
        containers = list(self.table)
        now, before = self._moments
        hosts = usage.usage_now({each.host_id for each in containers}, now, before)
        used = {key: figures for host in hosts.values() for key, figures in host.containers.items()}
        return rows.container_rows(containers, before, used)

    def context(self) -> Mapping[str, Any]:
        return {"may_operate": self.may_operate, "actions": actions()}


def actions() -> list[tuple[str, str, str]]:
    """(value, what a button says, its icon) of each action."""
    return [(each.value, each.value.capitalize(), ICONS[each.value]) for each in ContainerAction]


class ContainerPage(ObjectPage):
    """A page of one container."""

    object: Container
    queryset = Container.objects.select_related("host__heartbeat_state", "stack")
    kind = "container"
    route = "fleet:container"
    parents = (("Containers", "fleet:containers"),)


class ContainerDetail(ContainerPage, DetailPage):
    """One container. To look at it asks its agent for more than the inventory has."""

    required_permission = Permission.FLEET_READ
    template = "fleet/container.html"
    part = "fleet/parts/container.html"

    def context(self) -> Mapping[str, Any]:
        container, now = self.object, clock.now()
        reason = details.ask_for_details(container)
        told = details.details_of(container)
        before = offline_before(now)
        host = usage.usage_now([container.host_id], now, before).get(container.host_id)
        row = rows.container_rows([container], before, host.containers if host else {})[0]
        exits = container_page.exits_of(told)
        return {
            "row": row,
            "measured_at": host.measured_at if host else None,
            "host_status": selectors.status_of_host(container.host.heartbeat_state, before),
            "is_stopped": not row.may_use,
            "said": container_page.said_of(row, exits, now),
            "exits": exits,
            "details": told,
            "found": container_page.facts_of(told),
            "why_no_details": reason or (told.error if told else ""),
            "is_asked": not reason and details.is_asked(container),
            "doing": container_page.last_done(container),
            "counts": ContainerCounts.objects.filter(host_id=container.host_id, name=container.name).first(),
            "may_operate": self.may(Permission.CONTAINERS_OPERATE),
            "may_read_logs": self.may(Permission.CONTAINERS_LOGS),
            "actions": actions(),
            "image_check": check_of(container),
        }


class ContainersAct(Page):
    """Names what is about to be done with which containers, and does it."""

    required_permission = Permission.CONTAINERS_OPERATE
    template = "fleet/containers_act.html"
    parents = (("Containers", "fleet:containers"),)

    @cached_property
    def action(self) -> ContainerAction:
        """What is to be done; 404 for what is none."""
        try:
            return ContainerAction(self._asked.get("action", ""))
        except ValueError:
            raise Http404 from None

    @property
    def _asked(self) -> Any:
        return self.request.POST if self.request.method == "POST" else self.request.GET

    @cached_property
    def chosen(self) -> list[rows.ContainerRow]:
        """The containers, as far as they are there."""
        ids = [digits(each, most=MAX_INTEGER) for each in self._asked.getlist("container")]
        wanted = [each for each in ids if each is not None]
        found = Container.objects.select_related("host__heartbeat_state", "stack").filter(
            pk__in=wanted[: containers.MOST_AT_ONCE + 1]
        )
        return rows.container_rows(found.order_by("name", "host__name", "id"), offline_before(clock.now()))

    @property
    def title(self) -> str:  # type: ignore[override]
        """What is about to happen."""
        count = len(self.chosen)
        which = self.chosen[0].container.name if count == 1 else f"{count} containers"
        return f"{self.action.capitalize()} {which}"

    def back_url(self) -> str:
        """Where one came from."""
        if len(self.chosen) == 1:
            return reverse("fleet:container", args=[self.chosen[0].container.pk])
        return reverse("fleet:containers")

    def context(self) -> Mapping[str, Any]:
        return {
            "title": self.title,
            "action": self.action.value,
            "chosen": self.chosen,
            "consequence": CONSEQUENCES[self.action],
            "agents": [each for each in self.chosen if is_agent(each.container)],
            "back_url": self.back_url(),
        }

    def elsewhere(self) -> HttpResponseBase | None:
        if self.action and self.chosen and len(self.chosen) <= containers.MOST_AT_ONCE:
            return None
        said = "Choose a container first." if not self.chosen else "Choose fewer: 200 at a time."
        messages.error(self.request, said)
        return redirect("fleet:containers")

    def get(self, request: Any, *args: Any, **kwargs: Any) -> HttpResponseBase:
        """The question."""
        return self.show()

    def post(self, request: Any, *args: Any, **kwargs: Any) -> HttpResponseBase:
        """Asks the agents, and tells of each that is not asked."""
        back = self.back_url()
        asked, refused = containers.act_on_containers(
            actor=self.principal.actor,
            container_ids=[each.container.pk for each in self.chosen],
            action=self.action,
        )
        for each in refused[:10]:
            messages.error(request, f"{each.name}: {each.detail}")
        if len(refused) > 10:
            messages.error(request, f"and {len(refused) - 10} more.")
        if asked:
            which = asked[0].payload["name"] if len(asked) == 1 else f"{len(asked)} containers"
            messages.success(request, f"{self.action.capitalize()}: {which}. The host is asked at once.")
        return redirect(back)


def is_agent(container: Container) -> bool:
    """Whether it is, by its image's name, an agent of dockmesh's own."""
    return "dockmesh-agent" in container.image or "dockmesh-agent" in container.name


class ContainerLog(ContainerPage, DetailPage):
    """The log: a page of its last lines without a script, or a file."""

    required_permission = Permission.CONTAINERS_LOGS
    template = "fleet/container_log.html"
    title = "Log"

    def get(self, request: Any, *args: Any, **kwargs: Any) -> HttpResponseBase:
        """The lines, or why there are none."""
        container, actor = self.object, self.principal.actor
        try:
            options = logs.log_options(log_form(request.GET))
            if request.GET.get("as") == "file":
                name = f"{container.name}.log"
                return log_response(
                    request, actor=actor, container_id=container.pk, options=options, filename=name
                )
            stream = logs.LogStream(
                actor=actor, container_id=container.pk, options=options, seconds=LOG_SECONDS
            )
        except DomainError as error:
            return self.show(status=error.status, error=error.detail, asked=request.GET, text="")
        try:
            text = "".join(stream)
        finally:
            stream.close()
        return self.show(asked=request.GET, text=text, options=options)


class ContainerLogOpen(ContainerPage):
    """Begins to read a log, for the script of the page."""

    required_permission = Permission.CONTAINERS_LOGS
    http_method_names = ["post"]

    def post(self, request: Any, *args: Any, **kwargs: Any) -> HttpResponseBase:
        """The address at which the lines are found."""
        try:
            options = logs.log_options({**log_form(request.POST), "follow": request.POST.get("follow", "")})
            session = logs.open_log(actor=self.principal.actor, container_id=self.object.pk, options=options)
        except DomainError as error:
            return JsonResponse({"error": error.detail}, status=error.status)
        return JsonResponse({"url": reverse("fleet:container-log-read", args=[session.uuid])}, status=201)


class ContainerLogRead(Page):
    """The next lines, for the script of the page."""

    required_permission = Permission.CONTAINERS_LOGS
    http_method_names = ["get"]

    def get(self, request: Any, session: uuid.UUID, *args: Any, **kwargs: Any) -> HttpResponseBase:
        """What has come since `after`."""
        after = request.GET.get("after", "0")
        number = int(after) if after.isascii() and after.isdigit() and len(after) < 10 else 0
        try:
            found = logs.read_log(actor=self.principal.actor, session_id=session, after=number)
        except DomainError as error:
            return JsonResponse({"error": error.detail, "is_ended": True}, status=error.status)
        return JsonResponse(
            {"text": found.text, "next": found.next, "is_ended": found.is_ended, "error": found.error}
        )


def log_form(given: Any) -> dict[str, str]:
    """The options as the page's form has them: a choice of streams in one field, boxes that are there or not."""
    chosen = {name: str(given.get(name, "")).strip() for name in ("tail", "since", "search")}
    chosen["timestamps"] = "true" if given.get("timestamps") else ""
    chosen["ansi"] = "true" if given.get("ansi") else ""
    stream = given.get("stream", "")
    if stream in ("stdout", "stderr"):
        chosen["stderr" if stream == "stdout" else "stdout"] = "false"
    return chosen
