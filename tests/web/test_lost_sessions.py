"""What is sent after a session has ended, or from a page that is older than it."""

import pytest
from django.test import Client

from dockmesh.alerts.models import AlertRule, Channel
from dockmesh.core import keptforms
from tests.tokens.support import user_with
from tokens.models import User
from tokens.permissions import Permission

pytestmark = pytest.mark.django_db

PASSWORD = "correct-horse-battery"
OURS = {"origin": "http://testserver", "referer": "http://testserver/alerts/rules/"}
RULE = {"name": "Night", "kind": "host_offline", "severity": "info", "for_seconds": "90", "match_host": "<b>"}


@pytest.fixture
def user() -> User:
    user = user_with(*Permission)
    user.set_password(PASSWORD)
    user.save()
    return user


def sign_in(client: Client, page: str, path: str) -> str:
    """From the sign-in page to where it leads; the page there."""
    kept = page.partition('name="kept" value="')[2].partition('"')[0]
    posted = {"username": "ann", "password": PASSWORD, "next": path, "kept": kept}
    answer = client.post("/sign-in/", posted, follow=True)
    assert answer.redirect_chain == [(path, 302)]
    return answer.content.decode()


def test_a_form_that_is_sent_without_a_session_comes_back_after_sign_in(client: Client, user: User) -> None:
    lost = client.post("/alerts/rules/new/", RULE)
    assert lost.status_code == 401
    assert "&lt;b&gt;" not in lost.content.decode()
    form = sign_in(client, lost.content.decode(), "/alerts/rules/new/")
    for words in ("Nothing was sent yet", 'value="Night"', 'value="90"', 'value="&lt;b&gt;"'):
        assert words in form
    assert not AlertRule.objects.exists()
    assert 'value="Night"' not in client.get("/alerts/rules/new/").content.decode()


def test_secrets_do_not_come_back(client: Client, user: User) -> None:
    typed = {
        "name": "ops",
        "kind": "apprise",
        "url": "json://me:hunter2@192.0.2.1/",
        "minimum_severity": "info",
    }
    lost = client.post("/alerts/channels/new/", typed)
    form = sign_in(client, lost.content.decode(), "/alerts/channels/new/")
    assert 'value="ops"' in form
    assert "hunter2" not in form
    assert not Channel.objects.exists()


def test_what_is_too_long_to_be_kept_is_said(
    client: Client, user: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(keptforms, "MOST_CHARACTERS", 50)
    lost = client.post("/alerts/rules/new/", RULE).content.decode()
    assert "too long to be kept" in lost
    assert 'name="kept"' not in lost


def test_what_nobody_packed_is_nothing(client: Client, user: User) -> None:
    for kept in ("nonsense", "gAAAAA", "é", "x" * 600_000):
        posted = {"username": "ann", "password": PASSWORD, "next": "/alerts/rules/new/", "kept": kept}
        answer = client.post("/sign-in/", posted, follow=True)
        assert answer.status_code == 200
        assert "Nothing was sent yet" not in answer.content.decode()
        client.logout()


def test_a_form_of_an_older_session_comes_back_and_one_of_a_stranger_does_not(user: User) -> None:
    client = Client(enforce_csrf_checks=True)
    client.force_login(user)
    for headers in ({}, {"origin": "https://evil.example"}):
        assert client.post("/alerts/rules/new/", RULE, headers=headers).status_code == 403
        assert "Nothing was sent yet" not in client.get("/alerts/rules/new/").content.decode()
    again = client.post("/alerts/rules/new/", RULE, headers=OURS, follow=True).content.decode()
    assert "Nothing was sent yet" in again
    assert 'value="Night"' in again
    assert not AlertRule.objects.exists()


def test_a_button_of_an_older_session_does_nothing_and_says_so(user: User) -> None:
    client = Client(enforce_csrf_checks=True)
    client.force_login(user)
    answer = client.post("/alerts/rules/recommended/", headers=OURS, follow=True)
    assert answer.redirect_chain == [("/alerts/rules/", 302)]
    assert "press it again" in answer.content.decode()
    assert client.post("/alerts/rules/recommended/").status_code == 403
    assert not AlertRule.objects.exists()


def test_a_button_without_a_session_leads_by_sign_in_to_its_page(client: Client) -> None:
    answer = client.post("/alerts/rules/recommended/", headers=OURS)
    assert answer["Location"] == "/sign-in/?next=/alerts/rules/"
    stranger = client.post("/alerts/rules/recommended/", headers={"referer": "https://evil.example/x"})
    assert stranger["Location"] == "/sign-in/?next="
