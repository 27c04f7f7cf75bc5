"""The simulated fleet: the same from the same seed, and taken for real by the server."""

from __future__ import annotations

import datetime
import io
import random
from typing import Any

import pytest
from django.core.management import CommandError, call_command

from dockmesh.audit.services import SYSTEM
from dockmesh.backups.models import BackupJob
from dockmesh.core import clock
from dockmesh.fleet import commands, services
from dockmesh.fleet.models import AgentCommand, Container, EnrollmentToken, HeartbeatState, Host, Stack
from dockmesh.fleet.services import containers, details, logs
from dockmesh.fleet.simulation.agent import Client, Refused
from dockmesh.fleet.simulation.world import make_hosts, services_of
from tests.fleet.factories import make_host
from tokens.models import ApiToken
from tokens.principals import SYSTEM as SYSTEM_PRINCIPAL
from tokens.services import create_token


def test_the_same_seed_makes_the_same_fleet() -> None:
    def life(seed: int) -> list[Any]:
        hosts = make_hosts(hosts=3, containers=20, seed=seed)
        for _ in range(500):
            for host in hosts:
                host.advance(15.0)
        return [
            (
                host.name,
                host.is_silent,
                [(each.id, each.state, each.restart_count) for each in host.containers.values()],
            )
            for host in hosts
        ]

    assert life(1) == life(1)
    assert life(1) != life(2)


def test_containers_crash_and_come_back() -> None:
    [host] = make_hosts(hosts=1, containers=20, seed=1)
    seen = set()
    for _ in range(2000):
        host.advance(15.0)
        seen |= {each.state for each in host.containers.values()}
    assert seen == {"running", "exited", "restarting"}
    assert sum(each.restart_count for each in host.containers.values()) > 10
    assert sum(each.state == "running" for each in host.containers.values()) > 15


def test_services_are_read_from_a_compose_file() -> None:
    text = "services:\n  web:\n    image: nginx\n  db:\n    image: postgres\nvolumes:\n  data: {}\n"
    assert [name for name, _, _ in services_of("x", text)] == ["web", "db"]


