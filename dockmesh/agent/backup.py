"""Backups: the executors of `backup`, `restore`, `verify` and the other commands on restic repositories."""

from __future__ import annotations

import json
import logging
import threading
import time
from collections.abc import Mapping
from pathlib import Path

from dockmesh.agent import hooks, sources
from dockmesh.agent.commands import CommandError, Executor, Run
from dockmesh.agent.config import Repository
from dockmesh.agent.document import JSON
from dockmesh.agent.hooks import Hooks
from dockmesh.agent.locks import LockBook
from dockmesh.agent.process import Cancellation
from dockmesh.agent.restic import EXIT_INCOMPLETE, Restic, doubtful_tag, job_tag, snapshot_id
from dockmesh.agent.text import clean
from dockmesh.agent.verify import verify

log = logging.getLogger("dockmesh.agent")

KEEP = ("last", "hourly", "daily", "weekly", "monthly", "yearly")
MAX_SNAPSHOTS = 500
MAX_NAMES = 20
MAX_PATTERNS = 100
_CLEAN_UP_SECONDS = 300.0
_ORPHANS_SECONDS = 3600.0
_ORPHANS_POLL_SECONDS = 5.0
# What a backup's payload may say beyond what agents of the first version knew.
OPTIONS = "backup-options"


class Backups:
    """What the executors share: the repositories of agent.toml, and where they may work."""

    def __init__(
        self,
        repositories: Mapping[str, Repository],
        *,
        state_dir: Path,
        docker_host: str,
        host: str,
        may_run_commands: bool,
    ) -> None:
        self._repositories = repositories
        self._host = host
        self._cache = state_dir / "restic-cache"
        self._book = LockBook(state_dir / "restic-runs")
        self._stopped = state_dir / "stopped-for-backups"
        self._docker_host = docker_host
        self._may_run_commands = may_run_commands

    def executors(self) -> dict[str, Executor]:
        return {
            "backup": self.backup,
            "restore": self.restore,
            "verify": self.verify,
            "snapshots": self.snapshots,
            "retention": self.retention,
            "prune": self.prune,
            "unlock": self.unlock,
            "init": self.init,
        }

    def tidy_up(self) -> None:
        """In a thread of its own: undo what an earlier agent was killed in, as far as it can be told."""
        threading.Thread(target=self._tidy_up, name="tidy-up", daemon=True).start()

    def backup(self, command: Run) -> JSON:
        """Payload: job, repository, source, keep, verify; optional: excludes, one_file_system, is_known, least_files,
        and what `Hooks` takes. Prunes by `keep` once the snapshot is made."""
        restic = self._restic(command)
        job = _job(command)
        keep = _keep(command.payload.get("keep"))
        options = _options(command)
        around = Hooks(
            command,
            folder=self._stopped,
            docker_host=self._docker_host,
            may_run_commands=self._may_run_commands,
        )
        restic.prepare(is_known=command.payload.get("is_known") is True)
        with around.around():
            # After the command before, which may be what mounts or writes it.
            paths = sources.resolve(command, self._docker_host)
            result = restic.backup(paths, tag=job_tag(job), options=options)
            around.result = "partial" if result.get("is_partial") else "success"
        _refuse_too_few(command, restic, result)
        if result.get("is_partial") and command.payload.get("takes_partial") is not True:
            raise CommandError(
                f"the snapshot is not complete, since some files could not be read: {result['unreadable'][:1]}",
                exit_code=EXIT_INCOMPLETE,
                details=result,
            )
        try:
            if keep:
                restic.forget_and_prune(job_tag(job), keep)
            if command.payload.get("verify") is True:
                result = {**result, **verify(command, restic, result["snapshot_id"])}
        except CommandError as error:
            raise CommandError(
                f"snapshot {result['snapshot_id']} was made, but {error}",
                exit_code=error.exit_code,
                details=result,
            ) from None
        if command.payload.get("wants_snapshots") is True:
            try:
                result = {**result, "snapshots": _listed(restic, job)}
            except CommandError as error:
                command.output.line(f"The snapshots can't be listed: {error}")
        return result

    def restore(self, command: Run) -> JSON:
        """Payload: repository, snapshot_id, target_path, paths (optional: only these). Files keep their whole path
        below the target, so the target / puts them back where they were."""
        identity = snapshot_id(command.text("snapshot_id"))
        target = sources.absolute("target_path", command.text("target_path"))
        paths = [sources.absolute("paths", path) for path in _texts(command, "paths")]
        restic = self._restic(command)
        restic.open()
        if identity == "latest":
            identity = _latest(_snapshots(restic, job_tag(_job(command))))
        for path in paths:
            # restic restores nothing and says nothing where the snapshot has no such path.
            if not _has(restic, identity, path):
                raise CommandError(f"the snapshot has no {path}")
        includes = [option for path in paths for option in ("--include", _literally(path))]
        restic.shown("restore", identity, "--target", target, "--verify", *includes)
        return {"snapshot_id": identity, "target_path": target}

    def verify(self, command: Run) -> JSON:
        """Payload: repository, snapshot_id (or latest, with job)."""
        restic = self._restic(command)
        restic.open()
        identity = snapshot_id(command.text("snapshot_id", "latest"))
        if identity == "latest":
            identity = _latest(_snapshots(restic, job_tag(_job(command))))
        return {"snapshot_id": identity, **verify(command, restic, identity)}

    def snapshots(self, command: Run) -> JSON:
        """Payload: repository, and job for those of one job only. Newest first."""
        restic = self._restic(command)
        restic.open()
        return {"snapshots": _listed(restic, command.text("job", ""))}

    def retention(self, command: Run) -> JSON:
        """Payload: job, repository, keep. Removes the job's snapshots that `keep` does not name, and their data."""
        restic = self._restic(command)
        keep = _keep(command.payload.get("keep"))
        if not keep:
            raise CommandError("payload: keep must keep something, or nothing would be left to keep")
        restic.open()
        restic.forget_and_prune(job_tag(_job(command)), keep)
        return {"snapshots": _listed(restic, _job(command))}

    def prune(self, command: Run) -> JSON:
        """Payload: repository. Frees the space of what no snapshot needs; no snapshot is removed."""
        restic = self._restic(command)
        restic.open()
        restic.prune()
        return {}

    def unlock(self, command: Run) -> JSON:
        """Payload: repository, remove_all. Removes the locks that nobody holds; with `remove_all` all others too."""
        restic = self._restic(command)
        restic.open()
        held = restic.clear_dead_locks()
        for lock in held:
            command.output.line(f"{lock}.")
        if held and command.payload.get("remove_all") is True:
            restic.call("unlock", "--remove-all")
            command.output.line("Removed all of these.")
            held = []
        if not held:
            command.output.line("The repository is not locked.")
        return {"locks": [str(lock) for lock in held]}

    def init(self, command: Run) -> JSON:
        """Payload: repository. Makes the repository, which must not be there."""
        restic = self._restic(command)
        restic.shown("init")
        return {}

    def _restic(self, command: Run) -> Restic:
        name = command.text("repository")
        repository = self._repositories.get(name)
        if repository is None:
            known = ", ".join(sorted(self._repositories)) or "none"
            raise CommandError(f"this host has no repository {name!r} in its agent.toml; it knows: {known}")
        return self._of(repository, command)

    def _of(self, repository: Repository, command: Run) -> Restic:
        return Restic(repository, command, cache=self._cache, host=self._host, book=self._book)

    def _tidy_up(self) -> None:
        begun = time.time()
        hooks.start_all_again(self._stopped, self._docker_host)
        self._clear_locks()
        # A restic whose agent was killed ends by itself when it has something to say.
        until = time.monotonic() + _ORPHANS_SECONDS
        while self._book.has_older(begun) and time.monotonic() < until:
            time.sleep(_ORPHANS_POLL_SECONDS)
            self._clear_locks()

    def _clear_locks(self) -> None:
        left = self._book.repositories_with_dead()
        for repository in self._repositories.values():
            if repository.repository not in left:
                continue
            command = Run("", "unlock", {}, Cancellation())
            command.deadline = time.monotonic() + _CLEAN_UP_SECONDS
            try:
                self._of(repository, command).clear_dead_locks()
            except CommandError as error:
                log.warning("Locks of repository %r can't be looked at: %s", repository.name, error)
            else:
                if command.output.text():
                    log.warning("Repository %r: %s", repository.name, command.output.text().strip())


