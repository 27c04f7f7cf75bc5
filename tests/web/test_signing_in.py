"""Signing in and out, the limit on bad sign-ins, the password page."""

from __future__ import annotations

import datetime
from collections.abc import Callable
from typing import Any

import pytest
from django.test import Client

from dockmesh.audit.models import AuditEntry
from dockmesh.core import clock
from dockmesh.web import signins
from dockmesh.web.models import SignInThrottle
from tokens import refusals
from tokens.models import Role, User

PASSWORD = "correct-horse-battery"

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def _nothing_refused_yet() -> None:
    refusals.forget()


@pytest.fixture
def ada() -> User:
    user = User(username="ada", role=Role.objects.get(name="admin"), is_superuser=True, is_staff=True)
    user.set_password(PASSWORD)
    user.save()
    return user


@pytest.fixture
def later(monkeypatch: pytest.MonkeyPatch) -> Callable[[float], None]:
    start = clock.now()
    offset = [0.0]
    monkeypatch.setattr(clock, "now", lambda: start + datetime.timedelta(seconds=offset[0]))

    def move(seconds: float) -> None:
        offset[0] += seconds

    return move


def sign_in(client: Client, name: str = "ada", password: str = PASSWORD, **data: str) -> Any:
    return client.post("/sign-in/", {"username": name, "password": password, **data})


def test_a_visitor_is_led_to_sign_in_and_back(client: Client, ada: User) -> None:
    answer = client.get("/?x=1")
    assert answer.status_code == 302
    assert answer.headers["Location"] == "/sign-in/?next=/%3Fx%3D1"
    answer = sign_in(client, next="/?x=1")
    assert answer.status_code == 302
    assert answer.headers["Location"] == "/?x=1"
    assert client.get("/").status_code == 200
    assert list(AuditEntry.objects.values_list("action", "target_name")) == [("user.signed_in", "ada")]


@pytest.mark.parametrize(
    "goal",
    ["//evil", "https://evil/", "/\\evil", "javascript:alert(1)", "http:///evil", "\thttps://evil", "evil"],
)
def test_next_stays_on_this_server(client: Client, ada: User, goal: str) -> None:
    assert sign_in(client, next=goal).headers["Location"] == "/"


def test_known_unknown_and_disabled_users_get_the_same_answer(client: Client, ada: User) -> None:
    off = User(username="off", is_active=False)
    off.set_password(PASSWORD)
    off.save()
    bodies = set()
    for name in ("ada", "nobody", "off"):
        answer = sign_in(client, name, "wrong" if name == "ada" else PASSWORD)
        assert answer.status_code == 400
        text = answer.content.decode()
        for part in ("csrfmiddlewaretoken", 'value="', "data-now"):
            assert part in text
        bodies.add(text.split("Name or password is wrong.")[1].split("</form>")[0].replace(name, "NAME"))
    assert len(bodies) == 1
    assert AuditEntry.objects.filter(action="user.sign_in_failed").count() == 3


def test_an_unknown_name_is_not_kept_since_it_may_be_a_password(client: Client) -> None:
    sign_in(client, "my-secret-typed-into-the-wrong-box", "x")
    entry = AuditEntry.objects.get()
    assert "my-secret" not in f"{entry.target_name} {entry.changes} {entry.actor_name}"


def test_twenty_bad_sign_ins_lock_the_address_for_a_while(
    client: Client, ada: User, later: Callable[[float], None]
) -> None:
    for _ in range(signins.MOST_FAILURES):
        assert sign_in(client, password="wrong").status_code == 400
    answer = sign_in(client)
    assert answer.status_code == 429
    assert 0 < int(answer.headers["Retry-After"]) <= signins.WINDOW_SECONDS + 1
    assert client.post("/sign-in/", {"username": "other", "password": "x"}).status_code == 429
    assert AuditEntry.objects.filter(action="user.sign_in_failed").count() == signins.MOST_FAILURES
    noted = AuditEntry.objects.get(action="permission.refused")
    assert (noted.target_name, noted.address) == ("too many sign-ins", "127.0.0.1")
    assert sign_in(Client(REMOTE_ADDR="127.0.0.2")).status_code == 302
    later(signins.WINDOW_SECONDS + 1)
    assert sign_in(client).status_code == 302


def test_a_network_that_guesses_a_name_locks_it_for_itself_alone(client: Client, ada: User) -> None:
    for number in range(signins.MOST_FOR_A_NAME):
        sign_in(Client(REMOTE_ADDR=f"203.0.113.{number}"), password="wrong")
    assert sign_in(Client(REMOTE_ADDR="203.0.113.200")).status_code == 429
    assert sign_in(Client(REMOTE_ADDR="203.0.114.1")).status_code == 302
    assert sign_in(Client(REMOTE_ADDR="2001:db8::1")).status_code == 302


