"""Env files: made-up ones of every spelling, and what the real Compose makes of them."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

from hypothesis import strategies as st

from tests.integration.versions import require_version

_NAMES = st.sampled_from(
    ["A", "B", "TOKEN", "_X", "1A", "a.b", "A-B", "A[0]", "export", "EXPORT", "NAME_2", "é", "A B", "A'"]
)
_PLAIN = st.text("abcXYZ019 #$'\"\\{}()/:=@%&+-_.,;~|<>!?*éß日🐳\t", max_size=24)
_WORDS = st.sampled_from(
    [
        "hunter2hunter2", "p@ss/w:rd", "a$$b$$c", "${A}", "$A-tail", "${B:-fallback value}", "${B-x}", "\\$A", "\\n",
        "\\\"", "\\'", " # comment", "#nocomment", "  ", "\t", "one two", "{\"json\": \"yes\"}", "back\\slash",
        "100%", "&<>", "ünïcödé", "tab\there",
    ]
)  # fmt: skip
_INNER = st.lists(st.one_of(_WORDS, _PLAIN), max_size=3).map("".join)
_MANY_LINES = st.lists(
    st.one_of(_WORDS, st.sampled_from(["-----BEGIN KEY-----", "c2Vj==", "ab"])), min_size=2
).map("\n".join)


def _double(text: str) -> str:
    return '"' + text.replace('"', '\\"') + '"'


_VALUES = st.one_of(
    _INNER,
    _INNER.map(_double),
    _INNER.map(lambda text: f"'{text}'"),
    _MANY_LINES.map(_double),
    _MANY_LINES.map(lambda text: f"'{text}'"),
)
_COMMENTS = st.sampled_from(["", "", "", " # live", " #", "\t# tab", "#close", " "])
_ASSIGNMENTS = st.builds(
    lambda prefix, name, sign, value, comment: f"{prefix}{name}{sign}{value}{comment}",
    st.sampled_from(["", "", "", "export ", "  ", "\t"]),
    _NAMES,
    st.sampled_from(["=", "=", "=", " = ", ": ", "= "]),
    _VALUES,
    _COMMENTS,
)
_LINES = st.one_of(
    _ASSIGNMENTS, _ASSIGNMENTS, st.sampled_from(["", "# comment", "A", "export A", "   "]), _PLAIN
)

# An env file as somebody may have typed it, valid or not.
TEXTS = st.builds(
    lambda mark, lines, end: mark + end.join(lines) + end,
    st.sampled_from(["", "", "", "\ufeff"]),
    st.lists(_LINES, min_size=1, max_size=5),
    st.sampled_from(["\n", "\n", "\r\n"]),
)


def compose(*arguments: str, suite: str = "sid") -> subprocess.CompletedProcess[str]:
    """Run the real Compose, with an environment of its own."""
    return subprocess.run(
        [require_version("docker-compose", suite), *arguments],
        env={"PATH": os.environ["PATH"], "HOME": "/nonexistent"},
        capture_output=True,
        encoding="utf-8",
        errors="replace",
        check=False,
    )


def names_by_compose(text: str, folder: Path) -> list[str] | None:
    """The names of the variables, sorted; None where Compose does not take the file."""
    (folder / "oracle.env").write_text(text, "utf-8", newline="")
    file = folder / "oracle.yaml"
    file.write_text(json.dumps({"services": {"a": {"image": "a", "env_file": ["oracle.env"]}}}))
    done = compose("-p", "oracle", "-f", str(file), "--env-file", "/dev/null", "config", "--format", "json")
    if done.returncode != 0:
        return None
    return sorted(json.loads(done.stdout)["services"]["a"].get("environment") or {})


def environment_by_compose(text: str, folder: Path) -> str | None:
    """What `config --environment` prints beyond an empty env file's; None where Compose does not take the file."""
    file = folder / "oracle.yaml"
    file.write_text(json.dumps({"services": {"a": {"image": "a"}}}))
    printed = []
    for content in (text, ""):
        (folder / "oracle.env").write_text(content, "utf-8", newline="")
        done = compose(
            "-p",
            "oracle",
            "-f",
            str(file),
            "--env-file",
            str(folder / "oracle.env"),
            "config",
            "--environment",
        )
        if done.returncode != 0:
            return None
        printed.append(done.stdout.splitlines())
    return "\n".join(line for line in printed[0] if line not in printed[1]) + "\n"
