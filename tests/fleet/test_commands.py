"""Commands are offered until the agent has them, counted once, and never waited for in vain."""

from __future__ import annotations

import datetime
import uuid
from typing import Any

import pytest
from django.db import connection
from django.db.migrations.executor import MigrationExecutor

from dockmesh.core import clock
from dockmesh.core.errors import Conflict, Forbidden, NotFound
from dockmesh.fleet import commands
from dockmesh.fleet.models import AgentCommand, HeartbeatState, Host, ListeningSpan
from tests.fleet.factories import make_host

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def heard(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, uuid.UUID, Any]]:
    """What the handlers of the kind `deploy` were told."""
    told: list[tuple[str, uuid.UUID, Any]] = []
    monkeypatch.setattr(commands, "_handlers", {})
    commands.register_result_handler(
        "deploy",
        on_result=lambda command, result: told.append(("result", uuid_of(command.id), result.is_success)),
        on_timeout=lambda command, reason: told.append(("timeout", uuid_of(command.id), reason)),
        on_progress=lambda command, progress: told.append(("progress", uuid_of(command.id), progress.output)),
    )
    return told


def uuid_of(pk: int) -> uuid.UUID:
    return AgentCommand.objects.get(pk=pk).uuid


def enqueue(host: Host, **changes: Any) -> uuid.UUID:
    return uuid_of(commands.enqueue(host_id=host.pk, kind="deploy", payload={"a": 1}, **changes))


def handed_out(host: Host, **how: Any) -> commands.Work:
    return commands.hand_out(host.pk, now=clock.now(), **how)


def offered(host: Host) -> list[uuid.UUID]:
    return [command["id"] for command in handed_out(host).offers]


def result(**changes: Any) -> commands.CommandResult:
    document = {"result": "success", "duration_seconds": 2.0, "output": "done", **changes}
    return commands.CommandResult(document["result"] == "success", 2.0, 0, "done", "", document)


def test_a_command_is_offered_until_the_agent_names_it(heard: list[Any]) -> None:
    host, _ = make_host()
    first = enqueue(host)
    assert HeartbeatState.objects.get(host=host).has_commands
    assert offered(host) == [first]
    assert offered(host) == [first]
    commands.note_progress(host.pk, [(first, commands.CommandProgress("pulling", 1.0))])
    assert offered(host) == []
    assert heard == [("progress", first, "pulling")]


def test_the_payload_carries_lock_and_timeout() -> None:
    host, _ = make_host()
    enqueue(host, lock="stack:1", timeout_seconds=90)
    [command] = handed_out(host).offers
    assert command["payload"] == {"a": 1, "lock": "stack:1", "timeout_seconds": 90}


def test_one_command_of_a_lock_at_a_time_oldest_first(heard: list[Any]) -> None:
    host, _ = make_host()
    first, second, other = (enqueue(host, lock=lock) for lock in ("a", "a", "b"))
    assert offered(host) == [first, other]
    commands.finish(host_id=host.pk, key=first, result=result())
    assert offered(host) == [second, other]


def test_no_more_than_an_agent_carries_out_side_by_side() -> None:
    host, _ = make_host()
    ids = [enqueue(host) for _ in range(6)]
    assert offered(host) == ids[:4]


def test_a_report_sent_fifty_times_counts_once(heard: list[Any]) -> None:
    host, _ = make_host()
    first = enqueue(host)
    offered(host)
    taken = [commands.finish(host_id=host.pk, key=first, result=result()) for _ in range(50)]
    assert taken == [True] + [False] * 49
    assert heard == [("result", first, True)]
    assert not HeartbeatState.objects.get(host=host).has_commands
    with pytest.raises(Conflict):
        commands.finish(host_id=host.pk, key=first, result=result(result="failure"))


def test_a_report_of_another_hosts_command_is_refused(heard: list[Any]) -> None:
    host, _ = make_host()
    other, _ = make_host()
    first = enqueue(host)
    offered(host)
    with pytest.raises(Forbidden):
        commands.finish(host_id=other.pk, key=first, result=result())
    with pytest.raises(NotFound):
        commands.finish(host_id=other.pk, key=uuid.uuid4(), result=result())
    assert heard == []


def test_a_command_that_was_not_handed_out_can_be_taken_back(heard: list[Any]) -> None:
    host, _ = make_host()
    first = enqueue(host)
    assert commands.cancel(AgentCommand.objects.get(uuid=first).pk)
    assert offered(host) == []
    second = enqueue(host)
    offered(host)
    assert not commands.cancel(AgentCommand.objects.get(uuid=second).pk)


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
    HeartbeatState.objects.update(last_seen_at=now - datetime.timedelta(seconds=silent_for))
    commands.expire_overdue()
    assert heard == ([("timeout", first, reason)] if reason else [])
    if reason:
        with pytest.raises(Conflict):
            commands.finish(host_id=host.pk, key=first, result=result())


