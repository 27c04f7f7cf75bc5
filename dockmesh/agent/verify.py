"""Verification: everything is read out of the repository again and compared with the snapshot and the source.

The snapshot comes as a stream (`restic dump`), so no room is needed, sparse files stay harmless and nothing of what a
container put into its volume is ever made on this machine. restic checks each piece against its hash as it reads.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import stat
import tarfile
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import IO

from dockmesh.agent import timestamps
from dockmesh.agent.commands import CommandError, Run
from dockmesh.agent.document import JSON
from dockmesh.agent.restic import Restic

_NAMED = 5
_CHUNK_BYTES = 1024 * 1024
_TIME = re.compile(r"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)(?:\.(\d{1,9}))?(Z|[+-]\d\d:\d\d)")


@dataclass(frozen=True)
class FileVersion:
    """By what a file is known to be unchanged: its size, and when contents and inode last changed, in ns."""

    size: int
    modified: int
    changed: int


# The snapshot's regular files: the name as restic prints it, and the versions of those that have this name there.
Files = dict[str, list[FileVersion]]


@dataclass
class _Found:
    verified: int = 0
    same: int = 0
    changed: int = 0
    wrong: list[str] = field(default_factory=list)
    passed_over: list[str] = field(default_factory=list)


def verify(command: Run, restic: Restic, identity: str) -> JSON:
    """Check the whole repository, then read the snapshot out of it; raises CommandError that names what differs."""
    restic.shown("check", "--read-data")
    files = files_of(restic.call("ls", "--json", identity))
    reading, writing = os.pipe()
    failures: list[CommandError] = []

    def dump() -> None:
        try:
            restic.piped(writing, "dump", "--archive", "tar", identity, "/")
        except CommandError as error:
            failures.append(error)
        finally:
            os.close(writing)

    dumping = threading.Thread(target=dump, name="dump", daemon=True)
    dumping.start()
    try:
        with os.fdopen(reading, "rb") as stream:
            compared = compare(stream, files, command)
    except (tarfile.TarError, EOFError, OSError) as error:
        dumping.join()
        raise failures[0] if failures else CommandError(f"the snapshot can't be read: {error}") from None
    dumping.join()
    if failures:
        raise failures[0]
    return compared


def files_of(listed: str) -> Files:
    """The regular files of `restic ls --json`."""
    files: Files = {}
    for line in listed.splitlines():
        node = json.loads(line)
        if node.get("struct_type") == "node" and node.get("type") == "file":
            version = FileVersion(
                int(node.get("size", 0)), _nanoseconds(node.get("mtime")), _nanoseconds(node.get("ctime"))
            )
            files.setdefault(node["path"], []).append(version)
    return files


def compare(stream: IO[bytes], files: Files, command: Run) -> JSON:
    """Compare a snapshot, as a tar stream, with its list of files and with the source.

    A source file that has changed since can't be compared and only counts as changed. Raises CommandError
    that names the first differences.
    """
    found = _Found()
    left = {name: len(versions) for name, versions in files.items()}
    with tarfile.open(fileobj=stream, mode="r|", encoding="utf-8", errors="surrogateescape") as archive:
        for member in archive:
            _check_time(command)
            if not member.isreg():
                continue
            path = "/" + member.name.lstrip("/")
            name = _as_restic_prints(path)
            if left.get(name, 0) < 1:
                found.wrong.append(f"{name} is not in the snapshot's list")
                continue
            left[name] -= 1
            content = archive.extractfile(member)
            if content is None:
                raise tarfile.ReadError(f"{name} has no content")
            _compare_file(path, content, files[name], member.size, found, command)
    # What restic has written after the archive's end is no part of it, but it has to be taken.
    while stream.read(_CHUNK_BYTES):
        _check_time(command)
    found.wrong += [f"{name} is missing" for name, count in left.items() if count]
    return _result(found, command)


def _compare_file(
    path: str, content: IO[bytes], versions: list[FileVersion], size: int, found: _Found, command: Run
) -> None:
    name = _as_restic_prints(path)
    if size not in {version.size for version in versions}:
        found.wrong.append(f"{name} has {size} bytes instead of {versions[0].size}")
        return
    found.verified += 1
    source = _open(path)
    if isinstance(source, str):
        found.changed += 1
        if source:
            found.passed_over.append(f"{name}: {source}")
        return
    with os.fdopen(source, "rb", buffering=0) as file:
        before = _version(file.fileno())
        if before not in versions:
            found.changed += 1
            return
        is_same = _hash(content, command) == _hash(file, command)
        if _version(file.fileno()) != before:
            found.changed += 1
        elif is_same:
            found.same += 1
        else:
            found.wrong.append(f"{name} has another content than the source")


def _result(found: _Found, command: Run) -> JSON:
    for text in found.passed_over[:_NAMED]:
        command.output.line(f"Passed over: {text}")
    if found.wrong:
        more = f" and {len(found.wrong) - _NAMED} more" if len(found.wrong) > _NAMED else ""
        raise CommandError(f"the snapshot differs: {'; '.join(found.wrong[:_NAMED])}{more}")
    command.output.line(
        f"Verified: {found.verified} files are as in the snapshot, {found.same} of them are as in the source now."
    )
    return {
        "files_verified": found.verified,
        "files_same_as_source": found.same,
        "files_changed_since": found.changed,
        "files_passed_over": len(found.passed_over),
    }


def _open(path: str) -> int | str:
    """The file, opened without following anything or waiting for anybody; else why it is passed over.

    That is empty where it is simply gone. Containers may put a link, a FIFO or a device in its place at any moment,
    so it is looked at before it is opened, and opened by what was looked at.
    """
    folder = os.open("/", os.O_PATH | os.O_DIRECTORY)
    try:
        *folders, name = path.strip("/").split("/")
        for part in folders:
            inner = os.open(part, os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW, dir_fd=folder)
            os.close(folder)
            folder = inner
        looked_at = os.open(name, os.O_PATH | os.O_NOFOLLOW, dir_fd=folder)
    except OSError:
        return ""
    finally:
        os.close(folder)
    try:
        kind = stat.S_IFMT(os.fstat(looked_at).st_mode)
        if kind != stat.S_IFREG:
            return f"is {_KINDS.get(kind, 'no file')} now"
        return os.open(f"/proc/self/fd/{looked_at}", os.O_RDONLY | os.O_NONBLOCK)
    except OSError as error:
        return f"can't be opened: {error.strerror}"
    finally:
        os.close(looked_at)


_KINDS: Mapping[int, str] = {
    stat.S_IFDIR: "a folder",
    stat.S_IFLNK: "a link",
    stat.S_IFIFO: "a FIFO",
    stat.S_IFSOCK: "a socket",
    stat.S_IFBLK: "a device",
    stat.S_IFCHR: "a device",
}


def _version(descriptor: int) -> FileVersion:
    status = os.fstat(descriptor)
    return FileVersion(status.st_size, status.st_mtime_ns, status.st_ctime_ns)


def _hash(file: IO[bytes], command: Run) -> bytes:
    digest = hashlib.sha256()
    while chunk := file.read(_CHUNK_BYTES):
        _check_time(command)
        digest.update(chunk)
    return digest.digest()


def _check_time(command: Run) -> None:
    if command.cancelled.is_set():
        raise CommandError("stopped while it compared the files")
    if time.monotonic() >= command.deadline:
        raise CommandError("time limit reached while the files were compared")


def _as_restic_prints(path: str) -> str:
    """A path as it stands in restic's JSON: each byte that is no UTF-8 became U+FFFD there."""
    return "".join("\ufffd" if "\udc80" <= char <= "\udcff" else char for char in path)


def _nanoseconds(moment: object) -> int:
    """A time of restic's JSON (RFC 3339 with up to nine digits of a second) in ns since 1970; -1 for none."""
    found = _TIME.fullmatch(str(moment))
    if found is None:
        return -1
    seconds, fraction, zone = found.groups("")
    whole = int(timestamps.parse(seconds + zone).timestamp())
    return whole * 10**9 + int(fraction.ljust(9, "0"))
