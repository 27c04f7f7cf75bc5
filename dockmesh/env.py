"""The environment: every `DOCKMESH_…` variable, read once, typed and checked.

A bad value raises `EnvironmentVariableError`, whose text is one line that names the variable, the value
and what is expected. Secrets never appear in that line.

`NAME=` counts as not set, as it does in Compose files; but an empty secret, or an empty switch of the metrics'
guard, is refused: what was meant to protect must not fall back to something else in silence.
"""

import contextlib
import ipaddress
import os
import re
import secrets
import stat
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import parse_qsl, unquote, urlsplit

import idna

# A name as a Host header may have it, RFC 1123 and the underscore that Compose allows in a service's name.
_NAME = re.compile(r"[a-z0-9_-]{1,63}(?:\.[a-z0-9_-]{1,63})*")

# A part of the path below which the server is reached: what means the same with and without percent-encoding.
_SEGMENT = re.compile(r"[A-Za-z0-9_~-][A-Za-z0-9._~-]*")
# How the server's own paths begin. One that the proxy has taken the base path off must not look as if it still had it.
OWN_SEGMENTS = frozenset(
    {
        *(
            "admin",
            "agent",
            "alerts",
            "api",
            "audit",
            "backups",
            "containers",
            "deploys",
            "favicon.ico",
            "hosts",
        ),
        *("livez", "metrics", "password", "readyz", "settings", "setup", "sign-in", "sign-out", "stacks"),
        *("static", "theme"),
    }
)

Network = ipaddress.IPv4Network | ipaddress.IPv6Network
MOST_PORT = 65_535
LEAST_SECRET = 32  # characters

TRUE_WORDS = frozenset({"true", "1", "yes", "on"})
FALSE_WORDS = frozenset({"false", "0", "no", "off"})

KNOWN = frozenset(
    {
        "DOCKMESH_METRICS_AUTH",
        "DOCKMESH_DATA_DIR",
        "DOCKMESH_DATABASE_URL",
        "DOCKMESH_DATABASE_URL_FILE",
        "DOCKMESH_SECRET_KEY",
        "DOCKMESH_SECRET_KEY_FILE",
        "DOCKMESH_SECRET_KEY_FALLBACKS",
        "DOCKMESH_SECRET_KEY_FALLBACKS_FILE",
        "DOCKMESH_TOKEN_PEPPER",
        "DOCKMESH_TOKEN_PEPPER_FILE",
        "DOCKMESH_ALLOWED_HOSTS",
        "DOCKMESH_BASE_URL",
        "DOCKMESH_TRUSTED_PROXIES",
        "DOCKMESH_ADMIN_USER",
        "DOCKMESH_ADMIN_PASSWORD",
        "DOCKMESH_ADMIN_PASSWORD_FILE",
        "DOCKMESH_HEARTBEAT_INTERVAL",
        "DOCKMESH_HOST_OFFLINE_AFTER",
        "DOCKMESH_ALERT_LOCAL_RECEIVERS",
        "DOCKMESH_AUDIT_RETENTION_DAYS",
        "DOCKMESH_AUDIT_CHECKPOINT_SINK",
    }
)


class EnvironmentVariableError(Exception):
    """A variable has a value that dockmesh can't use; the text is one line for the operator."""

    def __init__(self, name: str, value: str | None, expected: str) -> None:
        shown = "" if value is None else f"={value[:100]!r}"
        super().__init__(f"{name}{shown}: expected {expected}")

    def exit_with_message(self) -> int:
        """Print the line to standard error; returns the exit code, 2."""
        print(f"dockmesh: {self}", file=sys.stderr)
        return 2


@dataclass(frozen=True)
class Database:
    """Where the data lives; `engine` is `sqlite` or `postgresql`."""

    engine: str
    name: str
    host: str = ""
    port: str = ""
    user: str = ""
    password: str = ""
    options: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True)
class Environment:
    """All settings of a dockmesh server. Durations are in seconds."""

    is_metrics_auth_on: bool
    data_dir: Path
    database: Database
    secret_key: str
    secret_key_fallbacks: tuple[str, ...]
    token_peppers: tuple[str, ...]
    allowed_hosts: tuple[str, ...]
    base_url: str
    trusted_proxies: tuple[Network, ...]
    admin_user: str
    admin_password: str
    heartbeat_interval_seconds: int
    host_offline_after_seconds: int
    are_local_receivers_allowed: bool
    audit_retention_days: int
    audit_checkpoint_sink: str


