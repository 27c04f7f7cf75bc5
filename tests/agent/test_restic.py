"""The executors of backups against each restic that hosts have: 0.14, 0.18 and 0.19, real repositories."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from dockmesh.agent import backup
from dockmesh.agent import restic as restic_module
from dockmesh.agent.backup import Backups
from dockmesh.agent.commands import CommandError, Run
from dockmesh.agent.config import Repository
from dockmesh.agent.process import Cancellation
from tests.integration.versions import require_version
from tests.support import missing, require

pytestmark = pytest.mark.integration

PASSWORD = "correct-horse-battery"


class Place:
    """A folder with data, a repository that is not made yet, and an agent's executors for it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.repository = folder / "repository"
        self.data = folder / "data"
        self.data.mkdir()
        (self.data / "file").write_text("content")
        (folder / "password").write_text(PASSWORD + "\n")
        self.backups = self.agent()
        self.run = Run("", "", {}, Cancellation())

    def agent(self, address: str = "", **how: Any) -> Backups:
        known = {"local": Repository("local", address or str(self.repository), self.folder / "password")}
        settings: dict[str, Any] = {
            "docker_host": "unix:///nonexistent.sock",
            "may_run_commands": True,
            **how,
        }
        return Backups(known, state_dir=self.folder / "state", host="node-1", **settings)

    def do(
        self, kind: str, *, seconds: float = 240, agent: Backups | None = None, **payload: Any
    ) -> dict[str, Any]:
        usual = {"repository": "local", "job": "nightly", "takes_partial": True}
        self.run = Run("1", kind, usual | payload, Cancellation())
        self.run.deadline = time.monotonic() + seconds
        return (agent or self.backups).executors()[kind](self.run)

    def backup(self, *paths: Path, **payload: Any) -> dict[str, Any]:
        source = {"type": "path", "paths": [str(path) for path in paths or (self.data,)]}
        return self.do("backup", source=source, **payload)

    @property
    def output(self) -> str:
        return self.run.output.text()

    def restic(self, *arguments: str, check: bool = True) -> str:
        return subprocess.run(
            ["restic", "--no-cache", *arguments], env=self.env, check=check, capture_output=True, text=True
        ).stdout

    @property
    def env(self) -> dict[str, str]:
        return {**os.environ, "RESTIC_REPOSITORY": str(self.repository), "RESTIC_PASSWORD": PASSWORD}

    def snapshots(self, tag: str = "dockmesh-job=nightly") -> list[dict[str, Any]]:
        return json.loads(self.restic("snapshots", "--json", "--tag", tag)) or []

    def locks(self) -> list[str]:
        # restic writes a lock under another name first.
        return [name for name in os.listdir(self.repository / "locks") if len(name) == 64]

    @contextlib.contextmanager
    def holder(self, *before: str) -> Iterator[subprocess.Popen[bytes]]:
        """Another restic that holds a lock for as long as the block lasts."""
        known = set(self.locks())
        child = subprocess.Popen(
            [*before, "restic", "--no-cache", "backup", "--stdin"],
            env=self.env, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        wait_for(lambda: set(self.locks()) - known)
        try:
            yield child
        finally:
            child.communicate()


# Where they differ: exit codes, messages, signals, the formats of lists and archives.
each_restic = pytest.mark.parametrize("place", ["installed", "trixie", "sid"], indirect=True)


def wait_for(condition: Callable[[], object], seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


@pytest.fixture
def place(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Place:
    suite = getattr(request, "param", "installed")
    if suite == "installed":
        require("restic")
    else:
        program = Path(require_version("restic", suite))
        monkeypatch.setenv("PATH", f"{program.parent}:{os.environ['PATH']}")
    return Place(tmp_path)


def fails(call: Callable[[], object]) -> CommandError:
    with pytest.raises(CommandError) as caught:
        call()
    assert '{"' not in str(caught.value)
    return caught.value


# Locks


@each_restic
def test_the_lock_of_a_killed_run_of_ours_goes_and_nobody_elses(place: Place) -> None:
    place.backup()
    killed = killed_while_it_holds_a_lock(place)
    assert place.locks() == [killed]
    place.backup(keep={"last": 1})
    assert "Removed a lock that nobody holds any more" in place.output
    assert place.locks() == []
    assert list((place.folder / "state" / "restic-runs").iterdir()) == []


def killed_while_it_holds_a_lock(place: Place, *, is_orphan: bool = False) -> str:
    """The lock that is left of a restic which the agent had started, killed with the agent or ending by itself."""
    script = (
        "import sys, threading, time; from pathlib import Path;"
        "from dockmesh.agent.locks import LockBook; from dockmesh.agent.restic import Restic;"
        "from dockmesh.agent.config import Repository; from dockmesh.agent.commands import Run;"
        "from dockmesh.agent.process import Cancellation;"
        "folder = Path(sys.argv[1]); run = Run('1', 'backup', {}, Cancellation());"
        "run.deadline = time.monotonic() + 60;"
        "Restic(Repository('local', str(folder / 'repository'), folder / 'password'), run,"
        " cache=folder / 'cache', host='node-1', book=LockBook(folder / 'state' / 'restic-runs'))"
        ".call('backup', '--stdin-filename', 'x', str(folder / 'slow'))"
    )
    (place.folder / "slow").mkdir(exist_ok=True)
    for number in range(150):
        (place.folder / "slow" / str(number)).write_bytes(os.urandom(300_000))
    agent = subprocess.Popen([sys.executable, "-c", script, str(place.folder)], env=dict(os.environ))
    notes = place.folder / "state" / "restic-runs"

    def noted() -> list[dict[str, Any]]:
        return [n for n in (json.loads(p.read_text()) for p in notes.glob("*.json")) if n["locks"]]

    wait_for(noted)
    [note] = noted()
    # The agent first: nobody is left who could tidy up.
    agent.kill()
    agent.wait()
    if not is_orphan:
        os.kill(note["pid"], signal.SIGKILL)
    [lock] = note["locks"]
    return str(lock)


def test_a_live_lock_of_another_pid_namespace_with_our_host_name_stays(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    if subprocess.run(["unshare", "--pid", "--fork", "true"], check=False).returncode != 0:
        missing("no right to make a PID namespace")
    monkeypatch.setattr(restic_module, "LOCK_WAIT_SECONDS", 2)
    monkeypatch.setattr(restic_module, "_LOCK_POLL_SECONDS", 0.5)
    place.backup()
    with place.holder("unshare", "--pid", "--fork", "--kill-child"):
        [lock] = place.locks()
        # A backup needs no exclusive lock; nor does it touch the other's.
        place.backup()
        error = fails(lambda: place.backup(keep={"last": 1}))
        assert f"root@{socket.gethostname()} (process " in str(error)
        assert "use Unlock" in str(error)
        assert place.locks() == [lock]
        assert str(place.output).count("The repository is locked; waiting") == 1
        held = place.do("unlock")
        assert len(held["locks"]) == 1
        assert place.locks() == [lock]
        place.do("unlock", remove_all=True)
        assert place.locks() == []


@each_restic
def test_a_run_waits_for_another_ones_lock(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(restic_module, "_LOCK_POLL_SECONDS", 0.5)
    place.backup()
    with place.holder() as child:

        def let_go() -> None:
            wait_for(lambda: "The repository is locked; waiting for it" in place.output)
            child.communicate()

        thread = threading.Thread(target=let_go)
        thread.start()
        place.backup(keep={"last": 1})
        thread.join()
    assert len(place.snapshots()) == 1


def test_what_only_looks_is_blocked_by_no_lock(place: Place) -> None:
    place.backup()
    with place.holder():
        assert len(place.do("snapshots")["snapshots"]) == 1


@each_restic
def test_a_stop_ends_restic_in_order(place: Place) -> None:
    place.backup()
    (place.data / "big").write_bytes(os.urandom(60_000_000))
    thread = threading.Thread(target=lambda: fails(place.backup))
    before = place.run
    thread.start()
    wait_for(lambda: place.run is not before and place.locks())
    place.run.cancelled.set()
    thread.join()
    assert place.locks() == []
    assert list((place.folder / "state" / "restic-runs").iterdir()) == []


# Success means that the data is there


def test_a_run_without_files_or_with_far_fewer_is_a_failure_and_retention_leaves_the_good_ones(
    place: Place,
) -> None:
    for number in range(10):
        (place.data / str(number)).write_text("x")
    good = place.backup(keep={"last": 1})
    assert good["files"] == 11
    for number in range(8):
        (place.data / str(number)).unlink()
    few = fails(lambda: place.backup(keep={"last": 1}, least_files=6))
    assert "3 files, fewer than the 6" in str(few)
    assert few.details["files"] == 3
    assert "snapshot_id" not in few.details
    assert [item["id"] for item in place.snapshots()] == [place.snapshots()[0]["id"]]
    assert place.snapshots()[0]["id"].startswith(good["snapshot_id"])
    assert len(place.snapshots("dockmesh-doubtful=nightly")) == 1
    assert place.backup(keep={"last": 1}, least_files=3)["files"] == 3

    for path in place.data.iterdir():
        path.unlink()
    assert "empty folder" in str(fails(lambda: place.backup(keep={"last": 1})))
    (place.data / "sub").mkdir()
    assert "has no files" in str(fails(lambda: place.backup(keep={"last": 1})))
    assert len(place.snapshots()) == 1


def test_a_link_is_followed_to_what_it_means(place: Place) -> None:
    link = place.folder / "link"
    link.symlink_to(place.data)
    assert place.backup(link)["files"] == 1
    assert f"{link} leads to {place.data}" in place.output
    link.unlink()
    link.symlink_to("nowhere")
    assert "is not there" in str(fails(lambda: place.backup(link)))


# Gone is not new


@each_restic
def test_a_repository_that_is_gone_is_an_error_and_never_made_anew(place: Place) -> None:
    place.backup()
    away = place.repository.rename(place.folder / "away")
    error = fails(lambda: place.backup(is_known=True))
    assert "there is no repository 'local'" in str(error)
    assert "Nothing was made in its place" in str(error)
    assert not place.repository.exists()
    away.rename(place.repository)
    place.backup(is_known=True)
    fails(lambda: place.do("init"))


def test_a_repository_is_made_on_request(place: Place) -> None:
    place.do("init")
    place.backup(is_known=True)


@each_restic
def test_a_wrong_password_is_told_in_words(place: Place) -> None:
    place.backup()
    (place.folder / "password").write_text("another one\n")
    error = fails(place.backup)
    assert "the password of the repository 'local' is not the right one" in str(error)


@each_restic
def test_what_can_not_be_reached_is_told_soon_and_is_not_taken_for_new(place: Place) -> None:
    agent = place.agent("rest:http://127.0.0.1:9/backups")
    source = {"type": "path", "path": str(place.data)}
    error = fails(lambda: place.do("backup", agent=agent, source=source, seconds=4))
    assert "connection refused" in str(error)
    assert "no repository" not in str(error)


# Partial


UNREADABLE = Path("/proc/sys/net/ipv4/route/flush")  # nobody may read it, not even root


@each_restic
def test_a_snapshot_without_some_files_is_partial_and_retention_goes_on(place: Place) -> None:
    place.backup()
    result = place.backup(place.data, UNREADABLE, keep={"last": 1})
    assert result["is_partial"] is True
    assert result["unreadable_count"] == 1
    assert str(UNREADABLE) in result["unreadable"][0]
    assert '{"' not in str(result["unreadable"])
    assert len(place.snapshots()) == 1
    error = fails(lambda: place.backup(place.data, UNREADABLE, takes_partial=False))
    assert "not complete" in str(error)


def test_retention_and_space_by_themselves(place: Place) -> None:
    for number in range(3):
        (place.data / "file").write_text(str(number))
        place.backup()
    listed = place.do("retention", keep={"last": 1})["snapshots"]
    assert len(listed) == len(place.snapshots()) == 1
    fails(lambda: place.do("retention", keep={"last": 0}))
    place.restic("forget", listed[0]["id"])
    place.do("prune")
    assert not [path for path in (place.repository / "data").rglob("*") if path.is_file()]


# Verification


@each_restic
def test_a_verification_copes_with_strange_names_and_sparse_files(place: Place) -> None:
    names = [b"caf\xe9", b"\xff\xfe", b"\xff\xfd", b"new\nline", "ü".encode(), b'quote"\\x']
    for name in names:
        Path(os.fsdecode(os.fsencode(place.data) + b"/" + name)).write_bytes(name)
    os.link(place.data / "file", place.data / "second name")
    os.mkfifo(place.data / "fifo")
    (place.data / "link").symlink_to("file")
    with (place.data / "sparse").open("wb") as file:
        file.truncate(200_000_000)
        file.seek(100_000_000)
        file.write(b"x")
    result = place.backup(verify=True)
    assert result["files_verified"] == result["files_same_as_source"] == len(names) + 3
    assert (result["files_changed_since"], result["files_passed_over"]) == (0, 0)


def test_what_was_put_in_a_files_place_is_passed_over_and_named(place: Place) -> None:
    for name in ("fifo", "folder", "link", "device"):
        (place.data / name).write_text("x")
    place.backup()
    for name in ("fifo", "folder", "link", "device"):
        (place.data / name).unlink()
    os.mkfifo(place.data / "fifo")
    (place.data / "folder").mkdir()
    (place.data / "link").symlink_to("/dev/zero")
    os.mknod(place.data / "device", 0o20600, os.makedev(1, 5))
    result = place.do("verify", snapshot_id="latest")
    assert (result["files_verified"], result["files_same_as_source"], result["files_passed_over"]) == (
        5,
        1,
        4,
    )
    for text in ("fifo: is a FIFO", "folder: is a folder", "link: is a link", "device: is a device"):
        assert text in place.output


def test_a_damaged_repository_is_found(place: Place) -> None:
    (place.data / "big").write_bytes(os.urandom(3_000_000))
    place.backup()
    packs = [path for path in (place.repository / "data").rglob("*") if path.is_file()]
    biggest = max(packs, key=lambda path: path.stat().st_size)
    content = bytearray(biggest.read_bytes())
    content[len(content) // 2] ^= 1
    biggest.chmod(0o600)
    biggest.write_bytes(content)
    assert "restic check" in str(fails(lambda: place.do("verify", snapshot_id="latest")))


# What is read, and what is brought back


def test_patterns_several_paths_and_chosen_paths_back(place: Place) -> None:
    other = place.folder / "oth*er"
    other.mkdir()
    (other / "a[1]").write_text("one")
    (other / "a1").write_text("two")
    (place.data / "skip.tmp").write_text("x")
    made = place.backup(place.data, other, excludes=["*.tmp"], one_file_system=True)
    assert made["files"] == 3
    target = place.folder / "back"
    chosen = str(other / "a[1]")
    place.do("restore", snapshot_id=made["snapshot_id"], target_path=str(target), paths=[chosen])
    assert [path.name for path in target.rglob("*") if path.is_file()] == ["a[1]"]
    error = fails(
        lambda: place.do("restore", snapshot_id="latest", target_path=str(target), paths=["/no/such"])
    )
    assert "the snapshot has no /no/such" in str(error)


def test_commands_run_before_and_after_whatever_happens(place: Place) -> None:
    log = place.folder / "log"
    hooks = {
        "before_command": f"echo before >> {log}; echo dump > {place.data}/dump",
        "after_command": f"echo after $DOCKMESH_BACKUP_RESULT >> {log}",
    }
    assert place.backup(**hooks)["files"] == 2
    assert log.read_text() == "before\nafter success\n"
    log.unlink()
    error = fails(lambda: place.backup(**{**hooks, "before_command": "echo no room; exit 7"}))
    assert "the command before the backup: ended with exit code 7" in str(error)
    assert log.read_text() == "after failure\n"
    assert "no room" in place.output
    slow = fails(lambda: place.backup(before_command="sleep 30", hook_timeout_seconds=1))
    assert "time limit reached" in str(slow)
    assert len(place.snapshots()) == 1
    refusing = place.agent(may_run_commands=False)
    source = {"type": "path", "path": str(place.data)}
    refused = fails(lambda: place.do("backup", agent=refusing, source=source, before_command="true"))
    assert "commands = false" in str(refused)


def test_space_is_freed_on_a_full_disk(place: Place) -> None:
    place.repository.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=24m", "tmpfs", str(place.repository)], check=False
    )
    if mounted.returncode != 0:
        missing("no right to mount")
    try:
        for _ in range(3):
            (place.data / "big").write_bytes(os.urandom(5_000_000))
            place.backup()
        (place.data / "big").write_bytes(os.urandom(30_000_000))
        full = fails(place.backup)
        assert "no space left on device" in str(full)
        with contextlib.suppress(OSError), (place.repository / "filler").open("wb", buffering=0) as filler:
            while filler.write(bytes(4096)):
                pass
        # All but the room for a lock and an index.
        os.truncate(place.repository / "filler", (place.repository / "filler").stat().st_size - 64 * 1024)
        place.do("retention", keep={"last": 1})
        assert len(place.snapshots()) == 1
        kept = sum(path.stat().st_size for path in (place.repository / "data").rglob("*") if path.is_file())
        assert kept < 8_000_000
        place.do("prune")
    finally:
        subprocess.run(["umount", str(place.repository)], check=True)


def test_a_repository_that_says_nothing_is_told_of(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(restic_module, "SILENT_SECONDS", 1)
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        agent = place.agent(f"rest:http://127.0.0.1:{silent.getsockname()[1]}/backups")
        source = {"type": "path", "path": str(place.data)}
        error = fails(lambda: place.do("backup", agent=agent, source=source, seconds=4))
    assert "time limit reached" in str(error)
    assert "has not answered for 1 s" in place.output


def test_in_a_repository_elsewhere_restic_removes_our_dead_lock(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    place.backup()
    killed_while_it_holds_a_lock(place)
    monkeypatch.setattr(restic_module.Restic, "_local_locks", lambda self: None)
    with place.holder():
        # A live one of our host name beside it: both stay.
        assert len(place.do("unlock")["locks"]) == 2
        assert "restic would remove a live one with it" in place.output
        assert len(place.locks()) == 2
    assert place.do("unlock")["locks"] == []
    assert place.locks() == []


def test_an_agent_that_is_back_removes_what_it_left(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    place.backup()
    killed_while_it_holds_a_lock(place, is_orphan=True)
    monkeypatch.setattr(backup, "_ORPHANS_POLL_SECONDS", 0.5)
    place.agent().tidy_up()
    wait_for(lambda: not place.locks())
    wait_for(lambda: not list((place.folder / "state" / "restic-runs").iterdir()))