def test_a_server_that_was_down_does_not_blame_the_hosts(
    heard: list[Any],
) -> None:
    host, _ = make_host()
    enqueue(host)
    old = clock.now() - datetime.timedelta(hours=2)
    AgentCommand.objects.update(created_at=old)
    HeartbeatState.objects.update(last_seen_at=old)
    ListeningSpan.objects.create(since=old, until=old)
    commands.expire_overdue()
    assert heard == []


def test_what_ended_long_ago_is_forgotten(heard: list[Any]) -> None:
    host, _ = make_host()
    old, new, unfinished = (enqueue(host) for _ in range(3))
    offered(host)
    for key in (old, new):
        commands.finish(host_id=host.pk, key=key, result=result())
    AgentCommand.objects.filter(uuid=old).update(finished_at=clock.now() - datetime.timedelta(days=8))
    commands.forget_finished()
    assert set(AgentCommand.objects.values_list("uuid", flat=True)) == {new, unfinished}


def test_a_command_has_an_identity_that_no_other_ever_has(heard: list[Any]) -> None:
    """Also where the database is put back to an older copy, and counts its rows on from there."""
    host, _ = make_host()
    first = enqueue(host)
    pk = AgentCommand.objects.get(uuid=first).pk
    AgentCommand.objects.all().delete()
    second = AgentCommand.objects.get(pk=commands.enqueue(host_id=host.pk, kind="deploy", payload={}))
    AgentCommand.objects.filter(pk=second.pk).update(id=pk)
    offered(host)
    with pytest.raises(NotFound):
        commands.finish(host_id=host.pk, key=first, result=result())
    with pytest.raises(NotFound):
        commands.finish(host_id=host.pk, key=pk, result=result())
    assert commands.finish(host_id=host.pk, key=second.uuid, result=result())


def test_an_agent_of_before_the_uuids_gets_numbers_that_never_come_again(heard: list[Any]) -> None:
    host, _ = make_host()
    row = AgentCommand.objects.get(uuid=enqueue(host))
    [offer] = handed_out(host, is_numbered=True).offers
    assert offer["id"] == row.number == row.uuid.int >> 65
    assert 0 < row.number < 2**63
    commands.note_progress(host.pk, [(row.number, commands.CommandProgress("pulling", 1.0))])
    work = handed_out(host, is_numbered=True)
    assert (work.offers, work.asked) == ([], ())
    assert commands.finish(host_id=host.pk, key=row.number, result=result())
    assert heard == [("progress", row.uuid, "pulling"), ("result", row.uuid, True)]


def test_what_the_agent_had_and_does_not_name_any_more_is_asked_about(heard: list[Any]) -> None:
    host, _ = make_host()
    first = enqueue(host)
    offered(host)
    commands.note_progress(host.pk, [(first, commands.CommandProgress("", 1.0))])
    assert handed_out(host, named=[first]).asked == []
    work = handed_out(host)
    assert (work.offers, work.asked, work.is_any_open) == ([], [first], True)


def test_a_command_that_the_agent_does_not_have_ends_as_not_known(heard: list[Any]) -> None:
    host, _ = make_host()
    first, second = enqueue(host, lock="a"), enqueue(host, lock="a")
    offered(host)
    commands.note_progress(host.pk, [(first, commands.CommandProgress("", 1.0))])
    unknown = result(result="failure", is_known=False, is_repeated=True)
    assert commands.finish(host_id=host.pk, key=first, result=unknown)
    assert not commands.finish(host_id=host.pk, key=first, result=unknown)
    assert heard[1:] == [("timeout", first, commands.NOT_KNOWN)]
    assert offered(host) == [second]


def test_an_answer_that_crossed_the_report_changes_nothing(heard: list[Any]) -> None:
    host, _ = make_host()
    first = enqueue(host)
    offered(host)
    assert commands.finish(host_id=host.pk, key=first, result=result())
    assert not commands.finish(host_id=host.pk, key=first, result=result(is_repeated=True, output=""))
    assert heard == [("result", first, True)]


@pytest.mark.django_db(transaction=True)
def test_agents_are_understood_that_were_given_commands_before_the_uuids(heard: list[Any]) -> None:
    """The migration names what is there: a random UUID for each, and the number that its agent knows."""
    host, _ = make_host()
    given = [commands.enqueue(host_id=host.pk, kind="deploy", payload={}) for _ in range(3)]
    executor = MigrationExecutor(connection)
    latest = executor.loader.graph.leaf_nodes()
    executor.migrate([("fleet", "0006_container_how_it_ended")])
    MigrationExecutor(connection).migrate(latest)
    rows = AgentCommand.objects.order_by("id")
    assert [row.number for row in rows] == [row.pk for row in rows] == given
    assert len({row.uuid for row in rows}) == 3
    offered(host)
    assert commands.finish(host_id=host.pk, key=given[0], result=result())
