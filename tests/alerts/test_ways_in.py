"""Rules, alerts and channels through the API and the pages: who may, what is refused, what is never shown."""

import json
from typing import Any

import pytest
from django.test import Client

from dockmesh.alerts import services
from dockmesh.alerts.models import AlertRule, Channel
from dockmesh.audit.models import AuditEntry
from dockmesh.audit.services import SYSTEM
from tests.alerts.support import make_host
from tests.tokens.support import bearer, token_with, user_with

pytestmark = pytest.mark.django_db
RULE = {"name": "Gone", "kind": "host_offline", "severity": "critical"}
ADDRESS = "json://user:s3cret-word@127.0.0.1:9/"


@pytest.fixture
def manager() -> dict[str, str]:
    return bearer(token_with("alerts.manage", "fleet.read", name="manager")[1])


def send(client: Client, method: str, path: str, headers: dict[str, str], body: Any = None) -> Any:
    return client.generic(
        method, path, json.dumps(body) if body is not None else "", "application/json", headers=headers
    )


def test_a_rule_is_made_read_changed_and_removed(client: Client, manager: dict[str, str]) -> None:
    made = send(client, "POST", "/api/v1/alert-rules", manager, RULE)
    assert made.status_code == 201, made.content
    path = made.headers["Location"]
    assert send(client, "GET", path, manager).json()["name"] == "Gone"
    changed = send(client, "PATCH", path, manager, {"for_seconds": 60})
    assert (changed.json()["for_seconds"], changed.json()["severity"]) == (60, "critical")
    assert send(client, "GET", "/api/v1/alert-rules?severity=critical", manager).json()["count"] == 1
    assert send(client, "DELETE", path, manager).status_code == 204
    assert send(client, "GET", path, manager).status_code == 404
    actions = list(AuditEntry.objects.order_by("sequence").values_list("action", "actor_name"))
    assert actions == [
        ("alert_rule.created", "manager"),
        ("alert_rule.changed", "manager"),
        ("alert_rule.removed", "manager"),
    ]


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"kind": "nonsense"}, "kind"),
        ({"severity": "loud"}, "severity"),
        ({"for_seconds": -1}, "for_seconds"),
        ({"for_seconds": 10**12}, "for_seconds"),
        ({"name": ""}, "name"),
        ({"name": "a\u0000b"}, "name"),
        ({"name": "a\nb"}, "name"),
        ({"nmae": "x"}, "nmae"),
        ({"host_labels": {"no key": "x"}}, "host_labels"),
        ({"parameters": {"restarts": 3}}, "parameters.restarts"),
        ({"kind": "container_restarts", "parameters": {"restarts": True}}, "parameters.restarts"),
        ({"kind": "container_state", "parameters": {"states": ["gone"]}}, "parameters.states"),
    ],
)
def test_bad_input_names_the_field_and_stores_nothing(
    client: Client, manager: dict[str, str], change: dict[str, Any], field: str
) -> None:
    answer = send(client, "POST", "/api/v1/alert-rules", manager, RULE | change)
    assert answer.status_code == 400, answer.content
    assert field in answer.json()["errors"]
    assert not AlertRule.objects.exists()


def test_a_name_in_use_is_409(client: Client, manager: dict[str, str]) -> None:
    assert send(client, "POST", "/api/v1/alert-rules", manager, RULE).status_code == 201
    assert send(client, "POST", "/api/v1/alert-rules", manager, RULE).status_code == 409


def test_reading_needs_fleet_read_and_writing_alerts_manage(client: Client) -> None:
    reader = bearer(token_with("fleet.read", name="reader")[1])
    other = bearer(token_with("metrics.read", name="other")[1])
    assert send(client, "GET", "/api/v1/alert-rules", reader).status_code == 200
    assert send(client, "POST", "/api/v1/alert-rules", reader, RULE).status_code == 403
    assert send(client, "GET", "/api/v1/alerts", other).status_code == 403
    assert send(client, "GET", "/api/v1/alert-channels", reader).status_code == 403
    assert not AlertRule.objects.exists()


def test_a_preview_stores_nothing(client: Client, manager: dict[str, str]) -> None:
    make_host("web-1", seen_seconds_ago=100)
    answer = send(client, "POST", "/api/v1/alert-rules/preview", manager, RULE)
    assert [match["subject"] for match in answer.json()] == ["Host web-1"]
    assert not AlertRule.objects.exists()


