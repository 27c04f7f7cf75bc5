"""The last day of a host, hour by hour."""

import datetime
from collections.abc import Iterator
from unittest import mock

import pytest
from django.test import Client
from pytest_django import DjangoAssertNumQueries

from dockmesh.core import clock
from dockmesh.fleet import hours
from dockmesh.fleet.models import HeartbeatState, Host, HostHour
from dockmesh.fleet.states import HostWorst, StackState
from tests.tokens.support import user_with
from tokens.permissions import Permission

pytestmark = pytest.mark.django_db

NOW = datetime.datetime(2026, 11, 27, 12, 30, tzinfo=datetime.UTC)


class Time:
    """A clock that is turned by hand, and a host that is heard when it is."""

    def __init__(self) -> None:
        self.now = NOW
        self.host = Host.objects.create(
            name="atlas", agent_token_id="sim000000001", agent_digest="0" * 64, agent_pepper=0
        )
        HeartbeatState.objects.create(host=self.host, sequence=1, last_seen_at=NOW)

    def look(
        self, moment: datetime.datetime, *, seen_seconds_ago: float = 1, is_degraded: bool = False
    ) -> None:
        self.now = moment
        seen = moment - datetime.timedelta(seconds=seen_seconds_ago)
        HeartbeatState.objects.update(last_seen_at=seen, is_degraded=is_degraded)
        hours.note()

    def shown(self) -> list[HostWorst | None]:
        return [hour.worst for hour in hours.of_host(self.host.pk, self.now)]


@pytest.fixture
def time() -> Iterator[Time]:
    faked = Time()
    with mock.patch.object(clock, "now", side_effect=lambda: faked.now):
        yield faked


def test_each_hour_has_the_worst_of_it(time: Time) -> None:
    time.look(NOW)
    time.look(NOW + datetime.timedelta(minutes=5), seen_seconds_ago=900)
    time.look(NOW + datetime.timedelta(minutes=6))
    time.look(NOW + datetime.timedelta(hours=1), is_degraded=True)
    counts = ",".join("1" if state == StackState.ERROR else "0" for state in StackState)
    Host.objects.update(stack_counts=counts)
    time.look(NOW + datetime.timedelta(hours=3))
    assert time.shown()[-4:] == [HostWorst.OFFLINE, HostWorst.DEGRADED, None, HostWorst.ERROR]
    assert time.shown()[:-4] == [None] * 20


def test_a_host_has_24_of_them_at_most(time: Time) -> None:
    for hour in range(40):
        time.look(NOW + datetime.timedelta(hours=hour))
    assert HostHour.objects.count() == 24
    assert time.shown() == [HostWorst.WELL] * 24


def test_what_was_never_heard_has_none(time: Time) -> None:
    HeartbeatState.objects.update(sequence=-1)
    time.look(NOW)
    assert not HostHour.objects.exists()


def test_a_look_costs_the_same_however_many_hosts_there_are(
    time: Time, django_assert_max_num_queries: DjangoAssertNumQueries
) -> None:
    more = Host.objects.bulk_create(
        Host(name=f"h{number}", agent_token_id=f"x{number}", agent_digest="", agent_pepper=0)
        for number in range(60)
    )
    HeartbeatState.objects.bulk_create(
        HeartbeatState(host=host, sequence=1, last_seen_at=NOW) for host in more
    )
    with django_assert_max_num_queries(8):
        time.look(NOW)
    assert HostHour.objects.count() == 61


def test_the_host_page_shows_24_marks_in_words_too(client: Client, time: Time) -> None:
    time.look(NOW, seen_seconds_ago=900)
    client.force_login(user_with(Permission.FLEET_READ))
    text = client.get(f"/hosts/{time.host.pk}/").content.decode()
    assert text.count('<i class="strip-') == 24
    assert "12:00 to 13:00 UTC: offline" in text
    assert "11:00 to 12:00 UTC: not known" in text
