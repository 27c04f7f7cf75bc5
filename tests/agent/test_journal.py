"""The journal: no command twice, no result lost."""

import sqlite3
from pathlib import Path

import pytest

from dockmesh.agent.errors import StartError
from dockmesh.agent.journal import Journal, failure

SEVEN = "5f1d7c7e-9a3b-4c1e-8d55-0c3a7be2f6a7"


def test_a_command_is_begun_once_even_after_a_restart(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "j")
    assert journal.begin(SEVEN, "deploy")
    assert not journal.begin(SEVEN, "deploy")
    journal.close()
    assert not Journal(tmp_path / "j").begin(SEVEN, "deploy")


def test_what_a_crash_interrupted_ends_as_a_failure_and_is_not_repeated(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "j")
    journal.begin(SEVEN, "deploy")
    journal.close()
    again = Journal(tmp_path / "j")
    assert again.fail_interrupted() == [SEVEN]
    assert again.unacknowledged() == [(SEVEN, failure("agent restarted while it ran"))]
    assert again.fail_interrupted() == []
    assert not again.begin(SEVEN, "deploy")


def test_a_result_stays_until_it_is_acknowledged(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "j")
    journal.begin(SEVEN, "deploy")
    journal.finish(SEVEN, {"result": "success"})
    journal.close()
    again = Journal(tmp_path / "j")
    assert again.fail_interrupted() == []
    assert again.unacknowledged() == [(SEVEN, {"result": "success"})]
    again.acknowledge(SEVEN)
    assert again.unacknowledged() == []
    assert not again.begin(SEVEN, "deploy")


def test_the_first_result_counts(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "j")
    journal.begin(SEVEN, "deploy")
    journal.finish(SEVEN, {"result": "success"})
    journal.finish(SEVEN, {"result": "failure"})
    assert journal.unacknowledged() == [(SEVEN, {"result": "success"})]


def test_after_a_new_enrollment_nothing_is_known(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "j")
    journal.begin(SEVEN, "deploy")
    journal.forget_all()
    assert journal.begin(SEVEN, "deploy")


def test_the_journal_is_private(tmp_path: Path) -> None:
    Journal(tmp_path / "j")
    assert (tmp_path / "j").stat().st_mode & 0o777 == 0o600


def test_a_damaged_journal_stops_the_start_instead_of_risking_a_repetition(tmp_path: Path) -> None:
    (tmp_path / "j").write_bytes(b"no database" * 1000)
    with pytest.raises(StartError, match="can't be used"):
        Journal(tmp_path / "j")


def test_the_journal_of_an_agent_whose_commands_had_numbers_is_taken_over(tmp_path: Path) -> None:
    """What it had begun is not repeated, and what it had not reported is reported under its number."""
    old = sqlite3.connect(tmp_path / "j")
    old.execute(
        "CREATE TABLE command (id INTEGER PRIMARY KEY, kind TEXT NOT NULL, state TEXT NOT NULL,"
        " received_at REAL NOT NULL, result TEXT NOT NULL DEFAULT '')"
    )
    rows = [
        (1, "deploy", "acknowledged", ""), (2, "deploy", "finished", '{"result": "success"}'), (3, "backup", "begun", "")
    ]  # fmt: skip
    old.executemany("INSERT INTO command VALUES (?, ?, ?, 1.0, ?)", rows)
    old.commit()
    old.close()
    Journal(tmp_path / "j").close()
    journal = Journal(tmp_path / "j")
    assert journal.fail_interrupted() == ["3"]
    assert journal.unacknowledged() == [
        ("2", {"result": "success"}),
        ("3", failure("agent restarted while it ran")),
    ]
    assert not journal.begin("1", "deploy")
    journal.acknowledge("1")
    assert journal.begin(SEVEN, "deploy")


def test_the_journal_stays_small_and_keeps_what_is_not_acknowledged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dockmesh.agent.journal.KEPT", 3)
    journal = Journal(tmp_path / "j")
    for number in range(9):
        journal.begin(str(number), "deploy")
        journal.finish(str(number), failure(""))
    for number in range(1, 9):
        journal.acknowledge(str(number))
    assert [command_id for command_id, _ in journal.unacknowledged()] == ["0"]
    assert [journal.begin(str(number), "deploy") for number in (8, 7, 6, 5)] == [False, False, False, True]


def test_of_a_result_that_the_server_has_only_what_is_short_is_kept(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "j")
    journal.begin(SEVEN, "snapshots")
    error = "e" * 8000
    journal.finish(SEVEN, {**failure(error, output="o" * 10_000), "snapshots": [{"id": "a" * 64}] * 1000})
    journal.acknowledge(SEVEN)
    assert journal.report_again(SEVEN)
    told = {**failure(error, output="(The output was reported before.)\n"), "is_repeated": True}
    assert journal.unacknowledged() == [(SEVEN, told)]


@pytest.mark.parametrize("content", ["hunter2secret", "hunter2secret" * 3000])
def test_nothing_of_a_survey_stays_on_the_disk(tmp_path: Path, content: str) -> None:
    journal = Journal(tmp_path / "j")
    journal.begin(SEVEN, "survey")
    journal.finish(SEVEN, {"result": "success", "found": {"env_files": [{"content": content}]}})
    assert journal.unacknowledged()[0][1]["found"]
    assert b"hunter2secret" in (tmp_path / "j").read_bytes()
    journal.acknowledge(SEVEN)
    journal.close()
    assert b"hunter2" not in (tmp_path / "j").read_bytes()
