"""The environment: what counts as set, and what refuses to start."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from dockmesh import env

ROOT = Path(__file__).parent.parent
LONG = "0123456789abcdef" * 3


def read(data_dir: Path, **variables: str) -> env.Environment:
    return env.read({"DOCKMESH_DATA_DIR": str(data_dir / "data"), **variables})


def refusal(data_dir: Path, **variables: str) -> str:
    with pytest.raises(env.EnvironmentVariableError) as caught:
        read(data_dir, **variables)
    line = str(caught.value)
    assert "\n" not in line
    return line


OPTIONAL = sorted(
    env.KNOWN
    - {"DOCKMESH_METRICS_AUTH", "DOCKMESH_DATA_DIR"}
    - {f"DOCKMESH_{name}{end}" for name in ("SECRET_KEY", "TOKEN_PEPPER") for end in ("", "_FILE")}
)


# Of blanks alone a password may be.
EMPTY = [(name, "") for name in OPTIONAL] + [(n, "  ") for n in OPTIONAL if n != "DOCKMESH_ADMIN_PASSWORD"]


@pytest.mark.parametrize(("name", "empty"), EMPTY)
def test_an_empty_variable_counts_as_not_set(name: str, empty: str, tmp_path: Path) -> None:
    assert read(tmp_path, **{name: empty}) == read(tmp_path)


def test_an_empty_data_folder_is_the_default_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert env.read({"DOCKMESH_DATA_DIR": ""}).data_dir == tmp_path / "data"


@pytest.mark.parametrize("empty", ["", "  "])
@pytest.mark.parametrize(
    "name",
    [
        "DOCKMESH_METRICS_AUTH",
        "DOCKMESH_SECRET_KEY",
        "DOCKMESH_SECRET_KEY_FILE",
        "DOCKMESH_TOKEN_PEPPER",
        "DOCKMESH_TOKEN_PEPPER_FILE",
    ],
)
def test_an_empty_secret_or_guard_refuses_to_start(name: str, empty: str, tmp_path: Path) -> None:
    assert refusal(tmp_path, **{name: empty}).startswith(f"{name}={empty!r}: expected ")


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("DOCKMESH_METRICS_AUTH", "maybe"),
        ("DOCKMESH_HEARTBEAT_INTERVAL", "0"),
        ("DOCKMESH_HEARTBEAT_INTERVAL", "-5"),
        ("DOCKMESH_HEARTBEAT_INTERVAL", "1e1"),
        ("DOCKMESH_HOST_OFFLINE_AFTER", "soon"),
        ("DOCKMESH_HOST_OFFLINE_AFTER", "15"),
        ("DOCKMESH_AUDIT_RETENTION_DAYS", "-1"),
        ("DOCKMESH_TRUSTED_PROXIES", "10.0.0.1/8"),
        ("DOCKMESH_ALLOWED_HOSTS", "https://example.com"),
        ("DOCKMESH_ALLOWED_HOSTS", "example.com/dockmesh"),
        ("DOCKMESH_ALLOWED_HOSTS", "*.example.com"),
        ("DOCKMESH_ALLOWED_HOSTS", "example..com"),
        ("DOCKMESH_ALLOWED_HOSTS", "example.com:http"),
        ("DOCKMESH_ALLOWED_HOSTS", "a b"),
        ("DOCKMESH_BASE_URL", "https://exa mple.com"),
        ("DOCKMESH_BASE_URL", "example.com"),
        ("DOCKMESH_BASE_URL", "https://["),
        ("DOCKMESH_BASE_URL", "https://example.com:99999"),
        ("DOCKMESH_BASE_URL", "https://example.com/a/../b"),
        ("DOCKMESH_BASE_URL", "https://example.com/."),
        ("DOCKMESH_BASE_URL", "https://example.com/a//b"),
        ("DOCKMESH_BASE_URL", "https://example.com/a%2fb"),
        ("DOCKMESH_BASE_URL", "https://example.com/münchen"),
        ("DOCKMESH_BASE_URL", "https://example.com/a b"),
        ("DOCKMESH_BASE_URL", "https://example.com/a\\b"),
        ("DOCKMESH_BASE_URL", "https://example.com/a;b"),
        ("DOCKMESH_BASE_URL", "https://example.com/dockmesh?"),
        ("DOCKMESH_BASE_URL", "https://example.com/dockmesh?a=b"),
        ("DOCKMESH_BASE_URL", "https://example.com/dockmesh#a"),
        ("DOCKMESH_BASE_URL", "https://example.com/settings"),
        ("DOCKMESH_BASE_URL", "https://example.com/api/dockmesh"),
        ("DOCKMESH_DATABASE_URL", "mysql://db/dockmesh"),
        ("DOCKMESH_DATABASE_URL", "postgres://db"),
        ("DOCKMESH_SECRET_KEY_FILE", "/nonexistent"),
        ("DOCKMESH_ADMIN_PASSWORD_FILE", "/nonexistent"),
    ],
)
def test_a_bad_value_is_named_with_what_was_expected(name: str, value: str, tmp_path: Path) -> None:
    assert refusal(tmp_path, **{name: value}).startswith(f"{name}={value!r}: expected ")


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("DOCKMESH_SECRET_KEY", "hunter2"),
        ("DOCKMESH_SECRET_KEY", "hunter2" + " " * 40),
        ("DOCKMESH_TOKEN_PEPPER", f"{LONG},hunter2"),
        ("DOCKMESH_TOKEN_PEPPER", f"hunter2,{LONG}"),
        ("DOCKMESH_DATABASE_URL", "mysql://me:hunter2@db/dockmesh"),
        ("DOCKMESH_DATABASE_URL", "postgres://me:a@b/hunter2@db:port/dockmesh"),
        ("DOCKMESH_DATABASE_URL", "host=db password=hunter2"),
        ("DOCKMESH_DATABASE_URL", "mysql://db/dockmesh?password=hunter2"),
        ("DOCKMESH_BASE_URL", "https://me:hunter2@example.com"),
        ("DOCKMESH_AUDIT_CHECKPOINT_SINK", "https://[hunter2"),
        ("DOCKMESH_ADMIN_PASSWORD", "hunter2"),
    ],
)
def test_a_refusal_never_shows_a_secret(name: str, value: str, tmp_path: Path) -> None:
    line = refusal(tmp_path, **{name: value})
    assert line.startswith("DOCKMESH_")
    assert "hunter2" not in line


@pytest.mark.parametrize("name", sorted(env.KNOWN))
@pytest.mark.parametrize("quote", ['"', "'"])
def test_quotes_that_an_env_file_left_in_are_named(name: str, quote: str, tmp_path: Path) -> None:
    line = refusal(tmp_path, **{name: f"{quote}correct-horse{quote}"})
    assert line == (
        f"{name}: expected a value without quotes: the {quote} around it are part of it,"
        " as docker's --env-file leaves them"
    )


@pytest.mark.parametrize(
    ("value", "allowed"),
    [
        ("", ("localhost",)),
        ("dockmesh.example.com:8080", ("dockmesh.example.com",)),
        ("Dockmesh.Example.com.", ("dockmesh.example.com",)),
        ("dock_mesh, dock_mesh:8080", ("dock_mesh",)),
        ("::1,[fd00::5],[fd00::5]:8080,10.0.0.5:8080", ("[::1]", "[fd00::5]", "10.0.0.5")),
        ("münchen.example,.straße.example", ("xn--mnchen-3ya.example", ".xn--strae-oqa.example")),
        ("*", ("*",)),
    ],
)
def test_names_are_kept_as_a_host_header_has_them(
    value: str, allowed: tuple[str, ...], tmp_path: Path
) -> None:
    assert read(tmp_path, DOCKMESH_ALLOWED_HOSTS=value).allowed_hosts == allowed


@pytest.mark.parametrize(
    ("value", "base_url", "host"),
    [
        ("https://München.example:8443/", "https://xn--mnchen-3ya.example:8443", "xn--mnchen-3ya.example"),
        ("http://[fd00::5]:8080", "http://[fd00::5]:8080", "[fd00::5]"),
        ("http://dock_mesh", "http://dock_mesh", "dock_mesh"),
        ("https://example.com/", "https://example.com", "example.com"),
        ("https://example.com/dockmesh", "https://example.com/dockmesh", "example.com"),
        (
            "https://example.com:8443/tools/dock-mesh.v1/",
            "https://example.com:8443/tools/dock-mesh.v1",
            "example.com",
        ),
    ],
)
def test_the_name_of_the_base_url_is_allowed(value: str, base_url: str, host: str, tmp_path: Path) -> None:
    found = read(tmp_path, DOCKMESH_BASE_URL=value)
    assert (found.base_url, found.allowed_hosts[-1]) == (base_url, host)


def test_a_short_secret_names_the_variable_that_it_came_from(tmp_path: Path) -> None:
    short = tmp_path / "short"
    short.write_text("hunter2\n")
    line = refusal(tmp_path, DOCKMESH_SECRET_KEY_FILE=str(short))
    assert line == "DOCKMESH_SECRET_KEY_FILE: expected at least 32 characters"


def test_secrets_come_from_the_variable_its_file_or_are_made_once(tmp_path: Path) -> None:
    made = read(tmp_path)
    assert len(made.secret_key) >= 32
    assert read(tmp_path) == made
    assert read(tmp_path, DOCKMESH_SECRET_KEY=f"{LONG},x").secret_key == f"{LONG},x"
    file = tmp_path / "peppers"
    file.write_text(f"{LONG},{LONG}1\n")
    assert read(tmp_path, DOCKMESH_TOKEN_PEPPER_FILE=str(file)).token_peppers == (LONG, f"{LONG}1")
    assert "is set too" in refusal(tmp_path, DOCKMESH_TOKEN_PEPPER=LONG, DOCKMESH_TOKEN_PEPPER_FILE=str(file))


def test_the_program_ends_with_that_line_alone(tmp_path: Path) -> None:
    variables = {name: value for name, value in os.environ.items() if not name.startswith("DOCKMESH_")}
    variables |= {"DOCKMESH_DATA_DIR": str(tmp_path), "DOCKMESH_SECRET_KEY": ""}
    for command in ("serve", "createtoken"):
        done = subprocess.run(
            [sys.executable, "manage.py", command],
            cwd=ROOT,
            env=variables,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert done.returncode == 2
        assert done.stdout == ""
        assert done.stderr.startswith("dockmesh: DOCKMESH_SECRET_KEY='': expected at least 32 characters")
        assert done.stderr.count("\n") == 1


def test_the_databases_address_may_come_from_a_file(tmp_path: Path) -> None:
    file = tmp_path / "url"
    file.write_text("postgres://me:hunter2@db/dockmesh\n")
    database = read(tmp_path, DOCKMESH_DATABASE_URL_FILE=str(file)).database
    assert (database.engine, database.host, database.password) == ("postgresql", "db", "hunter2")
    assert "is set too" in refusal(
        tmp_path, DOCKMESH_DATABASE_URL_FILE=str(file), DOCKMESH_DATABASE_URL="postgres://db/a"
    )
    assert "readable" in refusal(tmp_path, DOCKMESH_DATABASE_URL_FILE="/nonexistent")
    file.write_text("mysql://me:hunter2@db/dockmesh\n")
    line = refusal(tmp_path, DOCKMESH_DATABASE_URL_FILE=str(file))
    assert line.startswith("DOCKMESH_DATABASE_URL_FILE='mysql://***@db")
    assert "hunter2" not in line


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("DOCKMESH_DATABASE_URL_PATH", "DOCKMESH_DATABASE_URL"),
        ("DOCKMESH_DATA_DIR_FILE", "DOCKMESH_DATA_DIR"),
        ("DOCKMESH_METRICS_AUTH_ENABLED", "DOCKMESH_METRICS_AUTH"),
        ("DOCKMESH_SECRET_KEY_FILE_PATH", "DOCKMESH_SECRET_KEY_FILE"),
    ],
)
def test_a_known_name_with_a_suffix_refuses_to_start(name: str, meant: str, tmp_path: Path) -> None:
    line = refusal(tmp_path, **{name: "hunter2"})
    assert line == f"{name}: expected {meant}: dockmesh has no variable of this name"
    assert read(tmp_path, DOCKMESH_PORT="tcp://10.0.0.1:8080")


def test_a_folder_that_can_be_written_but_not_made_private_is_fine(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "data").mkdir(mode=0o777)

    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(Path, "chmod", refuse)
    assert read(tmp_path).data_dir == tmp_path / "data"


@pytest.mark.parametrize("name", ["secret_key", "token_pepper"])
@pytest.mark.parametrize("mode", [0o640, 0o604])
def test_our_own_secrets_that_others_can_read_are_refused(tmp_path: Path, name: str, mode: int) -> None:
    read(tmp_path)
    (tmp_path / "data" / name).chmod(mode)
    with pytest.raises(env.EnvironmentVariableError, match=f"chmod 600 .*{name}"):
        read(tmp_path)
    (tmp_path / "data" / name).chmod(0o600)
    read(tmp_path)


def test_a_secret_of_the_operators_own_may_have_any_mode(tmp_path: Path) -> None:
    mounted = tmp_path / "mounted"
    mounted.write_text("x" * 40)
    mounted.chmod(0o444)
    assert read(tmp_path, DOCKMESH_SECRET_KEY_FILE=str(mounted)).secret_key == "x" * 40


def test_former_secret_keys_come_from_the_variable_its_file_or_the_data_folder(tmp_path: Path) -> None:
    assert read(tmp_path).secret_key_fallbacks == ()
    first, second = "a" * 40, "b,c" * 20
    keys = f"{first} {second}\n"
    assert read(tmp_path, DOCKMESH_SECRET_KEY_FALLBACKS=keys).secret_key_fallbacks == (first, second)
    mounted = tmp_path / "mounted"
    mounted.write_text(keys.replace(" ", "\n"))
    assert read(tmp_path, DOCKMESH_SECRET_KEY_FALLBACKS_FILE=str(mounted)).secret_key_fallbacks == (
        first,
        second,
    )
    former = read(tmp_path).secret_key
    own = tmp_path / "data" / "secret_key_fallbacks"
    (tmp_path / "data" / "secret_key").rename(own)
    found = read(tmp_path)
    assert found.secret_key_fallbacks == (former,)
    assert found.secret_key != former
    own.chmod(0o640)
    with pytest.raises(env.EnvironmentVariableError, match=r"chmod 600 .*secret_key_fallbacks"):
        read(tmp_path)


def test_a_former_secret_key_is_as_long_as_one_has_to_be(tmp_path: Path) -> None:
    line = refusal(tmp_path, DOCKMESH_SECRET_KEY_FALLBACKS=f"{'a' * 40} hunter2")
    assert line == "DOCKMESH_SECRET_KEY_FALLBACKS: expected keys of at least 32 characters"
