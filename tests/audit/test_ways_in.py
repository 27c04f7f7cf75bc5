"""The audit log at the API and on its page."""

import datetime
import json
import re
from pathlib import Path
from typing import Any

import pytest
from django.test import Client
from pytest_django import DjangoAssertNumQueries

from dockmesh.audit.actions import TARGET_KINDS, Action
from dockmesh.audit.models import AuditEntry
from dockmesh.audit.services import Actor, prune, record_alone
from dockmesh.core import clock
from tests.tokens.support import bearer, token_with, user_with
from tokens import refusals

pytestmark = pytest.mark.django_db

START = datetime.datetime(2026, 11, 22, 12, 0, tzinfo=datetime.UTC)


@pytest.fixture
def headers() -> dict[str, str]:
    """Of a token that reads the log."""
    return bearer(token_with("audit.read", last_used_at=clock.now())[1])


@pytest.fixture
def log(monkeypatch: pytest.MonkeyPatch, headers: dict[str, str]) -> None:
    """Twelve entries an hour apart: ann's and bob's in turn."""
    for number in range(12):
        at = START + datetime.timedelta(hours=number)
        monkeypatch.setattr(clock, "now", lambda at=at: at)
        record_alone(
            actor=Actor("user" if number % 2 else "token", str(number % 2), "ann" if number % 2 else "bob"),
            action=Action.HOST_CHANGED if number % 3 else Action.TOKEN_CREATED,
            target_kind="host",
            target_id=number,
            target_name=f"h{number}",
            changes={"name": ["<b>", "new"]},
        )
    monkeypatch.undo()


def get(path: str, headers: dict[str, str]) -> Any:
    return Client().get(f"/api/v1/audit{path}", headers=headers)


def ids(path: str, headers: dict[str, str]) -> list[int]:
    answer = get(path, headers)
    assert answer.status_code == 200, answer.content
    return [entry["id"] for entry in answer.json()["results"]]


@pytest.mark.usefixtures("log")
def test_the_newest_come_first_with_all_they_say(headers: dict[str, str]) -> None:
    body = get("", headers).json()
    assert [entry["id"] for entry in body["results"]] == list(range(12, 0, -1))
    assert (body["count"], body["next"], body["previous"]) == (12, None, None)
    assert body["results"][0]["actor"] == {"kind": "user", "id": "1", "name": "ann"}
    assert body["results"][0]["target"] == {"kind": "host", "id": "11", "name": "h11"}
    assert body["results"][0]["at"] == "2026-11-22T23:00:00.000000Z"
    assert body["results"][0]["changes"] == {"name": ["<b>", "new"]}
    assert get("/12", headers).json() == body["results"][0]
    assert get("/13", headers).status_code == 404
    assert get(f"/{10**30}", headers).status_code == 404


@pytest.mark.usefixtures("log")
def test_pages_are_walked_by_place_in_both_directions(headers: dict[str, str]) -> None:
    seen, url = [], "?page_size=5"
    while url:
        body = get(url, headers).json()
        seen.append([entry["id"] for entry in body["results"]])
        last, url = body, (body["next"] or "").partition("audit")[2]
    assert seen == [[12, 11, 10, 9, 8], [7, 6, 5, 4, 3], [2, 1]]
    back = last["previous"].partition("audit")[2]
    assert ids(back, headers) == [7, 6, 5, 4, 3]
    assert ids("?after=10", headers) == [12, 11]
    assert ids("?before=1", headers) == []
    prune(before=START + datetime.timedelta(hours=6))
    assert get("", headers).json()["count"] == AuditEntry.objects.count() == 7


@pytest.mark.usefixtures("log")
@pytest.mark.parametrize(
    ("narrowed", "pages"),
    [
        ("", [[12, 11, 10, 9, 8], [7, 6, 5, 4, 3], [2, 1]]),
        ("&actor=ann", [[12, 10, 8, 6, 4], [2]]),
    ],
)
def test_pages_can_be_numbered_like_everywhere_else(
    narrowed: str, pages: list[list[int]], headers: dict[str, str]
) -> None:
    seen, url = [], f"?page=1&page_size=5{narrowed}"
    while url:
        body = get(url, headers).json()
        seen.append([entry["id"] for entry in body["results"]])
        last, url = body, (body["next"] or "").partition("audit")[2]
    assert seen == pages
    assert "before=" not in last["previous"]
    assert ids(last["previous"].partition("audit")[2], headers) == pages[-2]