def parse_bool(name: str, value: str) -> bool:
    """`true/false/1/0/yes/no/on/off` in any case; anything else is an error."""
    word = value.strip().lower()
    if word in TRUE_WORDS:
        return True
    if word in FALSE_WORDS:
        return False
    raise EnvironmentVariableError(name, value, "true, false, 1, 0, yes, no, on or off")


def digits(text: str, *, least: int = 0, most: int) -> int | None:
    """The number from `least` to `most` that a text of ASCII digits is; None for any other text."""
    # A text of thousands of digits is never made a number.
    number = int(text) if text.isascii() and text.isdigit() and len(text) <= 20 else -1
    return number if least <= number <= most else None


def parse_seconds(name: str, value: str, *, least: int, most: int) -> int:
    """A whole number of seconds between `least` and `most`."""
    return _number(name, value, "seconds", least, most)


def parse_days(name: str, value: str, *, most: int) -> int:
    """A whole number of days from 0 to `most`."""
    return _number(name, value, "days", 0, most)


def _number(name: str, value: str, unit: str, least: int, most: int) -> int:
    number = digits(value.strip(), least=least, most=most)
    if number is None:
        raise EnvironmentVariableError(name, value, f"a whole number of {unit} from {least} to {most}")
    return number


def parse_sink(name: str, value: str) -> str:
    """A file's absolute path, or an address like https://example.com/hook; empty for none."""
    if not value or value.startswith("/"):
        return value
    if not _is_http(value):
        # The value may hold a password, so it isn't shown.
        raise EnvironmentVariableError(name, None, "an absolute path of a file, or an http(s) address")
    return value


def parse_networks(name: str, value: str) -> tuple[Network, ...]:
    """CIDRs or single addresses, separated by commas."""
    networks = []
    for part in _split(value):
        try:
            networks.append(ipaddress.ip_network(part))
        except ValueError:
            raise EnvironmentVariableError(
                name, part, "CIDRs separated by commas, like 10.0.0.0/8,192.0.2.1"
            ) from None
    return tuple(networks)


def parse_hosts(name: str, value: str) -> tuple[str, ...]:
    """Names that the server answers to, separated by commas, as a Host header has them; `.example.com` for all below it.

    A port, the last dot and upper case don't matter; `münchen.example` becomes its `xn--` form, and an IPv6 address
    gets its brackets. What no Host header can be is an error.
    """
    return tuple(dict.fromkeys(_host(name, part) for part in _split(value)))


def _host(variable: str, part: str) -> str:
    expected = "host names separated by commas, like dockmesh.example.com,.example.org"
    if part == "*":
        return part
    with contextlib.suppress(ValueError):
        return f"[{ipaddress.IPv6Address(part.removeprefix('[').removesuffix(']'))}]"
    bare, colon, port = part.rpartition(":")
    if not colon:
        bare = part
    elif digits(port, most=MOST_PORT) is None:
        raise EnvironmentVariableError(variable, part, expected)
    if bare.startswith("["):
        with contextlib.suppress(ValueError):
            return f"[{ipaddress.IPv6Address(bare[1:].removesuffix(']'))}]"
    found = _ascii_name(bare.removeprefix("."))
    if not found:
        raise EnvironmentVariableError(variable, part, expected)
    return f".{found}" if bare.startswith(".") else found


def _ascii_name(name: str) -> str:
    """The name as a browser sends it, without its last dot; empty where it is none."""
    name = name.lower().removesuffix(".")
    if not name.isascii():
        try:
            name = idna.encode(name, uts46=True).decode("ascii")
        except idna.IDNAError:
            return ""
    return name if len(name) <= 253 and _NAME.fullmatch(name) else ""


