"""restic, one call at a time: repository and password from the agent's own configuration, output masked.

It works with restic 0.14 to 0.19: exit codes of their own (10, 11, 12) came with 0.17, messages as JSON with 0.18.
Waiting for a lock is done here for all of them, since only here it is known whose lock is nobody's.
"""

from __future__ import annotations

import contextlib
import copy
import json
import os
import re
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

from dockmesh.agent.commands import CommandError, Run
from dockmesh.agent.config import Repository
from dockmesh.agent.document import JSON
from dockmesh.agent.locks import Entry, Lock, LockBook, read_lock, removable, unlock_removes_only
from dockmesh.agent.output import Output
from dockmesh.agent.process import Cancellation, Ended, environment, run, version_of
from dockmesh.agent.text import clean

# Exit codes of restic 0.17 and newer; before, it is 1 and the text says which.
EXIT_INCOMPLETE = 3  # this one always: a snapshot was made, some of its sources could not be read
_EXIT_ABSENT = 10
_EXIT_LOCKED = 11
_EXIT_PASSWORD = 12
_ABSENT_TEXT = "Is there a repository at the following location"
# restic 0.14 asks that of a repository that it can't reach, too: absent is only what its storage calls so.
_ABSENT_REASONS = ("no such file", "not exist", "doesn't exist", "not found", "NoSuchKey", "404")
_LOCKED_TEXT = "repository is already locked"
_PASSWORD_TEXT = "wrong password or no key found"
_FULL_TEXTS = ("no space left on device", "disk quota exceeded")
LOCK_WAIT_SECONDS = 900.0
_LOCK_POLL_SECONDS = 5.0
_VERSION = re.compile(r"restic (\S+)")
# A backend that does not answer is told of after so long, while the call goes on.
SILENT_SECONDS = 45.0
# Less than what the agent waits for its commands when it stops.
_TIDY_UP_SECONDS = 4.0
_MOST_LOCKS = 50
_LOCAL_WATCH_SECONDS = 0.2
_REMOTE_WATCH_SECONDS = 60.0
MOST_UNREADABLE = 50
_KEPT_LINES = 200
# These look only: they take no lock, wait for none, and so can't be blocked by one that nobody holds.
_WITHOUT_LOCK = frozenset({"cat", "list", "ls", "snapshots", "stats", "unlock"})
_SNAPSHOT = re.compile(r"[0-9a-f]{8,64}|latest")
_URL_PASSWORD = re.compile(r"://[^/@:\s]*:([^/@\s]+)@")
_SCHEME = re.compile(r"[a-z0-9]+:")


def version() -> str:
    """As restic says itself, such as `0.18.0`; empty where it is not installed or does not run."""
    done = version_of(["restic", "version"])
    if done is None:
        return ""
    match = _VERSION.match(done.stdout.decode("utf-8", "replace"))
    return clean(match[1], limit=64) if match else ""


def job_tag(job: str) -> str:
    """The tag of a job's snapshots. restic takes a comma for the end of a tag, so it is percent-encoded."""
    return _tag("dockmesh-job", job)


def doubtful_tag(job: str) -> str:
    """The tag of snapshots in which most of the data is missing: retention neither counts nor removes them."""
    return _tag("dockmesh-doubtful", job)


def _tag(key: str, job: str) -> str:
    return f"{key}=" + "".join(quote(c, safe="") if c in "%," else c for c in job)


def snapshot_id(value: str) -> str:
    """A snapshot's id as it may stand on a command line; raises CommandError for anything else."""
    if not _SNAPSHOT.fullmatch(value):
        raise CommandError("payload: snapshot_id must be 8 to 64 hexadecimal digits, or latest")
    return value


class Absent(CommandError):
    """There is no repository where one should be."""