def test_the_kinds_of_targets_are_those_that_are_written() -> None:
    root = Path(__file__).parents[2]
    sources = [path for room in ("dockmesh", "tokens", "metrics") for path in (root / room).rglob("*.py")]
    written = {
        kind for path in sources for kind in re.findall(r'\btarget_kind="(\w+)"', path.read_text("utf-8"))
    }
    assert sorted(written) == list(TARGET_KINDS)


@pytest.mark.usefixtures("log")
@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("action=token.created", [10, 7, 4, 1]),
        ("action=token.created&actor=ann", [10, 4]),
        ("action=token.created&action=host.changed&actor=bob&before=6", [5, 3, 1]),
        ("actor_kind=user&actor_id=1&before=5", [4, 2]),
        ("target=h3", [4]),
        ("target_kind=host&target_id=3", [4]),
        ("since=2026-11-22T21:00:00Z", [12, 11, 10]),
        ("since=2026-11-22T21:00:00%2B00:00", [12, 11, 10]),
        ("since=2026-11-22T22:00:00+01:00", [12, 11, 10]),
        ("until=2026-11-22T14:00:00Z", [2, 1]),
        ("since=2026-11-22T13:00:00Z&until=2026-11-22T15:00:00Z", [3, 2]),
        ("until=2026-11-22", []),
        ("since=0001-01-01&until=9999-12-31", list(range(12, 0, -1))),
        ("actor=nobody", []),
        ("actor=%27%3B+drop+table", []),
    ],
)
def test_filters_narrow_what_is_shown(query: str, expected: list[int], headers: dict[str, str]) -> None:
    body = get(f"?{query}", headers).json()
    assert [entry["id"] for entry in body["results"]] == expected
    assert body["count"] is None


@pytest.mark.usefixtures("log")
@pytest.mark.parametrize(
    ("query", "field"),
    [
        ("action=nonsense", "action"),
        ("since=yesterday", "since"),
        ("until=2026-13-01", "until"),
        ("until=0001-01-01T00:00:00%2B14:00", "until"),
        ("before=x", "before"),
        ("after=-1", "after"),
        ("before=99999999999999999999", "before"),
        ("page_size=many", "page_size"),
        ("nonsense=1", "nonsense"),
        ("page_size=0", "page_size"),
        ("page=0", "page"),
        ("page=last", "page"),
        ("page=1&before=5", "page"),
        ("actor_kind=robot", "actor_kind"),
        ("target_kind=hosts", "target_kind"),
        ("actor=a%00b", "actor"),
        ("target=a%ED%A0%80b%07", "target"),
    ],
)
def test_bad_filters_are_400_with_their_name(query: str, field: str, headers: dict[str, str]) -> None:
    answer = get(f"?{query}", headers)
    assert answer.status_code == 400
    assert list(answer.json()["errors"]) == [field]


@pytest.mark.usefixtures("log")
@pytest.mark.parametrize(
    ("query", "told"),
    [
        ("page=2", "2"),
        ("page=99999999999999999999", "99999999999999999999"),
        ("page=1000000000000&page_size=500", "1000000000000"),
        ("page=2&actor=nobody", "2"),
    ],
)
def test_a_page_after_the_last_is_404(query: str, told: str, headers: dict[str, str]) -> None:
    answer = get(f"?{query}", headers)
    assert answer.status_code == 404
    assert answer.json()["detail"] == f"There is no page {told}."
    assert len(get("?page_size=501", headers).json()["results"]) == 12


@pytest.mark.usefixtures("log")
def test_the_export_is_json_lines_oldest_first(headers: dict[str, str]) -> None:
    answer = get("/export", headers)
    assert answer.status_code == 200
    assert answer["Content-Type"] == "application/jsonl"
    lines = b"".join(answer.streaming_content).decode().splitlines()
    assert [json.loads(line)["id"] for line in lines] == list(range(1, 13))
    narrowed = get("/export?actor=ann&since=2026-11-22T20:00:00Z", headers)
    lines = b"".join(narrowed.streaming_content).decode().splitlines()
    assert [json.loads(line)["id"] for line in lines] == [10, 12]
    assert get("/export?nonsense=1", headers).status_code == 400
    assert get("/export?page_size=1", headers).status_code == 400


