"""The forms of the backups' pages; the services check the values."""

from typing import Any

from django import forms

from dockmesh.backups.models import (
    DEFAULT_HOOK_TIMEOUT_SECONDS,
    DEFAULT_TIMEOUT_SECONDS,
    BackupJob,
    BackupRun,
)
from dockmesh.core.forms import ChangeForm, ConfirmForm
from dockmesh.fleet import selectors

MOST_SNAPSHOTS = 200
CODE = {"class": "code", "autocomplete": "off", "spellcheck": "false"}


class JobForm(ChangeForm):
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
        widget=forms.TextInput(attrs={**CODE, "list": "stacks"}),
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
    paths = forms.CharField(
        label="More paths",
        required=False,
        max_length=20_000,
        widget=forms.Textarea(attrs={**CODE, "rows": 2}),
        help_text="One a line.",
    )
    excludes = forms.CharField(
        label="Leave out",
        required=False,
        max_length=60_000,
        widget=forms.Textarea(attrs={**CODE, "rows": 2}),
        help_text="Patterns, one a line: *.tmp for a name anywhere, /srv/cache for a place.",
    )
    is_one_file_system = forms.BooleanField(
        label="One file system", required=False, help_text="What is mounted below a path is left out."
    )
    is_stack_stopped = forms.BooleanField(
        label="Stop the stack meanwhile",
        required=False,
        help_text="Its running containers are stopped while the volumes are read, and started again whatever happens.",
    )
    before_command = forms.CharField(
        label="Command before",
        required=False,
        max_length=2000,
        widget=forms.Textarea(attrs={**CODE, "rows": 2}),
        help_text="The agent runs it in a shell on the host, as root; if it fails, the backup fails.",
    )
    after_command = forms.CharField(
        label="Command after",
        required=False,
        max_length=2000,
        widget=forms.Textarea(attrs={**CODE, "rows": 2}),
        help_text="The same after the backup, whatever came of it: DOCKMESH_BACKUP_RESULT is success, partial or failure.",
    )
    hook_timeout_seconds = forms.IntegerField(
        label="Time limit of each (seconds)",
        initial=DEFAULT_HOOK_TIMEOUT_SECONDS,
        help_text="For a command, and for the stop of the containers.",
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
        help_text="A cron expression (minute, hour, day of the month, month, day of the week) or @hourly, @daily, @weekly,"
        " @monthly, @yearly. Empty: only on request.",
    )
    jitter_seconds = forms.IntegerField(
        label="Spread (seconds)",
        min_value=0,
        initial=0,
        help_text="Each run comes up to so many seconds later, so that jobs of one moment don't meet.",
    )
    time_zone = forms.CharField(
        label="Time zone",
        max_length=64,
        initial="UTC",
        widget=forms.TextInput(attrs={**CODE, "list": "time-zones"}),
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
        help_text="The agent checks the whole repository, reads the snapshot out of it and compares."
        " It takes as long as a restore, and no room.",
    )
    least_files_percent = forms.IntegerField(
        label="Fewest files (percent)",
        min_value=0,
        max_value=100,
        initial=50,
        help_text="A run with fewer files than this part of the last one's fails, and nothing is pruned after it."
        " 0: only one without any file.",
    )
    timeout_seconds = forms.IntegerField(
        label="Time limit (seconds)",
        initial=DEFAULT_TIMEOUT_SECONDS,
        help_text="A run that takes longer is stopped and counts as failed.",
    )
    is_enabled = forms.BooleanField(
        label="Enabled", required=False, initial=True, help_text="Off: it only runs on request."
    )

    @classmethod
    def initial_of(cls, stored: BackupJob) -> dict[str, Any]:
        """With lists as text."""
        texts = {name: "\n".join(getattr(stored, name)) for name in ("paths", "excludes")}
        return {**super().initial_of(stored), "volumes": " ".join(stored.volumes), **texts}

    def clean_volumes(self) -> list[str]:
        text: str = self.cleaned_data["volumes"]
        return text.replace(",", " ").split()

    def clean_paths(self) -> list[str]:
        return lines(self.cleaned_data["paths"])

    def clean_excludes(self) -> list[str]:
        return lines(self.cleaned_data["excludes"])


class NewJobForm(JobForm):
    """A new job."""

    host = forms.TypedChoiceField(
        label="Host", coerce=int, help_text="Its agent makes the backups. It can't be changed later."
    )

    field_order = ("name", "host")

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.fields["host"].choices = [("", "Choose a host"), *selectors.host_choices()]  # type: ignore[attr-defined]


class RestoreForm(ConfirmForm):
    """What to restore and where to; asks for the job's name."""

    snapshot_id = forms.ChoiceField(
        label="Snapshot",
        help_text="The job's snapshots as its agent listed them last, the newest first.",
    )
    target_path = forms.CharField(
        label="Restore below",
        max_length=1000,
        widget=forms.TextInput(attrs={**CODE, "placeholder": "/srv/restored"}),
        help_text="Files keep their whole path below this one; / puts them back where they were, over what is there.",
    )

    paths = forms.CharField(
        label="Only these",
        required=False,
        max_length=20_000,
        widget=forms.Textarea(attrs={**CODE, "rows": 2}),
        help_text="Paths in the snapshot, one a line. Empty: all of it.",
    )
    host = forms.TypedChoiceField(
        label="On the host",
        coerce=int,
        required=False,
        help_text="Another than the job's needs a repository of the same name in its agent.toml.",
    )

    field_order = ("snapshot_id", "paths", "host", "target_path", "name")

    def __init__(self, *args: Any, job: BackupJob, **kwargs: Any) -> None:
        super().__init__(*args, expected=job.name, **kwargs)
        self.fields["snapshot_id"].choices = [("latest", "The latest one"), *_snapshots(job)]  # type: ignore[attr-defined]
        hosts = selectors.host_choices()
        self.fields["host"].choices = hosts  # type: ignore[attr-defined]
        self.fields["host"].initial = job.host_id

    def clean_paths(self) -> list[str]:
        return lines(self.cleaned_data["paths"])


def _snapshots(job: BackupJob) -> list[tuple[str, str]]:
    """As the agent listed them; before it has, those of the runs."""
    listed = [
        (
            found["id"],
            f"{found['time'][:16].replace('T', ' ')} · {found['id'][:8]}"
            + (" · too few files" if found["is_doubtful"] else ""),
        )
        for found in job.snapshots
    ]
    made = job.runs.filter(kind=BackupRun.Kind.BACKUP).exclude(snapshot_id="").order_by("-pk")
    return listed[:MOST_SNAPSHOTS] or [
        (run.snapshot_id, f"{run.requested_at:%Y-%m-%d %H:%M} UTC · {run.snapshot_id[:8]}")
        for run in made.only("snapshot_id", "requested_at", "job_id")[:MOST_SNAPSHOTS]
    ]


class UnlockForm(ConfirmForm):
    """Asks for the repository's name before locks are removed that somebody may hold."""

    remove_all = forms.BooleanField(
        label="Also locks that somebody may hold",
        required=False,
        help_text="Without this only those go of which it is known that nobody does.",
    )

    field_order = ("remove_all", "name")


def lines(text: str) -> list[str]:
    """The lines of a text field, without those that are empty."""
    return [line.strip() for line in text.splitlines() if line.strip()]
