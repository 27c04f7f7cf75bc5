"""The pages of hosts and containers."""

import datetime
from collections.abc import Mapping

from django.contrib import messages
from django.core.exceptions import PermissionDenied
from django.db.models import Q
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.urls import reverse
from django.views.decorators.gzip import gzip_page
from django.views.decorators.http import require_http_methods, require_safe

from dockmesh.core import clock, scrapeconfig
from dockmesh.core.errors import DomainError, Forbidden
from dockmesh.core.forms import ConfirmForm, add_refusal
from dockmesh.core.tables import Choice, Column, Filter, Table
from dockmesh.fleet import causes, installing, pages, renewal, selectors, services, watch
from dockmesh.fleet.forms import AddHostForm, HostForm
from dockmesh.fleet.listening import offline_before
from dockmesh.fleet.models import Container, EnrollmentToken, Host
from dockmesh.fleet.states import ContainerState, HostStatus
from tokens.decorators import page_permission
from tokens.permissions import Permission
from tokens.principals import actor_of, principal_of

FORM_METHODS = require_http_methods(["GET", "HEAD", "POST"])
# The host's page shows so many containers; the rest is a link away.
SHOWN_CONTAINERS = 100
# A clock that is further off is worth a word.
NOTABLE_SKEW_SECONDS = 5.0

STATUSES = Filter(
    "status",
    "Status",
    [
        Choice("online", "Online", "well"),
        Choice("degraded", "Degraded", "warning"),
        Choice("offline", "Offline", "bad"),
    ],
)
STATES = Filter("state", "State", [Choice(state.value, state.value.capitalize()) for state in ContainerState])


@require_safe
@gzip_page
@page_permission(Permission.FLEET_READ)
def hosts(request: HttpRequest) -> HttpResponse:
    """All hosts. `?part=live` is the table, which refreshes itself."""
    table = Table(
        request.GET,
        columns=[
            Column("name", "Name", ("name",)),
            Column("status", "Status"),
            Column("containers", "Containers"),
            Column("stacks", "Stacks"),
            Column("seen", "Last seen", ("-heartbeat_state__last_seen_at",)),
            Column("docker", "Docker", ("docker_version",)),
            Column("labels", "Labels"),
        ],
        default_sort="name",
        filters=[STATUSES],
    )
    rows = table.ordered(Host.objects.select_related("heartbeat_state"))
    if table.query:
        # A label is found by its text, as far as JSON writes it like everybody does.
        rows = rows.filter(Q(name__icontains=table.query) | selectors.hosts_with_label_text(table.query))
    if status := table.filter_value("status"):
        rows = rows.filter(selectors.hosts_in_status(HostStatus(status)))
    table.show(rows)
    context = {
        "table": table,
        "rows": pages.host_rows(table.rows, offline_before(clock.now())),
        "live_url": _live_url(table),
        "may_manage": _may_manage(request),
    }
    return _page(request, "fleet/hosts.html", "fleet/parts/hosts.html", context)


@require_safe
@gzip_page
@page_permission(Permission.FLEET_READ)
def host(request: HttpRequest, pk: int) -> HttpResponse:
    """One host. `?part=live` is what refreshes itself."""
    found = get_object_or_404(Host.objects.select_related("heartbeat_state"), pk=pk)
    rows = (
        Container.objects.filter(host=found)
        .select_related("host__heartbeat_state", "stack")
        .order_by("name", "id")
    )
    before = offline_before(clock.now())
    shown = pages.container_rows(rows[: SHOWN_CONTAINERS + 1], before)
    bounds, counts = pages.round_trips(found)
    row = pages.host_rows([found], before)[0]
    context = {
        "row": row,
        "cause": causes.of_host(watch.host_fact(found, row.status)),
        "host": found,
        "labels": sorted(found.labels.items()),
        "stacks": pages.stack_rows(found, before),
        "containers": shown[:SHOWN_CONTAINERS],
        "has_more_containers": len(shown) > SHOWN_CONTAINERS,
        "round_trip_bounds": bounds,
        "round_trip_counts": counts,
        "mean_round_trip": found.heartbeat_state.rtt_sum / counts[-1] if counts[-1] else None,
        "is_clock_off": abs(found.heartbeat_state.clock_skew_seconds) > NOTABLE_SKEW_SECONDS,
        "clock_skew": abs(found.heartbeat_state.clock_skew_seconds),
        "may_manage": _may_manage(request),
        "may_renew": not renewal.lacking(principal_of(request)),
    }
    return _page(request, "fleet/host.html", "fleet/parts/host.html", context)


@FORM_METHODS
@page_permission(Permission.FLEET_MANAGE)
def add_host(request: HttpRequest) -> HttpResponse:
    """Make an enrollment token, and show it once in the commands that start the agent."""
    form = AddHostForm(request.POST or None)
    if request.method == "POST" and form.is_valid():
        lifetime: datetime.timedelta = form.cleaned_data["lifetime"]
        try:
            token, text = services.create_enrollment_token(actor=actor_of(request), lifetime=lifetime)
        except DomainError as error:
            add_refusal(form, error)
        else:
            commands = installing.agent_commands(scrapeconfig.base_url_of(request), text)
            return _commands_page(request, token, commands)
    return render(request, "fleet/host_add.html", {"form": form})


