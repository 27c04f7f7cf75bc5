"""A whole installation in small: dockmesh with a calm simulated fleet, Prometheus, Alertmanager, exporters.

The rules, the scrape configuration and Alertmanager's routes are the committed ones with shorter times, so
that a fault fires and ends within seconds.
"""

from __future__ import annotations

import contextlib
import json
import random
import re
import subprocess
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from dockmesh.fleet.simulation.agent import Client, Refused, SimulatedAgent, Unreachable, Work
from dockmesh.fleet.simulation.world import SimulatedHost, make_hosts
from metrics import alertrules
from tests.integration.prometheus import (
    AlertmanagerServer,
    PrometheusServer,
    WebhookReceiver,
    find_program,
    free_port,
    wait_for,
)
from tests.integration.server import DockmeshServer
from tests.integration.versions import require_version
from tests.monitoring import files

COMPOSE = "services:\n  web:\n    image: nginx:1.27\n"
RUNS_OUT_SECONDS = 25
LIMITS = {"agent-stale-seconds": "8", "deploy-slow-seconds": "8"}
# Longest first, so that no replacement meets the result of another.
SHORTER = (
    ("[1m] offset 2m", "[4s] offset 4s"),
    ("[2m]", "[4s]"),
    ("26 * 3600", str(RUNS_OUT_SECONDS)),
    ("_seconds < 600", "_seconds < 10"),
    ("for: 26h", "for: 8s"),
    ("offset 15m", "offset 40s"),
    ("[1h]", "[60s]"),
    ("[6h]", "[60s]"),
    ("[16m]) < 960", "[42s]) < 42"),
    ("[30m]", "[40s]"),
    ("[15m]", "[40s]"),
    ("[10m]", "[10s]"),
    ("[5m]", "[10s]"),
    ("> 900\n", "> 30\n"),
    # The others are due once a minute.
    ("alerts.+|backups.+|", "alerts.+|backups.start_due|"),
)
# Attempts to tell a channel come further apart than all else that is counted in ten minutes.
WINDOWS = {"DockmeshChannelFailing": ("[10m]", "[40s]")}
# A planned restart is no outage here either, and what inhibits comes before what it inhibits.
WAITS = {
    "DockmeshDown": 12,
    "DockmeshStackError": 12,
    "DockmeshDeployStuck": 20,
    "DockmeshPeriodicTaskLate": 10,
}


def short_rules() -> str:
    """The rules as `manage.py alertrules` prints them, with seconds in place of minutes and hours."""
    text = alertrules.rules(LIMITS)
    for alert, (old, new) in WINDOWS.items():
        start = text.index(f"- alert: {alert}\n")
        end = text.index("annotations:", start)
        text = text[:start] + text[start:end].replace(old, new) + text[end:]
    for old, new in SHORTER:
        assert old in text, old
        text = text.replace(old, new)
    for alert, seconds in WAITS.items():
        text, count = re.subn(
            rf"(- alert: {alert}\n(?:(?!- alert).*\n)*?        for: )\d+m\n", rf"\g<1>{seconds}s\n", text
        )
        assert count == 1, alert
    text = re.sub(r"for: \d+[md]", "for: 5s", text)
    assert not re.search(r"\[\d+[mh]\]|: \d+[mh]$", text, re.M)
    return text


def short_routes(hook: WebhookReceiver) -> str:
    """Alertmanager's committed configuration, faster and with the tests' webhook."""
    text = files.ALERTMANAGER.read_text().replace("http://localhost:9999/", hook.url)
    text = re.sub(r"group_wait: \d+s", "group_wait: 1s", text)
    return re.sub(r"group_interval: \d+m", "group_interval: 1s", text)


def short_scrapes(server_url: str, alertmanager: str, own_address: str) -> str:
    """The committed prometheus.yml with the tests' addresses, scraping every 2 s."""
    address = server_url.removeprefix("http://")
    text = (files.PROMETHEUS / "prometheus.yml").read_text()
    text = text.replace("dockmesh:8080", address).replace("alertmanager:9093", alertmanager)
    text = text.replace("localhost:9090", own_address).replace("/run/secrets/dockmesh_token", "token")
    text = re.sub(r"(scrape_interval|scrape_timeout|refresh_interval): \d+s", r"\1: 2s", text)
    return text.replace("evaluation_interval: 30s", "evaluation_interval: 1s")


class Calm(random.Random):
    """Chance with which nothing happens by itself."""

    def random(self) -> float:
        return 0.999999


