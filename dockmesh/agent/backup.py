"""Backups: the executors of `backup`, `restore`, `verify` and `snapshots`."""

import contextlib
import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from dockmesh.agent import engine
from dockmesh.agent.commands import CommandError, Executor, Run
from dockmesh.agent.config import Repository
from dockmesh.agent.document import JSON
from dockmesh.agent.restic import Restic, job_tag, size, snapshot_id

KEEP = ("last", "hourly", "daily", "weekly", "monthly", "yearly")
MAX_SNAPSHOTS = 1000
_NAMED_DIFFERENCES = 5
_HASH_BYTES = 1024 * 1024


class Backups:
    """What the executors share: the repositories of agent.toml, and where they may work."""

    def __init__(
        self, repositories: Mapping[str, Repository], *, state_dir: Path, docker_host: str, host: str
    ) -> None:
        self._repositories = repositories
        self._host = host
        self._cache = state_dir / "restic-cache"
        self._scratch = state_dir / "verify"
        self._docker_host = docker_host
        # What a verification that was killed has left behind.
        shutil.rmtree(self._scratch, ignore_errors=True)

    def executors(self) -> dict[str, Executor]:
        return {
            "backup": self.backup,
            "restore": self.restore,
            "verify": self.verify,
            "snapshots": self.snapshots,
        }

    def backup(self, command: Run) -> JSON:
        """Payload: job, repository, source, keep, verify. Prunes by `keep` once the snapshot is made."""
        restic = self._restic(command)
        tag = job_tag(_job(command))
        keep = _keep(command.payload.get("keep"))
        paths = self._paths(command.payload.get("source"))
        restic.prepare()
        result = restic.backup(paths, tag=tag)
        try:
            if keep:
                restic.shown("forget", "--tag", tag, "--group-by", "", *keep, "--prune", "--compact")
            if command.payload.get("verify") is True:
                result = {**result, **self._verify(command, restic, result["snapshot_id"])}
        except CommandError as error:
            raise CommandError(
                f"snapshot {result['snapshot_id']} was made, but {error}",
                exit_code=error.exit_code,
                details=result,
            ) from None
        return result

    def restore(self, command: Run) -> JSON:
        """Payload: repository, snapshot_id, target_path. Files keep their whole path below the target, so
        the target / puts them back where they were."""
        identity = snapshot_id(command.text("snapshot_id"))
        target = _absolute("target_path", command.text("target_path"))
        restic = self._restic(command)
        restic.call("unlock")
        if identity == "latest":
            identity = _latest(_snapshots(restic, job_tag(_job(command))))
        restic.shown("restore", identity, "--target", target, "--verify")
        return {"snapshot_id": identity, "target_path": target}

    def verify(self, command: Run) -> JSON:
        """Payload: repository, snapshot_id (or latest, with job)."""
        restic = self._restic(command)
        restic.call("unlock")
        identity = snapshot_id(command.text("snapshot_id", "latest"))
        if identity == "latest":
            identity = _latest(_snapshots(restic, job_tag(_job(command))))
        return {"snapshot_id": identity, **self._verify(command, restic, identity)}

    def snapshots(self, command: Run) -> JSON:
        """Payload: repository, and job for those of one job only. Newest first."""
        restic = self._restic(command)
        tag = job_tag(_job(command)) if command.payload.get("job") else ""
        found = _snapshots(restic, tag)
        found.sort(key=lambda item: str(item.get("time")), reverse=True)
        known = ("id", "short_id", "time", "hostname", "paths", "tags")
        return {"snapshots": [{key: item.get(key) for key in known} for item in found[:MAX_SNAPSHOTS]]}

    def _verify(self, command: Run, restic: Restic, identity: str) -> JSON:
        """Read the whole repository, restore the snapshot into a temporary place, and compare.

        restic compares what it has restored with the content hashes of the snapshot (`--verify`). Then
        each file of the snapshot is looked for, and hashed against the source where that is unchanged.
        """
        restic.shown("check", "--read-data")
        stats = restic.call_json("stats", "--mode", "restore-size", identity)
        needed = int(stats.get("total_size", 0)) if isinstance(stats, dict) else 0
        with self._temporary(needed) as folder:
            restic.shown("restore", identity, "--target", str(folder), "--verify")
            listed = restic.call("ls", "--json", identity)
            compared = compare(folder, _files(listed), command)
        command.output.line(
            f"Verified: {compared['files_verified']} files are as in the snapshot,"
            f" {compared['files_same_as_source']} of them are as in the source now."
        )
        return compared

    @contextlib.contextmanager
    def _temporary(self, needed: int) -> Iterator[Path]:
        self._scratch.mkdir(mode=0o700, parents=True, exist_ok=True)
        free = shutil.disk_usage(self._scratch).free
        if needed > free * 0.9:
            raise CommandError(
                f"there is no room to verify: the snapshot has {size(needed)}, {self._scratch} has {size(free)} free"
            )
        folder = Path(tempfile.mkdtemp(dir=self._scratch))
        try:
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)

    def _restic(self, command: Run) -> Restic:
        name = command.text("repository")
        repository = self._repositories.get(name)
        if repository is None:
            known = ", ".join(sorted(self._repositories)) or "none"
            raise CommandError(f"this host has no repository {name!r} in its agent.toml; it knows: {known}")
        return Restic(repository, command, cache=self._cache, host=self._host)

    def _paths(self, source: object) -> list[str]:
        """The folders to back up; raises CommandError where one is not there."""
        if not isinstance(source, dict):
            raise CommandError("payload: source must be an object")
        kind = source.get("type")
        if kind == "path":
            paths = [_absolute("source.path", str(source.get("path", "")))]
        elif kind == "volumes":
            volumes = source.get("volumes", [])
            if not isinstance(volumes, list):
                raise CommandError("payload: source.volumes must be a list")
            paths = self._mountpoints(str(source.get("stack", "")), [str(name) for name in volumes])
        else:
            raise CommandError("payload: source.type must be volumes or path")
        for path in paths:
            if not os.path.exists(path):
                raise CommandError(
                    f"{path} is not there: it must be visible to the agent under the path that Docker names"
                )
        return paths

    def _mountpoints(self, stack: str, names: Sequence[str]) -> list[str]:
        """Where Docker keeps these volumes of the stack (without names: all of them)."""
        try:
            client = engine.connect(self._docker_host)
            try:
                volumes = client.api.volumes()["Volumes"] or []
            finally:
                client.close()
        except engine.FAILURES as error:
            raise CommandError(engine.explain(error, self._docker_host)) from None
        found = find_volumes(volumes, stack, names)
        if not found:
            raise CommandError(f"stack {stack!r} has no volumes on this host")
        return found


