"""Secrets don't get into output: whatever the env file looks like, and whoever writes them in whatever form."""

from __future__ import annotations

import base64
import html
import json
import re
import shlex
import tempfile
import urllib.parse
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from dockmesh.agent import envvalues
from dockmesh.agent.commands import CommandError, Run
from dockmesh.agent.deploy import Deployer
from dockmesh.agent.masking import MASK, SHORTEST_SECRET, Masker
from dockmesh.agent.output import LONGEST_LINE, Output
from dockmesh.agent.process import Cancellation, proxy_passwords
from dockmesh.agent.project import Project
from tests import envfiles
from tests.integration.versions import require_version

SECRETS = (
    "hunter2hunter2",
    'hunter"2"hunter2',
    "it's 100% $ecret & <more>\\n",
    "a$$b$c$$$d",
    "päss wörd 日本 🐳",
    "-----BEGIN KEY-----\nc2VjcmV0c2VjcmV0==\nab\n-----END KEY-----",
    "tab\there\\and\\\\there",
    '{"user": "me", "key": "v/1+2=3"}',
    "\\\\\"''a\"$'\\",
)

FORMS: dict[str, Callable[[str], str]] = {
    "as it is": str,
    "JSON": lambda s: json.dumps(s),
    "JSON in UTF-8": lambda s: json.dumps(s, ensure_ascii=False),
    "JSON as Go writes it": lambda s: json.dumps(s).replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026"),
    "JSON in JSON": lambda s: json.dumps(json.dumps(s)),
    "JSON in a URL": lambda s: urllib.parse.quote(json.dumps(s)),
    "URL": lambda s: urllib.parse.quote(s, safe=""),
    "URL in small letters": lambda s: urllib.parse.quote(s, safe="").replace("%C", "%c").replace("%E", "%e"),
    "URL in a URL": lambda s: urllib.parse.quote(urllib.parse.quote(s, safe=""), safe=""),
    "form": urllib.parse.quote_plus,
    "shell": shlex.quote,
    "YAML": lambda s: yaml.safe_dump(s, width=10**6),
    "YAML in double quotes": lambda s: yaml.safe_dump(s, default_style='"', width=10**6),
    "Compose's own": lambda s: s.replace("$", "$$"),
    "HTML": lambda s: html.escape(s),
    "base64": lambda s: base64.b64encode(s.encode()).decode(),
    "indented": lambda s: s.replace("\n", "\n    "),
    "line ends of Windows": lambda s: s.replace("\n", "\r\n"),
    "in colours": lambda s: f"\x1b[31m{s[:3]}\x1b[0m{s[3:]}",
}  # fmt: skip


@pytest.mark.parametrize("secret", SECRETS)
@pytest.mark.parametrize("form", FORMS)
def test_a_secret_is_masked_in_each_form(form: str, secret: str) -> None:
    output = Output(secrets=[secret])
    output.write(f"before [{FORMS[form](secret)}] after\n")
    text = output.text()
    assert text.startswith("before [")
    assert text.endswith("] after\n")
    # The quotes around it may stay.
    rest = re.sub("%(25)*22", "", text.removeprefix("before [").removesuffix("] after\n"))
    assert not any(char.isalnum() for char in rest), text


@given(
    secrets=st.lists(st.text(min_size=SHORTEST_SECRET, max_size=30), min_size=1, max_size=4),
    form=st.sampled_from(sorted(FORMS)),
    cuts=st.lists(st.integers(1, 40), min_size=1),
)
@settings(max_examples=60)
def test_where_the_writes_cut_makes_no_difference(secrets: list[str], form: str, cuts: list[int]) -> None:
    whole = "\n".join(f"a {FORMS[form](secret)} z" for secret in secrets) + "\n"
    at_once, in_pieces = Output(secrets=secrets), Output(secrets=secrets)
    at_once.write(whole)
    position = 0
    while position < len(whole):
        step = cuts[position % len(cuts)]
        in_pieces.write(whole[position : position + step])
        position += step
    assert in_pieces.text().replace("\n", "") == at_once.text().replace("\n", "")


def test_the_short_lines_of_a_secret_are_masked_with_the_others() -> None:
    output = Output(secrets=["abc\ndef\nghi"])
    for line in ("first\n", "key: abc\n", "def\n", "ghi\n", "last\n"):
        output.write(line)
    assert output.text() == f"first\nkey: {MASK}\nlast\n"


