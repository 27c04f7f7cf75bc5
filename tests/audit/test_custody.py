"""The head that the server itself knows: what was done to the database is neither signed nor pruned."""

import datetime
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from django.core.management import CommandError, call_command
from django.test import Client
from pytest_django import Settings

from dockmesh.alerts import services as alerts
from dockmesh.alerts.models import Alert
from dockmesh.audit import known, selectors, services
from dockmesh.audit.actions import Action
from dockmesh.audit.models import AuditCheckpoint, AuditCount, AuditEntry, AuditHead
from dockmesh.audit.services import ChainChanged, prune, record_alone
from dockmesh.audit.verification import Broken, verify
from dockmesh.core import clock
from dockmesh.core.schedule import Failed
from tests.audit.test_chain import ANN, START, write
from tests.tokens.support import bearer, token_with
from tokens.models import ApiToken, Role, User

pytestmark = pytest.mark.django_db(transaction=True)

State = tuple[Any, list[Any]]


@pytest.fixture(autouse=True)
def _own_data_folder(tmp_path: Path, settings: Settings) -> None:
    settings.DOCKMESH_DATA_DIR = tmp_path


def known_sequence() -> int | None:
    place = known.read()
    return place.sequence if place else None


def state() -> State:
    return AuditHead.objects.values().get(), list(AuditCount.objects.values())


def put_back(earlier: State) -> None:
    """As somebody does who has the database and kept an old copy of the head, with its genuine signature."""
    head, counts = earlier
    AuditEntry.objects.filter(sequence__gt=head["sequence"]).delete()
    AuditHead.objects.update(**head)
    AuditCount.objects.all().delete()
    AuditCount.objects.bulk_create(AuditCount(**count) for count in counts)


def rolled_back() -> None:
    write(3)
    earlier = state()
    write(3, start=3)
    put_back(earlier)


def test_a_head_that_was_put_back_is_not_signed_over() -> None:
    rolled_back()
    with pytest.raises(ChainChanged, match="entry 6 is known to this server, but the chain ends at 3"):
        write(1)
    with pytest.raises(Broken, match="entry 6"):
        verify(known=known.read())
    with pytest.raises(SystemExit):
        call_command("verifyaudit")
    assert AuditEntry.objects.count() == 3


def test_a_head_that_was_put_back_and_went_on_elsewhere_is_not_signed_over() -> None:
    rolled_back()
    ours = known.read()
    known.forget()
    write(5, start=50)
    assert ours is not None
    known.replace(ours)
    with pytest.raises(ChainChanged, match="entry 6 is another one"):
        write(1)


@pytest.mark.parametrize(
    ("tamper", "what"),
    [
        (lambda: AuditEntry.objects.filter(sequence=4).update(actor_name="bob"), "was edited"),
        (lambda: AuditEntry.objects.filter(sequence=4).delete(), "is missing"),
        (lambda: AuditHead.objects.update(sequence=3), "stands beyond"),
        (lambda: AuditHead.objects.update(entry_hash="0" * 64), "is another one"),
        (lambda: AuditHead.objects.all().delete(), "stands beyond"),
        (
            lambda: (AuditHead.objects.all().delete(), AuditEntry.objects.all().delete()),
            "the chain ends at 0",
        ),
    ],
)
def test_nothing_is_appended_to_a_head_that_does_not_hold(tamper: Callable[[], None], what: str) -> None:
    write(4)
    tamper()
    with pytest.raises(ChainChanged, match=what):
        write(1)
    assert what in selectors.trouble()


def test_a_replica_that_was_away_goes_on_after_what_the_others_wrote(
    tmp_path: Path, settings: Settings
) -> None:
    write(2)
    settings.DOCKMESH_DATA_DIR = tmp_path / "other"
    settings.DOCKMESH_DATA_DIR.mkdir()
    write(3, start=2)
    settings.DOCKMESH_DATA_DIR = tmp_path
    assert known.read() is not None
    assert known_sequence() == 2
    write(1, start=5)
    assert known_sequence() == 6
    assert verify(known=known.read()).last == 6


