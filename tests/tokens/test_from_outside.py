"""What a client of the REST API relies on, seen from outside."""

import json
from typing import Any

import pytest
from django.core.management import CommandError, call_command
from django.test import Client

from tests.tokens.support import bearer, token_with
from tokens.models import ApiToken
from tokens.permissions import ALL

pytestmark = pytest.mark.django_db


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("PUT", "/api/v1/hosts/1"),
        ("POST", "/api/v1/alerts"),
        ("DELETE", "/api/v1/deploys/1"),
        ("PUT", "/api/v1/alert-rules/1"),
        ("DELETE", "/api/v1/backup-runs/1"),
    ],
)
def test_a_method_that_is_not_there_is_405_whatever_the_token_holds(
    client: Client, method: str, path: str
) -> None:
    headers = bearer(token_with(*ALL, name="all")[1])
    answer = client.generic(method, path, "{}", "application/json", headers=headers)
    assert answer.status_code == 405
    assert "Allow" in answer.headers
    assert client.generic(method, path).status_code == 401


def test_handing_out_more_than_one_holds_is_challenged_like_every_other_403(client: Client) -> None:
    headers = bearer(token_with("tokens.manage", name="limited")[1])
    body = json.dumps({"name": "up", "role": "admin"})
    answer = client.post("/api/v1/tokens", body, content_type="application/json", headers=headers)
    assert answer.status_code == 403
    assert answer.headers["WWW-Authenticate"] == 'Bearer realm="dockmesh", error="insufficient_scope"'


def test_no_allow_list_may_be_null(client: Client) -> None:
    headers = bearer(token_with(*ALL, name="all")[1])
    body: dict[str, Any] = {"name": "t", "role": "viewer", "allowed_cidrs": None, "expires_at": None}
    answer = client.post("/api/v1/tokens", json.dumps(body), content_type="application/json", headers=headers)
    assert (answer.status_code, answer.json()["allowed_cidrs"]) == (201, [])


def test_createtoken_if_missing_does_not_pass_off_another_right() -> None:
    call_command("createtoken", "--name", "t", "--permission", "metrics.read")
    call_command("createtoken", "--name", "t", "--permission", "metrics.read", "--if-missing")
    with pytest.raises(CommandError, match=r"it holds metrics\.read, not audit\.read"):
        call_command("createtoken", "--name", "t", "--permission", "audit.read", "--if-missing")
    with pytest.raises(CommandError, match="its role is"):
        call_command("createtoken", "--name", "t", "--role", "viewer", "--if-missing")
    assert ApiToken.objects.count() == 1
