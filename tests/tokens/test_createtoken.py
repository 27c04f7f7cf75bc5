"""`createtoken`, as automation uses it."""

import datetime
import io
import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest
from django.core.management import call_command
from django.core.management.base import CommandError

from dockmesh.audit.models import AuditEntry
from dockmesh.core import clock
from tests.tokens.support import token_with
from tokens import bearer, secret
from tokens.models import ApiToken, Role

pytestmark = pytest.mark.django_db


def run(*arguments: str) -> str:
    out = io.StringIO()
    call_command("createtoken", *arguments, stdout=out)
    return out.getvalue()


def test_standard_output_is_the_token_and_nothing_else() -> None:
    out = run("--name", "prometheus", "--permission", "metrics.read")
    assert out.endswith("\n")
    assert secret.SHAPE.match(out[:-1])
    principal = bearer.authenticate(f"Bearer {out.strip()}", address="192.0.2.1")
    assert principal.permissions == {"metrics.read"}
    assert AuditEntry.objects.get(action="token.created").actor_kind == "system"


def test_permissions_make_a_custom_role_once_and_reuse_it() -> None:
    run("--name", "a", "--permission", "metrics.read", "--permission", "discovery.read")
    run("--name", "b", "--permission", "discovery.read", "--permission", "metrics.read")
    run("--name", "c", "--permission", "metrics.read")
    custom = Role.objects.filter(is_builtin=False)
    assert sorted(role.name for role in custom) == ["metrics.read", "metrics.read, discovery.read"]
    assert ApiToken.objects.get(name="a").role_id == ApiToken.objects.get(name="b").role_id
    run("--name", "d", "--permission", "fleet.read")
    assert not ApiToken.objects.get(name="d").role.is_builtin


def test_a_taken_role_name_gets_a_number() -> None:
    Role.objects.create(name="metrics.read", permissions=["fleet.read"])
    run("--name", "a", "--permission", "metrics.read")
    assert ApiToken.objects.get(name="a").role.name == "metrics.read (2)"


@pytest.mark.parametrize(
    ("text", "seconds"), [("90d", 7776000), ("30s", 30), ("5m", 300), ("2h", 7200), ("1w", 604800)]
)
def test_expires_in(text: str, seconds: int, monkeypatch: pytest.MonkeyPatch) -> None:
    now = datetime.datetime(2026, 11, 22, 12, 0, tzinfo=datetime.UTC)
    monkeypatch.setattr(clock, "now", lambda: now)
    run("--name", "a", "--role", "viewer", "--expires-in", text)
    assert ApiToken.objects.get(name="a").expires_at == now + datetime.timedelta(seconds=seconds)


@pytest.mark.parametrize(
    "text", ["0d", "-1d", "90", "d", "1.5h", "9999999999d", "999999999w", "1 d", "1y", "٩d"]
)
def test_a_bad_duration_is_an_error_and_makes_nothing(text: str) -> None:
    with pytest.raises(CommandError, match="--expires-in: must be"):
        run("--name", "a", "--role", "viewer", f"--expires-in={text}")
    assert not ApiToken.objects.exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--name", "a", "--role", "nobody's"], "role: There is no such role"),
        (["--name", "", "--role", "viewer"], "name: must not be empty"),
        (["--name", "a", "--permission", "metrics.write"], "no such permission"),
        (["--name", "a\nb", "--role", "viewer"], "name: must not contain control characters"),
    ],
)
def test_bad_arguments_are_errors_and_make_nothing(arguments: list[str], message: str) -> None:
    with pytest.raises(CommandError, match=message):
        run(*arguments)
    assert not ApiToken.objects.exists()
    assert not Role.objects.filter(is_builtin=False).exists()


def test_a_taken_name_is_an_error_and_if_missing_makes_it_none() -> None:
    run("--name", "a", "--role", "viewer")
    with pytest.raises(CommandError, match="already"):
        run("--name", "a", "--role", "viewer")
    assert run("--name", "a", "--role", "viewer", "--if-missing") == ""
    assert ApiToken.objects.count() == 1


def test_if_missing_makes_what_is_missing_and_what_was_revoked() -> None:
    assert secret.SHAPE.match(run("--name", "a", "--role", "viewer", "--if-missing").strip())
    ApiToken.objects.update(revoked_at=clock.now())
    assert secret.SHAPE.match(run("--name", "a", "--role", "viewer", "--if-missing").strip())


def test_if_missing_does_not_take_a_token_that_does_not_work_for_one_that_does() -> None:
    token_with(name="a", expires_at=clock.now() - datetime.timedelta(days=1))
    with pytest.raises(CommandError, match="expired"):
        run("--name", "a", "--role", "viewer", "--if-missing")


def test_output_is_a_private_file_with_the_token_alone(tmp_path: Path) -> None:
    path = tmp_path / "token"
    old_umask = os.umask(0)
    try:
        assert run("--name", "a", "--role", "viewer", "--output", str(path)) == ""
    finally:
        os.umask(old_umask)
    assert secret.SHAPE.match(path.read_text())
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert [entry.name for entry in tmp_path.iterdir()] == ["token"]
    before = path.read_text()
    assert run("--name", "a", "--role", "viewer", "--output", str(path), "--if-missing") == ""
    assert path.read_text() == before


def test_if_missing_says_when_the_file_was_lost_or_holds_another_token(tmp_path: Path) -> None:
    path = tmp_path / "token"
    run("--name", "a", "--role", "viewer")
    again = ["--name", "a", "--role", "viewer", "--output", str(path), "--if-missing"]
    with pytest.raises(CommandError, match="can't be shown again"):
        run(*again)
    path.write_text(str(secret.generate(secret.Kind.API)))
    with pytest.raises(CommandError, match="doesn't hold it"):
        run(*again)


def test_a_stale_file_is_replaced_when_the_token_is_missing(tmp_path: Path) -> None:
    path = tmp_path / "token"
    path.write_text("stale")
    run("--name", "a", "--role", "viewer", "--output", str(path), "--if-missing")
    assert secret.SHAPE.match(path.read_text())


@pytest.mark.parametrize("name", ["missing/token", "."])
def test_where_the_file_can_t_be_written_there_is_no_token(tmp_path: Path, name: str) -> None:
    with pytest.raises(CommandError, match=str(tmp_path)):
        run("--name", "a", "--permission", "metrics.read", "--output", str(tmp_path / name))
    assert not ApiToken.objects.exists()
    assert not Role.objects.filter(is_builtin=False).exists()


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["--name", "a"],
        ["--name", "a", "--role", "x", "--permission", "y"],
        ["--name", "a", "--role", "x"],
    ],
)
def test_on_the_command_line_an_error_is_one_line_and_a_non_zero_exit(
    arguments: list[str], tmp_path: Path
) -> None:
    result = subprocess.run(
        [sys.executable, "manage.py", "createtoken", *arguments],
        cwd=Path(__file__).resolve().parents[2],
        env={"PATH": os.environ["PATH"], "DOCKMESH_DATA_DIR": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode != 0
    assert result.stdout == ""
    assert len(result.stderr.strip().splitlines()) == 1
