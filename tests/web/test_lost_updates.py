"""Two who change different fields of one thing both get what they want: by REST at once, and by forms opened before."""

import threading
from collections.abc import Callable
from dataclasses import dataclass
from html.parser import HTMLParser
from typing import Any

import pytest
from django.db import connection, transaction
from django.db.models import Model
from django.test import Client

from dockmesh.alerts import services as alerts
from dockmesh.alerts.models import Channel
from dockmesh.audit.services import SYSTEM
from dockmesh.backups import services as backups
from dockmesh.backups.models import BackupJob
from dockmesh.deploys import services as deploys
from dockmesh.deploys.models import StackFiles
from dockmesh.fleet.models import HeartbeatState, Host
from tests.fleet.factories import make_host
from tests.tokens.support import role_with, token_with, user_with
from tokens.permissions import Permission

COMPOSE = "services:\n  web:\n    image: nginx:1.27\n\n    restart: always\n"


@dataclass(frozen=True)
class Thing:
    """What is changed, and by two people at once: `theirs` and `mine` are a column and its new value."""

    row: Model
    api: str
    page: str
    theirs: tuple[str, Any]
    mine: tuple[str, Any]


def rule() -> Thing:
    made = alerts.create_rule(
        actor=SYSTEM,
        rule=alerts.RuleInput(
            name="r", kind="container_restarts", match_host="web-*", host_labels={"b": "1", "a": "2"}
        ),
    )
    path = f"/alerts/rules/{made.pk}/change/"
    return Thing(made, f"alert-rules/{made.pk}", path, ("severity", "critical"), ("for_seconds", 90))


def channel() -> Thing:
    made = alerts.create_channel(actor=SYSTEM, name="ops", kind="apprise", url="json://192.0.2.1/")
    path = f"/alerts/channels/{made.pk}/"
    return Thing(
        made, f"alert-channels/{made.pk}", path, ("minimum_severity", "critical"), ("name", "others")
    )


def host() -> Thing:
    made, _ = make_host("web-1")
    Host.objects.update(labels={"z": "1", "a": "2"}, address="10.0.0.1")
    return Thing(
        made,
        f"hosts/{made.pk}",
        f"/hosts/{made.pk}/change/",
        ("labels", {"region": "eu"}),
        ("address", "10.0.0.2"),
    )


def job() -> Thing:
    made = backups.create_job(
        actor=SYSTEM,
        host_id=make_host("web-1")[0].pk,
        name="nightly",
        source_kind="path",
        path="/srv",
        repository="main",
        schedule="0 3 * * *",
    )
    path = f"/backups/{made.pk}/change/"
    return Thing(made, f"backup-jobs/{made.pk}", path, ("keep_daily", 30), ("schedule", "0 4 * * *"))


def token() -> Thing:
    made, _ = token_with("metrics.read", name="prometheus")
    path = f"/settings/tokens/{made.pk}/edit/"
    return Thing(made, f"tokens/{made.pk}", path, ("allowed_cidrs", ["10.0.0.0/8"]), ("name", "other"))


def role() -> Thing:
    made = role_with("metrics.read", "fleet.read", name="scraper")
    path = f"/settings/roles/{made.pk}/edit/"
    return Thing(made, f"roles/{made.pk}", path, ("description", "Scrapes."), ("name", "other"))


def stack() -> Thing:
    made = deploys.create_stack(
        actor=SYSTEM, host_id=make_host("web-1")[0].pk, name="shop", compose_file=COMPOSE
    )
    files = StackFiles.objects.get(stack=made)
    theirs = COMPOSE.replace("1.27", "1.28")
    path = f"/stacks/{made.pk}/change/"
    return Thing(files, f"stacks/{made.pk}", path, ("compose_file", theirs), ("timeout_seconds", 900))


THINGS = [rule, channel, host, job, token, role, stack]


