"""Many alerts of one rule are one message, those that follow a digest, and nothing is lost by it."""

import pytest

from dockmesh.alerts import receivers, services
from dockmesh.alerts.models import Channel, Notification
from dockmesh.audit.services import SYSTEM
from dockmesh.fleet.models import Host
from tests.alerts.conftest import Time
from tests.alerts.support import deliver_due, make_host, see

pytestmark = pytest.mark.django_db


@pytest.fixture
def sent(monkeypatch: pytest.MonkeyPatch) -> list[Notification]:
    """What the channel was told."""
    told: list[Notification] = []
    monkeypatch.setattr(receivers, "send", lambda _, message: told.append(message))
    services.create_channel(actor=SYSTEM, name="ops", kind="apprise", url="json://192.0.2.1/")
    rule = services.RuleInput(name="Host offline", kind="host_offline", severity="critical")
    services.create_rule(actor=SYSTEM, rule=rule)
    return told


def silent(count: int, time: Time, name: str = "web") -> list[Host]:
    return [make_host(f"{name}-{number:02d}", seen_seconds_ago=600) for number in range(count)]


def test_50_hosts_are_one_message_with_the_severity_and_how_many(
    time: Time, sent: list[Notification]
) -> None:
    silent(50, time)
    services.evaluate()
    deliver_due()
    (message,) = sent
    assert (message.title, message.type) == ("[critical] Firing: Host offline (50)", "failure")
    lines = message.body.splitlines()
    assert lines[0].startswith("Host web-00: ")
    assert "and 20 more." in lines
    assert set(Notification.objects.values_list("status", "attempts")) == {("sent", 1)}
    assert Channel.objects.get().sent_count == 1


def test_a_few_are_told_one_by_one(time: Time, sent: list[Notification]) -> None:
    silent(4, time)
    services.evaluate()
    deliver_due()
    assert [message.body.splitlines()[0] for message in sent] == [f"Host web-{n:02d}" for n in range(4)]


def test_those_that_follow_are_told_together_after_a_minute(time: Time, sent: list[Notification]) -> None:
    silent(6, time)
    services.evaluate()
    deliver_due()
    for name in ("db", "mq"):
        silent(3, time, name)
        time.passes(15)
        services.evaluate()
        deliver_due()
    assert len(sent) == 1
    time.passes(31)
    deliver_due()
    assert [message.title for message in sent[1:]] == ["[critical] Firing: Host offline (6)"]
    time.passes(200)
    silent(1, time, "late")
    services.evaluate()
    deliver_due()
    assert sent[-1].body.startswith("Host late-00")


def test_what_ended_while_it_waited_is_never_told_and_what_was_told_ends(
    time: Time, sent: list[Notification]
) -> None:
    first = silent(6, time)
    services.evaluate()
    deliver_due()
    later = silent(2, time, "db")
    time.passes(15)
    services.evaluate()
    deliver_due()
    for host in (*first, *later):
        see(host)
    services.evaluate()
    deliver_due()
    time.passes(61)
    deliver_due()
    assert [message.title for message in sent] == [
        "[critical] Firing: Host offline (6)",
        "[critical] Resolved: Host offline (6)",
    ]
    assert "db" not in sent[-1].body
    assert not Notification.objects.filter(status="queued").exists()


def test_all_of_them_are_tried_again_and_those_that_ended_meanwhile_end_for_sure(
    time: Time, sent: list[Notification], monkeypatch: pytest.MonkeyPatch
) -> None:
    hosts = silent(6, time)
    services.evaluate()

    def fails(*_: object) -> None:
        raise receivers.NotSent("connection refused")

    with monkeypatch.context() as away:
        away.setattr(receivers, "send", fails)
        deliver_due()
    assert set(Notification.objects.values_list("status", "attempts", "last_error")) == {
        ("queued", 1, "connection refused")
    }
    see(hosts[0])
    services.evaluate()
    time.passes(11)
    deliver_due()
    assert [message.title for message in sent] == [
        "[critical] Firing: Host offline (5)",
        "[critical] Resolved: Host offline",
    ]
    assert "web-00" not in sent[0].body
