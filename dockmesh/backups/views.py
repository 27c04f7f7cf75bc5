"""The pages of backups."""

from collections.abc import Mapping

from django.contrib import messages
from django.db.models import Q
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.urls import reverse
from django.views.decorators.http import require_GET, require_http_methods, require_POST

from dockmesh.backups import services
from dockmesh.backups.forms import JobForm, NewJobForm, RestoreForm, UnlockForm, initial_of
from dockmesh.backups.models import BackupJob, BackupRun
from dockmesh.backups.schedule import preview
from dockmesh.core import clock
from dockmesh.core.errors import DomainError
from dockmesh.core.forms import ConfirmForm, add_refusal
from dockmesh.core.tables import Choice, Column, Filter, Table
from dockmesh.fleet.models import Host
from tokens.decorators import page_permission
from tokens.permissions import Permission
from tokens.principals import actor_of, principal_of

FORM_METHODS = require_http_methods(["GET", "HEAD", "POST"])
RECENT = 15

ENDED = Filter(
    "last",
    "Last backup",
    [
        Choice("success", "Success", "well"),
        Choice("partial", "Partial", "warning"),
        Choice("failure", "Failed", "bad"),
    ],
)
STATUSES = Filter(
    "status",
    "Status",
    [
        Choice("queued", "Queued", "working"),
        Choice("running", "Running", "working"),
        Choice("success", "Success", "well"),
        Choice("partial", "Partial", "warning"),
        Choice("failure", "Failed", "bad"),
        Choice("cancelled", "Cancelled"),
    ],
)
KINDS = Filter("kind", "Kind", [Choice(value, value.capitalize()) for value in BackupRun.Kind])


@require_GET
@page_permission(Permission.FLEET_READ)
def jobs(request: HttpRequest) -> HttpResponse:
    """All jobs."""
    table = Table(
        request.GET,
        columns=[
            Column("name", "Job", ("name",)),
            Column("host", "Host", ("host__name",)),
            Column("status", "Last backup", ("last_status",)),
            Column("success", "Last success", ("last_success_at",)),
            Column("took", "Took", ("last_duration_seconds",), css="num"),
            Column("next", "Next", ("next_run_at",)),
        ],
        default_sort="name",
        filters=[ENDED],
    )
    rows = table.ordered(BackupJob.objects.select_related("host").defer("snapshots"))
    if table.query:
        rows = rows.filter(Q(name__icontains=table.query) | Q(host__name__icontains=table.query))
    if last := table.filter_value("last"):
        rows = rows.filter(last_status=last)
    context = {
        "table": table.show(rows),
        "may_manage": _may_manage(request),
        "has_hosts": Host.objects.exists(),
    }
    return render(request, "backups/jobs.html", context)


@require_GET
@page_permission(Permission.FLEET_READ)
def job(request: HttpRequest, pk: int) -> HttpResponse:
    """One job and its runs. `?part=live` refreshes itself."""
    found = get_object_or_404(BackupJob.objects.select_related("host__heartbeat_state"), pk=pk)
    context = {
        "job": found,
        "paths": services.job_paths(found),
        "runs": found.runs.defer("output").order_by("-pk")[:RECENT],
        "may_manage": _may_manage(request),
        **_following(found),
    }
    return _page(request, "backups/job.html", "backups/parts/job.html", context)


def _following(found: BackupJob) -> dict[str, object]:
    """The next moments of the schedule, or why there are none."""
    if not found.is_enabled:
        return {}
    try:
        jitter, seed = found.jitter_seconds, found.snapshot_tag
        now = clock.now()
        return {"following": preview(found.schedule, found.time_zone, now, jitter_seconds=jitter, seed=seed)}
    except DomainError as error:
        return {"schedule_error": error.detail}


@FORM_METHODS
@page_permission(Permission.BACKUPS_MANAGE)
def new_job(request: HttpRequest) -> HttpResponse:
    """Make a job."""
    form = NewJobForm(request.POST or None, initial={"host": request.GET.get("host", "")})
    if request.method == "POST" and form.is_valid():
        values = dict(form.cleaned_data)
        try:
            made = services.create_job(actor=actor_of(request), host_id=values.pop("host"), **values)
        except DomainError as error:
            add_refusal(form, error)
        else:
            messages.success(request, f"The job {made.name} is made. Run it now to see whether it works.")
            return redirect("backups:job", made.pk)
    context = {"form": form, "job": None, "repositories": _repositories(), "has_hosts": Host.objects.exists()}
    return render(request, "backups/job_form.html", context)


