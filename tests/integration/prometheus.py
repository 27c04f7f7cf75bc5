"""Real Prometheus and Alertmanager servers, and a webhook receiver, for the tests.

Each listens on a free loopback port, keeps its data in a temporary folder and is stopped by `stop()`
or by leaving its `with` block:

    with PrometheusServer(config_text) as prometheus:
        wait_for(lambda: prometheus.query("up == 1"), what="the first scrape")
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import threading
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, TypeVar

from tests.support import PATIENCE, missing

PROMETHEUS_NAMES = ("prometheus",)
ALERTMANAGER_NAMES = ("prometheus-alertmanager", "alertmanager")
START_TIMEOUT_SECONDS = 60.0

Answer = TypeVar("Answer")


def free_port() -> int:
    """A loopback port that nobody listened on a moment ago."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def find_program(*names: str) -> str:
    """The first of these programs that is installed; the test is skipped where none is."""
    found = next(filter(None, map(shutil.which, names)), None)
    return found or missing(f"{' or '.join(names)} is not installed")


def wait_for(
    look: Callable[[], Answer | None], *, seconds: float = 30.0, every: float = 0.25, what: str = "an answer"
) -> Answer:
    """Calls `look` until it answers something true and returns that; fails after `PATIENCE` times `seconds`."""
    seconds *= PATIENCE
    deadline = time.monotonic() + seconds
    while True:
        answer = look()
        if answer:
            return answer
        if time.monotonic() > deadline:
            raise AssertionError(f"waited {seconds:g} s in vain for {what}; the last answer: {answer!r}")
        time.sleep(every)


class QueryError(Exception):
    """Prometheus refused or failed a query; the text is its own."""


@dataclass(frozen=True)
class Sample:
    """One series of an instant query's answer."""

    labels: Mapping[str, str]
    value: float


@dataclass(frozen=True)
class Outcome:
    """An answer of /api/v1/query or /api/v1/query_range, with what Prometheus had to warn about."""

    kind: str
    result: list[dict[str, Any]]
    warnings: list[str]


class _Program:
    """A child process with a temporary folder, a free port and a readiness page."""

    label = "program"

    def __init__(self, port: int = 0) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix=f"dockmesh-{self.label}-"))
        self.port = port or free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self._log = self.folder / "log"
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def address(self) -> str:
        """`host:port`, as `static_configs` wants it."""
        return f"127.0.0.1:{self.port}"

    def _start(self, command: Sequence[str]) -> None:
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                command, stdout=log, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL, cwd=self.folder
            )
        try:
            wait_for(
                self._is_ready, seconds=START_TIMEOUT_SECONDS, every=0.1, what=f"{self.label} to be ready"
            )
        except BaseException:
            self.stop()
            raise

    def _is_ready(self) -> bool:
        assert self._process is not None
        if self._process.poll() is not None:
            raise AssertionError(f"{self.label} ended at once:\n{self.log()}")
        try:
            with urllib.request.urlopen(f"{self.url}/-/ready", timeout=5) as answer:
                return bool(answer.status == 200)
        except (OSError, urllib.error.URLError):
            return False

    def log(self) -> str:
        """All that the program has printed so far."""
        return self._log.read_text(errors="replace") if self._log.exists() else ""

    def get_json(self, path: str, parameters: Mapping[str, Any] | None = None) -> Any:
        """GETs a path with a query string and reads the JSON, whatever the HTTP status."""
        query = "?" + urllib.parse.urlencode(parameters, doseq=True) if parameters else ""
        try:
            with urllib.request.urlopen(f"{self.url}{path}{query}", timeout=30) as answer:
                return json.load(answer)
        except urllib.error.HTTPError as error:
            with error:
                return json.loads(error.read())

    def post(self, path: str, document: Any = None) -> int:
        """POSTs JSON (or nothing) and answers the HTTP status."""
        body = b"" if document is None else json.dumps(document).encode()
        request = urllib.request.Request(
            f"{self.url}{path}", data=body, method="POST", headers={"Content-Type": "application/json"}
        )
        try:
            with urllib.request.urlopen(request, timeout=30) as answer:
                return int(answer.status)
        except urllib.error.HTTPError as error:
            with error:
                return int(error.code)

    def stop(self) -> None:
        """Ends the program and removes its folder. Safe to call twice."""
        process, self._process = self._process, None
        if process is not None and process.poll() is None:
            process.send_signal(signal.SIGTERM)
            try:
                process.wait(timeout=20)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        shutil.rmtree(self.folder, ignore_errors=True)

    def __enter__(self) -> Any:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()


