"""The audit chain: what is written, what tampering is found, what retention leaves."""

import datetime
import json
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest
from django.core.management import call_command
from django.db import connection, transaction
from django.db.transaction import TransactionManagementError
from pytest_django import Settings

from dockmesh.audit import selectors, services, sink
from dockmesh.audit.actions import Action
from dockmesh.audit.chain import GENESIS, HEAD, encode_changes, entry_hash, sign
from dockmesh.audit.models import AuditCheckpoint, AuditCount, AuditEntry, AuditHead
from dockmesh.audit.services import Actor, prune, record, record_alone
from dockmesh.audit.verification import TEXTS, Broken, verify
from dockmesh.core import clock
from dockmesh.core.schedule import Failed

pytestmark = pytest.mark.django_db

ANN = Actor("user", "7", "ann", "192.0.2.1")
START = datetime.datetime(2026, 11, 22, 12, 0, tzinfo=datetime.UTC)


def write(count: int, *, monkeypatch: pytest.MonkeyPatch | None = None, start: int = 0) -> None:
    """Entries one hour apart where `monkeypatch` is given."""
    for number in range(start, start + count):
        if monkeypatch is not None:
            at = START + datetime.timedelta(hours=number)
            monkeypatch.setattr(clock, "now", lambda at=at: at)
        record_alone(
            actor=ANN,
            action=Action.HOST_CHANGED,
            target_kind="host",
            target_id=number,
            target_name=f"h{number}",
        )


def test_an_entry_says_who_did_what_to_what() -> None:
    with transaction.atomic():
        record(
            actor=ANN,
            action=Action.TOKEN_CREATED,
            target_kind="token",
            target_id=5,
            target_name="prometheus",
            changes={"role": [None, "viewer"]},
        )
    entry = AuditEntry.objects.get()
    assert (entry.sequence, entry.previous_hash) == (1, GENESIS)
    assert (entry.actor_kind, entry.actor_id, entry.actor_name) == ("user", "7", "ann")
    assert (entry.action, entry.target_kind, entry.target_id) == ("token.created", "token", "5")
    assert (entry.target_name, entry.address) == ("prometheus", "192.0.2.1")
    assert entry.changes == {"role": [None, "viewer"]}
    assert dict(selectors.action_counts())["token.created"] == 1
    assert verify().last == 1


@pytest.mark.django_db(transaction=True)
def test_an_entry_goes_with_the_transaction_it_belongs_to() -> None:
    with pytest.raises(TransactionManagementError):
        record(actor=ANN, action=Action.HOST_CHANGED)
    with pytest.raises(ValueError), transaction.atomic():  # noqa: PT012
        record(actor=ANN, action=Action.HOST_CHANGED)
        raise ValueError
    assert not AuditEntry.objects.exists()
    assert not AuditCount.objects.exists()


@pytest.mark.parametrize(
    "changes",
    [
        {"a": 1.0, "b": 1e20, "c": 0.1, "d": -0.0, "e": 1e-7, "f": 2**63, "g": 5e-324, "h": 1e300},
        {"nul": "a\x00b", "half": "\ud800", "lines": "a\nb\tc", "bell": "\x07"},
        {"when": START, "many": {"b", "a"}, "nested": {"x": [1, {"y": None}]}, "nan": float("nan")},
        {"long": "x" * 100_000, "k" * 500: 1, "ü": "ü€😀"},
    ],
)
def test_whatever_is_written_still_matches_its_hash_when_it_is_read(changes: dict[str, Any]) -> None:
    record_alone(
        actor=Actor("user", "1", "x\x00" * 400, "a" * 90), action=Action.HOST_CHANGED, changes=changes
    )
    assert verify().last == 1
    assert "\x00" not in json.dumps(AuditEntry.objects.get().changes)


def test_no_two_entries_encode_alike() -> None:
    def digest(*fields: str) -> str:
        return entry_hash(sequence=1, at=START, fields=fields, changes={}, previous_hash=GENESIS)

    assert digest("ab", "c") != digest("a", "bc")
    assert encode_changes({"b": 1, "a": 2.0}) == '{"a":2,"b":1}'


