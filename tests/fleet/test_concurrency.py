"""Many at once, on whichever database the tests run (integration runs them on PostgreSQL): nothing is lost or
left behind, and nobody waits for ever."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import Any

import pytest
from django.db import connection, transaction

from dockmesh.audit.services import SYSTEM
from dockmesh.fleet import commands, services
from dockmesh.fleet.ingest import batch
from dockmesh.fleet.models import AgentCommand, Container, HeartbeatState, Host, Stack, StackSeries
from dockmesh.fleet.states import container_counts, stack_counts
from tests.fleet.conftest import AgentClient
from tests.fleet.factories import container, heartbeat, make_host

pytestmark = pytest.mark.django_db(transaction=True)


def at_once(*jobs: Callable[[], Any]) -> list[Any]:
    """Run all at the same time; gives what they returned. An error of one fails the test."""
    barrier = threading.Barrier(len(jobs))
    results: list[Any] = [None] * len(jobs)
    errors: list[BaseException] = []

    def run(index: int, job: Callable[[], Any]) -> None:
        try:
            barrier.wait()
            results[index] = job()
        except BaseException as error:
            errors.append(error)
        finally:
            connection.close()

    threads = [threading.Thread(target=run, args=each) for each in enumerate(jobs)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
        assert not thread.is_alive(), "a deadlock"
    assert not errors, errors
    return results


def agents(count: int) -> list[AgentClient]:
    return [AgentClient(*make_host()) for _ in range(count)]


def assert_summaries_are_true() -> None:
    for host in Host.objects.all():
        states = Container.objects.filter(host=host).values_list("state", flat=True)
        assert host.container_counts == container_counts(states)
        assert host.stack_counts == stack_counts(
            Stack.objects.filter(host=host).values_list("state", flat=True)
        )
    assert set(StackSeries.objects.values_list("name", flat=True)) == set(
        Stack.objects.values_list("name", flat=True)
    )


def test_hosts_that_gain_and_lose_the_same_stacks_keep_their_series() -> None:
    """Every host swaps stacks a-d for e-h and back, all at once, in orders that would lock each other out."""

    def swap(client: AgentClient, is_reversed: bool) -> Callable[[], None]:
        def run() -> None:
            for sequence in range(1, 7):
                names: Sequence[str] = "abcd" if (sequence + is_reversed) % 2 else "efgh"
                names = names[::-1] if is_reversed else names
                containers = [container(f"c{name}", stack=name) for name in names]
                answer = client.beat(heartbeat(sequence, containers=containers, digest=f"d{sequence}"))
                assert answer.status_code == 200, answer.content

        return run

    at_once(*[swap(client, index % 2 == 1) for index, client in enumerate(agents(4))])
    assert_summaries_are_true()


def test_hosts_that_swap_stacks_together_do_not_lock_each_other_out() -> None:
    """As two replicas take them: the same hosts' names in both, batches in other orders, heartbeats alone between."""
    clients = agents(9)

    def beat(client: AgentClient, sequence: int, names: str) -> Any:
        containers = [container(f"c{name}", stack=name) for name in names]
        return heartbeat(sequence, containers=containers, digest=f"d{sequence}")

    def together(members: Sequence[AgentClient], names: list[str]) -> Callable[[], None]:
        def run() -> None:
            for sequence, each in enumerate(names * 4, 2):
                answers = batch.answer([client.posted(beat(client, sequence, each)) for client in members])
                assert None not in answers

        return run

    def alone(client: AgentClient) -> None:
        for sequence, each in enumerate(["cdef", "abcd"] * 4, 2):
            assert client.beat(beat(client, sequence, each)).status_code == 200

    for client in clients:
        assert client.beat(beat(client, 1, "abcd")).status_code == 200
    at_once(
        together(clients[:4], ["dcba", "hgfe"]),
        together(clients[7:3:-1], ["efgh", "abcd"]),
        lambda: alone(clients[8]),
    )
    assert_summaries_are_true()
    assert set(HeartbeatState.objects.values_list("sequence", flat=True)) == {9}