def test_what_only_begins_like_a_secret_is_not_kept_back_for_ever() -> None:
    output = Output(secrets=["abc\ndef"])
    output.write("abc\n")
    assert output.since(0, limit=100)[0] == ""
    output.write("xyz\n")
    assert output.since(0, limit=100)[0] == "abc\nxyz\n"
    output.write("abc\n")
    assert output.text() == "abc\nxyz\nabc\n"


def test_values_that_overlap_leave_nothing_between_them() -> None:
    assert Masker(["abcdef", "defghi", "abcd"]).mask("-abcdefghi-abcd-") == f"-{MASK}-{MASK}-"


def test_a_long_value_is_masked_as_a_whole() -> None:
    secret = "".join(f"{number:x}" for number in range(10_000))
    output = Output(secrets=[secret])
    for start in range(0, len(secret), 1000):
        output.write(secret[start : start + 1000])
    output.write(" end\n")
    assert output.text() == f"{MASK} end\n"


@pytest.mark.parametrize("part", ["x'", "\\", " \t", "$", "+ ", "%25", "\\n", "'\" ", "u0022", "\\ "])
def test_no_value_makes_masking_slow(part: str) -> None:
    secret = f"a{part * 300}x"
    masker = Masker([secret, secret + "!"])
    near = secret[:-1] * 20 + "?"
    assert MASK in masker.mask(near + secret + near)


def test_short_and_common_values_stay_readable() -> None:
    output = Output(secrets=["1", "yes", "true", "False", "none", ""])
    output.write("1 yes true false none\n")
    assert output.text() == "1 yes true false none\n"


def test_secrets_that_are_learned_later_are_masked_from_then_on() -> None:
    output = Output(secrets=["first-secret"])
    output.hide(["other-secret"])
    output.write("first-secret other-secret" + "x" * LONGEST_LINE)
    assert "secret" not in output.text()


# With the real Compose.


def validate(folder: Path, file: str, env: str, **payload: Any) -> str:
    """What a validation says, output and error."""
    asked = {"operation": "validate", "stack": "leak", "compose_file": file, "env_file": env, **payload}
    run = Run("1", "deploy", asked, Cancellation())
    run.deadline = float("inf")
    error = ""
    try:
        Deployer(folder, docker_host="unix:///nonexistent")(run)
    except CommandError as failure:
        error = str(failure)
    return f"{run.output.text()}\n{run.output.mask(error)}"


LEAKS = {
    "quoted, with a comment": 'TOKEN="hunter2hunter2" # live\n',
    "escaped": 'TOKEN="hunter\\"2\\"hunter2"\n',
    "in single quotes": "TOKEN='hunter2\"hunter2'\n",
    "several lines": 'TOKEN="-----BEGIN hunter-----\nhunter2==\n-----END hunter-----"\n',
    "escaped line end": 'TOKEN="hunter2\\nhunter2"\n',
    "doubled dollar": "TOKEN=hunter2$$hunter2\n",
    "out of others": "A=hunter2\nTOKEN=${A}-${B:-hunter3}\n",
    "changed after use": "A=hunter2\nTOKEN=x-${A}\nA=hunter3\n",
    "colon": "TOKEN: hunter2hunter2\n",
    "export": "export TOKEN=hunter2hunter2\n",
    "byte order mark": "\ufeffTOKEN=hunter2hunter2\n",
    "Windows": 'TOKEN="hunter2hunter2" # live\r\nB=hunter3\r\n',
    "no quote at its end": 'A=1\nTOKEN="hunter2hunter2\n',
    "cut at colons": "TOKEN=hunter2:hunter3/hunter4\n",
    "cut at colons, in other words": "TOKEN=0.0.0.0:x-hunter2/udp\n",
    "cut at colons of an address": "TOKEN='[hunter2]:9'\n",
    "no name": 'A=1\nTO"KEN hunter2hunter2=hunter3\n',
    "no end of a variable": "TOKEN=${hunter2hunter2\n",
    "a variable that must be there": "TOKEN=${NONE:?hunter2hunter2}\n",
}


@pytest.mark.parametrize("env", LEAKS.values(), ids=LEAKS)
def test_a_value_in_composes_error_is_masked(env: str, tmp_path: Path) -> None:
    file = 'services: {web: {image: busybox, ports: ["${TOKEN}:80"]}}\n'
    said = validate(tmp_path, file, env)
    assert MASK in said
    assert "hunter" not in said
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]