@pytest.mark.django_db(transaction=True)
def test_the_fleet_enrols_reports_and_carries_out_commands(
    live_server: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    from dockmesh.fleet.simulation import agent

    monkeypatch.setattr(agent, "SECONDS", {})
    token = services.create_enrollment_token(actor=SYSTEM)[1]
    out = io.StringIO()
    options = {"server": live_server.url, "hosts": 3, "containers": 12, "seed": 1, "interval": 1}
    call_command("simulatefleet", enrollment_token=token, duration=2, stdout=out, **options)
    assert "3 hosts enrolled, 36 containers" in out.getvalue()
    assert "0 refused, 0 lost" in out.getvalue()
    assert Host.objects.count() == 3
    assert Container.objects.count() == 36
    assert EnrollmentToken.objects.exclude(used_at=None).count() == 3
    assert not ApiToken.objects.exists()
    with pytest.raises(CommandError, match="can't enrol: the server answered 401"):
        call_command("simulatefleet", enrollment_token=token, duration=1, stdout=out, **options)


@pytest.mark.django_db(transaction=True)
def test_deploys_and_backups_run(live_server: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    from dockmesh.fleet.simulation import agent, operator

    monkeypatch.setattr(agent, "SECONDS", {"deploy": (0.0, 0.0), "backup": (0.0, 0.0)})
    monkeypatch.setattr(agent, "FAILS", 0.0)
    monkeypatch.setattr(operator, "LOOK_EVERY_SECONDS", 0.5)
    options = {"server": live_server.url, "hosts": 1, "containers": 3, "seed": 1, "interval": 1}
    token = services.create_enrollment_token(actor=SYSTEM)[1]
    call_command("simulatefleet", enrollment_token=token, duration=7, stdout=io.StringIO(), **options)
    assert {row.kind for row in AgentCommand.objects.filter(status="done", result__result="success")} == {
        "backup",
        "deploy",
    }
    assert not ApiToken.objects.exists()


def by_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    """Work that takes no time and does not fail, asked for as often as can be."""
    from dockmesh.fleet.simulation import agent, operator

    monkeypatch.setattr(agent, "SECONDS", {"deploy": (0.0, 0.0), "backup": (0.0, 0.0)})
    monkeypatch.setattr(agent, "FAILS", 0.0)
    monkeypatch.setattr(operator, "LOOK_EVERY_SECONDS", 0.5)
    monkeypatch.setattr(operator, "DEPLOY_EVERY_SECONDS", 0.2)
    monkeypatch.setattr(operator, "ONE_IN", 1)


@pytest.mark.django_db(transaction=True)
def test_a_real_host_is_not_touched(live_server: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    by_itself(monkeypatch)
    real, _ = make_host("real")
    now = clock.now()
    for name in ("shop", "blog", "analytics"):
        Stack.objects.create(host=real, name=name, state="running", state_changed_at=now)
    HeartbeatState.objects.filter(host=real).update(last_seen_at=now + datetime.timedelta(hours=1))
    options = {"server": live_server.url, "hosts": 1, "containers": 3, "seed": 1, "interval": 1}
    token = services.create_enrollment_token(actor=SYSTEM)[1]
    call_command("simulatefleet", enrollment_token=token, duration=6, stdout=io.StringIO(), **options)
    simulated = Host.objects.exclude(pk=real.pk).get()
    assert AgentCommand.objects.filter(host=simulated).exists()
    assert not AgentCommand.objects.filter(host=real).exists()
    assert not Stack.objects.filter(host=real, is_managed=True).exists()
    assert Stack.objects.filter(host=real).count() == 3
    assert not BackupJob.objects.filter(host=real).exists()


@pytest.mark.django_db(transaction=True)
def test_what_earlier_runs_left_is_removed_and_nothing_else(
    live_server: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    by_itself(monkeypatch)
    real, _ = make_host("real")
    labelled, _ = make_host("labelled")
    Host.objects.filter(pk=labelled.pk).update(labels={"simulated": "no", "role": "web"})
    Stack.objects.create(host=real, name="shop", state="running", state_changed_at=clock.now())
    kept = create_token(principal=SYSTEM_PRINCIPAL, name="simulatefleet of mine", role="viewer").token
    create_token(principal=SYSTEM_PRINCIPAL, name="simulatefleet 0123abcd", role="operator")
    options = {"server": live_server.url, "hosts": 2, "containers": 3, "seed": 1, "interval": 1}
    token = services.create_enrollment_token(actor=SYSTEM)[1]
    call_command("simulatefleet", enrollment_token=token, duration=4, stdout=io.StringIO(), **options)
    assert Host.objects.count() == 4
    out = io.StringIO()
    call_command("simulatefleet", remove=True, stdout=out)
    assert set(Host.objects.all()) == {real, labelled}
    assert Stack.objects.get().host == real
    assert not BackupJob.objects.exists()
    assert list(ApiToken.objects.all()) == [kept]
    assert len(out.getvalue().splitlines()) == 3
    call_command("simulatefleet", remove=True, stdout=out)
    assert len(out.getvalue().splitlines()) == 3


@pytest.mark.django_db(transaction=True)
def test_it_never_takes_the_place_of_a_known_host(live_server: Any) -> None:
    real, _ = make_host("real")
    token = services.create_enrollment_token(actor=SYSTEM, host_id=real.pk)[1]
    options = {"server": live_server.url, "enrollment_token": token, "hosts": 1, "duration": 1}
    with pytest.raises(CommandError, match="for a known host"):
        call_command("simulatefleet", stdout=io.StringIO(), **options)
    # Nor where it can't look into the server's database.
    client = Client(live_server.url)
    with pytest.raises(Refused, match="can't take the place"):
        client.post("agents/enroll", {"hostname": "web-01", "labels": {"simulated": "yes"}}, token=token)
    client.close()
    before = real.agent_digest
    real.refresh_from_db()
    assert real.agent_digest == before
    assert EnrollmentToken.objects.get().used_at is None


@pytest.mark.parametrize("given", [{"server": "http://127.0.0.1:1"}, {"enrollment_token": "dme_x"}])
def test_what_is_needed_is_named(given: dict[str, str]) -> None:
    with pytest.raises(CommandError, match="is required"):
        call_command("simulatefleet", **given)


@pytest.mark.django_db(transaction=True)
def test_without_work_nothing_is_asked_for(live_server: Any) -> None:
    options = {"server": live_server.url, "hosts": 1, "containers": 3, "seed": 1, "interval": 1}
    token = services.create_enrollment_token(actor=SYSTEM)[1]
    call_command(
        "simulatefleet", enrollment_token=token, duration=4, no_work=True, stdout=io.StringIO(), **options
    )
    assert Container.objects.count() == 3
    assert not AgentCommand.objects.exists()


@pytest.mark.django_db(transaction=True)
def test_a_simulated_agent_carries_out_a_deploy(live_server: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    from dockmesh.fleet.simulation import agent as simulation

    monkeypatch.setattr(simulation, "SECONDS", {"deploy": (0.0, 0.0)})
    monkeypatch.setattr(simulation, "FAILS", 0.0)
    host, token = make_host()
    payload = {"operation": "up", "stack": "new", "compose_file": "services:\n  web:\n    image: nginx\n"}
    command = commands.enqueue(host_id=host.pk, kind="deploy", payload=payload)
    [world] = make_hosts(hosts=1, containers=0, seed=1)
    simulated = simulation.SimulatedAgent(world, token)
    client = simulation.Client(live_server.url)
    simulated.step(client)
    simulated.step(client)
    client.close()
    result: Any = AgentCommand.objects.get(pk=command).result
    assert result["result"] == "success"
    assert Container.objects.get().name == "new-web-1"


@pytest.mark.django_db(transaction=True)
def test_a_simulated_agent_acts_on_containers_tells_more_and_sends_logs(live_server: Any) -> None:
    from dockmesh.fleet.simulation import agent as simulation

    _, token = make_host()
    [world] = make_hosts(hosts=1, containers=2, seed=1)
    simulated = simulation.SimulatedAgent(world, token)
    client = simulation.Client(live_server.url)
    simulated.step(client)
    found = Container.objects.select_related("host__heartbeat_state").earliest("pk")
    containers.act_on_container(
        actor=SYSTEM, container_id=found.pk, action=containers.ContainerAction.RESTART
    )
    assert details.ask_for_details(found) == ""
    session = logs.open_log(actor=SYSTEM, container_id=found.pk, options=logs.LogOptions(tail=2))
    for _ in range(3):
        simulated.step(client)
    client.close()
    command = AgentCommand.objects.get(kind=containers.KIND)
    assert (command.result or {})["outcome"] == "restarted"
    told = details.details_of(found)
    assert told is not None
    assert (told.error, told.found["environment"]) == ("", ["PATH"])
    read = logs.read_log(actor=SYSTEM, session_id=session.uuid, after=0)
    assert read.text == f"{found.name} handled request 1\n{found.name} handled request 2\n"


@pytest.mark.django_db
def test_an_enrollment_token_is_all_that_is_printed() -> None:
    out = io.StringIO()
    call_command("enrollmenttoken", "--expires-in", "2h", stdout=out)
    assert out.getvalue().startswith("dme_")
    assert len(out.getvalue().split()) == 1
    assert EnrollmentToken.objects.get().created_by == "dockmesh"


@pytest.mark.django_db
@pytest.mark.parametrize("text", ["", "1", "99x", "31d", "-1h"])
def test_a_bad_lifetime_is_one_line(text: str) -> None:
    with pytest.raises(CommandError, match="expires"):
        call_command("enrollmenttoken", f"--expires-in={text}")
    assert not EnrollmentToken.objects.exists()


def test_what_simulated_containers_use_is_believable() -> None:
    (host,) = make_hosts(hosts=1, containers=12, seed=7)
    host.chance = random.Random(1)

    def used(seconds: float) -> dict[str, list[Any]]:
        host.advance(seconds)
        return {entry[0]: entry[1:] for entry in host.usage()["containers"]}

    assert "disk" in host.usage()
    first, second = used(15), used(15)
    running = {each.id for each in host.containers.values() if each.state == "running"}
    assert set(second) == running
    for key in first.keys() & running:
        assert all(later >= sooner for later, sooner in zip(second[key][:3], first[key][:3], strict=True))
        limit = second[key][4]
        assert limit is None or second[key][3] < limit
    assert "disk" not in host.usage()
    key = next(iter(running))
    host.containers[key].start("2030-01-01T00:00:00Z")
    assert used(1)[key][0] < second[key][0]
