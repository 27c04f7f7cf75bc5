"""The pages of backups."""

from collections.abc import Mapping
from typing import Any

from django.db.models import Q
from django.http import Http404
from django.http.response import HttpResponseBase
from django.shortcuts import redirect

from dockmesh.backups import services
from dockmesh.backups.forms import JobForm, NewJobForm, RestoreForm, UnlockForm
from dockmesh.backups.models import BackupJob, BackupRun
from dockmesh.backups.schedule import preview, time_zones
from dockmesh.core import clock
from dockmesh.core.errors import DomainError
from dockmesh.core.pages import Action, ConfirmPage, DetailPage, FormPage, ListPage, ObjectPage
from dockmesh.core.tables import Column, words
from dockmesh.fleet import selectors as fleet
from tokens.permissions import Permission

RECENT = 15
JOBS = (("Backups", "backups:jobs"),)


class JobList(ListPage):
    """All jobs."""

    required_permission = Permission.FLEET_READ
    template = part = "backups/jobs.html"
    title = "Backups"
    lead = "Jobs that the hosts' agents carry out with restic."
    search_hint = "Search jobs and hosts"
    queryset = BackupJob.objects.select_related("host").defer("snapshots")
    columns = (
        Column("name", "Job", ("name",)),
        Column("host", "Host", ("host__name",)),
        Column("status", "Last backup", ("last_status",)),
        Column("success", "Last success", ("last_success_at",)),
        Column("took", "Took", ("last_duration_seconds",), css="num wide"),
        Column("next", "Next", ("next_run_at",)),
    )
    default_sort = "name"
    filters = (
        words(
            "last",
            "Last backup",
            {"success": "well", "partial": "warning", "failure": "bad"},
            lambda value: Q(last_status=value),
        ),
    )
    ties = ("host__name", "name")
    search = ("name", "host__name")

    def context(self) -> Mapping[str, Any]:
        return {"may_manage": self.may(Permission.BACKUPS_MANAGE), "has_hosts": fleet.hosts().exists()}


class JobPage(ObjectPage):
    """A page of one job."""

    required_permission = Permission.BACKUPS_MANAGE
    object: BackupJob
    queryset = BackupJob.objects.select_related("host__heartbeat_state")
    kind = "job"
    route = "backups:job"
    parents = JOBS


class JobDetail(JobPage, DetailPage):
    """One job and its runs."""

    required_permission = Permission.FLEET_READ
    template = "backups/job.html"
    part = "backups/parts/job.html"

    def context(self) -> Mapping[str, Any]:
        return {
            "paths": services.job_paths(self.object),
            "runs": self.object.runs.defer("output").order_by("-pk")[:RECENT],
            "may_manage": self.may(Permission.BACKUPS_MANAGE),
            **self.following(),
        }

    def following(self) -> Mapping[str, Any]:
        """The next times of the schedule, or why there are none."""
        job = self.object
        if not job.is_enabled:
            return {}
        try:
            jitter, seed = job.jitter_seconds, job.snapshot_tag
            times = preview(job.schedule, job.time_zone, clock.now(), jitter_seconds=jitter, seed=seed)
        except DomainError as error:
            return {"schedule_error": error.detail}
        return {"following": times}


class JobFormPage(FormPage):
    """A job's form."""

    required_permission = Permission.BACKUPS_MANAGE
    template = "backups/job_form.html"
    action_label = "Save job"

    def context(self) -> Mapping[str, Any]:
        stacks = fleet.stacks().order_by("name").values_list("name", flat=True).distinct()
        return {
            "repositories": fleet.repositories()[:200],
            "stacks": stacks[:200],
            "time_zones": sorted(time_zones()),
            "has_hosts": fleet.hosts().exists(),
        }


class JobAdd(JobFormPage):
    """Makes a job."""

    parents = JOBS
    title = "New backup job"
    form_class = NewJobForm
    service = services.create_job
    done = "The job {result.name} is made. Run it now to see whether it works."
    result_route = "backups:job"

    def form_options(self) -> Mapping[str, Any]:
        return {"initial": {"host": self.request.GET.get("host", "")}}

    def arguments(self, form: NewJobForm) -> Mapping[str, Any]:
        values = dict(form.cleaned_data)
        return {"host_id": values.pop("host"), **values}


class JobChange(JobPage, JobFormPage):
    """Changes a job."""

    title = "Change"
    form_class = JobForm
    service = services.change_job
    done = "The job is saved."


class JobRemove(JobPage, ConfirmPage):
    """Removes a job after its name was typed."""

    title = "Remove backup job"
    action_label = "Remove job"
    consequences = (
        "No more backups are made by it, and its series on /metrics go. Its snapshots stay in the"
        " repository {object.repository}, its runs in the history.",
    )
    service = services.remove_job
    done = "The job {object.name} is removed."
    next_route = "backups:jobs"


