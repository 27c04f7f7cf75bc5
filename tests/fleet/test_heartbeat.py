"""What a heartbeat changes, and what it must not change."""

from __future__ import annotations

import datetime
import json
import uuid
from pathlib import Path
from typing import Any

import pytest

from dockmesh.audit.models import AuditEntry
from dockmesh.core import clock, strictjson
from dockmesh.core.errors import InvalidInput
from dockmesh.fleet import commands, services
from dockmesh.fleet.ingest import documents
from dockmesh.fleet.models import AgentCommand, Container, HeartbeatState, Host, Stack, StackSeries
from tests.fleet.conftest import AgentClient, both_ways, statements
from tests.fleet.factories import container, heartbeat

is_in_batch = both_ways

GOLDEN = Path(__file__).parent.parent / "golden"


def whole(sequence: int, *containers: dict[str, Any], digest: str = "sha256:one", **changes: Any) -> Any:
    return heartbeat(sequence, digest=digest, containers=list(containers), **changes)


def status(answer: Any) -> str:
    assert answer.status_code == 200, answer.content
    return answer.json()["status"]


@pytest.mark.parametrize(
    "name",
    [
        "heartbeat",
        "heartbeat-unchanged",
        "heartbeat-docker-down",
        "heartbeat-progress",
        "heartbeat-usage",
        "heartbeat-utf8",
    ],
)
def test_the_golden_documents_are_taken(agent: AgentClient, name: str) -> None:
    document = json.loads((GOLDEN / f"{name}.json").read_text())
    answer = agent.beat(document)
    assert answer.status_code == 200, answer.content
    assert set(answer.json()) == {"status", "heartbeat_interval_seconds", "server_time", "commands"}


