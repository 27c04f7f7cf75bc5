"""restic, one call at a time: repository and password from the agent's own configuration, output masked."""

import contextlib
import json
import re
import subprocess
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from urllib.parse import quote

from dockmesh.agent.commands import CommandError, Run
from dockmesh.agent.config import Repository
from dockmesh.agent.document import JSON
from dockmesh.agent.output import Output
from dockmesh.agent.process import Ended, environment, run
from dockmesh.agent.text import clean

# What restic answers for a repository that isn't there; from version 0.17 on the exit code says it.
_ABSENT_TEXT = "Is there a repository at the following location"
_ABSENT_CODE = 10
# `restic backup` made a snapshot, but could not read all of its sources.
EXIT_INCOMPLETE = 3
# Another run, of this host or another, prunes or checks the same repository.
_LOCKED_TEXT = "repository is already locked"
_LOCKED_CODE = 11
LOCK_WAIT_SECONDS = 900.0
_LOCK_POLL_SECONDS = 5.0
_ANSWER_SECONDS = 30.0
_VERSION = re.compile(r"restic (\S+)")
_SNAPSHOT = re.compile(r"[0-9a-f]{8,64}|latest")
_URL_PASSWORD = re.compile(r"://[^/@:\s]*:([^/@\s]+)@")