def edit(**columns: Any) -> Callable[[], object]:
    return lambda: AuditEntry.objects.filter(sequence=5).update(**columns)


def delete(*sequences: int) -> Callable[[], None]:
    return lambda: AuditEntry.objects.filter(sequence__in=sequences).delete() and None


def fork() -> None:
    """Another entry 5, rightly hashed, in place of the true one; the rest follows the true one still."""
    entry = AuditEntry.objects.get(sequence=5)
    entry.actor_name = "bob"
    entry.entry_hash = _hash(entry)
    entry.save()


def cut_and_move_the_head() -> None:
    AuditEntry.objects.filter(sequence__gt=8).delete()
    last = AuditEntry.objects.get(sequence=8)
    AuditHead.objects.update(sequence=8, entry_hash=last.entry_hash)
    AuditCount.objects.update(count=8)


def make_anew() -> None:
    """Who has the database but not the secret key edits entry 5 and makes everything after it anew."""
    previous = AuditEntry.objects.get(sequence=4).entry_hash
    for entry in AuditEntry.objects.filter(sequence__gte=5).order_by("sequence"):
        if entry.sequence == 5:
            entry.actor_name = "bob"
        entry.previous_hash = previous
        entry.entry_hash = previous = _hash(entry)
        entry.save()
    AuditHead.objects.update(entry_hash=previous)


def append_beyond_the_head() -> None:
    last = AuditEntry.objects.get(sequence=10)
    extra = AuditEntry.objects.get(sequence=10)
    extra.sequence, extra.previous_hash = 11, last.entry_hash
    extra.entry_hash = _hash(extra)
    extra.save(force_insert=True)


def forge_a_checkpoint() -> None:
    entry = AuditEntry.objects.get(sequence=3)
    AuditEntry.objects.filter(sequence__lte=3).delete()
    AuditCheckpoint.objects.create(
        sequence=3, entry_hash=entry.entry_hash, signature=sign(HEAD, 3, entry.entry_hash), pruned_at=START
    )


def _hash(entry: AuditEntry) -> str:
    return entry_hash(
        sequence=entry.sequence,
        at=entry.at,
        fields=[getattr(entry, name) for name in TEXTS],
        changes=entry.changes,
        previous_hash=entry.previous_hash,
    )


@pytest.mark.parametrize(
    ("tamper", "sequence", "what"),
    [
        (edit(actor_name="bob"), 5, "edited"),
        (edit(at=START - datetime.timedelta(days=1)), 5, "edited"),
        (edit(changes={"x": 1}), 5, "edited"),
        (edit(changes=[]), 5, "edited"),
        (edit(address=""), 5, "edited"),
        (edit(target_id="999"), 5, "edited"),
        (edit(action="host.removed"), 5, "edited"),
        (edit(entry_hash="0" * 64), 5, "edited"),
        (edit(previous_hash="0" * 64), 5, "does not follow"),
        (delete(1), 1, "missing"),
        (delete(1, 2, 3), 1, "missing"),
        (delete(5), 5, "missing"),
        (delete(10), 10, "missing"),
        (delete(9, 10), 9, "missing"),
        (delete(*range(1, 11)), 1, "missing"),
        (fork, 6, "does not follow"),
        (cut_and_move_the_head, 8, "not signed"),
        (make_anew, 10, "not signed"),
        (append_beyond_the_head, 11, "beyond the head"),
        (forge_a_checkpoint, 3, "checkpoint"),
        (lambda: AuditHead.objects.all().delete(), 1, "beyond the head"),
        (lambda: AuditHead.objects.update(entry_hash="0" * 64), 10, "head"),
        (lambda: AuditHead.objects.update(sequence=12), 11, "missing"),
        (lambda: AuditCount.objects.update(count=9), 10, "counts"),
    ],
)
def test_tampering_is_found_at_its_first_entry(
    tamper: Callable[[], None], sequence: int, what: str, capsys: pytest.CaptureFixture[str]
) -> None:
    write(10)
    assert verify().last == 10
    tamper()
    with pytest.raises(Broken, match=what) as caught:
        verify()
    assert caught.value.sequence == sequence
    with pytest.raises(SystemExit) as stopped:
        call_command("verifyaudit")
    assert stopped.value.code == 1
    assert f"entry {sequence}:" in capsys.readouterr().out