def test_a_channels_address_is_never_shown(client: Client, manager: dict[str, str]) -> None:
    body = {"name": "ops", "url": ADDRESS}
    made = send(client, "POST", "/api/v1/alert-channels", manager, body)
    assert made.status_code == 201, made.content
    detail = send(client, "GET", f"/api/v1/alert-channels/{made.json()['id']}", manager)
    client.force_login(user_with("alerts.manage", "fleet.read"))
    page = client.get("/alerts/channels/")
    form = client.get(f"/alerts/channels/{made.json()['id']}/")
    for shown in (made.content, detail.content, page.content, form.content):
        assert b"s3cret-word" not in shown
    assert "s3cret-word" not in Channel.objects.get().encrypted_url
    assert "s3cret-word" not in json.dumps(list(AuditEntry.objects.values_list("changes", flat=True)))


def test_an_address_that_apprise_does_not_know_is_refused(client: Client, manager: dict[str, str]) -> None:
    answer = send(client, "POST", "/api/v1/alert-channels", manager, {"name": "x", "url": "nonsense://"})
    assert answer.status_code == 400
    assert "url" in answer.json()["errors"]


def test_the_pages_answer_and_a_rule_can_be_made_there(client: Client) -> None:
    client.force_login(user_with("alerts.manage", "fleet.read"))
    assert b"No alert rules yet" in client.get("/alerts/").content
    assert client.post("/alerts/rules/recommended/").status_code == 302
    assert AlertRule.objects.count() == len(services.RECOMMENDED)
    assert b"Add the recommended rules" not in client.get("/alerts/rules/").content
    form = {
        "name": "Mine",
        "kind": "container_restarts",
        "severity": "info",
        "for_seconds": "0",
        "cooldown_seconds": "0",
        "restarts": "5",
        "window_seconds": "600",
        "is_enabled": "on",
    }
    previewed = client.post("/alerts/rules/new/", form | {"preview": "1"})
    assert b"would match nothing" in previewed.content
    assert client.post("/alerts/rules/new/", form).status_code == 302
    mine = AlertRule.objects.get(name="Mine")
    assert mine.parameters == {"restarts": 5, "window_seconds": 600}
    for path in ("/alerts/rules/", f"/alerts/rules/{mine.pk}/", f"/alerts/rules/{mine.pk}/change/"):
        assert b"Mine" in client.get(path).content
    assert client.post(f"/alerts/rules/{mine.pk}/", {"hours": "8"}).status_code == 302
    assert AlertRule.objects.get(pk=mine.pk).muted_until is not None
    wrong = client.post(f"/alerts/rules/{mine.pk}/remove/", {"name": "other"})
    assert wrong.status_code == 400
    assert client.post(f"/alerts/rules/{mine.pk}/remove/", {"name": "Mine"}).status_code == 302
    assert not AlertRule.objects.filter(name="Mine").exists()


def test_an_error_stands_beside_its_field_and_keeps_what_was_typed(client: Client) -> None:
    client.force_login(user_with("alerts.manage", "fleet.read"))
    form = {
        "name": "Mine",
        "kind": "host_offline",
        "severity": "info",
        "for_seconds": "0",
        "cooldown_seconds": "0",
        "host_labels": "nonsense",
    }
    answer = client.post("/alerts/rules/new/", form)
    assert answer.status_code == 400
    assert b"key=value" in answer.content
    assert b'value="Mine"' in answer.content
    assert not AlertRule.objects.exists()


def test_a_viewer_sees_alerts_and_can_not_change_rules(client: Client) -> None:
    made = services.create_rule(actor=SYSTEM, rule=services.RuleInput(name="r", kind="host_offline"))
    client.force_login(user_with("fleet.read"))
    assert client.get(f"/alerts/rules/{made.pk}/").status_code == 200
    assert client.post(f"/alerts/rules/{made.pk}/", {"hours": "8"}).status_code == 403
    assert client.get("/alerts/rules/new/").status_code == 403
    assert client.get("/alerts/channels/").status_code == 403
    made.refresh_from_db()
    assert made.muted_until is None
