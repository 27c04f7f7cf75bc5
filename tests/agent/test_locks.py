"""Which locks of a repository are ours and dead."""

import os
import socket
import subprocess
import time
from pathlib import Path

import pytest

from dockmesh.agent.locks import Lock, LockBook, Process, read_lock, removable, unlock_removes_only

HOST = socket.gethostname()
REPOSITORY = "rest:http://127.0.0.1/r"


def lock(identity: str = "a", *, age: float = 10, host: str = HOST, pid: int = 4_000_000) -> Lock:
    return Lock(identity, time.time() - age, False, host, "root", pid)


def process(*locks: str, pid: int = 4_000_000, started: float = 60) -> Process:
    return Process(REPOSITORY, HOST, time.time() - started, pid, list(locks))


def test_a_lock_is_ours_by_its_id_its_process_and_its_time() -> None:
    assert [found.id for found in removable([lock()], [process("a")])] == ["a"]
    for other in (lock("b"), lock(pid=5), lock(host="elsewhere"), lock(age=120)):
        assert removable([other], [process("a")]) == []
    assert removable([lock()], []) == []


def test_of_two_that_could_be_ours_neither_is() -> None:
    assert removable([lock("a"), lock("b")], [process("a", "b")]) == []


def test_restics_own_rule_of_age_holds_for_anybodys() -> None:
    [found] = removable([lock(age=31 * 60, host="elsewhere"), lock("b", age=29 * 60)], [])
    assert found.host == "elsewhere"


def test_restics_unlock_is_used_only_where_it_removes_nothing_else() -> None:
    dead, twin = lock(), lock("b", pid=4_000_001)
    assert unlock_removes_only([dead], [dead, lock("c", host="elsewhere")])
    assert not unlock_removes_only([dead], [dead, twin])
    # It would send that process a signal.
    alive = lock(pid=os.getpid())
    assert not unlock_removes_only([alive], [alive])


def test_a_process_counts_as_dead_once_it_is_and_not_before(tmp_path: Path) -> None:
    book = LockBook(tmp_path / "book")
    entry = book.begin(REPOSITORY)
    child = subprocess.Popen(["sleep", "60"], pass_fds=[entry.descriptor])
    entry.begun(child.pid)
    entry.saw(["a"])
    # As if the agent had been killed: its own descriptor is gone, the child's is not.
    os.close(entry.descriptor)
    assert LockBook(tmp_path / "book").dead(REPOSITORY) == []
    assert book.has_older(time.time() + 1)
    assert not book.has_older(time.time() - 60)
    child.kill()
    child.wait()
    [(path, found)] = LockBook(tmp_path / "book").dead(REPOSITORY)
    assert (found.pid, found.locks) == (child.pid, ["a"])
    assert book.repositories_with_dead() == {REPOSITORY}
    assert book.dead("another") == []
    assert not book.has_older(time.time() + 1)
    book.forget(path)
    assert list((tmp_path / "book").iterdir()) == []


def test_a_damaged_note_is_forgotten(tmp_path: Path) -> None:
    book = LockBook(tmp_path)
    (tmp_path / "x.json").write_text("{")
    assert book.repositories_with_dead() == set()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "document", [{}, {"time": "now", "pid": 1}, {"time": "2026-11-26T12:00:00Z", "pid": "1"}]
)
def test_what_is_no_lock_is_none(document: dict[str, object]) -> None:
    assert read_lock("a", document) is None


def test_who_holds_a_lock_is_said_in_words() -> None:
    document = {
        "time": "2026-11-26T22:45:26.135048247+01:00", "exclusive": True, "hostname": "web", "username": "root", "pid": 7,
    }  # fmt: skip
    assert str(read_lock("a", document)) == (
        "root@web (process 7) holds an exclusive lock since 2026-11-26 21:45:26 UTC"
    )