def parse_base_url(name: str, value: str) -> str:
    """`https://example.com` or `https://example.com/dockmesh`, without a slash at its end; empty means: derive it from
    the request."""
    if not value:
        return ""
    expected = "an address like https://dockmesh.example.com or https://example.com/dockmesh"
    if not _is_http(value):
        raise EnvironmentVariableError(name, _masked(value), expected)
    parts = urlsplit(value)
    segments = parts.path.strip("/").split("/") if parts.path.strip("/") else []
    if "?" in value or "#" in value or "@" in parts.netloc or not all(map(_SEGMENT.fullmatch, segments)):
        raise EnvironmentVariableError(name, _masked(value), expected)
    if segments and segments[0] in OWN_SEGMENTS:
        raise EnvironmentVariableError(
            name, value, f"a path that begins with something else: /{segments[0]} is one of dockmesh's own"
        )
    host = _as_host(parts.hostname or "")
    if not host:
        raise EnvironmentVariableError(name, value, expected)
    port = "" if parts.port is None else f":{parts.port}"
    return "/".join([f"{parts.scheme}://{host}{port}", *segments])


def parse_database_url(name: str, value: str, data_dir: Path) -> Database:
    """`postgres://user:password@host:port/name?sslmode=require`; empty means SQLite in the data folder."""
    if not value:
        return Database("sqlite", str(data_dir / "dockmesh.sqlite3"))
    expected = "postgres://user:password@host:5432/name"
    try:
        parts = urlsplit(value)
        port = parts.port
    except ValueError:
        raise EnvironmentVariableError(name, _masked(value), expected) from None
    database = unquote(parts.path.lstrip("/"))
    # A slash that is not %2F is most likely one of an unquoted password.
    if parts.scheme not in ("postgres", "postgresql") or not database or "/" in parts.path.strip("/"):
        raise EnvironmentVariableError(name, _masked(value), expected)
    options = dict(parse_qsl(parts.query))
    return Database(
        "postgresql",
        database,
        host=options.pop("host", "") or unquote(parts.hostname or ""),
        port=options.pop("port", "") or str(port or ""),
        user=unquote(parts.username or ""),
        password=unquote(parts.password or ""),
        options=tuple(sorted(options.items())),
    )


def read(environ: Mapping[str, str] = os.environ) -> Environment:
    """Read and check every variable; makes the data folder and its secrets where they are missing.

    Raises `EnvironmentVariableError` on the first bad value.
    """
    _refuse_misspelt(environ)
    _refuse_quotes(environ)
    metrics_auth = parse_bool("DOCKMESH_METRICS_AUTH", environ.get("DOCKMESH_METRICS_AUTH", "true"))
    interval = parse_seconds(
        "DOCKMESH_HEARTBEAT_INTERVAL", _text(environ, "DOCKMESH_HEARTBEAT_INTERVAL", "15"), least=1, most=3600
    )
    offline_after = parse_seconds(
        "DOCKMESH_HOST_OFFLINE_AFTER",
        _text(environ, "DOCKMESH_HOST_OFFLINE_AFTER", "60"),
        least=1,
        most=86400,
    )
    if offline_after <= interval:
        raise EnvironmentVariableError(
            "DOCKMESH_HOST_OFFLINE_AFTER",
            str(offline_after),
            f"more than DOCKMESH_HEARTBEAT_INTERVAL, which is {interval}",
        )
    proxies = parse_networks("DOCKMESH_TRUSTED_PROXIES", _text(environ, "DOCKMESH_TRUSTED_PROXIES"))
    base_url = parse_base_url("DOCKMESH_BASE_URL", _text(environ, "DOCKMESH_BASE_URL"))
    hosts = parse_hosts("DOCKMESH_ALLOWED_HOSTS", _text(environ, "DOCKMESH_ALLOWED_HOSTS"))
    data_dir = Path(_text(environ, "DOCKMESH_DATA_DIR", "data")).absolute()
    database = _database(environ, data_dir)
    admin_user, admin_password = _administrator(environ)
    make_data_dir(data_dir)
    return Environment(
        is_metrics_auth_on=metrics_auth,
        data_dir=data_dir,
        database=database,
        secret_key=_secret(environ, "DOCKMESH_SECRET_KEY", data_dir / "secret_key"),
        secret_key_fallbacks=_fallbacks(environ, data_dir / "secret_key_fallbacks"),
        token_peppers=tuple(
            _secret(environ, "DOCKMESH_TOKEN_PEPPER", data_dir / "token_pepper", is_list=True).split(",")
        ),
        allowed_hosts=_allowed_hosts(hosts, base_url),
        base_url=base_url,
        trusted_proxies=proxies,
        admin_user=admin_user,
        admin_password=admin_password,
        heartbeat_interval_seconds=interval,
        host_offline_after_seconds=offline_after,
        are_local_receivers_allowed=parse_bool(
            "DOCKMESH_ALERT_LOCAL_RECEIVERS", _text(environ, "DOCKMESH_ALERT_LOCAL_RECEIVERS", "false")
        ),
        audit_retention_days=parse_days(
            "DOCKMESH_AUDIT_RETENTION_DAYS",
            _text(environ, "DOCKMESH_AUDIT_RETENTION_DAYS", "365"),
            most=36500,
        ),
        audit_checkpoint_sink=parse_sink(
            "DOCKMESH_AUDIT_CHECKPOINT_SINK", _text(environ, "DOCKMESH_AUDIT_CHECKPOINT_SINK")
        ),
    )