class Fields(HTMLParser):
    """The values that a browser would send with the page's last form, were nothing changed."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.values: dict[str, list[str]] = {}
        self._select = self._textarea = ""
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        has = {name: value or "" for name, value in attrs}
        name = has.get("name", "")
        if tag == "form":
            self.values = {}
        elif tag == "input" and name and has.get("type") not in ("submit", "button"):
            if has.get("type") not in ("checkbox", "radio") or "checked" in has:
                self.values.setdefault(name, []).append(
                    has.get("value", "on" if has.get("type") == "checkbox" else "")
                )
        elif tag == "select":
            self._select = name
        elif tag == "option" and self._select and "selected" in has:
            self.values.setdefault(self._select, []).append(has["value"])
        elif tag == "textarea":
            self._textarea = name
            self.values[name] = [""]

    def handle_endtag(self, tag: str) -> None:
        if tag == "select":
            self._select = ""
        elif tag == "textarea":
            # The first line break after the tag is no part of it, and browsers send CRLF.
            text = self.values[self._textarea][0].removeprefix("\n")
            self.values[self._textarea] = [text.replace("\n", "\r\n")]
            self._textarea = ""

    def handle_data(self, data: str) -> None:
        if self._textarea:
            self.values[self._textarea][0] += data


@pytest.fixture
def everybody(client: Client) -> Client:
    client.force_login(user_with(*(permission.value for permission in Permission)))
    return client


@pytest.mark.django_db
@pytest.mark.parametrize("make", THINGS)
def test_a_form_writes_only_what_the_user_changed(make: Callable[[], Thing], everybody: Client) -> None:
    thing = make()
    page = everybody.get(thing.page)
    assert page.status_code == 200
    values = Fields(page.content.decode()).values
    for changed in (False, True):
        column, theirs = thing.theirs
        type(thing.row)._default_manager.filter(pk=thing.row.pk).update(**{column: theirs})
        thing.row.refresh_from_db()
        before = {field.attname: getattr(thing.row, field.attname) for field in thing.row._meta.fields}
        if changed:
            values[thing.mine[0]] = [str(thing.mine[1])]
        answer = everybody.post(thing.page, values)
        assert answer.status_code == 302
        thing.row.refresh_from_db()
        after = {field.attname: getattr(thing.row, field.attname) for field in thing.row._meta.fields}
        different = {name for name in after if after[name] != before[name]} - {"updated_at", "next_run_at"}
        assert different == ({thing.mine[0]} if changed else set())
        assert not changed or after[thing.mine[0]] == thing.mine[1]


@pytest.mark.django_db
def test_a_form_that_comes_back_with_an_error_still_knows_what_it_showed(everybody: Client) -> None:
    thing = channel()
    values = Fields(everybody.get(thing.page).content.decode()).values
    Channel.objects.update(minimum_severity="critical")
    refused = everybody.post(thing.page, {**values, "name": [""]})
    assert refused.status_code == 400
    again = Fields(refused.content.decode()).values
    assert everybody.post(thing.page, {**again, "name": ["others"]}).status_code == 302
    thing.row.refresh_from_db()
    assert (thing.row.name, thing.row.minimum_severity) == ("others", "critical")  # type: ignore[attr-defined]


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("make", THINGS)
def test_two_patches_of_different_fields_both_hold(make: Callable[[], Thing]) -> None:
    """The first holds the row while the second has been sent: what that read before, it must read again."""
    thing = make()
    _, text = token_with(*(permission.value for permission in Permission), name="all")
    answers: list[Any] = []

    def patch() -> None:
        try:
            answers.append(
                Client().patch(
                    f"/api/v1/{thing.api}",
                    {thing.mine[0]: thing.mine[1]},
                    content_type="application/json",
                    headers={"Authorization": f"Bearer {text}"},
                )
            )
        finally:
            connection.close()

    second = threading.Thread(target=patch)
    rows = type(thing.row)._default_manager
    with transaction.atomic():
        hosts_first(thing)
        rows.select_for_update().get(pk=thing.row.pk)
        second.start()
        second.join(1.5)
        assert second.is_alive()
        column, theirs = thing.theirs
        rows.filter(pk=thing.row.pk).update(**{column: theirs})
    second.join(60)
    assert answers[0].status_code == 200, answers[0].content
    thing.row.refresh_from_db()
    assert getattr(thing.row, thing.theirs[0]) == thing.theirs[1]
    assert getattr(thing.row, thing.mine[0]) == thing.mine[1]


def hosts_first(thing: Thing) -> None:
    """Hosts' heartbeat states are locked before anything else."""
    if isinstance(thing.row, Host | BackupJob | StackFiles):
        list(HeartbeatState.objects.select_for_update().order_by("host_id"))