class Restic:
    """restic on one repository, for one command."""

    def __init__(
        self, repository: Repository, command: Run, *, cache: Path, host: str, book: LockBook
    ) -> None:
        self._repository = repository
        self._command = command
        self._host = host
        self._book = book
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

    def open(self) -> None:
        """See that the repository is there and the password is right; raises CommandError, `Absent` if it isn't."""
        waiting = threading.Timer(
            SILENT_SECONDS,
            self._command.output.line,
            [
                f"The repository {self._repository.name!r} has not answered for {SILENT_SECONDS:.0f} s; waiting on."
            ],
        )
        waiting.daemon = True
        waiting.start()
        try:
            self.call("cat", "config")
        finally:
            waiting.cancel()

    def prepare(self, *, is_known: bool) -> None:
        """Open the repository. It is made if it is not there, unless it is known to have held snapshots."""
        try:
            self.open()
        except Absent as error:
            if is_known:
                raise CommandError(
                    f"{error}, but snapshots of this host were made into it: it is gone or its storage is not"
                    " mounted. Nothing was made in its place; Make the repository on the job's page does, if that is right",
                    exit_code=error.exit_code,
                ) from None
            self._command.output.line(f"The repository {self._repository.name!r} is new; making it.")
            self.call("init")

    def call(self, *arguments: str) -> str:
        """Run restic; gives its standard output. Raises CommandError with restic's words."""
        output: list[str] = []
        self._checked(arguments, on_output=output.append)
        return "".join(output)

    def call_json(self, *arguments: str) -> object:
        """The one JSON value that a restic command prints."""
        try:
            return json.loads(self.call(*arguments, "--json"))
        except ValueError:
            raise CommandError(f"restic {arguments[0]} did not answer with JSON") from None

    def shown(self, *arguments: str) -> None:
        """Run restic with its output as the command's output."""
        self._checked(arguments, on_output=self._command.output.write)

    def piped(self, descriptor: int, *arguments: str) -> None:
        """Run restic with its output as bytes into a pipe."""
        self._checked(arguments, output_to=descriptor)

    def backup(self, paths: Sequence[str], *, tag: str, options: Sequence[str] = ()) -> JSON:
        """Make a snapshot; gives snapshot_id, bytes_added, bytes_processed and files.

        Where not all could be read also `is_partial`, `unreadable` (the first of them) and `unreadable_count`.
        """
        reader = _BackupReader(self._command.output)
        # The name at enrollment: the host name of a container would be another one at each start.
        arguments = ["backup", "--json", "--host", self._host, "--tag", tag, *options, "--", *paths]
        ended, words = self._run(arguments, on_output=reader.feed)
        if ended.reason or ended.exit_code not in (0, EXIT_INCOMPLETE):
            raise self._failure(arguments, ended, words)
        if not reader.summary:
            raise CommandError("restic backup ended without a summary", exit_code=ended.exit_code)
        if ended.exit_code == EXIT_INCOMPLETE or words.unreadable_count:
            return {
                **reader.summary,
                "exit_code": EXIT_INCOMPLETE,
                "is_partial": True,
                "unreadable": words.unreadable,
                "unreadable_count": max(words.unreadable_count, 1),
            }
        return reader.summary

    def forget_and_prune(self, tag: str, keep: Sequence[str]) -> None:
        """Remove the job's snapshots that `keep` does not name, then the data that nothing needs any more."""
        self._on_full_disk("forget", "--tag", tag, "--group-by", "", *keep, "--compact", "--prune")

    def prune(self) -> None:
        """Remove the data that no snapshot needs."""
        self._on_full_disk("prune")

    def _on_full_disk(self, *arguments: str) -> None:
        """A call that prunes; without space for what it wants to write, first what can go without that."""
        try:
            self.shown(*arguments)
        except CommandError as error:
            if not any(text in str(error).lower() for text in _FULL_TEXTS):
                raise
            self._command.output.line("No space is left; removing first what needs no new files.")
            self.shown(*arguments, "--max-repack-size", "0")
            self.shown(*arguments)

    def locks(self) -> list[Lock]:
        """The repository's locks, as far as they can be read."""
        found = []
        for identity in self.call("list", "locks").split()[:_MOST_LOCKS]:
            # Removed meanwhile, or no lock at all.
            with contextlib.suppress(CommandError):
                document = self.call_json("cat", "lock", identity)
                lock = read_lock(identity, document) if isinstance(document, dict) else None
                if lock:
                    found.append(lock)
        return found

    def clear_dead_locks(self) -> list[Lock]:
        """Remove the locks that are provably ours and dead, or stale by restic's own rule; gives those that stay."""
        dead = self._book.dead(self._repository.repository)
        locks = self.locks()
        gone = removable(locks, [process for _, process in dead])
        if gone and not self._remove(gone, locks):
            return locks
        stay = [lock for lock in locks if lock not in gone]
        for lock in gone:
            self._command.output.line(f"Removed a lock that nobody holds any more: {lock}.")
        for path, process in dead:
            if not any(process.may_own(lock) for lock in stay):
                self._book.forget(path)
        return stay

    def _remove(self, gone: Sequence[Lock], locks: Sequence[Lock]) -> bool:
        folder = self._local_locks()
        if folder is not None:
            for lock in gone:
                (folder / lock.id).unlink(missing_ok=True)
            return True
        if unlock_removes_only(gone, locks):
            self.call("unlock")
            return True
        self._command.output.line("A lock that nobody holds stays: restic would remove a live one with it.")
        return False

    def _local_locks(self) -> Path | None:
        """The folder of the locks of a repository on this machine."""
        place = self._repository.repository.removeprefix("local:")
        if _SCHEME.match(place):
            return None
        return Path(place) / "locks"

    def _checked(self, arguments: Sequence[str], **how: Any) -> None:
        ended, words = self._run(arguments, **how)
        if ended.reason or ended.exit_code != 0:
            raise self._failure(arguments, ended, words)

    def _run(self, arguments: Sequence[str], **how: Any) -> tuple[Ended, _Words]:
        """Run restic; while another run has the repository's lock, again and again."""
        give_up = min(time.monotonic() + LOCK_WAIT_SECONDS, self._command.deadline)
        told: list[str] = []
        while True:
            ended, words = self._run_once(arguments, **how)
            is_locked = ended.exit_code == _EXIT_LOCKED or (ended.exit_code and _LOCKED_TEXT in words.text)
            if not is_locked or ended.reason:
                return ended, words
            holders = self.clear_dead_locks()
            telling = [str(lock) for lock in holders]
            if telling and telling != told:
                self._command.output.line("The repository is locked; waiting for it:\n" + "\n".join(telling))
                told = telling
            if time.monotonic() + _LOCK_POLL_SECONDS > give_up:
                raise CommandError(_locked(holders), exit_code=ended.exit_code)
            # Without holders: removed, or let go meanwhile.
            if holders and self._command.cancelled.wait(_LOCK_POLL_SECONDS):
                raise CommandError("stopped while it waited for the repository's lock")

    def _run_once(
        self,
        arguments: Sequence[str],
        *,
        on_output: Callable[[str], None] | None = None,
        output_to: int | None = None,
    ) -> tuple[Ended, _Words]:
        is_locking = arguments[0] not in _WITHOUT_LOCK
        options = [] if is_locking or arguments[0] == "unlock" else ["--no-lock"]
        # That a repository isn't there is asked each time, and is no error to be shown.
        words = _Words(self._command.output, is_asking=arguments[0] == "cat")
        with self._written_down() if is_locking else contextlib.nullcontext() as entry:
            ended = run(
                ["restic", *options, *arguments],
                env=self._env,
                on_output=on_output or (lambda text: None),
                on_stderr=words.feed,
                output_to=output_to,
                deadline=self._command.deadline,
                cancelled=self._command.cancelled,
                on_start=entry.begun if entry else None,
                keep_open=[entry.descriptor] if entry else [],
                # At SIGINT restic 0.14 removes its lock, at SIGTERM it does not.
                is_interrupted=True,
            )
            if entry:
                # Stopped early enough, restic 0.14 leaves the lock that it was just making.
                entry.is_orderly = ended.exit_code is not None and ended.exit_code >= 0 and not ended.reason
        words.end()
        if entry and not entry.is_orderly:
            self._tidy_up()
        return ended, words

    @contextlib.contextmanager
    def _written_down(self) -> Iterator[Entry]:
        """A restic in the book, watched for the locks that appear meanwhile."""
        entry = self._book.begin(self._repository.repository)
        folder = self._local_locks()
        before = _names(folder) if folder is not None else set()
        done = Cancellation()

        def watch() -> None:
            wait = 2.0 if folder is None else _LOCAL_WATCH_SECONDS
            while not done.wait(wait):
                if folder is None:
                    wait = _REMOTE_WATCH_SECONDS
                    with contextlib.suppress(CommandError):
                        aside = self._aside(done, _REMOTE_WATCH_SECONDS, Output())
                        entry.saw(aside.call("list", "locks").split())
                else:
                    entry.saw(_names(folder) - before)

        watcher = threading.Thread(target=watch, name="locks", daemon=True)
        watcher.start()
        try:
            yield entry
        finally:
            done.set()
            watcher.join()
            if folder is not None:
                entry.saw(_names(folder) - before)
            entry.close()

    def _tidy_up(self) -> None:
        """After a restic that was stopped or killed: take away the lock that it left, also while the agent stops."""
        aside = self._aside(Cancellation(), _TIDY_UP_SECONDS, self._command.output)
        try:
            aside.clear_dead_locks()
        except CommandError as error:
            self._command.output.line(f"Its lock may have stayed: {error}")

    def _aside(self, cancelled: Cancellation, seconds: float, output: Output) -> Restic:
        """restic on the same repository beside the command: with an end and a time limit of its own."""
        other = copy.copy(self)
        other._command = Run(self._command.command_id, self._command.kind, {}, cancelled, output=output)
        other._command.deadline = time.monotonic() + seconds
        return other

    def _failure(self, arguments: Sequence[str], ended: Ended, words: _Words) -> CommandError:
        where = f"restic {arguments[0]}"
        if ended.reason:
            last = f"; its last words: {words.before_the_end}" if words.before_the_end else ""
            return CommandError(f"{where}: {ended.reason}{last}", exit_code=ended.exit_code)
        name = self._repository.name
        if words.is_absent(ended.exit_code):
            return Absent(
                f"there is no repository {name!r} at its address: {words.reason}", exit_code=ended.exit_code
            )
        if ended.exit_code == _EXIT_PASSWORD or _PASSWORD_TEXT in words.text:
            text = f"the password of the repository {name!r} is not the right one: {_PASSWORD_TEXT}"
            return CommandError(text, exit_code=ended.exit_code)
        reason = words.reason or "it gave no reason"
        return CommandError(f"{where}: {reason} (exit code {ended.exit_code})", exit_code=ended.exit_code)