def _refuse_quotes(environ: Mapping[str, str]) -> None:
    """A value within quotes is one that `docker run --env-file` handed on as it stood."""
    for name in sorted(KNOWN & environ.keys()):
        value = environ[name].strip()
        if len(value) > 1 and value[0] == value[-1] and value[0] in "\"'":
            # Which of them are secrets doesn't matter here: none is shown.
            raise EnvironmentVariableError(
                name,
                None,
                f"a value without quotes: the {value[0]} around it are part of it,"
                " as docker's --env-file leaves them",
            )


def unknown_names(environ: Mapping[str, str] = os.environ) -> list[str]:
    """Names that start like ours but mean nothing to the server: most likely typing errors."""
    return sorted(
        name
        for name in environ
        if name.startswith("DOCKMESH_")
        and name not in KNOWN
        and not name.startswith(("DOCKMESH_TEST_", "DOCKMESH_AGENT_"))
    )


def make_data_dir(path: Path) -> None:
    """Make the data folder with mode 0700; an error names the variable.

    A folder of somebody else's, such as a mounted volume, keeps its mode if it can be written all the same.
    """
    try:
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
        if stat.S_IMODE(path.stat().st_mode) != 0o700:
            with contextlib.suppress(PermissionError):
                path.chmod(0o700)
        with tempfile.TemporaryFile(dir=path):
            pass
    except OSError as error:
        raise EnvironmentVariableError(
            "DOCKMESH_DATA_DIR", str(path), f"a folder that can be written ({error.strerror})"
        ) from None


def _refuse_misspelt(environ: Mapping[str, str]) -> None:
    """`DOCKMESH_DATABASE_URL_PATH` would else begin an empty SQLite in silence."""
    for name in unknown_names(environ):
        meant = max((known for known in KNOWN if name.startswith(f"{known}_")), key=len, default="")
        if meant:
            raise EnvironmentVariableError(name, None, f"{meant}: dockmesh has no variable of this name")


def _database(environ: Mapping[str, str], data_dir: Path) -> Database:
    name = "DOCKMESH_DATABASE_URL"
    value = _value_or_file(environ, name).strip()
    source = name if environ.get(name) else f"{name}_FILE"
    return parse_database_url(source if value else name, value, data_dir)


def _text(environ: Mapping[str, str], name: str, default: str = "") -> str:
    """The variable's value without the blanks around it; the default where it is not set or empty."""
    return environ.get(name, "").strip() or default


def _is_http(value: str) -> bool:
    """Whether it is an http(s) address with a host, and with a port that can be one."""
    try:
        parts = urlsplit(value)
        return parts.scheme in ("http", "https") and bool(parts.hostname) and (parts.port or 1) > 0
    except ValueError:
        return False


def _masked(value: str) -> str:
    """An address without its user and passwords, as it may be shown."""
    before, at, rest = value.rpartition("@")
    scheme, mark, _ = before.partition("://")
    shown = f"{scheme}{mark}***@{rest}" if mark else f"***{at}{rest}" if at else rest
    return re.sub(r"(?i)(pass\w*)=[^&\s]*", r"\1=***", shown)


def _split(value: str) -> tuple[str, ...]:
    return tuple(part.strip() for part in value.split(",") if part.strip())


