"""Silences: nobody is told for a while, and nothing is lost by it."""

import datetime
import json
from typing import Any

import pytest
from django.test import Client

from dockmesh.alerts import deliveries, services, silences
from dockmesh.alerts.models import Alert, Channel, Notification, Silence
from dockmesh.audit.models import AuditEntry
from dockmesh.audit.services import SYSTEM
from dockmesh.core import clock
from dockmesh.core.errors import Conflict, InvalidInput, NotFound
from dockmesh.fleet.models import Host
from tests.alerts.support import make_host, make_stack, see
from tests.tokens.support import token_with, user_with
from tokens.permissions import Permission

pytestmark = pytest.mark.django_db

HOUR = datetime.timedelta(hours=1)


@pytest.fixture
def channel() -> Channel:
    return services.create_channel(actor=SYSTEM, name="ops", kind="apprise", url="json://192.0.2.1/")


@pytest.fixture
def host(channel: Channel) -> Host:
    services.create_rule(actor=SYSTEM, rule=services.RuleInput(name="Offline", kind="host_offline"))
    services.create_rule(actor=SYSTEM, rule=services.RuleInput(name="Broken", kind="stack_error"))
    return make_host("web-1", seen_seconds_ago=600, labels={"env": "prod"})


def silence(**scope: Any) -> Silence:
    return silences.create_silence(actor=SYSTEM, ends_at=clock.now() + HOUR, **scope)


def told() -> list[tuple[str, str]]:
    """(event, first line) of every message that was queued and not dropped."""
    rows = Notification.objects.exclude(status="dropped").order_by("id").values_list("event", "body")
    return [(event, body.splitlines()[0]) for event, body in rows]


@pytest.mark.parametrize(
    "scope",
    [{"match_host": "web-*"}, {"match_host": "*"}, {"host_labels": {"env": "prod"}}],
)
def test_a_silenced_alert_fires_and_nobody_is_told_until_the_silence_is_over(
    host: Host, scope: dict[str, Any]
) -> None:
    made = silence(**scope)
    services.evaluate()
    alert = Alert.objects.get()
    assert (alert.status, alert.is_untold) == ("firing", True)
    assert told() == []
    services.evaluate()
    assert told() == []
    silences.end_silence(actor=SYSTEM, silence_id=made.pk)
    services.evaluate()
    assert told() == [("firing", "Host web-1")]
    services.evaluate()
    assert len(told()) == 1
    Notification.objects.update(status="sent")
    see(host)
    services.evaluate()
    assert [event for event, _ in told()] == ["firing", "resolved"]


@pytest.mark.parametrize(
    "scope",
    [
        {"match_host": "db-*"},
        {"host_labels": {"env": "dev"}},
        {"match_host": "web-*", "match_stack": "shop"},
        {"match_host": "*", "starts_at": clock.now() + HOUR / 2},
    ],
)
def test_a_silence_of_something_else_or_of_another_time_silences_nothing(
    host: Host, scope: dict[str, Any]
) -> None:
    silence(**scope)
    services.evaluate()
    assert told() == [("firing", "Host web-1")]


def test_a_silence_of_a_stack_is_about_it_alone(host: Host) -> None:
    see(host)
    for name in ("shop", "blog"):
        make_stack(host, name, "error")
    silence(match_stack="shop")
    services.evaluate()
    assert told() == [("firing", "Stack blog on web-1")]


def test_what_ended_in_the_silence_is_never_told(host: Host) -> None:
    made = silence(match_host="web-1")
    services.evaluate()
    see(host)
    services.evaluate()
    silences.end_silence(actor=SYSTEM, silence_id=made.pk)
    services.evaluate()
    assert Alert.objects.get().status == "resolved"
    assert not Notification.objects.exists()


def test_the_end_of_what_was_told_before_is_told_in_a_silence_too(host: Host) -> None:
    services.evaluate()
    Notification.objects.update(status="sent")
    silence(match_host="web-1")
    see(host)
    services.evaluate()
    assert [event for event, _ in told()] == ["firing", "resolved"]


def test_what_is_on_no_host_is_never_silenced(channel: Channel) -> None:
    Channel.objects.update(last_error="refused")
    services.create_rule(actor=SYSTEM, rule=services.RuleInput(name="Failing", kind="channel_failing"))
    silence(match_host="*")
    services.evaluate()
    assert Alert.objects.get().is_untold is False


