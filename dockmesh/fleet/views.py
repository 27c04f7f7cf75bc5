"""The pages of hosts and containers."""

import datetime
from collections.abc import Iterable, Mapping
from typing import Any

from django.contrib import messages
from django.core.exceptions import PermissionDenied
from django.db.models import Q
from django.http.response import HttpResponseBase
from django.shortcuts import redirect

from dockmesh import __version__
from dockmesh.core import clock, scrapeconfig
from dockmesh.core.errors import Forbidden, InvalidInput
from dockmesh.core.pages import Action, ConfirmPage, DetailPage, FormPage, ListPage, ObjectPage
from dockmesh.core.tables import Column, words
from dockmesh.fleet import (
    agent_files,
    causes,
    hours,
    installing,
    progress,
    renewal,
    rows,
    selectors,
    services,
)
from dockmesh.fleet.forms import AddHostForm, HostForm, UpdateAgentsForm
from dockmesh.fleet.listening import offline_before
from dockmesh.fleet.models import AgentUpdate, Container, EnrollmentToken, Host
from dockmesh.fleet.selectors import subjects, summary, usage
from dockmesh.fleet.services import agent_updates
from dockmesh.fleet.states import HostStatus
from tokens.permissions import Permission

# The host's page shows so many containers; the rest is a link away.
SHOWN_CONTAINERS = 100
# A clock that is further off is worth a word.
NOTABLE_SKEW_SECONDS = 5.0


class HostList(ListPage):
    """All hosts."""

    required_permission = Permission.FLEET_READ
    template = part = "fleet/hosts.html"
    title = "Hosts"
    lead = "The machines that run your containers."
    search_hint = "Search names and labels"
    queryset = Host.objects.select_related("heartbeat_state")
    columns = (
        Column("name", "Name", ("name",)),
        Column("status", "Status"),
        Column("containers", "Containers"),
        Column("stacks", "Stacks"),
        Column("seen", "Last seen", ("-heartbeat_state__last_seen_at",)),
        Column("docker", "Docker", ("docker_version",), css="wide"),
        Column("agent", "Agent", ("agent_version",), css="wide"),
        Column("labels", "Labels", css="wide"),
    )
    default_sort = "name"
    filters = (
        words(
            "status",
            "Status",
            {"online": "well", "degraded": "warning", "offline": "bad"},
            lambda value: selectors.hosts_in_status(HostStatus(value)),
            counts=summary.host_counts,
        ),
    )
    ties = ("name",)
    search = ("name",)

    def matching(self, text: str) -> Q:
        # A label is found by its text, as far as JSON writes it like everybody does.
        return super().matching(text) | selectors.hosts_with_label_text(text)

    def shown(self) -> Iterable[rows.HostRow]:
        return rows.host_rows(self.table, offline_before(clock.now()))

    def context(self) -> Mapping[str, Any]:
        return {"may_manage": self.may(Permission.FLEET_MANAGE)}


class HostPage(ObjectPage):
    """A page of one host."""

    required_permission = Permission.FLEET_MANAGE
    object: Host
    queryset = Host.objects.select_related("heartbeat_state")
    kind = "host"
    route = "fleet:host"
    parents = (("Hosts", "fleet:hosts"),)


class HostDetail(HostPage, DetailPage):
    """One host."""

    required_permission = Permission.FLEET_READ
    template = "fleet/host.html"
    part = "fleet/parts/host.html"

    def context(self) -> Mapping[str, Any]:
        host, now = self.object, clock.now()
        before = offline_before(now)
        containers = (
            Container.objects.filter(host=host)
            .select_related("host__heartbeat_state", "stack")
            .order_by("name", "id")
        )
        shown = rows.container_rows(containers[: SHOWN_CONTAINERS + 1], before)
        bounds, counts = rows.round_trips(host)
        row = rows.host_rows([host], before)[0]
        used = usage.usage_now([host.pk], now, before).get(host.pk)
        return {
            "row": row,
            "hours": hours.of_host(host.pk, now),
            "used": used,
            "tops": rows.tops(used.containers) if used else (),
            "disk": rows.disk_rows(used.disk) if used and used.disk else (),
            "cause": causes.of_host(subjects.host_fact(host, row.status)),
            "no_stacks": "No stacks" if row.status is HostStatus.ONLINE else "Not known",
            "labels": sorted(host.labels.items()),
            "stacks": rows.stack_rows(host, before),
            "containers": shown[:SHOWN_CONTAINERS],
            "has_more_containers": len(shown) > SHOWN_CONTAINERS,
            "round_trip_bounds": bounds,
            "round_trip_counts": counts,
            "mean_round_trip": host.heartbeat_state.rtt_sum / counts[-1] if counts[-1] else None,
            "is_clock_off": abs(host.heartbeat_state.clock_skew_seconds) > NOTABLE_SKEW_SECONDS,
            "clock_skew": abs(host.heartbeat_state.clock_skew_seconds),
            "may_manage": self.may(Permission.FLEET_MANAGE),
            "may_renew": not renewal.lacking(self.principal),
            "is_agent_behind": agent_updates.is_behind(host),
            "why_no_update": agent_updates.why_not_updated(host),
            "agent_update": (update := host.agent_updates.select_related("rollout").first()),
            "is_update_open": update is not None and update.is_open,
            "server_version": __version__,
        }