class Fleet:
    """Simulated agents that report every second and only do what a test tells them."""

    def __init__(self, server: DockmeshServer, *, hosts: int = 3, containers: int = 8) -> None:
        self.agents: dict[str, SimulatedAgent] = {}
        self.silent: set[str] = set()
        self.skewed: dict[str, float] = {}
        self.slow: dict[str, float] = {}
        self.versions: dict[str, str] = {}
        self.do_deploys_fail = False
        self.do_backups_fail = False
        self.do_backups_leave_out = 0
        self.deploy_seconds: dict[str, float] = {}
        self._url = server.url
        self._stop = threading.Event()
        client = Client(server.url)
        for world in make_hosts(hosts=hosts, containers=containers, seed=1):
            world.chance = Calm(1)
            answer = client.post(
                "agents/enroll",
                {"hostname": world.name, "labels": {"site": "lab"}},
                token=server.enrollmenttoken(),
            )
            self.agents[world.name] = _Agent(world, answer["agent_token"], fleet=self)
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    @property
    def names(self) -> list[str]:
        return list(self.agents)

    def host(self, name: str) -> SimulatedHost:
        return self.agents[name].host

    def _run(self) -> None:
        client = Client(self._url)
        while not self._stop.is_set():
            for name, agent in list(self.agents.items()):
                if name in self.silent:
                    continue
                if name in self.slow:
                    agent.rtt_seconds = [self.slow[name]]
                with contextlib.suppress(Refused, Unreachable):
                    agent.step(client)
            self._stop.wait(1.0)
        client.close()

    def stop(self) -> None:
        self._stop.set()
        self._thread.join(10)


class _Agent(SimulatedAgent):
    def __init__(self, host: SimulatedHost, token: str, *, fleet: Fleet) -> None:
        super().__init__(host, token)
        self._fleet = fleet

    def _begin(self, command: dict[str, Any], now: float) -> None:
        super()._begin(command, now)
        for work in self.work.values():
            fails = {"deploy": self._fleet.do_deploys_fail, "backup": self._fleet.do_backups_fail}
            work.is_success = not fails.get(work.kind, False)

    def _finish_work(self, client: Client, now: float) -> None:
        for work in self.work.values():
            work.ends = work.began + self._fleet.deploy_seconds.get(work.payload.get("stack", ""), 1.0)
        super()._finish_work(client, now)

    def _result(self, work: Work) -> dict[str, Any]:
        result = super()._result(work)
        if work.kind == "backup" and (count := self._fleet.do_backups_leave_out):
            result |= {"is_partial": True, "unreadable": ["/srv/data/locked"], "unreadable_count": count}
        return result

    def _document(self, digest: str, containers: list[dict[str, Any]], now: float) -> dict[str, Any]:
        document = super()._document(digest, containers, now)
        if self.host.name in self._fleet.versions:
            document["agent"] = document["agent"] | {"version": self._fleet.versions[self.host.name]}
        if self.host.name in self._fleet.skewed:
            wrong = time.time() + self._fleet.skewed[self.host.name]
            document["sent_at"] = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(wrong))
        return document


CADVISOR_PAGE = """\
# HELP container_cpu_usage_seconds_total Cumulative cpu time consumed in seconds.
# TYPE container_cpu_usage_seconds_total counter
container_cpu_usage_seconds_total{{cpu="total",id="/docker/1",image="nginx:1.27",name="shop-web-1"}} {seconds}
# HELP container_memory_working_set_bytes Current working set in bytes.
# TYPE container_memory_working_set_bytes gauge
container_memory_working_set_bytes{{id="/docker/1",image="nginx:1.27",name="shop-web-1"}} 5.2428800e+07
"""


class CadvisorPage:
    """Two families as cAdvisor exposes them."""

    def __init__(self) -> None:
        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                body = CADVISOR_PAGE.format(seconds=time.monotonic() / 10).encode()
                self.send_response(200)
                self.send_header("Content-Type", "text/plain; version=0.0.4")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, format: str, *args: Any) -> None:
                """Quiet."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.port: int = self._server.server_address[1]
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def stop(self) -> None:
        self._server.shutdown()
        self._server.server_close()


class Api:
    """dockmesh's REST API with an administrator's token."""

    def __init__(self, server: DockmeshServer) -> None:
        self._server = server
        self._token = server.createtoken("tests", role="admin")

    def __call__(self, method: str, path: str, body: Any = None) -> Any:
        """Status 4xx and 5xx raise HTTPError with the answer's text."""
        request = urllib.request.Request(
            f"{self._server.url}/api/v1/{path}",
            method=method,
            data=None if body is None else json.dumps(body).encode(),
            headers={"Authorization": f"Bearer {self._token}", "Content-Type": "application/json"},
        )
        try:
            with urllib.request.urlopen(request, timeout=30) as answer:
                return json.loads(answer.read() or b"null")
        except urllib.error.HTTPError as error:
            with error:
                raise AssertionError(f"{method} {path}: {error.code} {error.read()[:500]!r}") from None


class Watch:
    """A Prometheus with the rules, its Alertmanager, and who is told by that."""

    def __init__(
        self, ends: contextlib.ExitStack, server: DockmeshServer, token: str, suite: str = ""
    ) -> None:
        """`suite`: whose releases of both, as for `require_version`; Debian's own without one."""
        self.hook = ends.enter_context(WebhookReceiver())
        alertmanager = require_version("prometheus-alertmanager", suite) if suite else ""
        self.alertmanager = ends.enter_context(
            AlertmanagerServer(short_routes(self.hook), program=alertmanager)
        )
        own = free_port()
        self.scrapes = short_scrapes(server.url, self.alertmanager.address, f"127.0.0.1:{own}")
        self.prometheus = ends.enter_context(
            PrometheusServer(
                self.scrapes,
                files={"token": token, "rules/all.yml": short_rules()},
                port=own,
                flags=files.prometheus_flags(),
                program=require_version("prometheus", suite) if suite else "",
            )
        )

    def quiet(self) -> bool:
        """No alert anywhere: neither pending or firing in Prometheus, nor held by Alertmanager."""
        return not self.prometheus.alerts() and not self.alertmanager.alerts()