@pytest.mark.usefixtures("log")
def test_reading_costs_a_fixed_number_of_queries(
    headers: dict[str, str], django_assert_num_queries: DjangoAssertNumQueries
) -> None:
    # Token; entries; head and checkpoint for the count.
    with django_assert_num_queries(4):
        get("", headers)
    # Token; where the times are in the chain; entries.
    with django_assert_num_queries(4):
        get("?since=2026-11-22T13:00:00Z&until=2026-11-22T15:00:00Z", headers)


@pytest.mark.parametrize("path", ["", "/1", "/export"])
def test_reading_needs_audit_read(path: str) -> None:
    assert Client().get(f"/api/v1/audit{path}").status_code == 401
    others = bearer(token_with("fleet.read", "tokens.manage", "metrics.read")[1])
    assert get(path, others).status_code == 403
    for method in ("post", "put", "patch", "delete"):
        answer = getattr(Client(), method)(f"/api/v1/audit{path}", headers=others)
        assert answer.status_code in (403, 405)


@pytest.mark.usefixtures("log")
def test_nothing_can_be_written_through_the_api(headers: dict[str, str]) -> None:
    for method in ("post", "put", "patch", "delete"):
        answer = getattr(Client(), method)("/api/v1/audit/1", headers=headers)
        assert answer.status_code in (403, 405)
    assert AuditEntry.objects.filter(sequence__lte=12).count() == 12


@pytest.fixture
def browser() -> Client:
    """Signed in, reads the log."""
    client = Client()
    client.force_login(user_with("audit.read"))
    return client


@pytest.mark.usefixtures("log")
def test_the_page_shows_filters_and_escapes(browser: Client) -> None:
    page = browser.get("/audit/").content.decode()
    assert "h11" in page
    assert "12 entries in all" in page
    page = browser.get("/audit/?actor=ann&page_size=2").content.decode()
    assert "h11" in page
    assert "h10" not in page
    assert "/audit/?actor=ann&amp;before=10" in page
    assert "/api/v1/audit/export?actor=ann" in page
    page = browser.get("/audit/?actor=ann&before=10&page_size=2").content.decode()
    assert "/audit/?actor=ann&amp;after=8" in page
    assert "Nothing matches" in browser.get("/audit/?target=nonsense").content.decode()
    entry = browser.get("/audit/12/").content.decode()
    assert "&lt;b&gt; → new" in entry
    assert "<b>" not in entry
    assert browser.get("/audit/99/").status_code == 404


@pytest.mark.parametrize("query", ["since=soon", "action=odd", "before=x", "actor=a%00b"])
def test_a_bad_filter_on_the_page_is_told_there(browser: Client, query: str) -> None:
    answer = browser.get(f"/audit/?{query}")
    assert answer.status_code == 400
    assert any(word in answer.content.decode() for word in ("Must", "no such action", "Null"))


def test_the_page_needs_a_session_with_audit_read() -> None:
    assert Client().get("/audit/")["Location"].startswith("/sign-in/")
    client = Client()
    client.force_login(user_with("fleet.read"))
    assert client.get("/audit/").status_code == 403
    assert client.get("/audit/1/").status_code == 403


def test_an_empty_log_says_what_belongs_there(browser: Client) -> None:
    assert "Nothing happened yet" in browser.get("/audit/").content.decode()


def test_failed_enrollments_and_failed_csrf_are_entries_and_few(client: Client) -> None:
    refusals.forget()
    for _ in range(3):
        answer = client.post(
            "/api/v1/agents/enroll", content_type="application/json", headers=bearer("dme_x")
        )
        assert answer.status_code == 401
    strict = Client(enforce_csrf_checks=True)
    strict.force_login(user_with("tokens.manage"))
    for _ in range(3):
        answer = strict.post("/api/v1/tokens", {"name": "x"}, content_type="application/json")
        assert answer.status_code == 403
    entries = AuditEntry.objects.order_by("sequence").values_list("actor_name", "target_name", "address")
    assert list(entries) == [
        ("nobody", "enrollment: malformed", "127.0.0.1"),
        ("ann", "CSRF", "127.0.0.1"),
    ]