def test_an_address_that_is_refused_harms_no_name_and_makes_no_rows(client: Client) -> None:
    names = [f"user-{number}" for number in range(50)]
    for name in names:
        user = User(username=name)
        user.set_password(PASSWORD)
        user.save()
    for _ in range(signins.MOST_FAILURES):
        sign_in(client, names[0], "wrong")
    rows = SignInThrottle.objects.count()
    for name in names[::7]:
        for _ in range(signins.MOST_FAILURES):
            assert sign_in(client, name, "wrong").status_code == 429
    assert SignInThrottle.objects.count() == rows == 2
    for name in names:
        assert sign_in(Client(REMOTE_ADDR="127.0.0.2"), name).status_code == 302


def test_one_address_can_not_try_many_names(client: Client, ada: User) -> None:
    for number in range(signins.MOST_FAILURES):
        sign_in(client, f"name-{number}", "wrong")
    assert sign_in(client).status_code == 429
    assert sign_in(Client(REMOTE_ADDR="192.0.2.7")).status_code == 302


def test_good_sign_ins_never_lock_anyone_out(client: Client, ada: User) -> None:
    for _ in range(signins.MOST_FAILURES + 5):
        assert sign_in(Client()).status_code == 302


def test_addresses_of_one_ipv6_network_count_together() -> None:
    for number in range(signins.MOST_FAILURES):
        assert signins.begin_attempt(name=f"n{number}", address=f"2001:db8::{number:x}") == 0
    assert signins.begin_attempt(name="x", address="2001:db8::ffff") > 0
    assert signins.begin_attempt(name="x", address="2001:db8:0:1::1") == 0


def test_the_old_cookie_opens_nothing_after_signing_out(client: Client, ada: User) -> None:
    sign_in(client)
    old = client.cookies["sessionid"].value
    assert client.get("/sign-out/").status_code == 405
    assert client.post("/sign-out/").headers["Location"] == "/sign-in/"
    thief = Client()
    thief.cookies["sessionid"] = old
    assert thief.get("/").status_code == 302
    assert AuditEntry.objects.filter(action="user.signed_out").count() == 1


def test_a_disabled_user_is_out_at_the_next_request(client: Client, ada: User) -> None:
    sign_in(client)
    User.objects.update(is_active=False)
    assert client.get("/").status_code == 302


def test_a_new_password_ends_the_other_sessions(client: Client, ada: User) -> None:
    other = Client()
    sign_in(client)
    sign_in(other)
    new = "a-different-long-phrase"
    answer = client.post("/password/", {"current": "wrong", "password": new, "again": new})
    assert "This is not your current password." in answer.content.decode()
    assert AuditEntry.objects.get(action="permission.refused").target_name == "wrong current password"
    answer = client.post("/password/", {"current": PASSWORD, "password": new, "again": new + "x"})
    assert "The two passwords differ." in answer.content.decode()
    answer = client.post("/password/", {"current": PASSWORD, "password": "short", "again": "short"})
    assert "too short" in answer.content.decode()
    answer = client.post("/password/", {"current": PASSWORD, "password": new, "again": new})
    assert answer.status_code == 302
    assert client.get("/").status_code == 200
    assert other.get("/").status_code == 302
    assert AuditEntry.objects.filter(action="user.password_changed").count() == 1


def test_a_post_without_the_csrf_token_is_refused(ada: User) -> None:
    client = Client(enforce_csrf_checks=True)
    answer = sign_in(client)
    assert answer.status_code == 403
    assert "This form has expired" in answer.content.decode()
    assert AuditEntry.objects.get().target_name == "CSRF"


def test_django_admins_own_sign_in_is_replaced(client: Client, ada: User) -> None:
    assert client.get("/admin/login/?next=/admin/").headers["Location"] == "/sign-in/?next=/admin/"
    client.force_login(User.objects.create(username="viewer", role=Role.objects.get(name="viewer")))
    assert client.get("/admin/login/?next=/admin/").status_code == 403
    refused = AuditEntry.objects.get()
    assert (refused.actor_name, refused.target_name) == ("viewer", "Django admin")


@pytest.mark.parametrize("name", ["x" * 151, "", "\x00"])
def test_bad_names_are_refused_beside_the_field(client: Client, name: str) -> None:
    answer = sign_in(client, name, "x")
    assert answer.status_code == 400
    assert 'id="id_username_error"' in answer.content.decode()


def test_cookies_are_http_only_and_lax_and_secure_under_https(client: Client, ada: User) -> None:
    answer = client.post("/sign-in/", {"username": "ada", "password": PASSWORD}, secure=True)
    for cookie in ("sessionid", "csrftoken"):
        morsel = answer.cookies[cookie]
        assert morsel["httponly"]
        assert morsel["samesite"] == "Lax"
        assert morsel["secure"]