class Installation:
    """Everything together, up and healthy when the constructor returns.

    Each of `suites` watches with its own Prometheus and Alertmanager; `watches` has all, the first of them is meant where
    one is enough.
    """

    def __init__(self, folder: Path, *, hosts: int = 3, suites: Sequence[str] = ("",)) -> None:
        self._ends = contextlib.ExitStack()
        try:
            self._start(folder, hosts, suites)
        except BaseException:
            self._ends.close()
            raise

    def _start(self, folder: Path, hosts: int, suites: Sequence[str]) -> None:
        find_program("prometheus")
        environment = {
            "DOCKMESH_HEARTBEAT_INTERVAL": "1",
            "DOCKMESH_HOST_OFFLINE_AFTER": "5",
            "DOCKMESH_ALERT_LOCAL_RECEIVERS": "true",
        }
        self.server = self._ends.enter_context(DockmeshServer(folder / "data", environment))
        self.token = self.server.createtoken("prometheus", permissions=["metrics.read", "discovery.read"])
        self.api = Api(self.server)
        self.fleet = Fleet(self.server, hosts=hosts)
        self._ends.callback(self.fleet.stop)
        self._exporters()
        self.watches = [Watch(self._ends, self.server, self.token, suite) for suite in suites]
        first = self.watches[0]
        self.hook, self.alertmanager, self.prometheus = first.hook, first.alertmanager, first.prometheus
        self.scrapes = first.scrapes
        for watch in self.watches:
            watch.prometheus.wait_for_scrape(seconds=60)

    def _exporters(self) -> None:
        """One node-exporter and one cAdvisor page stand for those of every host."""
        node = free_port()
        command = [
            find_program("prometheus-node-exporter"),
            f"--web.listen-address=127.0.0.1:{node}",
            # What other tests mount is nobody's file system.
            "--collector.filesystem.mount-points-exclude=^/(dev|proc|run|sys|tmp|var)($|/)",
        ]
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        self._ends.callback(process.wait)
        self._ends.callback(process.terminate)
        cadvisor = CadvisorPage()
        self._ends.callback(cadvisor.stop)
        for host in self.api("GET", "hosts")["results"]:
            change = {"address": "127.0.0.1", "node_exporter_port": node, "cadvisor_port": cadvisor.port}
            self.api("PATCH", f"hosts/{host['id']}", change)

    def host_id(self, name: str) -> int:
        hosts = self.api("GET", "hosts?page_size=100")["results"]
        return int(next(host["id"] for host in hosts if host["name"] == name))

    def make_stack(self, host: str, name: str = "demo") -> int:
        body = {"host": self.host_id(host), "name": name, "compose_file": COMPOSE}
        return int(self.api("POST", "stacks", body)["id"])

    def begin_deploy(self, stack: int) -> int:
        """The deploy's id."""
        return int(self.api("POST", f"stacks/{stack}/deploy")["id"])

    def deploy(self, stack: int) -> str:
        """Deploys and waits for the end; answers `success` or `failure`."""
        return self.deployed(self.begin_deploy(stack))

    def deployed(self, deploy: int) -> str:
        """Waits for the end of a deploy."""
        return str(self._finished(f"deploys/{deploy}"))

    def make_job(self, host: str, name: str) -> int:
        body = {"host": self.host_id(host), "name": name, "source_kind": "path", "path": "/srv/data"}
        body |= {"repository": "offsite", "schedule": "0 3 1 1 *"}
        return int(self.api("POST", "backup-jobs", body)["id"])

    def back_up(self, job: int) -> str:
        run = self.api("POST", f"backup-jobs/{job}/run")["id"]
        return str(self._finished(f"backup-runs/{run}"))

    def verify(self, job: int) -> str:
        run = self.api("POST", f"backup-jobs/{job}/verify", {})["id"]
        return str(self._finished(f"backup-runs/{run}"))

    def _finished(self, path: str) -> str:
        def status() -> str:
            found = str(self.api("GET", path)["status"])
            return "" if found in ("queued", "running") else found

        return wait_for(status, seconds=30, what=f"{path} to finish")

    def quiet(self) -> bool:
        """No alert anywhere."""
        return all(watch.quiet() for watch in self.watches)

    def stop(self) -> None:
        self._ends.close()


@contextlib.contextmanager
def installation(folder: Path, *, hosts: int = 3, suites: Sequence[str] = ("",)) -> Iterator[Installation]:
    """An installation for the time of the block."""
    made = Installation(folder, hosts=hosts, suites=suites)
    try:
        yield made
    finally:
        made.stop()
