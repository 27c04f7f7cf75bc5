"""By which names the server is reached, and what a refusal tells."""

import json
import logging

import pytest
from django.test import Client, override_settings

from dockmesh import env
from dockmesh.core import hosts
from metrics import scrapelog
from metrics.models import ScrapeRecord
from tests.tokens.support import bearer, token_with, user_with


@pytest.mark.parametrize(
    ("listed", "host"),
    [
        ("dockmesh.example.com:8080", "dockmesh.example.com:8080"),
        ("10.0.0.5:8080", "10.0.0.5:8080"),
        ("dock_mesh", "dock_mesh:8080"),
        ("::1", "[::1]:8080"),
        ("fd00::5", "[fd00::5]:8080"),
        ("dockmesh.example.com.", "dockmesh.example.com"),
        ("dockmesh.example.com", "DOCKMESH.example.com.:80"),
        ("münchen.example", "xn--mnchen-3ya.example"),
        (".example.com", "example.com"),
        (".example.com", "a.b.example.com"),
        ("*", "dock_mesh"),
        ("*", "evil.example"),
        ("other", "192.0.2.7"),
        ("other", "192.0.2.7:8080"),
        ("other", "[2001:db8::7]"),
        ("other", "[2001:DB8::7]:8080"),
        ("other", "[::ffff:192.0.2.7]:8080"),
    ],
)
def test_what_is_listed_and_every_address_is_allowed(listed: str, host: str) -> None:
    assert hosts.is_allowed(host, env.parse_hosts("NAME", listed))


@pytest.mark.parametrize(
    "host",
    ["", "evil", "evil:8080", "xexample.com", "example.com.evil", "127.1", "0x7f.0.0.1", "2130706433",
     "1.2.3.4.evil", "example.com@evil", "example.com/x", "[::1", "[evil]", "[fe80::1%eth0]", "example.com:80:80",
     "a,example.com", "example.com evil", "exa\nmple.com"],
)  # fmt: skip
def test_other_names_are_not(host: str) -> None:
    assert not hosts.is_allowed(host, ("example.com", ".example.com"))


@pytest.mark.parametrize("path", ["/", "/metrics", "/api/v1/hosts", "/nothing/here"])
def test_a_refusal_names_the_setting_and_never_the_name(
    db: None, path: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING)
    answer = Client().get(path, headers={"host": "evil.example:8080"})
    assert answer.status_code == 400
    text = answer.content.decode()
    if path == "/metrics" or path.startswith("/api/"):
        assert answer["Content-Type"] == "application/problem+json"
        text = json.loads(text)["detail"]
    else:
        assert answer["Content-Type"].startswith("text/html")
    for said in (text, caplog.text):
        assert "DOCKMESH_ALLOWED_HOSTS" in said
        assert "DOCKMESH_BASE_URL" in said
        assert "evil" not in said
    assert answer["X-Content-Type-Options"] == "nosniff"


def test_the_log_is_not_filled_by_one_who_goes_on(db: None, caplog: pytest.LogCaptureFixture) -> None:
    client = Client()
    for _ in range(5):
        client.get("/", headers={"host": "evil.example"})
    assert caplog.text.count("DOCKMESH_ALLOWED_HOSTS") == 1


def test_settings_tell_of_a_scraper_that_uses_another_name(db: None) -> None:
    _, token = token_with("metrics.read", name="prometheus")
    scrapelog.log.flush()  # what an earlier test of this process has left
    ScrapeRecord.objects.all().delete()
    assert Client().get("/metrics", headers={"host": "dockmesh:8080", **bearer(token)}).status_code == 400
    scrapelog.log.flush()
    assert ScrapeRecord.objects.get().address == "127.0.0.1"
    client = Client()
    client.force_login(user_with("metrics.read"))
    page = client.get("/settings/metrics/").content.decode()
    assert "DOCKMESH_ALLOWED_HOSTS or DOCKMESH_BASE_URL has to name it" in page


@override_settings(ALLOWED_HOSTS=["dock_mesh"])
def test_pages_and_forms_work_under_a_name_with_an_underscore_and_an_address(db: None) -> None:
    for host in ("dock_mesh:8080", "192.0.2.7:8080", "[2001:db8::7]:8080"):
        client = Client(headers={"host": host}, enforce_csrf_checks=True)
        page = client.get("/sign-in/")
        assert page.status_code == 200
        token = page.content.decode().partition('csrfmiddlewaretoken" value="')[2].partition('"')[0]
        answer = client.post(
            "/sign-in/",
            {"username": "x", "password": "y", "csrfmiddlewaretoken": token},
            headers={"origin": f"http://{host}"},
        )
        assert answer.status_code == 400
    client = Client(headers={"host": "dock_mesh:8080"})
    client.force_login(user_with("metrics.read"))
    assert "dock_mesh:8080" in client.get("/settings/metrics/").content.decode()