def version() -> str:
    """As restic says itself, such as `0.18.0`; empty where it is not installed or does not run."""
    try:
        done = subprocess.run(
            ["restic", "version"],  # noqa: S607 - of the PATH, like every call of it
            env=environment(),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=_ANSWER_SECONDS,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    match = _VERSION.match(done.stdout.decode("utf-8", "replace"))
    return clean(match[1], limit=64) if match else ""


def job_tag(job: str) -> str:
    """The tag of a job's snapshots. restic takes a comma for the end of a tag, so it is percent-encoded."""
    return "dockmesh-job=" + "".join(quote(c, safe="") if c in "%," else c for c in job)


def snapshot_id(value: str) -> str:
    """A snapshot's id as it may stand on a command line; raises CommandError for anything else."""
    if not _SNAPSHOT.fullmatch(value):
        raise CommandError("payload: snapshot_id must be 8 to 64 hexadecimal digits, or latest")
    return value


class Restic:
    """restic on one repository, for one command."""

    def __init__(self, repository: Repository, command: Run, *, cache: Path, host: str) -> None:
        self._repository = repository
        self._command = command
        self._host = host
        self._env = environment(
            {
                **repository.env,
                "RESTIC_REPOSITORY": repository.repository,
                "RESTIC_PASSWORD_FILE": str(repository.password_file),
                "RESTIC_CACHE_DIR": str(cache),
                "RESTIC_PROGRESS_FPS": "1",
            }
        )
        command.output = Output(secrets=_secrets(repository))

    def prepare(self) -> None:
        """Make the repository if it is not there yet, and remove the locks of runs that are no more."""
        ended, _, errors = self._run(["cat", "config"])
        if ended.exit_code == _ABSENT_CODE or (ended.exit_code != 0 and _ABSENT_TEXT in errors):
            self._command.output.line(f"The repository {self._repository.name!r} is new; making it.")
            self.call("init")
        elif ended.exit_code != 0 or ended.reason:
            raise self._failure(["cat", "config"], ended, errors)
        self.call("unlock")

    def call(self, *arguments: str) -> str:
        """Run restic; gives its standard output. Raises CommandError with restic's last words."""
        ended, output, errors = self._run(arguments)
        if ended.reason or ended.exit_code != 0:
            raise self._failure(arguments, ended, errors)
        return output

    def call_json(self, *arguments: str) -> object:
        """The one JSON value that a restic command prints."""
        try:
            return json.loads(self.call(*arguments, "--json"))
        except ValueError:
            raise CommandError(f"restic {arguments[0]} did not answer with JSON") from None

    def shown(self, *arguments: str) -> None:
        """Run restic with its output as the command's output."""
        ended, _, errors = self._run(arguments, on_output=self._command.output.write)
        if ended.reason or ended.exit_code != 0:
            raise self._failure(arguments, ended, errors)

    def backup(self, paths: Sequence[str], *, tag: str) -> JSON:
        """Make a snapshot; gives the result's snapshot_id, bytes_added, bytes_processed and files."""
        reader = _BackupReader(self._command.output)
        # The name at enrollment: the host name of a container would be another one at each start.
        arguments = ["backup", "--json", "--host", self._host, "--tag", tag, "--", *paths]
        ended, _, errors = self._run(arguments, on_output=reader.feed)
        if ended.reason or ended.exit_code not in (0, EXIT_INCOMPLETE):
            raise self._failure(arguments, ended, errors)
        if not reader.summary:
            raise CommandError("restic backup ended without a summary", exit_code=ended.exit_code)
        if ended.exit_code == EXIT_INCOMPLETE:
            raise CommandError(
                f"the snapshot is not complete, since some files could not be read: {_last_line(errors)}",
                exit_code=ended.exit_code,
                details=reader.summary,
            )
        return reader.summary

    def _run(
        self, arguments: Sequence[str], *, on_output: Callable[[str], None] | None = None
    ) -> tuple[Ended, str, str]:
        """Run restic; while another run has the repository's lock, again and again."""
        give_up = min(time.monotonic() + LOCK_WAIT_SECONDS, self._command.deadline)
        is_told = False
        while True:
            ended, output, errors = self._run_once(arguments, on_output)
            is_locked = ended.exit_code == _LOCKED_CODE or (ended.exit_code and _LOCKED_TEXT in errors)
            if not is_locked or ended.reason or time.monotonic() + _LOCK_POLL_SECONDS > give_up:
                return ended, output, errors
            if not is_told:
                self._command.output.line("Another run has locked the repository; waiting for it.")
                is_told = True
            self._command.cancelled.wait(_LOCK_POLL_SECONDS)

    def _run_once(
        self, arguments: Sequence[str], on_output: Callable[[str], None] | None
    ) -> tuple[Ended, str, str]:
        output: list[str] = []
        errors: list[str] = []
        ended = run(
            ["restic", *arguments],
            env=self._env,
            on_output=on_output or output.append,
            on_stderr=errors.append,
            deadline=self._command.deadline,
            cancelled=self._command.cancelled,
        )
        text = "".join(errors)
        # Whether the repository is there is asked each time; that it isn't is no error to be shown.
        if arguments[0] != "cat" and _LOCKED_TEXT not in text:
            self._command.output.write(text)
        return ended, "".join(output), text

    def _failure(self, arguments: Sequence[str], ended: Ended, errors: str) -> CommandError:
        what = ended.reason or f"exit code {ended.exit_code}: {_last_line(errors)}"
        return CommandError(f"restic {arguments[0]}: {what}", exit_code=ended.exit_code)


class _BackupReader:
    """Reads the lines of `restic backup --json`."""

    def __init__(self, output: Output) -> None:
        self.summary: JSON = {}
        self._output = output
        self._partial = ""
        self._shown_at = 0.0

    def feed(self, text: str) -> None:
        *lines, self._partial = (self._partial + text).split("\n")
        for line in lines:
            try:
                message = json.loads(line)
            except ValueError:
                self._output.line(line)
                continue
            if isinstance(message, dict):
                self._read(message)

    def _read(self, message: JSON) -> None:
        kind = message.get("message_type")
        if kind == "summary":
            self.summary = {
                "snapshot_id": str(message.get("snapshot_id", "")),
                "bytes_added": int(message.get("data_added", 0)),
                "bytes_processed": int(message.get("total_bytes_processed", 0)),
                "files": int(message.get("total_files_processed", 0)),
            }
            self._output.line(
                f"Snapshot {self.summary['snapshot_id']}: {self.summary['files']} files,"
                f" {size(self.summary['bytes_processed'])}, of which {size(self.summary['bytes_added'])} are new."
            )
        elif kind == "status" and time.monotonic() - self._shown_at >= 1:
            self._shown_at = time.monotonic()
            self._output.line(
                f"{float(message.get('percent_done', 0)):.0%}: {message.get('files_done', 0)} of"
                f" {message.get('total_files', 0)} files, {size(message.get('bytes_done', 0))} of"
                f" {size(message.get('total_bytes', 0))}"
            )
        elif kind == "error":
            self._output.line(f"{message.get('item', '')}: {message.get('error', '')}")


def size(count: float) -> str:
    for unit in ("B", "KiB", "MiB", "GiB"):
        if count < 1024:
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1024
    return f"{count:.1f} TiB"


def _last_line(errors: str) -> str:
    lines = [line.strip() for line in errors.splitlines() if line.strip()]
    return lines[-1] if lines else "without a word"


def _secrets(repository: Repository) -> list[str]:
    secrets = [*repository.env.values(), *_URL_PASSWORD.findall(repository.repository)]
    # Where it can't be read, restic will say so itself.
    with contextlib.suppress(OSError, UnicodeDecodeError):
        secrets.append(repository.password_file.read_text().strip())
    return secrets