def test_verifyaudit_passes_on_an_empty_log_and_on_a_whole_one(capsys: pytest.CaptureFixture[str]) -> None:
    call_command("verifyaudit")
    write(3)
    call_command("verifyaudit")
    out = capsys.readouterr().out
    assert "no entries" in out
    assert "3 entries, from 1 to 3" in out


def test_a_chain_longer_than_a_chunk_is_walked_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dockmesh.audit.verification.CHUNK", 4)
    for count in (3, 1, 4, 2):
        start = AuditEntry.objects.count()
        write(count, start=start)
        assert verify().last == start + count


def test_a_chain_signed_under_an_earlier_secret_key_does_not_hold(settings: Settings) -> None:
    write(3)
    settings.SECRET_KEY = "another key of at least thirty-two characters"
    with pytest.raises(Broken, match="key"):
        verify()


def test_retention_prunes_the_old_end_and_the_chain_still_holds(monkeypatch: pytest.MonkeyPatch) -> None:
    write(20, monkeypatch=monkeypatch)
    counted = dict(selectors.action_counts())["host.changed"]
    for hours, left_from in ((5, 6), (5, 6), (9, 10), (21, 21), (21, 21)):
        prune(before=START + datetime.timedelta(hours=hours), batch_size=3)
        verdict = verify()
        assert verdict.first >= left_from
        assert selectors.entry_count() == AuditEntry.objects.count()
    assert dict(selectors.action_counts())["host.changed"] == counted
    write(3, monkeypatch=monkeypatch, start=30)
    assert verify().last == AuditHead.objects.get().sequence


def test_pruning_everything_leaves_a_chain_that_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    write(5, monkeypatch=monkeypatch)
    monkeypatch.setattr(clock, "now", lambda: START + datetime.timedelta(days=400))
    assert prune(before=START + datetime.timedelta(days=30)) == 5
    assert AuditEntry.objects.get().action == "audit.pruned"
    assert verify().first == 6
    assert prune(before=START + datetime.timedelta(days=30)) == 0
    assert AuditEntry.objects.count() == 1