@FORM_METHODS
@page_permission(Permission.BACKUPS_MANAGE)
def change_job(request: HttpRequest, pk: int) -> HttpResponse:
    """Change a job."""
    found = get_object_or_404(BackupJob, pk=pk)
    form = JobForm(request.POST or None, initial=initial_of(found))
    if request.method == "POST" and form.is_valid():
        try:
            services.change_job(actor=actor_of(request), job_id=pk, **form.changes())
        except DomainError as error:
            add_refusal(form, error)
        else:
            messages.success(request, "The job is saved.")
            return redirect("backups:job", pk)
    context = {"form": form, "job": found, "repositories": _repositories(), "has_hosts": True}
    return render(request, "backups/job_form.html", context)


@FORM_METHODS
@page_permission(Permission.BACKUPS_MANAGE)
def remove_job(request: HttpRequest, pk: int) -> HttpResponse:
    """Remove a job after its name was typed."""
    found = get_object_or_404(BackupJob, pk=pk)
    form = ConfirmForm(request.POST or None, expected=found.name)
    if request.method == "POST" and form.is_valid():
        try:
            services.remove_job(actor=actor_of(request), job_id=pk)
        except DomainError as error:
            add_refusal(form, error)
        else:
            messages.success(request, f"The job {found.name} is removed.")
            return redirect("backups:jobs")
    context = {
        "title": "Remove backup job",
        "object_kind": "job",
        "object_name": found.name,
        "consequences": [
            "No more backups are made by it, and its series on /metrics go. Its snapshots stay in the"
            f" repository {found.repository}, its runs in the history."
        ],
        "action_label": "Remove job",
        "back_url": reverse("backups:job", args=[pk]),
        "form": form,
    }
    return render(request, "web/confirm.html", context)


@require_POST
@page_permission(Permission.BACKUPS_MANAGE)
def run_job(request: HttpRequest, pk: int) -> HttpResponse:
    """Back up, verify or list the snapshots now, as the button says."""
    actor = actor_of(request)
    try:
        if request.POST.get("kind") == "verify":
            made = services.verify(actor=actor, job_id=pk)
        elif request.POST.get("kind") == "snapshots":
            made = services.operate(actor=actor, job_id=pk, kind=BackupRun.Kind.SNAPSHOTS)
        else:
            made = services.run_now(actor=actor, job_id=pk)
    except DomainError as error:
        messages.error(request, error.detail)
        return redirect("backups:job", pk)
    return redirect("backups:run", made.pk)


@require_POST
@page_permission(Permission.BACKUPS_MANAGE)
def cancel_run(request: HttpRequest, pk: int) -> HttpResponse:
    """End a run."""
    try:
        services.cancel(actor=actor_of(request), run_id=pk)
    except DomainError as error:
        messages.error(request, error.detail)
    return redirect("backups:run", pk)


OPERATIONS = {
    "retention": (
        "Apply retention",
        "The snapshots that the job's retention does not keep are removed from the repository {repository}, and the"
        " data that no other snapshot needs.",
    ),
    "prune": (
        "Free space",
        "Data that no snapshot in the repository {repository} needs is removed. No snapshot is. Nothing else can write into"
        " the repository meanwhile.",
    ),
    "init": (
        "Make the repository",
        "An empty repository {repository} is made at its address. Snapshots of an older one that is gone don't come back.",
    ),
}


@FORM_METHODS
@page_permission(Permission.BACKUPS_MANAGE)
def operate(request: HttpRequest, pk: int, kind: str) -> HttpResponse:
    """Retention, free space, a new repository: after the job's name was typed."""
    if kind not in OPERATIONS:
        raise Http404
    found = get_object_or_404(BackupJob, pk=pk)
    form = ConfirmForm(request.POST or None, expected=found.name)
    if request.method == "POST" and form.is_valid():
        try:
            made = services.operate(actor=actor_of(request), job_id=pk, kind=BackupRun.Kind(kind))
        except DomainError as error:
            add_refusal(form, error)
        else:
            return redirect("backups:run", made.pk)
    title, consequence = OPERATIONS[kind]
    context = {
        "title": title,
        "object_kind": "job",
        "object_name": found.name,
        "consequences": [consequence.format(repository=found.repository)],
        "action_label": title,
        "back_url": reverse("backups:job", args=[pk]),
        "form": form,
    }
    return render(request, "web/confirm.html", context)