def test_what_is_known_may_have_been_pruned(monkeypatch: pytest.MonkeyPatch) -> None:
    write(4, monkeypatch=monkeypatch)
    place = known.read()
    assert place is not None
    monkeypatch.setattr(clock, "now", lambda: START + datetime.timedelta(days=400))
    assert prune(before=START + datetime.timedelta(days=30)) == 4
    known.replace(place)
    write(1)
    assert verify(known=place).last == 6


def test_a_lost_data_folder_takes_the_chain_as_it_is_if_it_is_signed() -> None:
    write(2)
    known.forget()
    write(1)
    known.forget()
    AuditHead.objects.update(signature="0" * 64)
    with pytest.raises(ChainChanged, match="not signed"):
        write(1)


def test_the_file_is_for_the_server_alone_and_a_torn_one_is_told(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    write(1)
    path = tmp_path / "audit_head"
    assert path.stat().st_mode & 0o777 == 0o600
    path.write_text("{")
    write(1)
    assert "can't be read" in caplog.text
    assert known.read() is not None


def test_back_dated_entries_are_not_pruned(monkeypatch: pytest.MonkeyPatch, settings: Settings) -> None:
    write(6, monkeypatch=monkeypatch)
    AuditEntry.objects.filter(sequence__lte=4).update(at=START - datetime.timedelta(days=900))
    settings.DOCKMESH_AUDIT_RETENTION_DAYS = 365
    with pytest.raises(Failed):
        services.prune_by_retention()
    assert AuditEntry.objects.count() == 6
    assert not AuditCheckpoint.objects.exists()
    assert "entry 1: was edited" in selectors.trouble()


def test_an_entry_of_a_wrong_clock_goes_with_the_next_old_one(monkeypatch: pytest.MonkeyPatch) -> None:
    days = [400, 390, 9000, 380, 9000, 9000, 5]
    for age in days:
        monkeypatch.setattr(clock, "now", lambda age=age: START - datetime.timedelta(days=age))
        record_alone(actor=ANN, action=Action.HOST_CHANGED)
    monkeypatch.setattr(clock, "now", lambda: START)
    for _ in range(2):
        prune(before=START - datetime.timedelta(days=365))
        assert AuditEntry.objects.order_by("sequence").values_list("sequence", flat=True)[0] == 5
    prune(before=START - datetime.timedelta(days=4))
    assert not AuditEntry.objects.filter(sequence__lte=7).exists()
    verify(known=known.read())


def test_the_whole_attack_is_refused_told_and_can_be_accepted(
    client: Client, monkeypatch: pytest.MonkeyPatch, settings: Settings, caplog: pytest.LogCaptureFixture
) -> None:
    """Rows back-dated, the head put back, then retention and a new entry."""
    _, text = token_with("tokens.manage", "fleet.read")
    write(3)
    earlier = state()
    write(2, start=3)
    put_back(earlier)
    AuditEntry.objects.update(at=START - datetime.timedelta(days=900))
    settings.DOCKMESH_AUDIT_RETENTION_DAYS = 365
    with pytest.raises(Failed):
        services.prune_by_retention()
    answer = client.post(
        "/api/v1/tokens",
        {"name": "x", "role": "viewer"},
        content_type="application/json",
        headers=bearer(text),
    )
    assert answer.status_code == 503
    assert "manage.py acceptaudit" in answer.json()["detail"]
    assert not ApiToken.objects.filter(name="x").exists()
    assert AuditEntry.objects.count() == 3
    alerts.watch_audit_log()
    alerts.watch_audit_log()
    alerts.evaluate()
    assert Alert.objects.get().status == "firing"
    assert "not in the audit log" in caplog.text
    user = User(username="ada", role=Role.objects.get(name="admin"), is_superuser=True)
    user.set_password("correct-horse-battery")
    user.save()
    sent = client.post("/sign-in/", {"username": "ada", "password": "correct-horse-battery"})
    assert sent.status_code == 302
    page = client.get("/").content.decode()
    assert "The audit log" in page
    assert "acceptaudit" in page
    call_command("acceptaudit", "--reason", "looked into it")
    accepted = AuditEntry.objects.order_by("-sequence")[0]
    assert accepted.action == "audit.accepted"
    assert accepted.changes["reason"] == "looked into it"
    assert "edited" in accepted.changes["wrong"]
    write(2)
    call_command("verifyaudit")
    alerts.evaluate()
    assert Alert.objects.get().status == "resolved"
    assert AuditEntry.objects.filter(sequence__lte=3).count() == 3
    services.prune_by_retention()
    assert not AuditEntry.objects.filter(sequence__lte=3).exists()
    call_command("verifyaudit")


def test_a_restored_database_is_accepted_and_its_chain_goes_on(capsys: pytest.CaptureFixture[str]) -> None:
    rolled_back()
    with pytest.raises(CommandError, match="--reason"):
        call_command("acceptaudit", "--reason", " ")
    call_command("acceptaudit", "--reason", "restored the copy of Monday")
    assert "entry 6 is known" in capsys.readouterr().out
    assert AuditEntry.objects.get(sequence=4).changes["known"] == 6
    write(1)
    assert verify(known=known.read()).first == 1
    assert sum(count for _, count in selectors.action_counts()) == 5


def test_a_start_with_a_database_that_was_restored_as_a_whole_accepts_it(
    caplog: pytest.LogCaptureFixture,
) -> None:
    rolled_back()
    place = known.read()
    assert place is not None
    assert place.at is not None
    later, earlier = (place.at + datetime.timedelta(seconds=s) for s in (1, -1))
    for last_alive in (None, later):
        services.accept_restored(last_alive=last_alive)
        assert AuditEntry.objects.count() == 3
    services.accept_restored(last_alive=earlier)
    assert "it was restored" in caplog.text
    assert AuditEntry.objects.get(sequence=4).action == "audit.accepted"
    services.accept_restored(last_alive=earlier)
    write(1)
    assert verify(known=known.read()).last == 5


def test_a_start_accepts_no_chain_that_does_not_hold() -> None:
    rolled_back()
    AuditEntry.objects.filter(sequence=2).update(at=START - datetime.timedelta(days=900))
    services.accept_restored(last_alive=START - datetime.timedelta(days=1))
    with pytest.raises(ChainChanged):
        write(1)


@pytest.mark.parametrize(
    "tamper",
    [
        lambda: AuditEntry.objects.filter(sequence=2).delete(),
        lambda: AuditHead.objects.update(sequence=3),
        lambda: AuditCount.objects.all().delete(),
        lambda: AuditEntry.objects.all().delete(),
        lambda: AuditHead.objects.all().delete(),
    ],
)
def test_whatever_was_done_can_be_accepted(tamper: Callable[[], None]) -> None:
    write(5)
    tamper()
    services.accept(reason="known")
    write(2)
    assert verify(known=known.read()).last >= 7
    assert selectors.trouble() == ""


def test_a_new_database_beside_an_old_data_folder_begins_anew(caplog: pytest.LogCaptureFixture) -> None:
    write(2)
    services.begin_with_new_database()
    assert known.read() is not None
    for model in (AuditEntry, AuditHead, AuditCount):
        model.objects.all().delete()
    services.begin_with_new_database()
    assert "begins anew" in caplog.text
    write(1)


def test_the_daily_walk_finds_what_lies_in_the_middle() -> None:
    write(4)
    AuditEntry.objects.filter(sequence=2).update(actor_name="bob")
    with pytest.raises(Failed):
        services.watch()
    assert "entry 2: was edited" in selectors.trouble()
    AuditEntry.objects.filter(sequence=2).update(actor_name="ann")
    services.watch()
    assert selectors.trouble() == ""