@pytest.mark.parametrize(
    ("tamper", "what"),
    [
        (lambda: AuditCheckpoint.objects.all().delete(), "missing"),
        (lambda: AuditCheckpoint.objects.update(sequence=8), "checkpoint"),
        (lambda: AuditCheckpoint.objects.update(entry_hash="0" * 64), "checkpoint"),
        (lambda: AuditEntry.objects.filter(sequence=6).delete(), "missing"),
    ],
)
def test_tampering_after_retention_is_found_too(
    tamper: Callable[[], None], what: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(10, monkeypatch=monkeypatch)
    prune(before=START + datetime.timedelta(hours=5))
    assert verify().first == 6
    tamper()
    with pytest.raises(Broken, match=what):
        verify()


def test_the_scheduled_retention_follows_its_setting(
    monkeypatch: pytest.MonkeyPatch, settings: Settings
) -> None:
    write(3, monkeypatch=monkeypatch)
    monkeypatch.setattr(clock, "now", lambda: START + datetime.timedelta(days=400))
    settings.DOCKMESH_AUDIT_RETENTION_DAYS = 0
    services.prune_by_retention()
    assert AuditEntry.objects.count() == 3
    settings.DOCKMESH_AUDIT_RETENTION_DAYS = 365
    services.prune_by_retention()
    assert [entry.action for entry in AuditEntry.objects.all()] == ["audit.pruned"]


def test_a_roll_back_by_who_has_the_database_is_told_by_the_sent_checkpoints(
    tmp_path: Path, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "checkpoints.jsonl"
    settings.DOCKMESH_AUDIT_CHECKPOINT_SINK = str(path)
    monkeypatch.setattr(sink, "_sent", 0)
    write(5)
    earlier = (AuditHead.objects.values().get(), AuditCount.objects.values().get())
    sink.send()
    write(5, start=5)
    sink.send()
    sink.send()
    lines = path.read_text().splitlines()
    assert [json.loads(line)["sequence"] for line in lines] == [5, 10]
    assert path.stat().st_mode & 0o777 == 0o600
    assert verify(lines).checkpoints == 2
    call_command("verifyaudit", "--checkpoints", str(path))
    # An old copy of the head with its genuine signature, and the entries after it gone.
    AuditEntry.objects.filter(sequence__gt=5).delete()
    AuditHead.objects.update(**earlier[0])
    AuditCount.objects.update(**earlier[1])
    assert verify().last == 5
    with pytest.raises(Broken, match="when a checkpoint was sent"):
        verify(lines)
    write(5, start=50)
    with pytest.raises(Broken, match="another one"):
        verify(lines)


def test_forged_checkpoint_lines_are_refused() -> None:
    write(2)
    forged = json.dumps({"sequence": 2, "entry_hash": "0" * 64, "signature": "0" * 64})
    for line in (forged, "nonsense", "[]", '{"sequence": "x"}'):
        with pytest.raises(Broken, match="line 1"):
            verify([line])


def test_checkpoints_reach_a_webhook_and_a_failing_one_is_tried_again(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    received: list[dict[str, Any]] = []
    answers = [500, 204]

    class Hook(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            received.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            self.send_response(answers.pop(0))
            self.end_headers()

        def log_message(self, *args: object) -> None:
            pass

    server = HTTPServer(("127.0.0.1", 0), Hook)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        settings.DOCKMESH_AUDIT_CHECKPOINT_SINK = f"http://127.0.0.1:{server.server_port}/hook"
        monkeypatch.setattr(sink, "_sent", 0)
        write(2)
        with pytest.raises(Failed):
            sink.send()
        for _ in range(2):
            sink.send()
    finally:
        server.shutdown()
        server.server_close()
    assert [body["sequence"] for body in received] == [2, 2]


@pytest.mark.parametrize("address", ["127.0.0.1:9", "[::1]:9"])
def test_the_password_of_a_sink_that_fails_is_not_logged(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, address: str
) -> None:
    settings.DOCKMESH_AUDIT_CHECKPOINT_SINK = f"http://ann:hunter2%21@{address}/hook-of-mine?key=abcdef"
    monkeypatch.setattr(sink, "_sent", 0)
    write(1)
    with pytest.raises(Failed):
        sink.send()
    assert "could not be sent" in caplog.text
    for secret in ("hunter2", "ann:", "hook-of-mine", "abcdef"):
        assert secret not in caplog.text


@pytest.mark.django_db(transaction=True)
def test_two_hundred_parallel_mutations_keep_the_chain_right() -> None:
    def act(number: int) -> None:
        try:
            record_alone(
                actor=Actor("token", str(number), f"t{number}"),
                action=list(Action)[number % len(Action)],
                changes={"n": number},
            )
        finally:
            connection.close()

    with ThreadPoolExecutor(16) as pool:
        list(pool.map(act, range(200)))
    verdict = verify()
    assert (verdict.first, verdict.last) == (1, 200)
    assert AuditEntry.objects.values("actor_id").distinct().count() == 200
    assert sum(count for _, count in selectors.action_counts()) == 200


def test_the_chain_survives_djangos_own_dump_and_load(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    at = START.replace(microsecond=123_456)
    monkeypatch.setattr(clock, "now", lambda: at)
    record_alone(
        actor=ANN, action=Action.HOST_CHANGED, changes={"share": 0.1, "name": "Zoë ☃", "count": [1, 2.0]}
    )
    dumped = tmp_path / "audit.json"
    call_command("dumpdata", "audit", output=str(dumped), verbosity=0)
    for model in (AuditEntry, AuditHead, AuditCount):
        model.objects.all().delete()
    call_command("loaddata", str(dumped), verbosity=0)
    assert verify().last == 1
