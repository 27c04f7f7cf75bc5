"""The forms of the backups' pages; the services check the values."""

from typing import Any

from django import forms

from dockmesh.backups.models import DEFAULT_TIMEOUT_SECONDS, BackupJob, BackupRun
from dockmesh.core.forms import ConfirmForm
from dockmesh.fleet.models import Host

MOST_SNAPSHOTS = 200
CODE = {"class": "code", "autocomplete": "off", "spellcheck": "false"}


class JobForm(forms.Form):
    """A job, but for its host."""

    name = forms.CharField(label="Name", max_length=200, help_text="Unique; it is the label job on /metrics.")
    source_kind = forms.ChoiceField(
        label="What to back up",
        choices=BackupJob.SourceKind.choices,
        help_text="dockmesh's own database is copied first; its job has to be on the machine that runs dockmesh. The"
        " files secret_key and token_pepper of the data folder are not in the copy: keep them elsewhere.",
    )
    stack_name = forms.CharField(
        label="Stack",
        required=False,
        max_length=1024,
        widget=forms.TextInput(attrs=CODE),
        help_text="The stack on this host whose volumes are backed up.",
    )
    volumes = forms.CharField(
        label="Volumes",
        required=False,
        max_length=10_000,
        widget=forms.TextInput(attrs=CODE),
        help_text="Their names in the Compose file, separated by blanks. Empty: all volumes of the stack.",
    )
    path = forms.CharField(
        label="Path",
        required=False,
        max_length=1000,
        widget=forms.TextInput(attrs=CODE),
        help_text="An absolute path on the host, as the agent sees it.",
    )
    repository = forms.CharField(
        label="Repository",
        max_length=64,
        initial="default",
        widget=forms.TextInput(attrs={**CODE, "list": "repositories"}),
        help_text="A name from the host's agent.toml, which has the restic repository's address and password.",
    )
    schedule = forms.CharField(
        label="Schedule",
        required=False,
        max_length=100,
        initial="0 3 * * *",
        widget=forms.TextInput(attrs=CODE),
        help_text="A cron expression: minute, hour, day of the month, month, day of the week. Empty: only on request.",
    )
    time_zone = forms.CharField(
        label="Time zone",
        max_length=64,
        initial="UTC",
        widget=forms.TextInput(attrs=CODE),
        help_text="The one that the schedule is meant in, such as Europe/Berlin.",
    )
    keep_last = forms.IntegerField(
        label="Keep the last", min_value=0, initial=0, help_text="So many newest snapshots stay."
    )
    keep_daily = forms.IntegerField(
        label="Keep daily", min_value=0, initial=7, help_text="The newest of so many days stay."
    )
    keep_weekly = forms.IntegerField(
        label="Keep weekly", min_value=0, initial=4, help_text="The newest of so many weeks stay."
    )
    keep_monthly = forms.IntegerField(
        label="Keep monthly",
        min_value=0,
        initial=6,
        help_text="The newest of so many months stay. With 0 in all four, nothing is ever removed.",
    )
    is_verified = forms.BooleanField(
        label="Verify each snapshot",
        required=False,
        help_text="The agent reads the repository, restores the snapshot into a temporary place and compares."
        " It takes as long as a restore.",
    )
    timeout_seconds = forms.IntegerField(
        label="Time limit (seconds)",
        initial=DEFAULT_TIMEOUT_SECONDS,
        help_text="A run that takes longer is stopped and counts as failed.",
    )
    is_enabled = forms.BooleanField(
        label="Enabled", required=False, initial=True, help_text="Off: it only runs on request."
    )

    def clean_volumes(self) -> list[str]:
        text: str = self.cleaned_data["volumes"]
        return text.replace(",", " ").split()


class NewJobForm(JobForm):
    """A new job."""

    host = forms.TypedChoiceField(
        label="Host", coerce=int, help_text="Its agent makes the backups. It can't be changed later."
    )

    field_order = ("name", "host")

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.fields["host"].choices = Host.objects.order_by("name").values_list("pk", "name")  # type: ignore[attr-defined]


class RestoreForm(ConfirmForm):
    """What to restore and where to; asks for the job's name."""

    snapshot_id = forms.ChoiceField(
        label="Snapshot",
        help_text="The job's backups, the newest first. What its retention has removed can't be restored any more.",
    )
    target_path = forms.CharField(
        label="Restore below",
        max_length=1000,
        widget=forms.TextInput(attrs={**CODE, "placeholder": "/srv/restored"}),
        help_text="Files keep their whole path below this one; / puts them back where they were, over what is there.",
    )

    field_order = ("snapshot_id", "target_path", "name")

    def __init__(self, *args: Any, job: BackupJob, **kwargs: Any) -> None:
        super().__init__(*args, expected=job.name, **kwargs)
        made = job.runs.filter(kind=BackupRun.Kind.BACKUP).exclude(snapshot_id="").order_by("-pk")
        self.fields["snapshot_id"].choices = [  # type: ignore[attr-defined]
            ("latest", "The latest one"),
            *(
                (run.snapshot_id, f"{run.requested_at:%Y-%m-%d %H:%M} UTC · {run.snapshot_id[:8]}")
                for run in made.only("snapshot_id", "requested_at", "job_id")[:MOST_SNAPSHOTS]
            ),
        ]


def initial_of(job: BackupJob) -> dict[str, Any]:
    """A job as the form shows it."""
    values = {name: getattr(job, name) for name in JobForm.base_fields}
    return {**values, "volumes": " ".join(job.volumes)}
