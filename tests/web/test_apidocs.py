"""The OpenAPI schema and the page to read it."""

import re
from typing import Any

import pytest
from django.core.management import call_command
from django.test import Client
from django.urls import get_resolver

from dockmesh.web import apidocs
from tests.tokens.support import user_with

pytestmark = pytest.mark.django_db


def test_the_schema_is_openapi_3_and_needs_no_credential() -> None:
    answer = Client().get("/api/v1/schema")
    assert answer.status_code == 200
    assert answer["Content-Type"] == "application/json"
    schema = answer.json()
    assert schema["openapi"].startswith("3.")
    assert {"/api/v1/tokens", "/api/v1/roles", "/api/v1/audit"} <= set(schema["paths"])
    assert Client().post("/api/v1/schema").status_code == 405
    bad = {"authorization": "Bearer dmt_bad"}
    assert Client().get("/api/v1/schema", headers=bad).status_code == 200


def test_the_schema_is_valid_and_has_no_warnings() -> None:
    call_command("spectacular", validate=True, fail_on_warn=True, file="/dev/null")


def test_every_operation_says_which_permission_it_needs() -> None:
    missing = [
        f"{operation.method} {operation.path}"
        for section in apidocs.sections()
        for operation in section.operations
        if not operation.permissions and "/agents/" not in operation.path
    ]
    assert missing == []


def _routes(resolver: Any, prefix: str = "") -> list[str]:
    found = []
    for each in resolver.url_patterns:
        path = prefix + str(each.pattern)
        found += _routes(each, path) if hasattr(each, "url_patterns") else [path]
    return found


def test_every_route_of_the_api_is_in_the_schema() -> None:
    told = set(apidocs.openapi()["paths"])
    routes = {
        "/" + re.sub(r"<(?:\w+:)?(\w+)>", r"{\1}", route).replace("{pk}", "{id}")
        for route in _routes(get_resolver())
        if route.startswith("api/v1/")
    }
    # The agents' protocol is for the agent alone.
    others = {route for route in routes if not route.startswith("/api/v1/agents/")}
    assert others - told == {"/api/v1/schema", "/api/v1/docs"}


def test_the_page_tells_each_operation_without_script_from_elsewhere() -> None:
    for client in (Client(), Client()):
        page = client.get("/api/v1/docs").content.decode()
        assert "/api/v1/tokens/{id}/rotate" in page
        assert "tokens.manage" in page
        assert "overlap_seconds" in page
        assert not re.search(r"(src|href)=\"(https?:)?//", page)
        client.force_login(user_with("fleet.read", name=f"u{id(client)}"))
        assert client.get("/api/v1/docs").status_code == 200
