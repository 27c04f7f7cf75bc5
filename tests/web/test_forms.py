"""What all forms have in common: nothing that matters is chosen beforehand, and what is wrong has the focus."""

from __future__ import annotations

import re

import pytest
from django.test import Client

from dockmesh.core import clock
from tests.fleet.factories import make_host
from tokens.models import Role, User

pytestmark = pytest.mark.django_db


@pytest.fixture
def ada() -> Client:
    user = User.objects.create(username="ada", is_superuser=True, role=Role.objects.get(name="admin"))
    client = Client()
    client.force_login(user)
    return client


def chosen(page: str, name: str) -> list[str]:
    """The values of this select that a browser would have chosen."""
    found = re.search(rf'<select name="{name}".*?</select>', page, re.DOTALL)
    assert found, name
    options = re.findall(r"<option value=\"([^\"]*)\"([^>]*)>", found[0])
    return [value for value, rest in options if "selected" in rest] or [options[0][0]]


@pytest.mark.parametrize(
    ("path", "field"),
    [
        ("/settings/users/new/", "role"),
        ("/settings/tokens/new/", "role"),
        ("/stacks/new/", "host"),
        ("/backups/new/", "host"),
    ],
)
def test_no_role_and_no_host_is_chosen_beforehand(ada: Client, path: str, field: str) -> None:
    make_host("fra-01")
    assert chosen(ada.get(path).content.decode(), field) == [""]


def test_what_was_asked_for_in_the_address_is_chosen(ada: Client) -> None:
    host, _ = make_host("fra-01")
    assert chosen(ada.get(f"/stacks/new/?host={host.pk}").content.decode(), "host") == [str(host.pk)]


def test_the_first_field_that_is_wrong_has_the_focus_and_a_password_is_asked_for_again(ada: Client) -> None:
    page = ada.post("/settings/users/new/", {"username": "eve", "password": "correct-horse-battery"})
    assert page.status_code == 400
    focused = re.findall(r"<(?:input|select)[^>]*autofocus[^>]*>", page.content.decode())
    assert len(focused) == 1
    assert 'name="role"' in focused[0]
    assert "Type it again: what was typed is not sent back." in page.content.decode()


def test_pages_go_out_compressed(ada: Client) -> None:
    for path in (
        "/",
        "/hosts/",
        "/stacks/",
        "/containers/",
        "/deploys/",
        "/alerts/",
        "/audit/",
        "/settings/users/",
    ):
        answer = ada.get(path, headers={"accept-encoding": "gzip"})
        assert answer.headers.get("Content-Encoding") == "gzip", path
        assert "Accept-Encoding" in answer.headers["Vary"], path


def test_a_backup_job_offers_the_stacks_and_time_zones_that_are_known(ada: Client) -> None:
    host, _ = make_host("fra-01")
    host.stacks.create(name="shop", state_changed_at=clock.now())
    page = ada.get("/backups/new/").content.decode()
    assert re.search(r'<datalist id="stacks">\s*<option value="shop">', page)
    assert '<option value="Europe/Berlin">' in page
    assert 'list="time-zones"' in page
    assert 'list="stacks"' in page
    assert len(page) < 100_000
