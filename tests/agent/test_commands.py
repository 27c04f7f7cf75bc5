"""Commands: at most once, one at a time for each lock, always a result."""

import threading
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from dockmesh.agent.commands import CommandError, CommandRunner, Executor, Run
from dockmesh.agent.journal import Journal
from dockmesh.agent.process import Cancellation


@pytest.fixture
def journal(tmp_path: Path) -> Journal:
    return Journal(tmp_path / "journal")


@pytest.fixture
def make_runner(journal: Journal) -> Iterator[Callable[[Mapping[str, Executor]], CommandRunner]]:
    runners = []

    def make(executors: Mapping[str, Executor]) -> CommandRunner:
        runners.append(CommandRunner(executors, journal, on_change=lambda: None))
        return runners[-1]

    yield make
    for runner in runners:
        runner.stop(5)


def command(number: int, kind: str = "work", **payload: Any) -> dict[str, Any]:
    return {"id": str(uuid.UUID(int=number)), "kind": kind, "payload": payload}


def numbered(command_id: str) -> int:
    return uuid.UUID(command_id).int


def results(runner: CommandRunner, journal: Journal) -> dict[int, dict[str, Any]]:
    deadline = time.monotonic() + 5
    while runner.is_busy and time.monotonic() < deadline:
        time.sleep(0.01)
    assert not runner.is_busy
    return {numbered(command_id): result for command_id, result in journal.unacknowledged()}


def test_a_command_runs_once_however_often_it_is_handed_out(make_runner: Any, journal: Journal) -> None:
    ran: list[int] = []

    def work(run: Run) -> dict[str, Any]:
        ran.append(numbered(run.command_id))
        run.output.write("done\n")
        return {"extra": 1}

    runner = make_runner({"work": work})
    for _ in range(5):
        runner.submit(command(1))
    result = results(runner, journal)[1]
    runner.submit(command(1))
    assert ran == [1]
    assert result["duration_seconds"] >= 0
    assert result == {
        "result": "success", "exit_code": 0, "output": "done\n", "error": "", "extra": 1,
        "duration_seconds": result["duration_seconds"],
    }  # fmt: skip


def test_the_id_is_in_the_journal_before_the_command_begins(make_runner: Any, journal: Journal) -> None:
    known: list[bool] = []

    def work(run: Run) -> dict[str, Any]:
        known.append(not journal.begin(run.command_id, run.kind))
        return {}

    runner = make_runner({"work": work})
    runner.submit(command(1))
    results(runner, journal)
    assert known == [True]


def test_commands_with_the_same_lock_run_one_after_the_other(make_runner: Any, journal: Journal) -> None:
    running: list[str] = []
    together: list[set[str]] = []
    guard = threading.Lock()

    def work(run: Run) -> dict[str, Any]:
        with guard:
            running.append(run.lock)
            together.append(set(running))
            assert running.count(run.lock) == 1
        time.sleep(0.05)
        with guard:
            running.remove(run.lock)
        return {}

    runner = make_runner({"work": work})
    for number in range(1, 9):
        runner.submit(command(number, lock=f"stack:{number % 2}"))
    assert {r["result"] for r in results(runner, journal).values()} == {"success"}
    assert {"stack:0", "stack:1"} in together


def test_deploys_of_one_stack_never_overlap_even_without_a_lock() -> None:
    one = Run("1", "deploy", {"stack": "shop", "lock": ""}, Cancellation())
    two = Run("2", "deploy", {"stack": "shop"}, Cancellation())
    assert one.lock == two.lock == "stack:shop"


@pytest.mark.parametrize(
    ("payload", "error"),
    [
        ({"timeout_seconds": "soon"}, "payload: timeout_seconds must be a number above 0"),
        ({"timeout_seconds": 0}, "payload: timeout_seconds must be a number above 0"),
        ({"timeout_seconds": float("nan")}, "payload: timeout_seconds must be a number above 0"),
        ({}, "payload: stack must be a text"),
    ],
)
def test_a_bad_payload_is_a_failure_that_names_the_field(
    make_runner: Any, journal: Journal, payload: dict[str, Any], error: str
) -> None:
    runner = make_runner({"work": lambda run: {"stack": run.text("stack")}})
    runner.submit(command(1, **payload))
    assert results(runner, journal)[1]["error"] == error


