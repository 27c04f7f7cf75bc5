"""HTTP to the server: one try a call, each failure told in one line."""

from __future__ import annotations

import json
import math
import threading
import time
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Any

import requests
from requests.auth import AuthBase

from dockmesh.agent import VERSION, trust
from dockmesh.agent.errors import ServerError, TlsError
from dockmesh.agent.text import clean

CONNECT_SECONDS = 10
READ_SECONDS = 30
# An answer carries Compose files; more than this is not a dockmesh server.
MAX_ANSWER_BYTES = 16 * 1024 * 1024


@dataclass(frozen=True)
class Answer:
    body: dict[str, Any]
    round_trip_seconds: float


class _Bearer(AuthBase):
    """An auth object of its own, so that requests never puts a password of ~/.netrc in its place."""

    def __init__(self, token: str) -> None:
        self._token = token

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        request.headers["Authorization"] = f"Bearer {self._token}"
        return request


class ServerClient:
    """Speaks to one server. May be used by several threads: each has its own connection."""

    def __init__(self, server: str, *, ca_file: Path | None = None) -> None:
        self._server = server
        self._has_ca_file = ca_file is not None
        # Where the machine has none of its own, those that come with requests.
        self._verify: bool | str = str(ca_file) if ca_file else trust.system_bundle() or True
        self._local = threading.local()

    def post(
        self, path: str, body: dict[str, Any], *, token: str, read_seconds: float = READ_SECONDS
    ) -> Answer:
        """POST `body` as JSON; raises ServerError for every outcome but 200 and 201.

        The time is that of the whole exchange, by the monotonic clock.
        """
        data = encoded(body)
        started = time.monotonic()
        content = self._exchange(
            "POST",
            f"/api/v1/agents/{path}",
            data=data,
            headers={"Content-Type": "application/json"},
            auth=_Bearer(token),
            timeout=(CONNECT_SECONDS, read_seconds),
        )
        return Answer(_object(content, self._server), time.monotonic() - started)

    def download(self, path: str, *, limit: int) -> bytes:
        """GET what is public at the server; raises ServerError, also where it is larger than `limit` bytes."""
        return self._exchange(
            "GET", path, limit=limit, auth=_no_auth, timeout=(CONNECT_SECONDS, READ_SECONDS)
        )

    def _exchange(self, method: str, path: str, *, limit: int = MAX_ANSWER_BYTES, **how: Any) -> bytes:
        try:
            with self._session().request(
                method,
                f"{self._server}{path}",
                allow_redirects=False,
                stream=True,
                # Given here too: else REQUESTS_CA_BUNDLE of the environment would win over --ca-file.
                verify=self._verify,
                **how,
            ) as response:
                content = _read(response, limit)
        except requests.exceptions.SSLError as error:
            raise TlsError(self._tls_text(error)) from None
        except requests.exceptions.Timeout:
            raise ServerError(f"{self._server} did not answer in time") from None
        except (requests.exceptions.RequestException, OSError) as error:
            raise ServerError(f"{self._server} can't be reached: {_cause(error)}") from None
        if response.status_code not in (200, 201):
            raise self._refusal(response, content)
        return content

    def _session(self) -> requests.Session:
        session: requests.Session | None = getattr(self._local, "session", None)
        if session is None:
            session = requests.Session()
            # The word in brackets tells the server that commands may have UUIDs: agents before it knew numbers only.
            session.headers["User-Agent"] = f"dockmesh-agent/{VERSION} (command-uuids)"
            self._local.session = session
        return session

    def _refusal(self, response: requests.Response, content: bytes) -> ServerError:
        status = response.status_code
        retry_after = parse_retry_after(response.headers.get("Retry-After"))
        if 300 <= status < 400:
            location = clean(response.headers.get("Location"), limit=200)
            return ServerError(
                f"{self._server} redirects to {location}: give that as --server", status=status
            )
        return ServerError(
            f"{self._server} answered {status}{_detail(content)}", status=status, retry_after=retry_after
        )

    def _tls_text(self, error: Exception) -> str:
        text = _cause(error)
        hint = "" if self._has_ca_file else "; give the authority's certificate with --ca-file"
        return f"TLS with {self._server} failed: {text}{hint}"


def encoded(body: dict[str, Any]) -> bytes:
    """The body in UTF-8, without escapes that aren't needed and without blanks: the form that the server reads
    quickest. A lone surrogate, which no reader takes, becomes a question mark."""
    text = json.dumps(body, separators=(",", ":"), allow_nan=False, ensure_ascii=False)
    return text.encode("utf-8", "replace")


def parse_retry_after(value: str | None) -> float | None:
    """Seconds that a Retry-After header asks for, as a number or a date; None if it says nothing usable."""
    if not value:
        return None
    try:
        seconds = float(value)
    except ValueError:
        try:
            seconds = parsedate_to_datetime(value).timestamp() - time.time()
        except (ValueError, TypeError, OverflowError):
            return None
    return max(seconds, 0.0) if math.isfinite(seconds) else None


def _no_auth(request: requests.PreparedRequest) -> requests.PreparedRequest:
    """Else requests would send a password of ~/.netrc."""
    return request


def _read(response: requests.Response, limit: int) -> bytes:
    content = bytearray()
    for chunk in response.iter_content(65536):
        content += chunk
        if len(content) > limit:
            raise ServerError("the server's answer is too large", status=response.status_code)
    return bytes(content)


def _object(content: bytes, server: str) -> dict[str, Any]:
    try:
        body = json.loads(content)
    except (ValueError, RecursionError):
        body = None
    if not isinstance(body, dict):
        raise ServerError(f"{server} did not answer with JSON: is this a dockmesh server?")
    return body


def _detail(content: bytes) -> str:
    """What a problem+json answer says, to be put after the status."""
    try:
        body = json.loads(content)
    except (ValueError, RecursionError):
        return ""
    if not isinstance(body, dict):
        return ""
    parts = [clean(body.get("detail") or body.get("title"), limit=300)]
    if body.get("errors"):
        parts.append(clean(json.dumps(body["errors"]), limit=300))
    text = " ".join(part for part in parts if part)
    return f": {text}" if text else ""


def _cause(error: BaseException) -> str:
    """The innermost reason: requests and urllib3 wrap it several times over."""
    seen: set[int] = set()
    current: BaseException = error
    while id(current) not in seen:
        seen.add(id(current))
        inner = getattr(current, "reason", None)
        if not isinstance(inner, BaseException):
            inner = next((arg for arg in current.args if isinstance(arg, BaseException)), None)
        if inner is None:
            inner = current.__cause__ or current.__context__
        if inner is None:
            break
        current = inner
    if isinstance(current, OSError) and current.strerror:
        return clean(current.strerror, limit=200)
    return clean(str(current) or type(current).__name__, limit=200)