def _refuse_too_few(command: Run, restic: Restic, result: JSON) -> None:
    """A snapshot without the data is no backup: it is put aside, so that retention counts it for nothing."""
    files = result["files"]
    least = command.payload.get("least_files")
    least = max(least, 1) if isinstance(least, int) and not isinstance(least, bool) else 1
    if files >= least:
        return
    if files == 0:
        what = "the snapshot has no files"
    else:
        what = f"the snapshot has {files} files, fewer than the {least} that the job's limit asks for after the last run"
    tag = doubtful_tag(_job(command))
    details = {key: result[key] for key in ("files", "bytes_added", "bytes_processed")}
    try:
        restic.call("tag", "--set", tag, result["snapshot_id"])
    except CommandError as error:
        raise CommandError(f"{what}; and it could not be put aside: {error}", details=details) from None
    raise CommandError(f"{what}. It is put aside under the tag {tag}; retention was not run", details=details)


def _options(command: Run) -> list[str]:
    excludes = [option for pattern in _texts(command, "excludes") for option in ("--exclude", pattern)]
    return [*excludes, *(["--one-file-system"] if command.payload.get("one_file_system") is True else [])]


def _texts(command: Run, key: str) -> list[str]:
    value = command.payload.get(key, [])
    if (
        not isinstance(value, list)
        or len(value) > MAX_PATTERNS
        or not all(isinstance(item, str) and item and "\x00" not in item for item in value)
    ):
        raise CommandError(f"payload: {key} must be a list of at most {MAX_PATTERNS} texts")
    return value