class JobRun(JobPage, Action):
    """Backs up, verifies or lists the snapshots now, as the button says."""

    result_route = "backups:run"

    def act(self) -> HttpResponseBase:
        asked = {"actor": self.principal.actor, "job_id": self.object.pk}
        kind = self.request.POST.get("kind")
        if kind == "verify":
            return redirect(self.next_url(services.verify(**asked)))
        if kind == "snapshots":
            return redirect(self.next_url(services.operate(**asked, kind=BackupRun.Kind.SNAPSHOTS)))
        return redirect(self.next_url(services.run_now(**asked)))


class JobOperate(JobPage, ConfirmPage):
    """Retention, free space, a new repository: after the job's name was typed."""

    service = services.operate
    result_route = "backups:run"

    OPERATIONS: Mapping[str, tuple[str, str]] = {
        "retention": (
            "Apply retention",
            "The snapshots that the job's retention does not keep are removed from the repository"
            " {object.repository}, and the data that no other snapshot needs.",
        ),
        "prune": (
            "Free space",
            "Data that no snapshot in the repository {object.repository} needs is removed. No snapshot is. Nothing"
            " else can write into the repository meanwhile.",
        ),
        "init": (
            "Make the repository",
            "An empty repository {object.repository} is made at its address. Snapshots of an older one that is gone"
            " don't come back.",
        ),
    }

    def elsewhere(self) -> HttpResponseBase | None:
        if self.kwargs["kind"] not in self.OPERATIONS:
            raise Http404
        self.title, sentence = self.OPERATIONS[self.kwargs["kind"]]
        self.consequences = (sentence,)
        return None

    def arguments(self, form: Any) -> Mapping[str, Any]:
        return {"kind": BackupRun.Kind(self.kwargs["kind"])}


class JobUnlock(JobPage, ConfirmPage):
    """Removes locks of the job's repository after its name was typed."""

    title = "Unlock"
    consequences = (
        "The agent removes locks that provably nobody holds, as it does by itself, and tells who holds the others.",
        "If you remove those too while their run is alive, what it does at this moment is destroyed: look there first"
        " that it is no more.",
    )
    form_class = UnlockForm
    service = services.unlock
    result_route = "backups:run"

    def asked(self) -> tuple[str, str]:
        return "repository", self.object.repository

    def arguments(self, form: UnlockForm) -> Mapping[str, Any]:
        return {"remove_all": form.cleaned_data["remove_all"], "confirm": form.cleaned_data["name"]}


class JobRestore(JobPage, ConfirmPage):
    """Restores a snapshot after the job's name was typed."""

    title = "Restore"
    consequences = (
        "The host's agent writes the snapshot's files, as root. Stop what uses them before you restore them to where"
        " they were.",
    )
    form_class = RestoreForm
    service = services.restore
    result_route = "backups:run"

    def form_options(self) -> Mapping[str, Any]:
        snapshot = self.request.GET.get("snapshot", "latest")
        return {"job": self.object, "initial": {"snapshot_id": snapshot}}

    def arguments(self, form: RestoreForm) -> Mapping[str, Any]:
        values = dict(super().arguments(form))
        return {"host_id": values.pop("host") or None, **values}


class RunList(ListPage):
    """All runs, the newest first."""

    required_permission = Permission.FLEET_READ
    template = part = "backups/runs.html"
    parents = JOBS
    title = "Runs"
    heading = "Backup runs"
    lead = "Backups, restores and verifications, the newest first."
    search_hint = "Search jobs and hosts"
    queryset = BackupRun.objects.defer("output")
    columns = (
        Column("number", "Run", ("pk",)),
        Column("job", "Job", ("job_name",)),
        Column("host", "Host", ("host_name",)),
        Column("kind", "Kind", ("kind",)),
        Column("status", "Status", ("status",)),
        Column("requested", "Asked for", ("requested_at",)),
        Column("took", "Took", ("duration_seconds",), css="num wide"),
        Column("added", "Added", ("bytes_added",), css="num wide"),
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
                "partial": "warning",
                "failure": "bad",
                "cancelled": "idle",
            },
        ),
        words("kind", "Kind", BackupRun.Kind),
    )
    ties = ("host_name", "job_name")
    search = ("job_name", "host_name")


class RunPage(ObjectPage):
    """A page of one run."""

    object: BackupRun
    queryset = BackupRun.objects.select_related("job__host__heartbeat_state", "host__heartbeat_state")
    kind = "run"
    route = "backups:run"
    parents = (*JOBS, ("Runs", "backups:runs"))


class RunDetail(RunPage, DetailPage):
    """One run, live while it runs."""

    required_permission = Permission.FLEET_READ
    template = "backups/run.html"
    part = "backups/parts/run.html"

    def context(self) -> Mapping[str, Any]:
        run, may_manage = self.object, self.may(Permission.BACKUPS_MANAGE)
        begun = run.started_at or run.requested_at
        host = run.host or (run.job.host if run.job else None)
        return {
            "elapsed": run.duration_seconds if run.finished_at else (clock.now() - begun).total_seconds(),
            "heartbeat_state": host.heartbeat_state if host else None,
            "may_cancel": may_manage and run.is_open,
            "may_restore": may_manage and run.job_id is not None,
        }


class RunCancel(RunPage, Action):
    """Ends a run."""

    required_permission = Permission.BACKUPS_MANAGE
    service = services.cancel