class PrometheusServer(_Program):
    """A Prometheus server with its own storage, started and ready when the constructor returns.

    `config_text` is a whole prometheus.yml; `files` are written next to it (rule files, credentials), so
    relative paths in the configuration work. `flags` are appended to the command line. A `port` is for those
    who have to know it before, a `program` for those who want another release.
    """

    label = "prometheus"

    def __init__(
        self,
        config_text: str,
        *,
        files: Mapping[str, str] | None = None,
        flags: Sequence[str] = (),
        port: int = 0,
        program: str = "",
    ) -> None:
        program = program or find_program(*PROMETHEUS_NAMES)
        super().__init__(port)
        self._config = self.folder / "prometheus.yml"
        for name, text in (files or {}).items():
            self.write(name, text)
        self._config.write_text(config_text)
        self._start(
            [
                program,
                f"--config.file={self._config}",
                f"--storage.tsdb.path={self.folder / 'data'}",
                f"--web.listen-address={self.address}",
                "--web.enable-lifecycle",
                "--log.level=info",
                *flags,
            ]
        )

    def __enter__(self) -> PrometheusServer:
        return self

    def write(self, name: str, text: str) -> Path:
        """Writes a file next to the configuration and answers its path."""
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        os.chmod(path, 0o600)
        return path

    def reload(self, config_text: str | None = None) -> None:
        """Reads the configuration again, after replacing it if a new one is given."""
        if config_text is not None:
            self._config.write_text(config_text)
        status = self.post("/-/reload")
        assert status == 200, f"the reload was refused ({status}):\n{self.log()[-2000:]}"

    def _data(self, path: str, parameters: Mapping[str, Any] | None = None) -> tuple[Any, list[str]]:
        document = self.get_json(path, parameters)
        if document["status"] != "success":
            raise QueryError(f"{document.get('errorType')}: {document.get('error')}")
        return document.get("data"), list(document.get("warnings") or []) + list(document.get("infos") or [])

    def evaluate(self, expr: str, *, at: float | None = None) -> Outcome:
        """An instant query, with its warnings. Raises QueryError with Prometheus's own words."""
        data, warnings = self._data("/api/v1/query", {"query": expr} | ({"time": at} if at else {}))
        result = data["result"]
        if data["resultType"] == "scalar":
            result = [{"metric": {}, "value": result}]
        return Outcome(data["resultType"], result, warnings)

    def evaluate_range(self, expr: str, *, seconds: float, step: float, end: float | None = None) -> Outcome:
        """A range query over the last `seconds`, with its warnings."""
        stop = end if end is not None else time.time()
        data, warnings = self._data(
            "/api/v1/query_range", {"query": expr, "start": stop - seconds, "end": stop, "step": step}
        )
        return Outcome(data["resultType"], data["result"], warnings)

    def query(self, expr: str, *, at: float | None = None) -> list[Sample]:
        """An instant query's series."""
        return [Sample(one["metric"], float(one["value"][1])) for one in self.evaluate(expr, at=at).result]

    def value(self, expr: str) -> float | None:
        """The value of a query that answers one series; None while it answers none."""
        samples = self.query(expr)
        assert len(samples) < 2, f"{expr} answers {len(samples)} series"
        return samples[0].value if samples else None

    def exemplars(self, expr: str) -> list[dict[str, Any]]:
        """The exemplars of the last hour, each as {"labels", "value", "timestamp"}."""
        now = time.time()
        data, _ = self._data("/api/v1/query_exemplars", {"query": expr, "start": now - 3600, "end": now + 5})
        return [exemplar for series in data for exemplar in series["exemplars"]]

    def targets(self, state: str = "active") -> list[dict[str, Any]]:
        """`activeTargets` or `droppedTargets` as the API shows them."""
        data, _ = self._data("/api/v1/targets", {"state": state})
        return list(data[f"{state}Targets"] or [])

    def alerts(self) -> list[dict[str, Any]]:
        """Alerts that are pending or firing."""
        data, _ = self._data("/api/v1/alerts")
        return list(data["alerts"])

    def firing(self) -> set[str]:
        """Names of the alerts that fire now."""
        return {alert["labels"]["alertname"] for alert in self.alerts() if alert["state"] == "firing"}

    def rules(self) -> list[dict[str, Any]]:
        """Every rule of every group, with its health and last error."""
        data, _ = self._data("/api/v1/rules")
        return [rule for group in data["groups"] for rule in group["rules"]]

    def wait_for_scrape(self, *, seconds: float = 30.0) -> None:
        """Until every active target has been scraped and is up."""

        def all_up() -> bool:
            targets = self.targets()
            return bool(targets) and all(target["health"] == "up" for target in targets)

        wait_for(all_up, seconds=seconds, what="every target to be up")


