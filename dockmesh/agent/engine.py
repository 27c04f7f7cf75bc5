"""The way to the Docker Engine: where it is, which of its API's versions to speak, and why it can't be reached."""

from __future__ import annotations

import os
import platform
import re
from collections.abc import Mapping
from typing import Any

import docker
import docker.errors
import requests

from dockmesh.agent.document import System
from dockmesh.agent.text import ERROR_BYTES, clean

# How long an Engine may take for an answer before it counts as not answering.
ANSWER_SECONDS = 10.0
# The same for what can be done without.
PATIENCE_SECONDS = 3.0
# Tried in this order where the Engine tells its own by none of the usual ways: the floor of today's Engines, and what
# those of 2020 speak.
_FALLBACK_VERSIONS = ("1.44", "1.41")
_OK, _NOT_MODIFIED, _BAD_REQUEST = 200, 304, 400


class EngineError(Exception):
    """The Engine, or a proxy before it, answers, but not with what was asked for."""

    def __init__(self, path: str, status: int, reason: str, *, method: str = "GET") -> None:
        super().__init__(
            f"{method} {path}: {status} {reason}" if status != _OK else f"{method} {path}: {reason}"
        )
        self.path = path
        self.status = status
        self.reason = reason


# What ends the reading of the Engine; the SDK lets requests' and the socket's own errors through.
FAILURES = (
    EngineError,
    docker.errors.DockerException,
    requests.exceptions.RequestException,
    OSError,
    ValueError,
    KeyError,
)


def connect(docker_host: str, *, timeout: float = ANSWER_SECONDS) -> docker.DockerClient:
    """A client of the Engine; raises one of FAILURES where it can't be reached."""
    with Engine.open(docker_host, timeout=timeout) as engine:
        tls = _tls(docker_host)
        client = docker.DockerClient(
            base_url=docker_host, version=engine.api_version, timeout=timeout, tls=tls
        )
    client.api.trust_env = tls is None
    return client


class Engine:
    """A connection to the Engine for one thread."""

    def __init__(self, docker_host: str, api_version: str, *, timeout: float = ANSWER_SECONDS) -> None:
        self.docker_host = docker_host
        self.api_version = api_version
        # What the Engine calls itself; empty where it may not be asked.
        self.version = ""
        # Why it may not be asked.
        self.version_refused: EngineError | None = None
        self._timeout = timeout
        tls = _tls(docker_host)
        self._client = docker.APIClient(
            base_url=docker_host, version=_FALLBACK_VERSIONS[0], timeout=timeout, tls=tls
        )
        # Else REQUESTS_CA_BUNDLE in the environment takes the place of Docker's own certificates.
        self._client.trust_env = tls is None

    @classmethod
    def open(cls, docker_host: str, *, timeout: float = ANSWER_SECONDS) -> Engine:
        """Connect, and find the version of the API to speak; raises one of FAILURES where it can't be reached."""
        engine = cls(docker_host, "", timeout=timeout)
        try:
            engine._negotiate()
        except BaseException:
            engine.close()
            raise
        return engine

    def another(self) -> Engine:
        """One more connection to the same Engine, for another thread."""
        return Engine(self.docker_host, self.api_version, timeout=self._timeout)

    def close(self) -> None:
        self._client.close()

    def __enter__(self) -> Engine:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def get(self, path: str, *, timeout: float | None = None, **parameters: str) -> Any:
        """The JSON that the Engine answers; raises EngineError for any other answer, else one of FAILURES."""
        response = self.open_stream(path, timeout=timeout or self._timeout, is_stream=False, **parameters)
        try:
            return response.json()
        except ValueError:
            raise EngineError(path, response.status_code, "the answer is not JSON") from None

    def post(self, path: str, *, timeout: float) -> int:
        """Have the Engine do something, once; the status of its answer, 304 included. Raises as `get`."""
        response = self._client.post(self._url(path), timeout=timeout)
        if response.status_code >= 300 and response.status_code != _NOT_MODIFIED:
            raise EngineError(path, response.status_code, _reason(response), method="POST")
        return int(response.status_code)

    def open_stream(
        self, path: str, *, timeout: float | tuple[float, float], is_stream: bool = True, **parameters: str
    ) -> requests.Response:
        """The answer, with its body still to be read if `is_stream`; raises as `get`."""
        url = self._url(path)
        response: requests.Response
        try:
            response = self._client.get(url, params=parameters, timeout=timeout, stream=is_stream)
        except requests.exceptions.Timeout:
            raise
        except requests.exceptions.ConnectionError:
            # A connection that was kept, and that a proxy closed at this very moment, says nothing of the Engine.
            response = self._client.get(url, params=parameters, timeout=timeout, stream=is_stream)
        if response.status_code != _OK:
            error = EngineError(path, response.status_code, _reason(response))
            response.close()
            raise error
        return response

    def _url(self, path: str) -> str:
        prefix = f"/v{self.api_version}" if self.api_version else ""
        return f"{self._client.base_url}{prefix}{path}"

    def _negotiate(self) -> None:
        try:
            said = self.get("/version", timeout=min(self._timeout, PATIENCE_SECONDS))
            version = said.get("ApiVersion") if isinstance(said, Mapping) else None
            if isinstance(version, str) and _is_version(version):
                self.api_version, self.version = version, clean(said.get("Version"), limit=64)
                return
            self.version_refused = EngineError("/version", _OK, "it names no ApiVersion")
        except EngineError as error:
            self.version_refused = error
        except requests.exceptions.ReadTimeout:
            self.version_refused = EngineError("/version", _OK, "no answer")
        self.api_version = self._version_by_ping() or self._version_by_trial()

    def _version_by_ping(self) -> str:
        try:
            headers = self.open_stream("/_ping", timeout=self._timeout, is_stream=False).headers
        except EngineError:
            return ""
        server = re.match(r"(?:Docker|Libpod)/([\w.+~-]+)", headers.get("Server", ""))
        self.version = clean(server[1], limit=64) if server else ""
        version = headers.get("Api-Version", "")
        return version if _is_version(version) else ""

    def _version_by_trial(self) -> str:
        for self.api_version in _FALLBACK_VERSIONS:
            try:
                self.get("/containers/json", limit="1")
            except EngineError as error:
                if error.status == _BAD_REQUEST:
                    continue  # Docker: the client's version is too new, or too old
            break
        return self.api_version