class _Words:
    """What restic says on its standard error: shown as it comes, JSON as words, the last of it remembered."""

    def __init__(self, output: Output, *, is_asking: bool) -> None:
        self.unreadable: list[str] = []
        self.unreadable_count = 0
        self._output = output
        self._is_asking = is_asking
        self._partial = ""
        self._lines: list[str] = []

    @property
    def text(self) -> str:
        return "\n".join(self._lines)

    @property
    def last(self) -> str:
        return self._lines[-1] if self._lines else ""

    @property
    def before_the_end(self) -> str:
        """The last line before restic was told to stop: what it was waiting for."""
        for number, line in enumerate(self._lines):
            if "signal " in line and " received" in line:
                return self._lines[number - 1] if number else ""
        return self.last

    @property
    def reason(self) -> str:
        """The line that says what was wrong; restic adds others to it, such as the repository's address."""
        for line in self._lines:
            if line.startswith("Fatal: "):
                return line.removeprefix("Fatal: ")
        return self.last

    def is_absent(self, exit_code: int | None) -> bool:
        if exit_code == _EXIT_ABSENT:
            return True
        return _ABSENT_TEXT in self.text and any(reason in self.reason for reason in _ABSENT_REASONS)

    def feed(self, text: str) -> None:
        *lines, self._partial = (self._partial + text).split("\n")
        for line in lines:
            self._take(line)

    def end(self) -> None:
        self._take(self._partial)
        self._partial = ""

    def _take(self, line: str) -> None:
        message = _json_object(line)
        said = line if message is None else self._of_json(message)
        for part in said.splitlines():
            if not part.strip():
                continue
            if part.endswith("does not exist, skipping"):
                self._unreadable(part)
            self._lines = [*self._lines[-_KEPT_LINES:], part.strip()]
            # Who holds a lock is told in our own words, once.
            is_known = _LOCKED_TEXT in self.text or (self._is_asking and "Fatal: " in self.text)
            if not is_known:
                self._output.line(part)

    def _of_json(self, message: JSON) -> str:
        if message.get("message_type") == "error":
            text = _error_text(message)
            self._unreadable(text)
            return text
        # exit_error, and whatever a newer restic adds: its own words, never the JSON.
        return str(message.get("message") or "")

    def _unreadable(self, text: str) -> None:
        self.unreadable_count += 1
        if len(self.unreadable) < MOST_UNREADABLE:
            self.unreadable.append(clean(self._output.mask(text), limit=300))


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
            message = _json_object(line)
            if message is None:
                self._output.line(line)
            else:
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