def _has(restic: Restic, identity: str, path: str) -> bool:
    listed = restic.call("ls", "--json", identity, path.rstrip("/") or "/")
    nodes = [json.loads(line) for line in listed.splitlines()]
    return any(node.get("path") == path.rstrip("/") for node in nodes) or path == "/"


def _literally(path: str) -> str:
    """A path as a pattern of restic that means this path alone."""
    return "".join(f"\\{char}" if char in "\\*?[" else char for char in path)


def _listed(restic: Restic, job: str) -> list[JSON]:
    """The newest snapshots, of one job or of all."""
    tags = f"{job_tag(job)}", f"{doubtful_tag(job)}"
    found = _snapshots(restic, *(tags if job else ()))
    found.sort(key=lambda item: str(item.get("time")), reverse=True)
    return [_described(item) for item in found[:MAX_SNAPSHOTS]]


def _described(item: JSON) -> JSON:
    """A snapshot as it travels; host names and paths may hold what the server refuses."""
    known: JSON = {key: clean(item.get(key)) for key in ("id", "short_id", "time", "hostname")}
    for key in ("paths", "tags"):
        values = item.get(key)
        known[key] = (
            [clean(value, limit=1000) for value in values[:MAX_NAMES]] if isinstance(values, list) else []
        )
    return known


def _snapshots(restic: Restic, *tags: str) -> list[JSON]:
    found = restic.call_json("snapshots", *(option for tag in tags for option in ("--tag", tag)))
    return [item for item in found if isinstance(item, dict)] if isinstance(found, list) else []


def _latest(found: list[JSON]) -> str:
    if not found:
        raise CommandError("the job has no snapshot in this repository")
    return str(max(found, key=lambda item: str(item.get("time")))["id"])


def _job(command: Run) -> str:
    job = command.text("job")
    if not job:
        raise CommandError("payload: job must not be empty")
    return job


def _keep(value: object) -> list[str]:
    """The options of `restic forget`; none where everything is kept."""
    if value is None:
        return []
    if not isinstance(value, dict):
        raise CommandError("payload: keep must be an object")
    options = []
    for key, count in value.items():
        if key not in KEEP or not isinstance(count, int) or isinstance(count, bool) or count < 0:
            raise CommandError(f"payload: keep must have {', '.join(KEEP)} with numbers from 0 on")
        if count:
            options += [f"--keep-{key}", str(count)]
    return options