@FORM_METHODS
@page_permission(Permission.BACKUPS_MANAGE)
def unlock(request: HttpRequest, pk: int) -> HttpResponse:
    """Remove locks of the job's repository after its name was typed."""
    found = get_object_or_404(BackupJob, pk=pk)
    form = UnlockForm(request.POST or None, expected=found.repository)
    if request.method == "POST" and form.is_valid():
        values = form.cleaned_data
        try:
            made = services.unlock(
                actor=actor_of(request), job_id=pk, remove_all=values["remove_all"], confirm=values["name"]
            )
        except DomainError as error:
            add_refusal(form, error)
        else:
            return redirect("backups:run", made.pk)
    context = {
        "title": "Unlock",
        "object_kind": "repository",
        "object_name": found.repository,
        "consequences": [
            "The agent removes locks that provably nobody holds, as it does by itself, and tells who holds the others.",
            "If you remove those too while their run is alive, what it does at this moment is destroyed: look there first"
            " that it is no more.",
        ],
        "action_label": "Unlock",
        "back_url": reverse("backups:job", args=[pk]),
        "form": form,
    }
    return render(request, "web/confirm.html", context)


@FORM_METHODS
@page_permission(Permission.BACKUPS_MANAGE)
def restore(request: HttpRequest, pk: int) -> HttpResponse:
    """Restore a snapshot after the job's name was typed."""
    found = get_object_or_404(BackupJob.objects.select_related("host"), pk=pk)
    initial = {"snapshot_id": request.GET.get("snapshot", "latest")}
    form = RestoreForm(request.POST or None, job=found, initial=initial)
    if request.method == "POST" and form.is_valid():
        values = dict(form.cleaned_data)
        del values["name"]
        values["host_id"] = values.pop("host") or None
        try:
            made = services.restore(actor=actor_of(request), job_id=pk, **values)
        except DomainError as error:
            add_refusal(form, error)
        else:
            return redirect("backups:run", made.pk)
    context = {
        "title": "Restore",
        "object_kind": "job",
        "object_name": found.name,
        "consequences": [
            "The host's agent writes the snapshot's files, as root. Stop what uses them before you restore them to where"
            " they were."
        ],
        "action_label": "Restore",
        "back_url": reverse("backups:job", args=[pk]),
        "form": form,
    }
    return render(request, "web/confirm.html", context)


@require_GET
@page_permission(Permission.FLEET_READ)
def runs(request: HttpRequest) -> HttpResponse:
    """All runs, the newest first."""
    table = Table(
        request.GET,
        columns=[
            Column("number", "Run", ("pk",)),
            Column("job", "Job", ("job_name",)),
            Column("host", "Host", ("host_name",)),
            Column("kind", "Kind", ("kind",)),
            Column("status", "Status", ("status",)),
            Column("requested", "Asked for", ("requested_at",)),
            Column("took", "Took", ("duration_seconds",), css="num"),
            Column("added", "Added", ("bytes_added",), css="num"),
        ],
        default_sort="-number",
        filters=[STATUSES, KINDS],
    )
    rows = table.ordered(BackupRun.objects.defer("output"))
    if table.query:
        rows = rows.filter(Q(job_name__icontains=table.query) | Q(host_name__icontains=table.query))
    for key in ("status", "kind"):
        if value := table.filter_value(key):
            rows = rows.filter(**{key: value})
    return render(request, "backups/runs.html", {"table": table.show(rows)})


@require_GET
@page_permission(Permission.FLEET_READ)
def run(request: HttpRequest, pk: int) -> HttpResponse:
    """One run, live while it runs. `?part=live` refreshes itself."""
    found = get_object_or_404(
        BackupRun.objects.select_related("job__host__heartbeat_state", "host__heartbeat_state"), pk=pk
    )
    begun = found.started_at or found.requested_at
    context = {
        "run": found,
        "elapsed": found.duration_seconds if found.finished_at else (clock.now() - begun).total_seconds(),
        "heartbeat_state": found.host.heartbeat_state
        if found.host
        else found.job.host.heartbeat_state
        if found.job
        else None,
        "may_cancel": _may_manage(request) and found.is_open,
        "may_restore": _may_manage(request) and found.job_id is not None,
    }
    return _page(request, "backups/run.html", "backups/parts/run.html", context)


def _may_manage(request: HttpRequest) -> bool:
    principal = principal_of(request)
    return principal is not None and principal.has(Permission.BACKUPS_MANAGE)


def _repositories() -> list[str]:
    """The repositories that the hosts' agents know, as suggestions."""
    names: set[str] = set()
    for info in Host.objects.values_list("agent_info", flat=True):
        names.update(info.get("repositories", []))
    return sorted(names)[:200]


def _page(request: HttpRequest, template: str, part: str, context: Mapping[str, object]) -> HttpResponse:
    if request.GET.get("part") == "live":
        response = render(request, part, dict(context))
        response.headers["X-Dockmesh-Part"] = "live"
        return response
    return render(request, template, dict(context))