def test_every_way_to_fail_gives_a_result(make_runner: Any, journal: Journal) -> None:
    def refuse(run: Run) -> dict[str, Any]:
        raise CommandError("no", exit_code=4, details={"snapshot_id": "abc"})

    def crash(run: Run) -> dict[str, Any]:
        raise RuntimeError("bang\x00")

    runner = make_runner({"refuse": refuse, "crash": crash})
    runner.submit(command(1, "refuse"))
    runner.submit(command(2, "crash"))
    runner.submit(command(3, "unheard-of"))
    ended = results(runner, journal)
    assert (ended[1]["result"], ended[1]["exit_code"], ended[1]["error"]) == ("failure", 4, "no")
    assert ended[1]["snapshot_id"] == "abc"
    assert ended[2]["error"] == "RuntimeError: bang\ufffd"
    assert ended[3]["error"] == "this agent does not carry out 'unheard-of'"


def test_nonsense_instead_of_a_command_is_ignored(make_runner: Any, journal: Journal) -> None:
    runner = make_runner({})
    for nonsense in (None, 5, {}, {"id": "7"}, {"id": 7, "kind": "work"}, {"id": "A" * 36}, []):
        runner.submit(nonsense)
    assert results(runner, journal) == {}


def test_progress_names_what_runs_and_what_waits(make_runner: Any, journal: Journal) -> None:
    go = threading.Event()

    def work(run: Run) -> dict[str, Any]:
        run.output.write("first\n")
        go.wait(5)
        return {}

    runner = make_runner({"work": work})
    runner.submit(command(1, lock="a"))
    runner.submit(command(2, lock="a"))
    deadline = time.monotonic() + 5
    while not (progress := {numbered(p.command_id): p for p in runner.progress()})[1].output:
        assert time.monotonic() < deadline
    assert progress[1].output == "first\n"
    assert progress[2].output == ""
    assert progress[2].elapsed_seconds == 0
    # Not accepted: the same again. Accepted: only what is new.
    assert runner.progress()[0].output == "first\n"
    runner.progress_accepted()
    assert runner.progress()[0].output == ""
    go.set()
    results(runner, journal)


def test_a_stop_ends_what_runs_and_what_waits_as_failures(make_runner: Any, journal: Journal) -> None:
    def work(run: Run) -> dict[str, Any]:
        run.cancelled.wait(5)
        raise CommandError("stopped with the agent")

    runner = make_runner({"work": work})
    runner.submit(command(1, lock="a"))
    runner.submit(command(2, lock="a"))
    runner.stop(5)
    ended = results(runner, journal)
    assert ended[1]["error"] == "stopped with the agent"
    assert ended[2]["error"] == "agent stopped before it began"


def test_what_was_handed_out_before_an_enrollment_as_a_new_host_is_nobodys(
    make_runner: Any, journal: Journal
) -> None:
    """Neither its progress nor its result goes out to the new server."""
    may_end, ran = threading.Event(), []

    def work(run: Run) -> dict[str, Any]:
        ran.append(run.payload["of"])
        assert may_end.wait(5)
        return {}

    runner = make_runner({"work": work})
    runner.submit(command(1, of="old", lock="a"))
    runner.submit(command(2, of="old", lock="a"))
    runner.forget_all()
    assert runner.progress() == []
    runner.submit(command(3, of="new", lock="a"))
    assert [numbered(each.command_id) for each in runner.progress()] == [3]
    assert ran == ["old"]
    may_end.set()
    assert set(results(runner, journal)) == {3}
    assert ran == ["old", "new"]