def test_a_host_that_is_locked_does_not_hold_up_the_others() -> None:
    if connection.vendor == "sqlite":
        pytest.skip("SQLite locks the whole database for whoever writes")
    held, free = agents(2)
    for client in (held, free):
        assert client.beat(heartbeat(1, containers=[])).status_code == 200
    is_held, is_over = threading.Event(), threading.Event()

    def hold() -> None:
        with transaction.atomic():
            services.lock_host(held.host.pk)
            is_held.set()
            assert is_over.wait(30)

    def others() -> list[bool]:
        assert is_held.wait(30)
        try:
            answers = batch.answer([held.posted(heartbeat(2)), free.posted(heartbeat(2))])
        finally:
            is_over.set()
        return [answer is None for answer in answers]

    _, are_left = at_once(hold, others)
    assert are_left == [True, False]


def test_heartbeats_of_one_host_at_once_leave_the_newest() -> None:
    [client] = agents(1)
    client.beat(heartbeat(0, containers=[container("a")]))

    def beat(sequence: int) -> Callable[[], str]:
        containers = [container(f"c{sequence}")] if sequence % 2 else None
        document = heartbeat(sequence, containers=containers, rtt_seconds=[0.1])
        return lambda: client.beat(document).json()["status"]

    answers = at_once(*[beat(sequence) for sequence in range(1, 17)])
    taken = sum(answer != "stale" for answer in answers)
    state = HeartbeatState.objects.get()
    assert state.sequence == 16
    # Each heartbeat that was taken counts its round trip once.
    assert int(state.rtt_counts.split(",")[-1]) == taken + 1
    assert_summaries_are_true()


def test_removed_while_they_report() -> None:
    clients = agents(4)

    def report(client: AgentClient) -> Callable[[], set[int]]:
        def run() -> set[int]:
            return {
                client.beat(
                    heartbeat(
                        sequence, containers=[container("a", stack=f"s{sequence % 2}")], digest=str(sequence)
                    )
                ).status_code
                for sequence in range(1, 12)
            }

        return run

    def remove() -> None:
        for client in clients[:2]:
            services.remove_host(actor=SYSTEM, host_id=client.host.pk)

    *codes, _ = at_once(*[report(client) for client in clients], remove)
    assert set().union(*codes) <= {200, 401}
    assert Host.objects.count() == 2
    assert_summaries_are_true()


def test_commands_asked_for_while_agents_report_are_each_done_once(monkeypatch: pytest.MonkeyPatch) -> None:
    done: list[int] = []
    monkeypatch.setattr(commands, "_handlers", {})
    commands.register_result_handler(
        "deploy", on_result=lambda command, result: done.append(command.id), on_timeout=lambda *_: None
    )
    [client] = agents(1)
    client.beat(heartbeat(0, containers=[]))

    def ask() -> None:
        for _ in range(10):
            commands.enqueue(host_id=client.host.pk, kind="deploy", payload={})

    def report() -> None:
        for sequence in range(1, 40):
            for command in client.beat(heartbeat(sequence)).json()["commands"]:
                result = {"result": "success", "duration_seconds": 1.0}
                for _ in range(2):
                    assert client.post(f"commands/{command['id']}/result", result).status_code == 200

    at_once(ask, ask, report)
    sequence = 100
    while HeartbeatState.objects.get().has_commands and sequence < 120:
        sequence += 1
        for command in client.beat(heartbeat(sequence)).json()["commands"]:
            client.post(f"commands/{command['id']}/result", {"result": "success", "duration_seconds": 1.0})
    assert sorted(done) == sorted(AgentCommand.objects.values_list("pk", flat=True))
    assert len(done) == 20
    assert set(AgentCommand.objects.values_list("status", flat=True)) == {"done"}
