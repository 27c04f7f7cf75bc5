"""The journal: no command twice, no result lost."""

from pathlib import Path

import pytest

from dockmesh.agent.errors import StartError
from dockmesh.agent.journal import Journal, failure


def test_a_command_is_begun_once_even_after_a_restart(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "j")
    assert journal.begin(7, "deploy")
    assert not journal.begin(7, "deploy")
    journal.close()
    assert not Journal(tmp_path / "j").begin(7, "deploy")


def test_what_a_crash_interrupted_ends_as_a_failure_and_is_not_repeated(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "j")
    journal.begin(7, "deploy")
    journal.close()
    again = Journal(tmp_path / "j")
    assert again.fail_interrupted() == [7]
    assert again.unacknowledged() == [(7, failure("agent restarted while it ran"))]
    assert again.fail_interrupted() == []
    assert not again.begin(7, "deploy")


def test_a_result_stays_until_it_is_acknowledged(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "j")
    journal.begin(7, "deploy")
    journal.finish(7, {"result": "success"})
    journal.close()
    again = Journal(tmp_path / "j")
    assert again.fail_interrupted() == []
    assert again.unacknowledged() == [(7, {"result": "success"})]
    again.acknowledge(7)
    assert again.unacknowledged() == []
    assert not again.begin(7, "deploy")


def test_the_first_result_counts(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "j")
    journal.begin(7, "deploy")
    journal.finish(7, {"result": "success"})
    journal.finish(7, {"result": "failure"})
    assert journal.unacknowledged() == [(7, {"result": "success"})]


def test_after_a_new_enrollment_ids_may_come_again(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "j")
    journal.begin(7, "deploy")
    journal.forget_all()
    assert journal.begin(7, "deploy")


def test_the_journal_is_private(tmp_path: Path) -> None:
    Journal(tmp_path / "j")
    assert (tmp_path / "j").stat().st_mode & 0o777 == 0o600


def test_a_damaged_journal_stops_the_start_instead_of_risking_a_repetition(tmp_path: Path) -> None:
    (tmp_path / "j").write_bytes(b"no database" * 1000)
    with pytest.raises(StartError, match="can't be used"):
        Journal(tmp_path / "j")
