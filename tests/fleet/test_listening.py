"""Silence counts only over time in which somebody listened."""

import datetime
import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
import requests

from dockmesh.core import clock
from dockmesh.fleet import commands, listening
from dockmesh.fleet.discovery import target_groups
from dockmesh.fleet.listening import Listener, Record
from dockmesh.fleet.models import AgentCommand, HeartbeatState, Host, ListeningSpan
from dockmesh.fleet.selectors import heartbeat_columns, hosts_in_status, subjects, summary
from dockmesh.fleet.states import HostStatus
from tests.fleet.factories import heartbeat, make_host
from tests.integration.api import Api, until
from tests.integration.server import DockmeshServer

START = datetime.datetime(2026, 11, 26, 12, 0, tzinfo=datetime.UTC)
DAY = 86_400.0


def at(seconds: float) -> datetime.datetime:
    return START + datetime.timedelta(seconds=seconds)


@pytest.fixture
def passes() -> Iterator[Any]:
    now = [START]

    def later(seconds: float) -> None:
        now[0] += datetime.timedelta(seconds=seconds)

    with mock.patch.object(clock, "now", side_effect=lambda: now[0]):
        yield later


def listen(passes: Any, seconds: float, *listeners: Listener) -> None:
    """All of them note every 3 s."""
    for _ in range(int(seconds // 3)):
        passes(3)
        for listener in listeners:
            listener.note()


@pytest.mark.parametrize(
    ("spans", "seconds", "silent_before"),
    [
        ([], 60, 940),  # nothing is known: all of it counts
        ([(0, 1000)], 60, 940),
        ([(990, 1000)], 60, 940),  # so it does before the record begins
        ([(985, 1000), (0, 385)], 60, 340),  # the gap of 600 s does not count
        ([(985, 1000), (900, 920), (0, 300)], 60, 275),
        ([(0, 400)], 60, 340),  # nobody listens now
        ([(970, 1000), (0, 370)], 20, 355),  # an agent may pause for 30 s, and was silent for 15 s before
    ],
)
def test_only_listened_time_counts(
    spans: list[tuple[float, float]], seconds: float, silent_before: float
) -> None:
    record = Record(at(1000), tuple((at(since), at(end)) for since, end in spans))
    assert record.before(seconds) == at(silent_before)


def test_the_end_of_a_gap_is_known() -> None:
    record = Record(at(1000), ((at(900), at(1000)), (at(0), at(300))))
    assert record.returned_at(at(950)) is None
    assert record.returned_at(at(600)) == at(900)
    assert record.returned_at(at(100)) is None


@pytest.mark.django_db
class TestRecord:
    def test_a_short_pause_is_none_and_a_long_one_is_a_gap(self, passes: Any) -> None:
        listener = Listener()
        listener.note()
        listen(passes, 120, listener)
        passes(9)
        listener.note()
        assert listening.record(clock.now()).spans == ((START, at(129)),)
        passes(600)
        assert listening.record(clock.now()).before(60) == at(69)  # before the first note after it, too
        listener.note()
        assert listening.record(clock.now()).spans == ((at(729), at(729)), (START, at(129)))

    def test_as_long_as_one_replica_listens_there_is_no_gap(self, passes: Any) -> None:
        one, other = Listener(), Listener()
        one.note()
        listen(passes, 60, one, other)
        listen(passes, 600, other)
        listen(passes, 60, one)
        assert listening.record(clock.now()).spans == ((START, clock.now()),)
        assert ListeningSpan.objects.count() == 3

    def test_a_process_started_at_once_goes_on(self, passes: Any) -> None:
        for _ in range(3):
            listener = Listener()
            listener.note()
            listen(passes, 30, listener)
        assert listening.record(clock.now()).before(60) == at(30)

    def test_a_clock_that_was_wrong_leaves_no_trace(self, passes: Any) -> None:
        listener = Listener()
        listener.note()
        passes(365 * DAY)
        listener.note()
        passes(-365 * DAY)
        listen(passes, 120, listener)
        assert listening.offline_before(clock.now()) == clock.now() - datetime.timedelta(seconds=60)

    def test_what_nobody_needs_is_forgotten_and_changes_nothing(self, passes: Any) -> None:
        for _ in range(4):
            ListeningSpan.objects.create(
                since=clock.now(), until=clock.now() + datetime.timedelta(seconds=3 * DAY)
            )
            passes(4 * DAY)
        before = listening.offline_before(clock.now())
        listening.forget_old_spans()
        assert ListeningSpan.objects.count() == 3
        assert listening.offline_before(clock.now()) == before


@pytest.mark.django_db
class TestStatus:
    """An hour of listening, ten minutes of absence; `atlas` was heard to the end, `borealis` was silent before."""

    @pytest.fixture
    def hosts(self, passes: Any) -> tuple[Host, Host]:
        listener = Listener()
        listener.note()
        atlas, borealis = (make_host(name)[0] for name in ("atlas", "borealis"))
        Host.objects.update(address="10.0.0.1")
        HeartbeatState.objects.update(last_seen_at=clock.now(), sequence=1)
        listen(passes, 120, listener)
        HeartbeatState.objects.filter(host=atlas).update(last_seen_at=clock.now())
        passes(600)
        return atlas, borealis

    def statuses(self) -> set[str]:
        """What each place says of (atlas, borealis); they must agree."""
        now = clock.now()
        facts = subjects.host_facts(now)
        marks = summary.fleet_summary(now).hosts
        columns = heartbeat_columns(now)
        groups = target_groups("node")
        found = {
            "alerts": [fact.status for fact in facts.values()],
            "overview": [mark.status for mark in marks],
            "discovery": [group["labels"]["__meta_dockmesh_status"] for group in groups],
            "lists": [
                next(
                    status
                    for status in HostStatus
                    if Host.objects.filter(hosts_in_status(status), pk=host.pk).exists()
                )
                for host in Host.objects.order_by("id")
            ],
            "metrics": [
                "offline" if int(version) % 2 else "online" for version in columns.versions.split(",")
            ],
        }
        return {f"{' '.join(statuses)}" for statuses in found.values()}

    def test_after_an_absence_each_is_as_it_was(self, hosts: tuple[Host, Host], passes: Any) -> None:
        assert self.statuses() == {"online offline"}
        listener = Listener()
        listener.note()
        listen(passes, 45, listener)
        assert self.statuses() == {"online offline"}

    def test_who_is_silent_now_too_is_offline(self, hosts: tuple[Host, Host], passes: Any) -> None:
        listener = Listener()
        listener.note()
        listen(passes, 63, listener)
        assert self.statuses() == {"offline offline"}

    def test_the_age_on_metrics_stays_the_plain_one(self, hosts: tuple[Host, Host]) -> None:
        assert heartbeat_columns(clock.now()).ages == "600000,720000"

    def test_no_command_expires_for_the_servers_absence(self, hosts: tuple[Host, Host], passes: Any) -> None:
        ids = [commands.enqueue(host_id=host.pk, kind="test.wait", payload={}) for host in hosts]
        AgentCommand.objects.update(created_at=START)
        passes(3600)
        commands.expire_overdue()
        assert not AgentCommand.objects.filter(status=AgentCommand.Status.EXPIRED).exists()
        listener = Listener()
        listener.note()
        listen(passes, 630, listener)
        commands.expire_overdue()
        assert AgentCommand.objects.filter(status=AgentCommand.Status.EXPIRED).count() == len(ids)


@pytest.mark.integration
def test_no_host_is_offline_for_a_server_that_was_frozen_or_killed(tmp_path: Path) -> None:
    environment = {"DOCKMESH_HEARTBEAT_INTERVAL": "1", "DOCKMESH_HOST_OFFLINE_AFTER": "4"}
    with DockmeshServer(tmp_path / "data", environment) as server:
        api = Api(server)
        agent_token = requests.post(
            f"{server.url}/api/v1/agents/enroll",
            json={"hostname": "atlas"},
            headers={"Authorization": f"Bearer {server.enrollmenttoken()}"},
            timeout=10,
        ).json()["agent_token"]

        def beat(sequence: int) -> None:
            answer = requests.post(
                f"{server.url}/api/v1/agents/heartbeat",
                json=heartbeat(sequence=sequence),
                headers={"Authorization": f"Bearer {agent_token}"},
                timeout=10,
            )
            assert answer.status_code == 200, answer.text

        def status() -> str:
            return str(api.get("hosts?name=atlas")["results"][0]["status"])

        beat(1)
        web, _ = server.children()
        os.kill(web, signal.SIGSTOP)
        time.sleep(6)
        os.kill(web, signal.SIGCONT)
        assert status() == "online"
        beat(2)
        server.kill()
        time.sleep(5)
        server.start()
        assert status() == "online"
        until(lambda: status() == "offline", seconds=60, what=lambda: "a host that is silent is offline")