def size(count: float) -> str:
    for unit in ("B", "KiB", "MiB", "GiB"):
        if count < 1024:
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1024
    return f"{count:.1f} TiB"


def _json_object(line: str) -> JSON | None:
    if not line.startswith("{"):
        return None
    try:
        message = json.loads(line)
    except ValueError:
        return None
    return message if isinstance(message, dict) else None


def _error_text(message: JSON) -> str:
    """`item: reason` of a message of the type error; restic before 0.18 gives the parts of Go's error."""
    error = message.get("error")
    item = str(message.get("item") or "")
    if isinstance(error, dict):
        number = error.get("Err")
        reason = error.get("message") or (os.strerror(number) if isinstance(number, int) else error.get("Op"))
        item = item or str(error.get("Path") or "")
    else:
        reason = error
    reason = str(reason or "can't be read")
    return reason if not item or item in reason else f"{item}: {reason}"


def _locked(holders: Sequence[Lock]) -> str:
    if not holders:
        return "the repository was locked again and again by others, until the time for waiting was over"
    return (
        "the repository is locked: "
        + "; ".join(str(lock) for lock in holders[:5])
        + ". If that run is no more,"
        " use Unlock on the job's page"
    )


def _names(folder: Path) -> set[str]:
    try:
        return {name for name in os.listdir(folder) if len(name) == 64}
    except OSError:
        return set()


def _secrets(repository: Repository) -> list[str]:
    secrets = [*repository.env.values(), *_URL_PASSWORD.findall(repository.repository)]
    # Where it can't be read, restic will say so itself.
    with contextlib.suppress(OSError, UnicodeDecodeError):
        secrets.append(repository.password_file.read_text().strip())
    return secrets