class CommandPage(FormPage):
    """Makes an enrollment token, and shows it once in the commands that start the agent."""

    required_permission = Permission.FLEET_MANAGE
    form_class = AddHostForm
    action_label = "Make the command"
    service = services.create_enrollment_token

    def ways(self, base_url: str, text: str) -> list[installing.Way]:
        """What to run on the host, with the token in it."""
        return installing.ways(base_url, text)

    def save(self, form: AddHostForm) -> HttpResponseBase:
        lifetime: datetime.timedelta = form.cleaned_data["lifetime"]
        token, text = self.call(lifetime=lifetime)
        base_url = scrapeconfig.base_url_of(self.request)
        response = self.show(
            "fleet/host_command.html",
            token=token,
            ways=self.ways(base_url, text),
            base_url=base_url,
            is_loopback=installing.is_loopback(base_url),
            files=[agent_files.script(base_url), agent_files.pyz(), agent_files.context()],
            steps=progress.steps(token),
        )
        response.headers["Cache-Control"] = "no-store"
        return response


class HostAdd(CommandPage):
    """Adds a host."""

    parents = HostPage.parents
    title = "Add host"
    lead = "A small program, the agent, runs on each machine with Docker and reports here. It needs no open port there."


class HostRenew(HostPage, CommandPage):
    """Gives this host a new agent token."""

    title = heading = "New agent token"
    lead = (
        "For an agent that was installed anew, or whose token somebody else may know. {object.name} keeps its name,"
        " labels and history; the old token ends when the agent enrols with the command, not before."
    )

    def authorise(self, permission: str) -> HttpResponseBase | None:
        """It takes more than one permission."""
        if refused := super().authorise(permission):
            return refused
        try:
            renewal.require(self.principal, path=self.request.path)
        except Forbidden as error:
            raise PermissionDenied(error.detail) from None
        return None

    def ways(self, base_url: str, text: str) -> list[installing.Way]:
        return installing.renewal_ways(base_url, text)


class HostAdded(ObjectPage, DetailPage):
    """How far the new host is: the part of the page that waits for its first heartbeat."""

    required_permission = Permission.FLEET_MANAGE
    template = "fleet/host_added.html"
    part = "fleet/parts/host_added.html"
    object: EnrollmentToken
    queryset = EnrollmentToken.objects.select_related("host__heartbeat_state")
    kind = "token"
    parents = HostPage.parents

    @property
    def object_name(self) -> str:
        return HostRenew.title if self.object.is_renewal else HostAdd.title

    def context(self) -> Mapping[str, Any]:
        return {"is_reporting": rows.is_reporting(self.object), "steps": progress.steps(self.object)}


class HostChange(HostPage, FormPage):
    """Rename it, label it, say where its exporters are."""

    title = "Change"
    form_class = HostForm
    service = services.change_host
    done = "Saved."


class HostRemove(HostPage, ConfirmPage):
    """Remove a host after its name was typed."""

    title = "Remove host"
    consequences = (
        "Its stacks, containers, backup jobs and series on /metrics go with it. Nothing on the machine itself"
        " is touched: its containers run on.",
        "Its agent is refused from then on. Stop it there, or enrol the host again.",
    )
    service = services.remove_host
    done = "The host {object.name} is removed."
    next_route = "fleet:hosts"


class HostAgentUpdate(HostPage, Action):
    """Has the host's agent update itself."""

    service = agent_updates.update_agent
    done = "The agent of {object} is asked to update itself; how far it is stands below."


class AgentUpdateList(ListPage):
    """How agents were brought up to date."""

    required_permission = Permission.FLEET_READ
    template = part = "fleet/agent_updates.html"
    parents = HostPage.parents
    title = "Agent updates"
    lead = "How the agents of hosts were brought up to date with this server, and what came of it."
    search_hint = "Search hosts"
    queryset = AgentUpdate.objects.select_related("host", "rollout")
    columns = (
        Column("host", "Host", ("host__name",)),
        Column("status", "Status", ("status",)),
        Column("from", "From version", ("version_before",)),
        Column("asked", "Asked for", ("-rollout__created_at", "-id")),
        Column("by", "By", ("rollout__created_by",)),
        Column("ended", "Ended", ("-finished_at",)),
    )
    default_sort = "asked"
    search = ("host__name",)

    def context(self) -> Mapping[str, Any]:
        return {"may_manage": self.may(Permission.FLEET_MANAGE)}


class AgentUpdateStart(FormPage):
    """Has agents update themselves."""

    required_permission = Permission.FLEET_MANAGE
    parents = (*HostPage.parents, ("Agent updates", "fleet:agent-updates"))
    title = "Update agents"
    lead = (
        "Each agent fetches this server's version, tries it, and goes back to its own unless the server hears the new"
        " one within a minute. One host is first; once that went well, five at a time follow. The first one that fails"
        " stops those that have not begun."
    )
    action_label = "Update"
    form_class = UpdateAgentsForm
    service = agent_updates.update_agents
    next_route = "fleet:agent-updates"

    def form_options(self) -> Mapping[str, Any]:
        hosts = Host.objects.select_related("heartbeat_state").order_by("name")
        return {"hosts": [(host.pk, host.name) for host in hosts if not agent_updates.why_not_updated(host)]}

    def arguments(self, form: UpdateAgentsForm) -> Mapping[str, Any]:
        which = form.cleaned_data["which"]
        if which == "hosts":
            return {"host_ids": [int(pk) for pk in form.cleaned_data["hosts"]]}
        rows = (
            Host.objects.filter(selectors.with_label(form.cleaned_data["label"]))
            if which == "label"
            else Host.objects.all()
        )
        if not (found := agent_updates.behind(rows)):
            raise InvalidInput(
                which if which == "label" else "which", "There is no such host whose agent is behind."
            )
        return {"host_ids": found}

    def save(self, form: UpdateAgentsForm) -> HttpResponseBase:
        _, refused = self.call(**self.arguments(form))
        for each in refused:
            messages.warning(self.request, each.detail)
        return redirect(self.next_url(None))