def find_volumes(volumes: Sequence[JSON], stack: str, names: Sequence[str]) -> list[str]:
    """The mount points of a stack's volumes, named as in its Compose file or as Docker names them."""
    by_name = {volume["Name"]: volume["Mountpoint"] for volume in volumes}
    of_stack = {}
    for volume in volumes:
        labels = volume.get("Labels") or {}
        if stack and labels.get("com.docker.compose.project") == stack:
            of_stack[labels.get("com.docker.compose.volume", volume["Name"])] = volume["Mountpoint"]
    if not names:
        return sorted(of_stack.values())
    paths = []
    for name in names:
        path = of_stack.get(name) or by_name.get(f"{stack}_{name}") or by_name.get(name)
        if path is None:
            raise CommandError(f"volume {name!r} of stack {stack!r} is not on this host")
        paths.append(path)
    return paths


def compare(folder: Path, files: Mapping[str, int], command: Run) -> JSON:
    """Compare what was restored into `folder` with the snapshot's files ({path: size}) and with the source.

    A source file that has changed since (other size or time) can't be compared and only counts as changed.
    Raises CommandError that names the first differences.
    """
    wrong = []
    same = changed = 0
    for path, expected in files.items():
        if command.cancelled.is_set():
            raise CommandError("stopped with the agent")
        restored = folder / path.lstrip("/")
        try:
            status = restored.lstat()
        except OSError:
            wrong.append(f"{path} is missing")
            continue
        if status.st_size != expected:
            wrong.append(f"{path} has {status.st_size} bytes instead of {expected}")
            continue
        is_same = _same_as_source(restored, status, Path(path))
        same += is_same is True
        changed += is_same is None
        if is_same is False:
            wrong.append(f"{path} has another content than the source")
    if wrong:
        more = f" and {len(wrong) - _NAMED_DIFFERENCES} more" if len(wrong) > _NAMED_DIFFERENCES else ""
        raise CommandError(f"the restored copy differs: {'; '.join(wrong[:_NAMED_DIFFERENCES])}{more}")
    return {
        "files_verified": len(files),
        "files_same_as_source": same,
        "files_changed_since": changed,
    }


def _same_as_source(restored: Path, status: os.stat_result, source: Path) -> bool | None:
    """Whether the contents are the same; None where the source is no longer what the snapshot took."""
    try:
        now = source.lstat()
        if (now.st_size, now.st_mtime_ns) != (status.st_size, status.st_mtime_ns):
            return None
        return _hash(restored) == _hash(source)
    except OSError:
        return None


def _hash(path: Path) -> bytes:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(_HASH_BYTES):
            digest.update(chunk)
    return digest.digest()


def _files(listed: str) -> dict[str, int]:
    """The regular files of `restic ls --json`, with their sizes."""
    files = {}
    for line in listed.splitlines():
        node = json.loads(line)
        if node.get("struct_type") == "node" and node.get("type") == "file":
            files[node["path"]] = int(node.get("size", 0))
    return files


def _snapshots(restic: Restic, tag: str) -> list[JSON]:
    found = restic.call_json("snapshots", *(["--tag", tag] if tag else []))
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


def _absolute(field: str, path: str) -> str:
    if not path.startswith("/") or "\x00" in path:
        raise CommandError(f"payload: {field} must be an absolute path")
    return path
