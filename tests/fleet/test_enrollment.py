"""New hosts come in by a token that works once."""

from __future__ import annotations

import datetime
import json
import threading
from typing import Any

import pytest
from django.db import connection
from django.test import Client

from dockmesh.audit.models import AuditEntry
from dockmesh.audit.services import SYSTEM
from dockmesh.core import clock
from dockmesh.core.errors import InvalidInput
from dockmesh.fleet import services
from dockmesh.fleet.models import EnrollmentToken, Host
from tests.fleet.conftest import AgentClient
from tests.fleet.factories import heartbeat
from tests.tokens.support import secret_of
from tokens import secret


def make_token(seconds: int = 3600) -> str:
    return services.create_enrollment_token(actor=SYSTEM, lifetime=datetime.timedelta(seconds=seconds))[1]


def enroll(token: str, **body: Any) -> Any:
    return Client().post(
        "/api/v1/agents/enroll",
        data=json.dumps(body or {"hostname": "web"}),
        content_type="application/json",
        headers={"Authorization": f"Bearer {token}"},
    )


@pytest.mark.django_db
def test_a_new_host_gets_a_name_and_a_token_that_works() -> None:
    answer = enroll(make_token(), hostname=" web ", labels={"env": "prod"})
    assert answer.status_code == 201
    assert answer["Cache-Control"] == "no-store"
    body = answer.json()
    host = Host.objects.get()
    assert body["host"] == {"id": host.pk, "name": "web"}
    assert body["heartbeat_interval_seconds"] == 15
    assert host.labels == {"env": "prod"}
    assert AgentClient(host, body["agent_token"]).beat(heartbeat(1)).status_code == 200
    entry = AuditEntry.objects.get(action="host.enrolled")
    assert (entry.target_name, entry.actor_kind) == ("web", "agent")
    assert secret_of(body["agent_token"]) not in json.dumps(entry.changes)


@pytest.mark.django_db
def test_a_name_that_is_taken_gets_a_number() -> None:
    names = [
        enroll(make_token(), hostname=name).json()["host"]["name"]
        for name in ("web", "web", "web", "x" * 200, "x" * 200)
    ]
    assert names == ["web", "web-2", "web-3", "x" * 200, "x" * 198 + "-2"]


@pytest.mark.django_db
def test_a_token_works_once() -> None:
    token = make_token()
    assert enroll(token).status_code == 201
    again = enroll(token)
    unknown = enroll(str(secret.generate(secret.Kind.ENROLLMENT)))
    assert (again.status_code, unknown.status_code) == (401, 401)
    assert again.content == unknown.content
    assert Host.objects.count() == 1


@pytest.mark.django_db
def test_an_expired_or_deleted_token_lets_nobody_in(monkeypatch: pytest.MonkeyPatch) -> None:
    expired, deleted = make_token(60), make_token()
    services.delete_enrollment_token(actor=SYSTEM, token_id=EnrollmentToken.objects.latest("pk").pk)
    assert enroll(deleted).status_code == 401
    later = clock.now() + datetime.timedelta(seconds=61)
    monkeypatch.setattr(clock, "now", lambda: later)
    assert enroll(expired).status_code == 401


@pytest.mark.django_db
@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"hostname": ""}, "hostname"),
        ({"hostname": "x" * 201}, "hostname"),
        ({"hostname": "a\u0000b"}, "hostname"),
        ({"hostname": "a\nb"}, "hostname"),
        ({"labels": {}}, "hostname"),
        ({"hostname": "web", "labels": {"1x": "a"}}, "labels"),
        ({"hostname": "web", "labels": {"a": "x" * 1025}}, "labels.a"),
        ({"hostname": "web", "labels": {"a": 5}}, "labels"),
        ({"hostname": "web", "labels": ["a"]}, "labels"),
    ],
)
def test_a_bad_enrollment_names_the_field_and_leaves_the_token_unused(
    body: dict[str, Any], field: str
) -> None:
    token = make_token()
    answer = enroll(token, **body)
    assert answer.status_code == 400
    [named] = answer.json()["errors"]
    assert named.startswith(field)
    assert not Host.objects.exists()
    assert enroll(token).status_code == 201


@pytest.mark.django_db
@pytest.mark.parametrize("seconds", [0, -5, 31 * 86400])
def test_a_lifetime_has_bounds(seconds: int) -> None:
    with pytest.raises(InvalidInput):
        make_token(seconds)


@pytest.mark.django_db(transaction=True)
def test_of_twenty_at_once_one_gets_in() -> None:
    token = make_token()
    barrier = threading.Barrier(20)
    codes: list[int] = []

    def run() -> None:
        barrier.wait()
        try:
            codes.append(enroll(token).status_code)
        finally:
            connection.close()

    threads = [threading.Thread(target=run) for _ in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(codes) == [201] + [401] * 19
    assert Host.objects.count() == 1


@pytest.mark.django_db
def test_tokens_that_expired_long_ago_are_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    used = make_token(60)
    enroll(used)
    make_token(60)
    make_token(20 * 86400)
    later = clock.now() + datetime.timedelta(days=8)
    monkeypatch.setattr(clock, "now", lambda: later)
    services.forget_expired_enrollment_tokens()
    assert EnrollmentToken.objects.count() == 2
