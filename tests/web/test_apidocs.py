"""The OpenAPI schema and the page to read it."""

import gzip
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
    assert others - told == {
        "/api/v1/schema",
        "/api/v1/docs",
        "/api/v1/docs/{section}",
    }


@pytest.mark.parametrize("is_signed_in", [False, True])
def test_the_pages_tell_each_operation_without_script_from_elsewhere(is_signed_in: bool) -> None:
    client = Client()
    if is_signed_in:
        client.force_login(user_with("fleet.read"))
    index = client.get("/api/v1/docs").content.decode()
    for section in apidocs.sections():
        answer = client.get(f"/api/v1/docs/{section.name}")
        page = answer.content.decode()
        assert f'href="/api/v1/docs/{section.name}"' in index
        for operation in section.operations:
            assert operation.path in index
            assert f'/api/v1/docs/{section.name}#{operation.anchor}"' in index
            assert f'id="{operation.anchor}"' in page
            assert all(f"<code>{name}</code>" in page for name in operation.permissions)
            for field in (*operation.parameters, *operation.body, *operation.answer):
                assert field.name in page
        for each in (index, page):
            assert not re.search(r"(src|href)=\"(https?:)?//", each)
            assert len(each.encode()) < 100_000


def test_what_an_answer_has_is_told_once_on_a_page_and_linked_after_that() -> None:
    page = Client().get("/api/v1/docs/tokens").content.decode()
    assert page.count("last_used_user_agent") == 2  # of a token, and of one with its text
    assert '<p>The fields of <a href="#tokens_list">List tokens</a>.</p>' in page


def test_a_section_that_is_none_is_not_there() -> None:
    assert Client().get("/api/v1/docs/nonsense").status_code == 404
    assert Client().post("/api/v1/docs/tokens").status_code == 405


@pytest.mark.parametrize("path", ["/api/v1/schema", "/api/v1/docs", "/api/v1/docs/backup-jobs"])
def test_it_is_made_once_and_sent_again_only_to_who_does_not_have_it(
    path: str, monkeypatch: pytest.MonkeyPatch, django_assert_num_queries: Any
) -> None:
    first = Client().get(path)
    monkeypatch.setattr(apidocs, "openapi", None)  # whatever would make it anew fails
    monkeypatch.setattr(apidocs, "sections", None)
    with django_assert_num_queries(0):
        again = Client().get(path)
        small = Client().get(path, headers={"accept-encoding": "gzip"})
        known = Client().get(path, headers={"if-none-match": first["ETag"], "accept-encoding": "gzip"})
        head = Client().head(path)
    assert again.content == first.content
    assert small["Content-Encoding"] == "gzip"
    assert gzip.decompress(small.content) == first.content
    assert len(small.content) < len(first.content) / 3
    assert (known.status_code, known.content, known["ETag"]) == (304, b"", first["ETag"])
    assert head["Content-Length"] == str(len(first.content))
    for answer in (first, small, known):
        assert answer["Cache-Control"] == "no-cache"
        assert "Accept-Encoding" in answer["Vary"]


def test_the_kept_page_holds_nothing_of_who_asked() -> None:
    client = Client()
    client.force_login(user_with("fleet.read", name="ada.lovelace"))
    own = client.get("/api/v1/docs")
    assert b"ada.lovelace" in own.content
    assert own["Cache-Control"] == "no-store"
    page = Client().get("/api/v1/docs")
    assert b"ada.lovelace" not in page.content
    dark = Client()
    dark.cookies["dockmesh_theme"] = "dark"
    assert b'data-theme="dark"' in dark.get("/api/v1/docs").content
    assert b'data-theme="dark"' not in Client().get("/api/v1/docs").content