INCLUDES = {
    "its folder's own": ("include:\n  - sub dir/compose.yaml\n", "sub dir/.env"),
    "the env file that it names": (
        "include:\n- path: 'sub dir/compose.yaml'\n  env_file: other.env # of ours\n\nvolumes: {}\n",
        "other.env",
    ),
    "several": (
        "include:\n  - path: [sub dir/compose.yaml]\n    env_file: [./a.env, './x y.env']\n",
        "x y.env",
    ),
    "of another folder": (
        "include:\n  - path: ./sub dir/compose.yaml\n    project_directory: place\n",
        "place/.env",
    ),
    "in JSON": ('{"include": [{"path": "sub dir/compose.yaml", "env_file": "other.env"}]}', "other.env"),
    "what includes again": ('include: ["sub dir/again.yaml"]\n', "sub dir/deep/.env"),
}


@pytest.mark.parametrize(("file", "env_file"), INCLUDES.values(), ids=INCLUDES)
def test_values_of_an_included_env_file_are_masked(file: str, env_file: str, tmp_path: Path) -> None:
    home = tmp_path / "home"
    for folder in ("sub dir/deep", "place"):
        (home / folder).mkdir(parents=True)
    inner = 'services: {web: {image: busybox, ports: ["${TOKEN}:80"]}}\n'
    (home / "sub dir" / "compose.yaml").write_text(inner)
    (home / "sub dir" / "deep" / "compose.yaml").write_text(inner)
    (home / "sub dir" / "again.yaml").write_text("include:\n  - deep/compose.yaml\n")
    (home / "a.env").write_text("OTHER=1\n")
    (home / env_file).write_text('TOKEN="hunter2 \\"hunter2" # live\n')
    said = validate(tmp_path / "stacks", file, "", project_directory=str(home))
    assert MASK in said
    assert "hunter" not in said


def test_the_passwords_of_proxies_are_masked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTPS_PROXY", "http://me:hunter2%40x@proxy.example.org:3128")
    monkeypatch.setenv("http_proxy", "me:hunter3@proxy.example.org:3128")
    monkeypatch.setenv("NO_PROXY", "localhost,127.0.0.1:80")
    assert proxy_passwords() == {"hunter2@x", "hunter3"}


@pytest.mark.parametrize("suite", ["trixie", "sid"])
def test_values_of_a_services_own_env_file_are_masked(
    suite: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = tmp_path / "bin" / "docker-compose"
    program.parent.mkdir()
    program.symlink_to(require_version("docker-compose", suite))
    monkeypatch.setenv("PATH", str(program.parent))
    home = tmp_path / "home"
    home.mkdir()
    (home / "own.env").write_text('SECRET="hunter2 $PART" # live\n')
    file = "services: {web: {image: busybox, env_file: [own.env, none.env], profiles: [x], ports: ['${PORT}:80']}}\n"

    def ask(arguments: Any) -> str | None:
        done = envfiles.compose(*arguments, suite=suite)
        return done.stdout if done.returncode == 0 else None

    project = Project("x", tmp_path / "state", home, (file,), "PART=hunter3\nPORT=no-port\n")
    with project.written() as options:
        assert envvalues.values(project, options, ask) == {"hunter2 hunter3", "hunter3", "no-port"}
    (home / "own.env").write_text('SECRET="hunter2 hunter4\n')
    with project.written() as options:
        assert "hunter4" in envvalues.values(project, options, ask)


@given(text=envfiles.TEXTS)
@settings(max_examples=20)
def test_what_compose_computes_is_what_is_masked(text: str) -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        environment = envfiles.environment_by_compose(text, folder)

        def ask(arguments: Any) -> str | None:
            done = envfiles.compose(*arguments)
            return done.stdout if done.returncode == 0 else None

        project = Project("x", folder / "state", folder / "state", ("services: {a: {image: a}}",), text)
        with project.written() as options:
            output = Output(secrets=envvalues.values(project, options, ask))
    if environment is None:
        return
    output.write(environment)
    for line in output.text().splitlines():
        value = line.partition("=")[2] if "=" in line else line
        left = value.replace(MASK, "").strip()
        is_hidden = len(left) < SHORTEST_SECRET or not any(map(str.isalnum, left))
        assert is_hidden or left.lower() in ("true", "false", "none", "null"), (text, line)
