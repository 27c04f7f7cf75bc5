"""Alerts reach real receivers: an Alertmanager by its v2 API, and a webhook by Apprise."""

import pytest

from dockmesh.alerts import services
from dockmesh.alerts.models import Channel, Notification
from dockmesh.audit.services import SYSTEM
from tests.alerts.support import deliver_due, make_host, push_to_alertmanagers, see
from tests.integration.prometheus import AlertmanagerServer, WebhookReceiver, wait_for

pytestmark = [pytest.mark.django_db, pytest.mark.integration]

ROUTES = """
route: {receiver: nobody}
receivers: [{name: nobody}]
"""


def test_a_real_alertmanager_shows_an_alert_and_its_end() -> None:
    with AlertmanagerServer(ROUTES) as alertmanager:
        services.create_channel(
            actor=SYSTEM, name="am", kind="alertmanager", url=f"http://{alertmanager.address}"
        )
        services.create_rule(
            actor=SYSTEM,
            rule=services.RuleInput(name="Host offline", kind="host_offline", severity="critical"),
        )
        host = make_host("web-1", seen_seconds_ago=100)
        services.evaluate()
        push_to_alertmanagers()
        push_to_alertmanagers()
        shown = alertmanager.alerts()
        assert [alert["labels"] for alert in shown] == [
            {
                "alertname": "Host offline",
                "host": "web-1",
                "severity": "critical",
                "source": "dockmesh",
                "subject": "Host web-1",
            }
        ]
        see(host)
        services.evaluate()
        push_to_alertmanagers()
        wait_for(
            lambda: not [a for a in alertmanager.alerts() if a["status"]["state"] == "active"],
            what="the alert to end",
        )
        assert Channel.objects.get().last_error == ""


def test_a_webhook_is_told_once_of_the_beginning_and_once_of_the_end() -> None:
    with WebhookReceiver() as receiver:
        address = receiver.url.replace("http://", "json://")
        services.create_channel(actor=SYSTEM, name="hook", kind="apprise", url=address)
        services.create_rule(actor=SYSTEM, rule=services.RuleInput(name="Host offline", kind="host_offline"))
        host = make_host("web-1", seen_seconds_ago=100)
        for _ in range(3):
            services.evaluate()
            deliver_due()
        see(host)
        for _ in range(3):
            services.evaluate()
            deliver_due()
        titles = [document["title"] for _, document in receiver.received()]
        assert titles == ["[warning] Firing: Host offline", "[warning] Resolved: Host offline"]
        assert set(Notification.objects.values_list("status", flat=True)) == {"sent"}
