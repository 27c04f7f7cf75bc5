"""The one-time link at which the first administrator is made."""

from __future__ import annotations

import datetime

import pytest
from django.core.management import CommandError, call_command
from django.test import Client

from dockmesh.audit.models import AuditEntry
from dockmesh.core import clock
from dockmesh.web.models import SetupCode
from dockmesh.web.services import setup_link
from tokens.models import Role, User

pytestmark = pytest.mark.django_db

GOOD = {"username": "ada", "password": "correct-horse-battery", "again": "correct-horse-battery"}


def path_of_new_link() -> str:
    link = setup_link("http://localhost:8080")
    assert link is not None
    return link.removeprefix("http://localhost:8080")


def test_the_link_makes_the_first_administrator_signs_in_and_then_is_gone(client: Client) -> None:
    path = path_of_new_link()
    assert client.get(path).status_code == 200
    answer = client.post(path, GOOD)
    assert answer.status_code == 302
    assert answer.headers["Location"] == "/"
    assert client.get("/").status_code == 200
    user = User.objects.get()
    assert (user.username, user.is_superuser, user.is_staff, user.role) == (
        "ada",
        True,
        True,
        Role.objects.get(name="admin"),
    )
    actions = list(AuditEntry.objects.order_by("sequence").values_list("action", flat=True))
    assert actions == ["user.created", "user.signed_in"]
    for answer in (Client().get(path), Client().post(path, {**GOOD, "username": "eve"})):
        assert answer.status_code == 404
        assert "This link was used" in answer.content.decode()
    assert setup_link("http://x") is None


def test_the_start_of_a_second_replica_leaves_the_link_as_it_is(client: Client) -> None:
    first, second = path_of_new_link(), path_of_new_link()
    assert first == second
    assert client.get(first).status_code == 200


def test_a_link_ends_after_an_hour_and_says_how_to_get_another(
    client: Client, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    start = clock.now()
    old = path_of_new_link()
    monkeypatch.setattr(clock, "now", lambda: start + datetime.timedelta(minutes=61))
    for answer in (client.get(old), client.post(old, GOOD)):
        assert answer.status_code == 410
        assert "manage.py setuplink" in answer.content.decode()
    assert not User.objects.exists()
    call_command("setuplink")
    new = capsys.readouterr().out.strip()
    assert new != old
    assert client.get(old).status_code == 404
    assert client.post(new, GOOD).status_code == 302
    with pytest.raises(CommandError, match="already"):
        call_command("setuplink")


def test_a_wrong_code_looks_like_any_missing_page(client: Client) -> None:
    path_of_new_link()
    assert client.get("/setup/wrong/").content.count(b"Nothing is here") == client.get("/nope").content.count(
        b"Nothing is here"
    )


def test_the_code_is_not_stored() -> None:
    code = path_of_new_link().split("/")[2]
    assert code not in str(SetupCode.objects.values_list())


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"again": "something-else-entirely"}, "The two passwords differ."),
        ({"password": "short", "again": "short"}, "too short"),
        ({"username": "bad name!"}, "Enter a valid username"),
        ({"username": ""}, "This field is required."),
    ],
)
def test_what_is_wrong_is_said_beside_the_field_and_the_name_stays(
    client: Client, changes: dict[str, str], message: str
) -> None:
    path = path_of_new_link()
    answer = client.post(path, {**GOOD, **changes})
    text = answer.content.decode()
    assert answer.status_code == 400
    assert message in text
    assert not User.objects.exists()
    if "username" not in changes:
        assert 'value="ada"' in text
    assert client.post(path, GOOD).status_code == 302