def _allowed_hosts(hosts: tuple[str, ...], base_url: str) -> tuple[str, ...]:
    base_host = _as_host(urlsplit(base_url).hostname or "") if base_url else ""
    return tuple(dict.fromkeys([*(hosts or ("localhost",)), *([base_host] if base_host else [])]))


def _as_host(hostname: str) -> str:
    """The host of an address as a Host header has it; empty where it can't be one."""
    return f"[{hostname}]" if ":" in hostname else _ascii_name(hostname)


def _administrator(environ: Mapping[str, str]) -> tuple[str, str]:
    user = _text(environ, "DOCKMESH_ADMIN_USER")
    password = _value_or_file(environ, "DOCKMESH_ADMIN_PASSWORD")
    if bool(user) != bool(password):
        missing = "DOCKMESH_ADMIN_PASSWORD" if user else "DOCKMESH_ADMIN_USER"
        raise EnvironmentVariableError(
            missing, environ.get(missing), "a value: the administrator needs both name and password"
        )
    return user, password


def _value_or_file(environ: Mapping[str, str], name: str) -> str:
    value, file_name = environ.get(name, ""), environ.get(f"{name}_FILE", "").strip()
    if value and file_name:
        raise EnvironmentVariableError(f"{name}_FILE", file_name, f"to be alone: {name} is set too")
    if not file_name:
        return value
    try:
        content = Path(file_name).read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError):
        raise EnvironmentVariableError(f"{name}_FILE", file_name, "a readable text file") from None
    if not content:
        raise EnvironmentVariableError(f"{name}_FILE", file_name, "a file that isn't empty")
    return content


def _secret(environ: Mapping[str, str], name: str, path: Path, *, is_list: bool = False) -> str:
    """From the variable or its file; where neither is set it is made once, in `path`. Long enough to be one."""
    for variable, expected in (
        (name, f"at least {LEAST_SECRET} characters"),
        (f"{name}_FILE", "a readable text file"),
    ):
        if variable in environ and not environ[variable].strip():
            raise EnvironmentVariableError(
                variable, environ[variable], f"{expected}; where the variable is absent a secret is made"
            )
    value = _value_or_file(environ, name)
    try:
        value = value or _read_or_make_secret(path)
    except OSError as error:
        raise EnvironmentVariableError(
            "DOCKMESH_DATA_DIR", str(path.parent), f"a folder that can be written ({error.strerror})"
        ) from None
    if any(len(part.strip()) < LEAST_SECRET for part in (value.split(",") if is_list else [value])):
        source = next((given for given in (name, f"{name}_FILE") if environ.get(given)), str(path))
        raise EnvironmentVariableError(source, None, f"at least {LEAST_SECRET} characters")
    return value


def _fallbacks(environ: Mapping[str, str], path: Path) -> tuple[str, ...]:
    """Former secret keys, with blanks or line ends between them: from the variable, its file or `path`, if it is there."""
    name = "DOCKMESH_SECRET_KEY_FALLBACKS"
    value = _value_or_file(environ, name).strip()
    keys = tuple((value or (_read_secret(path) if path.exists() else "")).split())
    if any(len(key) < LEAST_SECRET for key in keys):
        source = next((given for given in (name, f"{name}_FILE") if environ.get(given)), str(path))
        raise EnvironmentVariableError(source, None, f"keys of at least {LEAST_SECRET} characters")
    return keys


def _read_or_make_secret(path: Path) -> str:
    """The secret in `path`; made once: of two processes that start together, the first one's stays."""
    if not path.exists():
        handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=".secret-")
        try:
            with os.fdopen(handle, "w", encoding="ascii") as file:
                file.write(secrets.token_urlsafe(48))
                file.flush()
                os.fsync(file.fileno())
            os.link(temporary, path)
        except FileExistsError:
            pass
        finally:
            os.unlink(temporary)
    return _read_secret(path)


def _read_secret(path: Path) -> str:
    mode = stat.S_IMODE(path.stat().st_mode)
    if mode & 0o077:
        raise EnvironmentVariableError(
            str(path),
            None,
            f"to be readable by its owner alone, but its mode is {mode:04o}: whoever could read it knows the secret."
            f" If nobody did, chmod 600 {path}",
        )
    return path.read_text(encoding="ascii").strip()