class AlertmanagerServer(_Program):
    """An Alertmanager of its own, without a cluster, started and ready when the constructor returns."""

    label = "alertmanager"

    def __init__(
        self,
        config_text: str,
        *,
        files: Mapping[str, str] | None = None,
        flags: Sequence[str] = (),
        program: str = "",
    ) -> None:
        program = program or find_program(*ALERTMANAGER_NAMES)
        super().__init__()
        for name, text in (files or {}).items():
            (self.folder / name).parent.mkdir(parents=True, exist_ok=True)
            (self.folder / name).write_text(text)
        config = self.folder / "alertmanager.yml"
        config.write_text(config_text)
        self._start(
            [
                program,
                f"--config.file={config}",
                f"--storage.path={self.folder / 'data'}",
                f"--web.listen-address={self.address}",
                "--cluster.listen-address=",
                *flags,
            ]
        )

    def __enter__(self) -> AlertmanagerServer:
        return self

    def alerts(self) -> list[dict[str, Any]]:
        """Alerts that Alertmanager holds, with whether they are inhibited or silenced."""
        return list(self.get_json("/api/v2/alerts"))


class WebhookReceiver:
    """Takes Alertmanager's webhook notifications, and any other JSON that is POSTed to it."""

    def __init__(self, port: int = 0) -> None:
        self._lock = threading.Lock()
        self._requests: list[tuple[str, Any]] = []
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
                with receiver._lock:
                    receiver._requests.append((self.path, json.loads(body or b"null")))
                self.send_response(200)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, format: str, *args: Any) -> None:
                """Quiet: the tests read what arrived, not a log."""

        self._server = ThreadingHTTPServer(("127.0.0.1", port), Handler)
        self.port: int = self._server.server_address[1]
        self.url = f"http://127.0.0.1:{self.port}/"
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)
        self._thread.start()

    def received(self) -> list[tuple[str, Any]]:
        """(path, document) of everything that arrived, oldest first."""
        with self._lock:
            return list(self._requests)

    def notifications(self, status: str | None = None) -> list[dict[str, Any]]:
        """Single alerts out of all notifications, oldest first; only `firing` or `resolved` ones if asked."""
        alerts = [alert for _, document in self.received() for alert in (document or {}).get("alerts", ())]
        return [alert for alert in alerts if status in (None, alert["status"])]

    def names(self, status: str | None = None) -> set[str]:
        """Names of the alerts that were notified."""
        return {alert["labels"]["alertname"] for alert in self.notifications(status)}

    def clear(self) -> None:
        """Forgets what has arrived."""
        with self._lock:
            self._requests.clear()

    def stop(self) -> None:
        """Stops listening. Safe to call twice."""
        self._server.shutdown()
        self._server.server_close()

    def __enter__(self) -> WebhookReceiver:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()