@pytest.mark.parametrize("name", ["heartbeat-unchanged", "heartbeat-docker-down", "heartbeat-utf8"])
def test_what_agents_send_is_read_the_quick_way(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    document = json.loads((GOLDEN / f"{name}.json").read_text("utf-8"))
    monkeypatch.setattr(strictjson, "loads", lambda *_, **__: pytest.fail("read the slow way"))
    assert documents.read_heartbeat(strict_bytes(document)).sequence == document["sequence"]


CONTAINER = container("a", finished_at="2026-11-22T12:00:00Z", state="exited", exit_code=130)
# What agents of the version before don't say.
LATER = ("image_digest", "restart_policy", "is_oneoff", "stop_signal", "error", "finished_at")


@pytest.mark.parametrize("left_out", [(), *[(name,) for name in LATER], LATER], ids=str)
def test_agents_of_every_version_are_read_the_quick_way(
    agent: AgentClient, left_out: tuple[str, ...]
) -> None:
    entry = {key: value for key, value in CONTAINER.items() if key not in left_out}
    beat = whole(1, entry, agent={"version": "0.1.0"})
    assert documents.read_plain_heartbeat(strict_bytes(beat)) is not None
    assert status(agent.beat(beat)) == "accepted"
    stored: dict[str, Any] = dict(Container.objects.values().get())
    for name in LATER:
        known = None if name == "finished_at" else False if name == "is_oneoff" else ""
        assert stored[name] == known if name in left_out else str(stored[name])[:10] == str(entry[name])[:10]


def _written(**changes: Any) -> bytes:
    return strict_bytes({**whole(1, CONTAINER), **changes})


@pytest.mark.parametrize(
    ("changes", "is_quick"),
    [
        ({}, True),
        ({"agent": {"version": "0.1.0"}}, True),
        ({"agent": {}}, False),
        ({"sent_at": "2026-11-22T12:00:00.250000Z"}, True),
        ({"sent_at": "2026-11-22T12:00:00.000Z"}, True),
        ({"sent_at": "2026-11-22T12:00:00.250Z"}, True),
        ({"sent_at": "2026-11-22T13:00:00+01:00"}, True),
        ({"rtt_seconds": [1.0]}, True),
        ({"rtt_seconds": [1, 1e-05, 1e0, 0.10, -0.0]}, True),
        ({"agent": {"version": "2026-11-22T12:00:00Z"}}, True),
        ({"agent": {"version": "a,b", "capabilities": []}}, True),
        ({"agent": {"version": "a\\b"}}, False),
        ({"agent": {"version": "0.1.0", "unknown": 1}}, False),
        ({"agent": {"unknown": "0.1.0"}}, False),
        ({"host_id": 1}, True),
        ({"host": {"name": "web"}}, False),
        ({"docker": {"reachable": True}}, False),
        ({"system": {}}, False),
    ],
    ids=str,
)
def test_the_quick_form_is_what_the_documentation_says(changes: dict[str, Any], is_quick: bool) -> None:
    raw = _written(**changes)
    assert (documents.read_plain_heartbeat(raw) is not None) == is_quick
    assert documents.read_heartbeat(raw).sequence == 1


@pytest.mark.parametrize("separators", [(", ", ": "), (" ,\r\n", "\t:")], ids=str)
@pytest.mark.parametrize("text", ['"2026-11-22T12:00:00Z"', '"2026-11-22T12:00:00.000Z"'])
def test_the_contracts_example_has_the_quick_form(separators: tuple[str, str], text: str) -> None:
    entry: dict[str, Any] = {
        "id": "0123456789abcdef" * 4,
        "name": "web-1",
        "image": "nginx:1.27",
        "state": "running",
    }
    entry |= {"health": "healthy", "exit_code": 0, "oom_killed": False, "restart_count": 0}
    entry |= {"restart_policy": "unless-stopped", "is_oneoff": False, "stop_signal": "SIGTERM", "error": ""}
    entry |= {"stack": "shop", "service": "web", "created_at": "$", "started_at": "$"}
    beat = {
        "protocol": 1,
        "boot_id": "5b2c1f0e",
        "sequence": 42,
        "sent_at": "$",
        "agent": {"version": "0.1.0"},
        "rtt_seconds": [0.012, 1],
        "docker": {"reachable": True, "version": "24.0.7", "error": ""},
        "system": {"os": "linux", "arch": "x86_64", "kernel": "6.1", "cpus": 2, "memory_bytes": 25769803776},
        "inventory": {"digest": "sha256:0", "containers": [entry]},
    }
    raw = json.dumps(beat, separators=separators).replace('"$"', text).encode()
    quick = documents.read_plain_heartbeat(raw)
    assert quick is not None
    assert quick.sequence == 42
    assert quick == documents.read_heartbeat(json.dumps({**json.loads(raw), "unknown": 0}).encode())


@pytest.mark.parametrize(
    ("right", "wrong"),
    [
        ('"sequence": 1', '"sequence": 1, "sequence": 1'),
        ('"sequence": 1', '"sequence": 7, "sequence": 1'),
        ('"cpus": ', '"cpus": 3, "cpus": '),
        ('"rtt_seconds": [', '"rtt_seconds": [0.0' + "0" * 500 + "1, "),
        ('"kernel": "', '"kernel": "\x7f'),
        ('"kernel": "', '"kernel": "\x85'),
    ],
)
def test_what_is_refused_is_refused_with_blanks_too(right: str, wrong: str) -> None:
    text = json.dumps(whole(1, CONTAINER), ensure_ascii=False)
    assert right in text
    raw = text.replace(right, wrong).encode()
    assert documents.read_plain_heartbeat(raw) is None
    with pytest.raises(InvalidInput):
        documents.read_heartbeat(raw)


def test_how_docker_says_a_container_ended_makes_the_state_of_its_stack(agent: AgentClient) -> None:
    stopped = container("a", state="exited", exit_code=130, health="", stop_signal="SIGINT")
    oneoff = container("b", state="exited", exit_code=1, health="", is_oneoff=True)
    daemon = container("c", state="exited", exit_code=0, health="", service="db", restart_policy="always")
    agent.beat(whole(1, stopped, oneoff))
    assert Stack.objects.get().state == "stopped"
    agent.beat(whole(2, container("d"), oneoff, daemon))
    assert Stack.objects.get().state == "partial"
    agent.beat(whole(3, container("d"), container("e", state="created", health="", error="port is taken")))
    assert Stack.objects.get().state == "error"
    # The same by the rows, which a deploy's end goes by.
    agent.beat(whole(4, container("d"), oneoff, daemon))
    stack = services.set_deploy_state(stack_id=Stack.objects.get().pk, is_deploying=False)
    assert stack.state == "partial"


@pytest.mark.parametrize(
    "change",
    [
        {"is_oneoff": "True"},
        {"is_oneoff": None},
        {"restart_policy": 1},
        {"stop_signal": "x" * 65},
        {"error": "a\nb"},
        {"error": "x" * 1025},
        {"image_digest": "x" * 129},
        {"finished_at": "yesterday"},
    ],
    ids=str,
)
def test_what_is_wrong_in_the_later_fields_is_refused_and_named(
    agent: AgentClient, change: dict[str, Any]
) -> None:
    answer = agent.beat(whole(1, container("a", **change)))
    assert answer.status_code == 400
    assert next(iter(change)) in str(answer.json()["errors"])
    assert not Container.objects.exists()


def strict_bytes(document: Any) -> bytes:
    """Without blanks, as agents send it."""
    return json.dumps(document, separators=(",", ":"), ensure_ascii=False).encode()


def test_the_first_inventory_fills_the_host(agent: AgentClient) -> None:
    answer = agent.beat(
        whole(
            1,
            container("a"),
            container("b", state="exited", exit_code=1, service="db"),
            container("c", stack=""),
        )
    )
    assert status(answer) == "accepted"
    assert answer.json()["heartbeat_interval_seconds"] == 15
    assert answer.json()["commands"] == []
    host = Host.objects.get(pk=agent.host.pk)
    assert host.container_counts == "0,2,0,0,0,1,0,0"
    assert host.stack_counts == "0,0,0,1,0,0"
    assert (host.agent_version, host.docker_version, host.os) == ("0.1.0", "24.0.7", "linux")
    assert Stack.objects.get().state == "error"
    assert StackSeries.objects.get().name == "shop"
    assert agent.heartbeat_state.rtt_counts.startswith("0,0,1,1")
    assert agent.heartbeat_state.rtt_sum == 0.012


def test_a_digest_that_nobody_knows_is_asked_for(agent: AgentClient) -> None:
    before = agent.heartbeat_state.last_seen_at
    assert status(agent.beat(heartbeat(1))) == "inventory_wanted"
    assert agent.heartbeat_state.last_seen_at > before
    assert status(agent.beat(whole(2, container()))) == "accepted"
    assert status(agent.beat(heartbeat(3))) == "accepted"
    assert status(agent.beat(heartbeat(4, digest="sha256:two"))) == "inventory_wanted"
    assert Container.objects.count() == 1


def test_two_inventories_under_one_digest_do_not_stay_apart(
    agent: AgentClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    agent.beat(whole(1, container("a")))
    assert status(agent.beat(whole(2, container("b")))) == "accepted"
    assert Container.objects.get().container_id == "b"
    later = clock.now() + datetime.timedelta(hours=1, seconds=1)
    monkeypatch.setattr(clock, "now", lambda: later)
    assert status(agent.beat(heartbeat(3))) == "inventory_wanted"
    assert agent.heartbeat_state.last_seen_at == later
    assert status(agent.beat(whole(4, container("c")))) == "accepted"
    assert Container.objects.get().container_id == "c"


@pytest.mark.parametrize("sequence", [7, 6, 0])
def test_an_older_or_repeated_sequence_changes_nothing(agent: AgentClient, sequence: int) -> None:
    agent.beat(whole(7, container("a")))
    before = HeartbeatState.objects.values().get()
    assert status(agent.beat(whole(sequence, container("b"), digest="sha256:two"))) == "stale"
    assert status(agent.beat(heartbeat(sequence))) == "stale"
    assert HeartbeatState.objects.values().get() == before
    assert Container.objects.get().container_id == "a"


def test_a_new_boot_starts_over_and_the_old_one_is_over(agent: AgentClient) -> None:
    agent.beat(whole(7, container("a")))
    assert status(agent.beat(whole(1, container("b"), boot_id="second"))) == "accepted"
    assert status(agent.beat(whole(8, container("c")))) == "stale"
    assert status(agent.beat(whole(1, container("d"), boot_id="third"))) == "accepted"
    assert status(agent.beat(whole(9, container("e"), boot_id="second"))) == "stale"
    assert Container.objects.get().container_id == "d"


def test_changes_are_written_and_nothing_else(agent: AgentClient) -> None:
    agent.beat(whole(1, container("a"), container("b"), container("c")))
    ids = dict(Container.objects.values_list("container_id", "pk"))
    changed = dict(Container.objects.values_list("container_id", "changed_at"))
    version = agent.heartbeat_state.version
    answer = agent.beat(
        whole(2, container("a"), container("b", state="paused"), container("d"), digest="sha256:2")
    )
    assert status(answer) == "accepted"
    after = {row.container_id: row for row in Container.objects.all()}
    assert set(after) == {"a", "b", "d"}
    assert after["b"].pk == ids["b"]
    assert after["b"].state == "paused"
    assert after["a"].changed_at == changed["a"]
    assert after["b"].changed_at > changed["b"]
    assert agent.heartbeat_state.version == version + 1
    assert Host.objects.get().container_counts == "0,2,1,0,0,0,0,0"


def test_the_version_rises_only_with_the_text(agent: AgentClient) -> None:
    agent.beat(whole(1, container("a")))
    version = agent.heartbeat_state.version
    agent.beat(whole(2, container("a"), digest="sha256:2"))
    agent.beat(
        heartbeat(3, digest="sha256:2", docker={"reachable": True, "version": "24.0.7", "error": "slow"})
    )
    assert agent.heartbeat_state.version == version
    agent.beat(heartbeat(4, digest="sha256:2", agent={"version": "0.2.0"}))
    assert agent.heartbeat_state.version == version + 1


@pytest.mark.parametrize(
    "changed",
    [
        {"health": "unhealthy"},
        {"name": "renamed"},
        {"image": "nginx:2"},
        {"service": "api"},
        {"restart_count": 1},
    ],
    ids=lambda changed: next(iter(changed)),
)
def test_the_version_rises_with_what_no_count_tells(agent: AgentClient, changed: dict[str, Any]) -> None:
    agent.beat(whole(1, container("a")))
    version = agent.heartbeat_state.version
    agent.beat(whole(2, container("a", **changed), digest="sha256:2"))
    assert agent.heartbeat_state.version == version + 1


def test_the_version_rises_with_what_the_machine_is(agent: AgentClient) -> None:
    agent.beat(whole(1, container("a")))
    version = agent.heartbeat_state.version
    machine = heartbeat(2)["system"]
    agent.beat(heartbeat(2, system=machine | {"cpus": 8}))
    agent.beat(heartbeat(3, system=machine | {"cpus": 8, "memory_bytes": 1}))
    assert agent.heartbeat_state.version == version + 2


def test_the_version_rises_when_a_stack_is_kept_here(agent: AgentClient) -> None:
    agent.beat(whole(1, container("a")))
    version = agent.heartbeat_state.version
    services.adopt_stack(stack_id=Stack.objects.get().pk)
    assert agent.heartbeat_state.version == version + 1


def test_stacks_come_and_go_with_their_containers(agent: AgentClient) -> None:
    agent.beat(whole(1, container("a"), container("b", stack="blog")))
    assert set(StackSeries.objects.values_list("name", flat=True)) == {"shop", "blog"}
    agent.beat(whole(2, container("b", stack="blog"), digest="sha256:2"))
    assert [stack.name for stack in Stack.objects.all()] == ["blog"]
    assert [series.name for series in StackSeries.objects.all()] == ["blog"]


def test_a_stack_name_on_two_hosts_is_one_series(agent: AgentClient, other_agent: AgentClient) -> None:
    agent.beat(whole(1, container("a")))
    other_agent.beat(whole(1, container("a")))
    services.observe_deploy(stack_name="shop", is_success=True, seconds=3.0)
    agent.beat(whole(2, digest="sha256:2"))
    assert StackSeries.objects.get().success_sum == 3.0
    other_agent.beat(whole(2, digest="sha256:2"))
    assert not StackSeries.objects.exists()


def test_a_managed_stack_stays_without_containers(agent: AgentClient) -> None:
    agent.beat(whole(1, container("a")))
    services.adopt_stack(stack_id=Stack.objects.get().pk)
    agent.beat(whole(2, digest="sha256:2"))
    assert Stack.objects.get().state == "stopped"
    assert Host.objects.get().stack_counts == "0,0,1,0,0,0"
    services.remove_stack(stack_id=Stack.objects.get().pk)
    assert not StackSeries.objects.exists()
    assert Host.objects.get().stack_counts == "0,0,0,0,0,0"


def test_a_deploy_and_its_end_show_at_once(agent: AgentClient) -> None:
    agent.beat(whole(1, container("a")))
    stack = Stack.objects.get()
    version = agent.heartbeat_state.version
    services.set_deploy_state(stack_id=stack.pk, is_deploying=True)
    assert Host.objects.get().stack_counts == "0,0,0,0,1,0"
    assert agent.heartbeat_state.version == version + 1
    agent.beat(whole(2, container("a", state="exited", exit_code=1), digest="sha256:2"))
    assert Stack.objects.get().state == "deploying"
    services.set_deploy_state(stack_id=stack.pk, is_deploying=False, has_failed_deploy=True)
    agent.beat(whole(3, container("a"), digest="sha256:3"))
    assert Stack.objects.get().state == "error"
    services.set_deploy_state(stack_id=stack.pk, is_deploying=False, has_failed_deploy=False)
    assert Host.objects.get().stack_counts == "1,0,0,0,0,0"


@pytest.mark.parametrize(
    "changes",
    [
        {"docker": {"reachable": False, "version": "", "error": "no socket"}, "inventory": None},
        {"docker": {"reachable": False, "version": "", "error": "no socket"}},
        {"inventory": None},
    ],
)
def test_a_docker_that_does_not_answer_degrades_the_host_and_keeps_its_containers(
    agent: AgentClient, changes: dict[str, Any]
) -> None:
    agent.beat(whole(1, container("a")))
    version = agent.heartbeat_state.version
    assert status(agent.beat(heartbeat(2, **changes))) == "accepted"
    assert agent.heartbeat_state.is_degraded
    assert agent.heartbeat_state.version == version + 1
    assert Container.objects.count() == 1
    assert Host.objects.get().docker_version == "24.0.7"
    assert status(agent.beat(heartbeat(3, **changes))) == "accepted"
    assert status(agent.beat(heartbeat(4))) == "accepted"
    assert not agent.heartbeat_state.is_degraded
    assert agent.heartbeat_state.version == version + 2


@pytest.mark.parametrize(
    "sent_at", ["2016-11-22T12:00:00Z", "2036-11-22T12:00:00+02:00", "0001-01-01T00:00:00Z"]
)
def test_the_agents_clock_is_only_compared(agent: AgentClient, sent_at: str) -> None:
    assert status(agent.beat(whole(1, container("a", created_at=sent_at), sent_at=sent_at))) == "accepted"
    assert abs((clock.now() - agent.heartbeat_state.last_seen_at).total_seconds()) < 60
    assert abs(agent.heartbeat_state.clock_skew_seconds) > 9 * 365 * 86400


def test_round_trips_add_up(agent: AgentClient) -> None:
    agent.beat(whole(1, rtt_seconds=[0.001, 0.2]))
    agent.beat(heartbeat(2, rtt_seconds=[11]))
    agent.beat(heartbeat(3, rtt_seconds=[]))
    assert agent.heartbeat_state.rtt_counts == "1,1,1,1,1,2,2,2,2,2,2,3"
    assert agent.heartbeat_state.rtt_sum == pytest.approx(11.201)


def test_a_command_comes_with_the_next_heartbeat_and_its_result_ends_the_hurry(agent: AgentClient) -> None:
    agent.beat(whole(1, container("a")))
    pk = commands.enqueue(host_id=agent.host.pk, kind="deploy", payload={"stack": "shop"}, lock="stack:1")
    command = str(AgentCommand.objects.get(pk=pk).uuid)
    answer = agent.beat(heartbeat(2)).json()
    assert answer["heartbeat_interval_seconds"] == 1
    assert [(each["id"], each["kind"]) for each in answer["commands"]] == [(command, "deploy")]
    again = agent.beat(heartbeat(3)).json()["commands"]
    assert again == answer["commands"]
    known = agent.beat(
        heartbeat(4, progress=[{"command_id": command, "output": "line\nline\n", "elapsed_seconds": 0.5}])
    )
    assert known.json()["commands"] == []
    report = {"result": "success", "duration_seconds": 1.5, "exit_code": 0, "output": "ok\n", "error": ""}
    assert agent.post(f"commands/{command}/result", report).json() == {"status": "accepted"}
    for _ in range(50):
        assert agent.post(f"commands/{command}/result", report).json() == {"status": "known"}
    assert agent.post(f"commands/{command}/result", {**report, "output": "x"}).status_code == 409
    assert agent.beat(heartbeat(5)).json()["heartbeat_interval_seconds"] == 15


def test_what_an_agent_named_and_does_not_name_any_more_is_asked_about_and_ends(agent: AgentClient) -> None:
    agent.beat(whole(1))
    commands.enqueue(host_id=agent.host.pk, kind="deploy", payload={})
    answer = agent.beat(heartbeat(2)).json()
    assert "asked" not in answer
    [command] = answer["commands"]
    named = [{"command_id": command["id"], "output": "", "elapsed_seconds": 0.5}]
    assert "asked" not in agent.beat(heartbeat(3, progress=named)).json()
    answer = agent.beat(heartbeat(4)).json()
    assert (answer["commands"], answer["asked"]) == ([], [command["id"]])
    unknown = {"result": "failure", "duration_seconds": 0.0, "is_known": False, "is_repeated": True}
    assert agent.post(f"commands/{command['id']}/result", unknown).json() == {"status": "accepted"}
    assert agent.beat(heartbeat(5)).json()["heartbeat_interval_seconds"] == 15


def test_an_agent_of_the_version_before_gets_numbers(agent: AgentClient) -> None:
    """Which it is told by its name alone: a program of somebody's own gets UUIDs whatever it is."""
    agent.beat(whole(1))
    pk = commands.enqueue(host_id=agent.host.pk, kind="deploy", payload={})
    row = AgentCommand.objects.get(pk=pk)
    asked = [
        agent.beat(heartbeat(sequence), headers={"User-Agent": name}).json()["commands"][0]["id"]
        for sequence, name in enumerate(
            ("dockmesh-agent/0.1.0", "dockmesh-agent/0.1.0 (command-uuids)", "curl/8"), start=2
        )
    ]
    assert asked == [row.number, str(row.uuid), str(row.uuid)]
    named = [{"command_id": row.number, "output": "", "elapsed_seconds": 0.5}]
    answer = agent.beat(heartbeat(5, progress=named), headers={"User-Agent": "dockmesh-agent/0.1.0"}).json()
    assert answer["commands"] == []
    report = {"result": "success", "duration_seconds": 1.5}
    assert agent.post(f"commands/{row.number}/result", report).json() == {"status": "accepted"}
    for nonsense in ("0", "9" * 19, "x", str(row.uuid)[:-1], f"{row.uuid}0"):
        assert agent.post(f"commands/{nonsense}/result", report).status_code == 404


def test_another_hosts_command_is_refused_and_audited(agent: AgentClient, other_agent: AgentClient) -> None:
    commands.enqueue(host_id=agent.host.pk, kind="deploy", payload={})
    command = agent.beat(whole(1)).json()["commands"][0]["id"]
    report = {"result": "success", "duration_seconds": 1.5}
    assert other_agent.post(f"commands/{command}/result", report).status_code == 403
    assert AuditEntry.objects.filter(
        action="permission.refused", actor_kind="agent", actor_name="db"
    ).exists()
    assert other_agent.post(f"commands/{uuid.uuid4()}/result", report).status_code == 404


@pytest.mark.parametrize("claim", ["host_id", "host_id_text", "host", "host_object"])
def test_an_agent_that_reports_as_another_host_is_refused_and_audited(
    agent: AgentClient, other_agent: AgentClient, claim: str
) -> None:
    pk, name = other_agent.host.pk, other_agent.host.name
    claims: dict[str, Any] = {
        "host_id": {"host_id": pk},
        "host_id_text": {"host_id": str(pk)},
        "host": {"host": name},
        "host_object": {"host": {"id": pk, "name": name}},
    }
    from tokens import refusals

    refusals.forget()
    before = other_agent.heartbeat_state
    answer = agent.beat(whole(1, container(), **claims[claim]))
    assert answer.status_code == 403
    assert not Container.objects.exists()
    assert other_agent.heartbeat_state.__dict__.keys() == before.__dict__.keys()
    assert other_agent.heartbeat_state.last_seen_at == before.last_seen_at
    assert AuditEntry.objects.filter(action="permission.refused", actor_id=str(agent.host.pk)).exists()
    own: dict[str, Any] = {"host": {"id": agent.host.pk, "name": agent.host.name}, "host_id": agent.host.pk}
    assert status(agent.beat(whole(1, container(), **own))) == "accepted"


# Guards of the hot path: what issue of speed counts on. A number that rises here is a regression.


def test_an_unchanged_heartbeat_is_one_write_and_one_read_or_two(
    agent: AgentClient, connection_queries: Any
) -> None:
    agent.beat(whole(1, container("a")))
    with connection_queries as queries:
        assert status(agent.beat(heartbeat(2))) == "accepted"
    # By itself, whose token it is, is looked up before the body is read, and the host is locked after that.
    reads = ["SELECT"] if agent.is_in_batch else ["SELECT", "SELECT"]
    assert statements(queries) == [*reads, "UPDATE"]


@pytest.mark.parametrize("count", [10, 60])
def test_a_changed_heartbeat_needs_the_same_queries_whatever_the_number_of_containers(
    agent: AgentClient, connection_queries: Any, count: int
) -> None:
    first = [container(f"c{index}", stack=f"s{index % 3}") for index in range(count)]
    agent.beat(whole(1, *first))
    second = [
        {**each, "state": "exited", "exit_code": 1} if index % 10 == 0 else each
        for index, each in enumerate(first)
    ]
    with connection_queries as queries:
        assert status(agent.beat(whole(2, *second, digest="sha256:2"))) == "accepted"
    assert len(statements(queries)) <= 10, statements(queries)
