"""Commands are offered until the agent has them, counted once, and never waited for in vain."""

from __future__ import annotations

import datetime
from typing import Any

import pytest

from dockmesh.core import clock
from dockmesh.core.errors import Conflict, Forbidden, NotFound
from dockmesh.fleet import commands
from dockmesh.fleet.models import AgentCommand, Host, HostPulse
from tests.fleet.factories import make_host

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def heard(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, int, Any]]:
    """What the handlers of the kind `deploy` were told."""
    told: list[tuple[str, int, Any]] = []
    monkeypatch.setattr(commands, "_handlers", {})
    commands.register_result_handler(
        "deploy",
        on_result=lambda command, result: told.append(("result", command.id, result.is_success)),
        on_timeout=lambda command, reason: told.append(("timeout", command.id, reason)),
        on_progress=lambda command, progress: told.append(("progress", command.id, progress.output)),
    )
    return told


def enqueue(host: Host, **changes: Any) -> int:
    return commands.enqueue(host_id=host.pk, kind="deploy", payload={"a": 1}, **changes)


def offered(host: Host) -> list[int]:
    return [command["id"] for command in commands.hand_out(host.pk, now=clock.now())[0]]


def result(**changes: Any) -> commands.CommandResult:
    document = {"result": "success", "duration_seconds": 2.0, "output": "done", **changes}
    return commands.CommandResult(document["result"] == "success", 2.0, 0, "done", "", document)


def test_a_command_is_offered_until_the_agent_names_it(heard: list[Any]) -> None:
    host, _ = make_host()
    first = enqueue(host)
    assert HostPulse.objects.get(host=host).has_commands
    assert offered(host) == [first]
    assert offered(host) == [first]
    commands.note_progress(host.pk, [(first, commands.CommandProgress("pulling", 1.0))])
    assert offered(host) == []
    assert heard == [("progress", first, "pulling")]


def test_the_payload_carries_lock_and_timeout() -> None:
    host, _ = make_host()
    enqueue(host, lock="stack:1", timeout_seconds=90)
    [command] = commands.hand_out(host.pk, now=clock.now())[0]
    assert command["payload"] == {"a": 1, "lock": "stack:1", "timeout_seconds": 90}


def test_one_command_of_a_lock_at_a_time_oldest_first(heard: list[Any]) -> None:
    host, _ = make_host()
    first, second, other = (enqueue(host, lock=lock) for lock in ("a", "a", "b"))
    assert offered(host) == [first, other]
    commands.finish(host_id=host.pk, command_id=first, result=result())
    assert offered(host) == [second, other]


def test_no_more_than_an_agent_carries_out_side_by_side() -> None:
    host, _ = make_host()
    ids = [enqueue(host) for _ in range(6)]
    assert offered(host) == ids[:4]


def test_a_report_sent_fifty_times_counts_once(heard: list[Any]) -> None:
    host, _ = make_host()
    first = enqueue(host)
    offered(host)
    taken = [commands.finish(host_id=host.pk, command_id=first, result=result()) for _ in range(50)]
    assert taken == [True] + [False] * 49
    assert heard == [("result", first, True)]
    assert not HostPulse.objects.get(host=host).has_commands
    with pytest.raises(Conflict):
        commands.finish(host_id=host.pk, command_id=first, result=result(result="failure"))


def test_a_report_of_another_hosts_command_is_refused(heard: list[Any]) -> None:
    host, _ = make_host()
    other, _ = make_host()
    first = enqueue(host)
    offered(host)
    with pytest.raises(Forbidden):
        commands.finish(host_id=other.pk, command_id=first, result=result())
    with pytest.raises(NotFound):
        commands.finish(host_id=other.pk, command_id=first + 1000, result=result())
    assert heard == []


def test_a_command_that_was_not_handed_out_can_be_taken_back(heard: list[Any]) -> None:
    host, _ = make_host()
    first = enqueue(host)
    assert commands.cancel(first)
    assert offered(host) == []
    second = enqueue(host)
    offered(host)
    assert not commands.cancel(second)


@pytest.mark.parametrize(
    ("is_handed_out", "age", "silent_for", "reason"),
    [
        (True, 1861, 0, commands.NO_RESULT),
        (True, 1859, 0, None),
        (True, 700, 601, commands.SILENT),
        (False, 700, 601, commands.NOT_FETCHED),
        (False, 100_000, 0, None),
    ],
)
def test_what_outlives_its_time_or_its_host_expires(
    heard: list[Any], is_handed_out: bool, age: int, silent_for: int, reason: str | None
) -> None:
    host, _ = make_host()
    first = enqueue(host)
    if is_handed_out:
        offered(host)
    now = clock.now()
    then = now - datetime.timedelta(seconds=age)
    AgentCommand.objects.filter(handed_out_at=None).update(created_at=then)
    AgentCommand.objects.exclude(handed_out_at=None).update(created_at=then, handed_out_at=then)
    HostPulse.objects.update(last_seen_at=now - datetime.timedelta(seconds=silent_for))
    commands._expire_overdue()
    assert heard == ([("timeout", first, reason)] if reason else [])
    if reason:
        with pytest.raises(Conflict):
            commands.finish(host_id=host.pk, command_id=first, result=result())


def test_a_server_that_was_down_does_not_blame_the_hosts(
    heard: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    host, _ = make_host()
    enqueue(host)
    old = clock.now() - datetime.timedelta(hours=2)
    AgentCommand.objects.update(created_at=old)
    HostPulse.objects.update(last_seen_at=old)
    monkeypatch.setattr(commands, "_first_look", None)
    commands.expire_overdue()
    assert heard == []


def test_what_ended_long_ago_is_forgotten(heard: list[Any]) -> None:
    host, _ = make_host()
    old, new, unfinished = (enqueue(host) for _ in range(3))
    offered(host)
    for command_id in (old, new):
        commands.finish(host_id=host.pk, command_id=command_id, result=result())
    AgentCommand.objects.filter(pk=old).update(finished_at=clock.now() - datetime.timedelta(days=8))
    commands.forget_finished()
    assert set(AgentCommand.objects.values_list("pk", flat=True)) == {new, unfinished}
