"""Headers, error pages, static files, the theme."""

from __future__ import annotations

import gzip
import re
from typing import Any

import pytest
from django.contrib.staticfiles.storage import staticfiles_storage
from django.db.utils import OperationalError
from django.test import Client

from dockmesh.web import overview
from tokens.models import Role, User

pytestmark = pytest.mark.django_db


def test_every_page_limits_what_the_browser_may_do(client: Client) -> None:
    for path in ("/sign-in/", "/nope", "/static/web/app.css"):
        headers = client.get(path).headers
        policy = headers["Content-Security-Policy"]
        for rule in (
            "default-src 'self'",
            "object-src 'none'",
            "base-uri 'none'",
            "frame-ancestors 'none'",
            "form-action 'self'",
        ):
            assert rule in policy
        assert "unsafe" not in policy
        assert headers["X-Content-Type-Options"] == "nosniff"
        assert headers["Referrer-Policy"] == "same-origin"
        assert headers["Cross-Origin-Opener-Policy"] == "same-origin"


def test_pages_hold_no_inline_script_or_style(client: Client) -> None:
    client.force_login(User.objects.create(username="ada", is_superuser=True))
    for path in ("/sign-in/", "/", "/password/", "/nope"):
        text = client.get(path).content.decode()
        assert not re.search(r"<script(?![^>]*\ssrc=)", text)
        assert not re.search(r"\sstyle=|<style|\son[a-z]+=", text)


def test_a_missing_page_is_a_page_for_people_and_a_problem_for_programs(client: Client) -> None:
    answer = client.get("/nope")
    assert answer.status_code == 404
    assert "Nothing is here" in answer.content.decode()
    answer = client.get("/api/v1/nope")
    assert answer.status_code == 404
    assert answer.headers["Content-Type"] == "application/problem+json"


def test_an_unknown_host_header_is_refused_without_an_echo(client: Client) -> None:
    answer = client.get("/sign-in/", headers={"Host": "evil.example"})
    assert answer.status_code == 400
    assert b"evil" not in answer.content


def test_who_lacks_the_permission_sees_why_and_keeps_the_sidebar(client: Client) -> None:
    role = Role.objects.create(name="scraper", permissions=["metrics.read"])
    client.force_login(User.objects.create(username="sam", role=role))
    answer = client.get("/")
    assert answer.status_code == 403
    text = answer.content.decode()
    assert "Not for your role" in text
    assert 'action="/sign-out/"' in text
    assert 'href="/hosts/"' not in text


def test_a_path_without_its_last_slash_leads_to_the_page(client: Client) -> None:
    answer = client.get("/sign-in?next=/x")
    assert answer.status_code == 301
    assert answer.headers["Location"] == "/sign-in/?next=/x"
    assert client.get("//evil.example/..%2fsign-in").status_code == 404


@pytest.mark.parametrize(
    ("error", "status", "words"),
    [
        (ValueError("x"), 500, "Something broke"),
        (OperationalError("x"), 503, "database does not answer"),
        (OperationalError("database is locked"), 503, "<h1>The server is busy"),
    ],
)
def test_what_breaks_is_told_without_a_traceback(
    monkeypatch: pytest.MonkeyPatch, error: Exception, status: int, words: str
) -> None:
    def broken(*args: object, **kwargs: object) -> None:
        raise error

    monkeypatch.setattr(overview, "read", broken)
    client = Client(raise_request_exception=False)
    client.force_login(User.objects.create(username="ada", is_superuser=True))
    answer = client.get("/")
    assert answer.status_code == status
    assert words in answer.content.decode()
    assert b"Traceback" not in answer.content
    assert ("Retry-After" in answer.headers) == (status == 503)


def test_static_files_have_lasting_addresses_and_are_compressed(client: Client) -> None:
    url = staticfiles_storage.url("web/app.css")
    assert re.fullmatch(r"/static/web/app\.[0-9a-f]{12}\.css", url)
    plain: Any = client.get(url)
    body = b"".join(plain.streaming_content)
    assert plain.headers["Content-Type"] == 'text/css; charset="utf-8"'
    assert "immutable" in plain.headers["Cache-Control"]
    packed = client.get(url, headers={"Accept-Encoding": "gzip"})
    assert packed.headers["Content-Encoding"] == "gzip"
    assert gzip.decompress(packed.content) == body
    assert len(packed.content) < 16_000
    assert "immutable" not in client.get("/static/web/app.css").headers["Cache-Control"]
    assert client.get("/static/web/app.000000000000.css").headers["Cache-Control"] == "no-store"
    assert client.get("/static/web/../../settings.py").status_code == 404
    assert client.post(url).status_code == 405


def test_the_theme_is_remembered_without_javascript(client: Client) -> None:
    assert "data-theme" not in client.get("/sign-in/").content.decode().split(">")[1]
    answer = client.post("/theme/", {"theme": "dark", "next": "/sign-in/"})
    assert answer.headers["Location"] == "/sign-in/"
    assert '<html lang="en" data-theme="dark">' in client.get("/sign-in/").content.decode()
    client.post("/theme/", {"theme": "<script>", "next": "//evil"})
    assert '<html lang="en" data-theme="dark">' in client.get("/sign-in/").content.decode()
    client.post("/theme/", {"theme": "system"})
    assert '<html lang="en">' in client.get("/sign-in/").content.decode()