def test_an_alertmanager_is_not_told_of_what_is_silenced(host: Host) -> None:
    manager = services.create_channel(
        actor=SYSTEM, name="am", kind="alertmanager", url="http://192.0.2.1:9093"
    )
    made = silence(match_host="web-1")
    services.evaluate()
    assert deliveries.alertmanager_documents(manager, clock.now()) == []
    silences.end_silence(actor=SYSTEM, silence_id=made.pk)
    services.evaluate()
    assert len(deliveries.alertmanager_documents(manager, clock.now())) == 1


def test_a_silence_says_what_and_until_when() -> None:
    now = clock.now()
    for wrong in (
        {"ends_at": now + HOUR},
        {"ends_at": now - HOUR, "match_host": "*"},
        {"ends_at": now + HOUR, "starts_at": now + 2 * HOUR, "match_host": "*"},
        {"ends_at": now + datetime.timedelta(days=400), "match_host": "*"},
        {"ends_at": now + HOUR, "match_host": "a\nb"},
        {"ends_at": now + HOUR, "host_labels": {"not a name": "x"}},
    ):
        with pytest.raises(InvalidInput):
            silences.create_silence(actor=SYSTEM, **wrong)
    made = silence(match_host="*")
    silences.end_silence(actor=SYSTEM, silence_id=made.pk)
    with pytest.raises(Conflict):
        silences.end_silence(actor=SYSTEM, silence_id=made.pk)
    with pytest.raises(NotFound):
        silences.end_silence(actor=SYSTEM, silence_id=999_999)
    actions = (
        AuditEntry.objects.filter(target_kind="silence").order_by("sequence").values_list("action", flat=True)
    )
    assert list(actions) == ["silence.created", "silence.ended"]


def test_silences_by_rest(host: Host) -> None:
    _, text = token_with(Permission.ALERTS_MANAGE, Permission.FLEET_READ)
    headers = {"Authorization": f"Bearer {text}"}
    body = {"match_host": "web-*", "ends_at": (clock.now() + HOUR).isoformat(), "comment": "kernel"}
    made = Client().post("/api/v1/silences", json.dumps(body), "application/json", headers=headers)
    assert made.status_code == 201, made.content
    path = f"/api/v1/silences/{made.json()['id']}"
    ended = Client().post(f"{path}/end", headers=headers)
    assert ended.status_code == 200, ended.content
    assert Client().post(f"{path}/end", headers=headers).status_code == 409
    assert Client().get("/api/v1/silences", headers=headers).json()["count"] == 1
    _, reader = token_with(Permission.FLEET_READ, name="reader")
    refused = Client().post(
        "/api/v1/silences",
        json.dumps(body),
        "application/json",
        headers={"Authorization": f"Bearer {reader}"},
    )
    assert refused.status_code == 403


def test_silences_on_the_pages(client: Client, host: Host) -> None:
    client.force_login(user_with(*Permission))
    services.evaluate()
    home = client.get("/").content.decode()
    assert "/alerts/silences/new/?host=web-1" in home
    form = client.get("/alerts/silences/new/?host=web-1").content.decode()
    assert 'value="web-1"' in form
    answer = client.post(
        "/alerts/silences/new/", {"match_host": "web-1", "minutes": "60", "comment": "kernel"}, follow=True
    )
    assert "Silenced: hosts web-1." in answer.content.decode()
    assert "Silenced" in client.get("/").content.decode()
    made = Silence.objects.get()
    assert round((made.ends_at - made.starts_at).total_seconds()) == 3600
    wrong = client.post("/alerts/silences/new/", {"minutes": "60"})
    assert wrong.status_code == 400
    assert "Say which hosts" in wrong.content.decode()
    bad_label = client.post("/alerts/silences/new/", {"minutes": "60", "host_labels": "env"})
    assert "Must be key=value" in bad_label.content.decode()
    over = client.post(f"/alerts/silences/{made.pk}/end/", follow=True)
    assert "The silence is over" in over.content.decode()
    client.force_login(user_with(Permission.FLEET_READ, name="vi"))
    assert "End now" not in client.get("/alerts/silences/").content.decode()
    assert client.get("/alerts/silences/new/").status_code == 403
