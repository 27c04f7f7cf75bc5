"""The file of variables that the service reads: what `install` writes, it reads again the next time."""

from __future__ import annotations

from pathlib import Path

import pytest

from dockmesh.agent import install


@pytest.mark.parametrize(
    "value",
    [
        "plain",
        "http://ada:it's@proxy:3128",
        "'",
        "''",
        '"',
        'a "b" c',
        "back\\slash",
        "$HOME `id` #no",
        "a  b",
    ],
)
def test_a_value_stays_what_it_is_however_often_it_is_installed(tmp_path: Path, value: str) -> None:
    file = tmp_path / "agent.env"
    values = {"HTTPS_PROXY": value}
    for _ in range(3):
        file.write_text(install._env_text(values))
        values = install._read_env(file)
    assert values == {"HTTPS_PROXY": value}


@pytest.mark.parametrize(
    ("written", "value"),
    [
        ("A=b c", "b c"),
        ('A="b c"', "b c"),
        ("A='b c'", "b c"),
        ("A=it's", "it's"),
        ("A='open", "'open"),
        ("A=", ""),
    ],
)
def test_what_was_written_by_hand_is_read_as_systemd_reads_it(
    tmp_path: Path, written: str, value: str
) -> None:
    file = tmp_path / "agent.env"
    file.write_text(f"# by hand\n{written}\n")
    assert install._read_env(file) == {"A": value}