def test_a_server_put_back_to_an_older_copy_gets_the_result_once_more_and_nothing_runs_twice(
    make_runner: Any, journal: Journal
) -> None:
    ran: list[str] = []

    def work(run: Run) -> dict[str, Any]:
        ran.append(run.command_id)
        run.output.write("much\n" * 1000)
        return {"snapshot_id": "ab12"}

    runner = make_runner({"work": work})
    again = command(1)
    runner.submit(again)
    first = results(runner, journal)[1]
    runner.submit(again)
    assert results(runner, journal)[1] == first
    for ask in (lambda: runner.submit(again), lambda: runner.asked(again["id"])):
        journal.acknowledge(again["id"])
        assert results(runner, journal) == {}
        ask()
        told = results(runner, journal)[1]
        assert told == {**first, "output": "(The output was reported before.)\n", "is_repeated": True}
    assert len(ran) == 1


def test_what_the_server_believes_to_be_here_and_is_not_ends_as_not_known_and_is_never_begun(
    make_runner: Any, journal: Journal
) -> None:
    ran: list[str] = []

    def work(run: Run) -> dict[str, Any]:
        ran.append(run.command_id)
        return {}

    runner = make_runner({"work": work})
    lost = command(9)
    runner.asked(lost["id"])
    told = results(runner, journal)[9]
    assert (told["result"], told["is_known"], told["is_repeated"]) == ("failure", False, True)
    assert "does not have the command" in told["error"]
    runner.submit(lost)
    assert results(runner, journal) == {9: told}
    assert ran == []


def test_what_runs_is_in_no_need_of_being_asked_about(make_runner: Any, journal: Journal) -> None:
    may_end = threading.Event()
    runner = make_runner({"work": lambda run: {"ended": may_end.wait(5)}})
    runner.submit(command(1))
    for nonsense in (command(1)["id"], None, 7, "x"):
        runner.asked(nonsense)
    assert journal.unacknowledged() == []
    may_end.set()
    assert results(runner, journal)[1]["result"] == "success"


def test_a_command_is_stopped_on_request_and_the_others_go_on(make_runner: Any, journal: Journal) -> None:
    begun = threading.Event()

    def work(run: Run) -> dict[str, Any]:
        begun.set()
        if run.payload.get("waits"):
            assert run.cancelled.wait(10)
            raise CommandError("stopped")
        return {}

    runner = make_runner({"work": work})
    runner.submit(command(1, waits=True, lock="one"))
    assert begun.wait(10)
    runner.submit(command(2, lock="one"))
    runner.submit(command(3, lock="one"))
    runner.submit(command(5, "cancel", command=str(uuid.UUID(int=2))))
    # It is told at once, and doesn't wait for its turn.
    until = time.monotonic() + 10
    while str(uuid.UUID(int=2)) not in [key for key, _ in journal.unacknowledged()]:
        assert time.monotonic() < until
        time.sleep(0.01)
    for number, target in ((4, 1), (6, 99)):
        runner.submit(command(number, "cancel", command=str(uuid.UUID(int=target))))
    ended = results(runner, journal)
    assert {number: ended[number]["error"] for number in (1, 2, 3, 4, 5)} == {
        1: "stopped",
        2: "stopped before it began",
        3: "",
        4: "",
        5: "",
    }
    assert "ended already, or is not known" in ended[6]["error"]


def test_while_the_agent_is_about_to_be_replaced_no_command_is_begun_nor_written_down(
    make_runner: Any, journal: Journal
) -> None:
    """What is not written down is offered again, to whichever agent runs next."""
    release, others = threading.Event(), threading.Event()

    def update(run: Run) -> dict[str, Any]:
        while not runner.pause_others(run.command_id):
            time.sleep(0.01)
        release.wait(5)
        return {}

    def work(run: Run) -> dict[str, Any]:
        others.wait(5)
        return {}

    runner = make_runner({"work": work, "update": update})
    runner.submit(command(1))
    runner.submit(command(2, "update"))
    time.sleep(0.1)
    # While another command runs, it goes on taking them.
    runner.submit(command(3))
    others.set()
    deadline = time.monotonic() + 5
    while [each.command_id for each in runner.progress()] != [
        command(2)["id"]
    ] and time.monotonic() < deadline:
        time.sleep(0.01)
    time.sleep(0.1)
    runner.submit(command(4))
    assert journal.begun() == [command(2)["id"]]
    release.set()
    assert set(results(runner, journal)) == {1, 2, 3}