def _is_version(text: str) -> bool:
    return re.fullmatch(r"\d{1,3}\.\d{1,3}", text) is not None


def _reason(response: requests.Response) -> str:
    """Docker's own message, else the status's name: a proxy's page says no more."""
    try:
        message = response.json().get("message")
    except (ValueError, AttributeError):
        message = None
    return clean(message or response.reason or "refused", limit=300)


def _tls(docker_host: str) -> docker.tls.TLSConfig | None:
    """As the Docker CLI has it: DOCKER_TLS_VERIFY, DOCKER_TLS (without verifying) and DOCKER_CERT_PATH."""
    is_verified = bool(os.environ.get("DOCKER_TLS_VERIFY"))
    if not docker_host.startswith(("tcp://", "https://")) or not (
        is_verified or os.environ.get("DOCKER_TLS")
    ):
        return None
    folder = os.environ.get("DOCKER_CERT_PATH") or os.path.expanduser("~/.docker")
    certificate, key, authority = (f"{folder}/{name}.pem" for name in ("cert", "key", "ca"))
    return docker.tls.TLSConfig(
        client_cert=(certificate, key) if os.path.exists(certificate) else None,
        ca_cert=authority if os.path.exists(authority) else None,
        verify=is_verified,
    )


def explain(error: BaseException, docker_host: str) -> str:
    """One line that says why the Engine can't be read and what to do about it."""
    path = docker_host.removeprefix("unix://") if docker_host.startswith("unix://") else ""
    chain: BaseException | None = error
    seen: list[BaseException] = []
    while chain is not None and chain not in seen:
        seen.append(chain)
        chain = chain.__cause__ or chain.__context__
    text = " ".join(f"{type(item).__name__} {item}" for item in seen)
    if path and ("FileNotFoundError" in text or not os.path.exists(path)):
        return f"{path} is not there: is Docker running on this host?"
    if path and ("PermissionError" in text or "Permission denied" in text):
        return f"{path}: permission denied; run the agent as root or as a member of the group docker"
    if path and ("ConnectionRefusedError" in text or "Connection refused" in text):
        return f"{path} refuses connections: Docker is not running"
    if "timed out" in text.lower() or "Timeout" in text:
        return f"Docker did not answer within {ANSWER_SECONDS:.0f} s"
    return clean(f"Docker can't be read: {seen[0]}", limit=ERROR_BYTES)


def local_system() -> System:
    """This machine, as far as it can be told without Docker."""
    try:
        memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (ValueError, OSError):
        memory = 0
    return System(
        platform.system().lower(), platform.machine(), platform.release(), os.cpu_count() or 0, memory
    )


def system(info: Mapping[str, Any]) -> System:
    """The machine that the Engine runs on, from its GET /info."""
    return System(
        os=str(info.get("OSType") or "linux"),
        arch=str(info.get("Architecture") or ""),
        kernel=str(info.get("KernelVersion") or ""),
        cpus=_count(info.get("NCPU")),
        memory_bytes=_count(info.get("MemTotal")),
    )


def _count(value: object) -> int:
    return value if isinstance(value, int) and not isinstance(value, bool) else 0