@FORM_METHODS
@page_permission(Permission.FLEET_MANAGE)
def renew_host(request: HttpRequest, pk: int) -> HttpResponse:
    """Make an enrollment token that gives this host a new agent token, and show it once in the commands."""
    _require_renewal(request)
    found = get_object_or_404(Host, pk=pk)
    form = AddHostForm(request.POST or None)
    if request.method == "POST" and form.is_valid():
        try:
            token, text = services.create_enrollment_token(
                actor=actor_of(request), lifetime=form.cleaned_data["lifetime"], host_id=pk
            )
        except DomainError as error:
            add_refusal(form, error)
        else:
            commands = installing.renewal_commands(scrapeconfig.base_url_of(request), text)
            return _commands_page(request, token, commands)
    return render(request, "fleet/host_renew.html", {"form": form, "host": found})


@require_safe
@page_permission(Permission.FLEET_MANAGE)
def added_host(request: HttpRequest, pk: int) -> HttpResponse:
    """How far the new host is: the part of the page that waits for its first heartbeat."""
    token = get_object_or_404(EnrollmentToken.objects.select_related("host__heartbeat_state"), pk=pk)
    context = {"token": token, "is_reporting": pages.is_reporting(token)}
    return _page(request, "fleet/host_added.html", "fleet/parts/host_added.html", context)


@FORM_METHODS
@page_permission(Permission.FLEET_MANAGE)
def change_host(request: HttpRequest, pk: int) -> HttpResponse:
    """Rename it, label it, say where its exporters are."""
    found = get_object_or_404(Host, pk=pk)
    form = HostForm(request.POST or None, initial=HostForm.initial_of(found))
    if request.method == "POST" and form.is_valid():
        try:
            services.change_host(actor=actor_of(request), host_id=pk, **form.changes())
        except DomainError as error:
            add_refusal(form, error)
        else:
            messages.success(request, "Saved.")
            return redirect("fleet:host", pk)
    return render(request, "fleet/host_form.html", {"form": form, "host": found})


@FORM_METHODS
@page_permission(Permission.FLEET_MANAGE)
def remove_host(request: HttpRequest, pk: int) -> HttpResponse:
    """Remove a host after its name was typed."""
    found = get_object_or_404(Host, pk=pk)
    form = ConfirmForm(request.POST or None, expected=found.name)
    if request.method == "POST" and form.is_valid():
        try:
            services.remove_host(actor=actor_of(request), host_id=pk)
        except DomainError as error:
            add_refusal(form, error)
        else:
            messages.success(request, f"The host {found.name} is removed.")
            return redirect("fleet:hosts")
    context = {
        "title": "Remove host",
        "object_kind": "host",
        "object_name": found.name,
        "consequences": [
            "Its stacks, containers, backup jobs and series on /metrics go with it. Nothing on the machine itself"
            " is touched: its containers run on.",
            "Its agent is refused from then on. Stop it there, or enrol the host again.",
        ],
        "action_label": "Remove host",
        "back_url": reverse("fleet:host", args=[pk]),
        "form": form,
    }
    return render(request, "web/confirm.html", context)


@require_safe
@gzip_page
@page_permission(Permission.FLEET_READ)
def containers(request: HttpRequest) -> HttpResponse:
    """All containers. `?part=live` is the table, which refreshes itself."""
    table = Table(
        request.GET,
        columns=[
            Column("name", "Name", ("name",)),
            Column("host", "Host", ("host__name",)),
            Column("stack", "Stack", ("stack__name",)),
            Column("state", "State", ("state",)),
            Column("health", "Health", ("health",)),
            Column("image", "Image", ("image",)),
            Column("restarts", "Restarts", ("restart_count",), css="num"),
            Column("changed", "Changed", ("-changed_at",)),
        ],
        default_sort="name",
        filters=[STATES],
    )
    rows = table.ordered(Container.objects.select_related("host__heartbeat_state", "stack"))
    if query := table.query:
        rows = rows.filter(
            Q(name__icontains=query)
            | Q(image__icontains=query)
            | Q(host__name__icontains=query)
            | Q(stack__name__icontains=query)
        )
    if state := table.filter_value("state"):
        rows = rows.filter(selectors.in_shown_state(state))
    table.show(rows)
    context = {
        "table": table,
        "rows": pages.container_rows(table.rows, offline_before(clock.now())),
        "live_url": _live_url(table),
    }
    return _page(request, "fleet/containers.html", "fleet/parts/containers.html", context)


def _live_url(table: Table) -> str:
    """This very page of this table, as the part that refreshes itself."""
    number = table.page.number if table.page is not None else 1
    return table.url(page=number, part="live")


def _may_manage(request: HttpRequest) -> bool:
    principal = principal_of(request)
    return principal is not None and principal.has(Permission.FLEET_MANAGE)


def _require_renewal(request: HttpRequest) -> None:
    principal = principal_of(request)
    assert principal is not None
    try:
        renewal.require(principal, path=request.path)
    except Forbidden as error:
        raise PermissionDenied(error.detail) from None


def _page(request: HttpRequest, template: str, part: str, context: Mapping[str, object]) -> HttpResponse:
    if request.GET.get("part") == "live":
        response = render(request, part, dict(context))
        response.headers["X-Dockmesh-Part"] = "live"
        return response
    return render(request, template, dict(context))


def _commands_page(
    request: HttpRequest, token: EnrollmentToken, commands: list[installing.Command]
) -> HttpResponse:
    """The token in the commands, this once."""
    response = render(request, "fleet/host_command.html", {"token": token, "commands": commands})
    response.headers["Cache-Control"] = "no-store"
    return response
