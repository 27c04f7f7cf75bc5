"""A server below a path, behind a real nginx: one that takes the path off, one that hands it on, and none."""

from __future__ import annotations

import copy
import re
import socket
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from html import unescape
from pathlib import Path
from urllib.parse import urljoin, urlsplit

import pytest
import requests
import yaml
from playwright.sync_api import Browser, expect

from tests.end_to_end.hand_agent import HandAgent, container
from tests.integration.agent_process import AgentProcess
from tests.integration.api import Api, until
from tests.integration.prometheus import PrometheusServer, wait_for
from tests.integration.server import DockmeshServer
from tests.support import PATIENCE, require

pytestmark = pytest.mark.integration

PATH = "/dockmesh"
USER, PASSWORD = "ada", "a long password of one"
LEFT = 418
"""What nginx answers to a request that has left the path."""

NGINX = """
daemon off;
pid {folder}/nginx.pid;
error_log {folder}/error.log;
events {{}}
http {{
  access_log off;
  client_body_temp_path {folder}/body;
  proxy_temp_path {folder}/proxy;
  fastcgi_temp_path {folder}/fastcgi;
  uwsgi_temp_path {folder}/uwsgi;
  scgi_temp_path {folder}/scgi;
  proxy_http_version 1.1;
  proxy_set_header Connection "";
  proxy_set_header Host $http_host;
  proxy_set_header X-Forwarded-Prefix /dockmesh;
  server {{
    listen 127.0.0.1:{strips};
    location /dockmesh/ {{ proxy_pass {upstream}/; }}
    location / {{ return 418; }}
  }}
  server {{
    listen 127.0.0.1:{keeps};
    location /dockmesh {{ proxy_pass {upstream}; }}
    location / {{ return 418; }}
  }}
}}
"""


@dataclass
class Fronts:
    server: DockmeshServer
    strips: str
    keeps: str

    def below(self, front: str) -> DockmeshServer:
        """The server as it is reached by this way."""
        seen = copy.copy(self.server)
        seen.url = f"{getattr(self, front)}{PATH}"
        return seen


def _free_ports(count: int) -> list[int]:
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [each.getsockname()[1] for each in sockets]
    for each in sockets:
        each.close()
    return ports


@pytest.fixture(scope="module")
def fronts(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fronts]:
    nginx = require("nginx")
    folder = tmp_path_factory.mktemp("sub_path")
    strips, keeps = _free_ports(2)
    environment = {
        "DOCKMESH_BASE_URL": f"http://127.0.0.1:{strips}{PATH}/",
        "DOCKMESH_ADMIN_USER": USER,
        "DOCKMESH_ADMIN_PASSWORD": PASSWORD,
    }
    with DockmeshServer(folder / "data", environment) as server:
        configuration = folder / "nginx.conf"
        configuration.write_text(
            NGINX.format(folder=folder, strips=strips, keeps=keeps, upstream=server.url), encoding="ascii"
        )
        process = subprocess.Popen([nginx, "-c", str(configuration), "-p", str(folder)])
        try:
            deadline = time.monotonic() + PATIENCE * 10
            while not (folder / "nginx.pid").exists():
                assert process.poll() is None
                assert time.monotonic() < deadline
                time.sleep(0.02)
            yield Fronts(server, f"http://127.0.0.1:{strips}", f"http://127.0.0.1:{keeps}")
        finally:
            process.terminate()
            process.wait(PATIENCE * 10)


@pytest.fixture(scope="module")
def token(fronts: Fronts) -> str:
    return fronts.server.createtoken("everything", role="admin")


@pytest.fixture(params=["strips", "keeps"])
def seen(request: pytest.FixtureRequest, fronts: Fronts) -> DockmeshServer:
    """The server as it is reached through an nginx, with the path before every address of it."""
    return fronts.below(request.param)


def signed_in(seen: DockmeshServer) -> requests.Session:
    """A browser's session, made by the sign-in page."""
    session = requests.Session()
    page = session.get(f"{seen.url}/hosts/?q=a")
    assert page.url == f"{seen.url}/sign-in/?next={PATH}/hosts/%3Fq%3Da"
    form = dict(re.findall(r'<input type="hidden" name="([^"]+)" value="([^"]*)"', page.text))
    [action] = re.findall(r'<form class="form" method="post" action="([^"]+)"', page.text)
    form = {name: unescape(value) for name, value in form.items()}
    page = session.post(urljoin(page.url, action), {**form, "username": USER, "password": PASSWORD})
    assert (page.status_code, page.url) == (200, f"{seen.url}/hosts/?q=a")
    assert {(cookie.name, cookie.path) for cookie in session.cookies} == {
        ("dockmesh_sessionid", f"{PATH}/"),
        ("dockmesh_csrftoken", f"{PATH}/"),
    }
    return session


def test_machines_are_answered_with_the_path_and_without(fronts: Fronts, token: str) -> None:
    direct = fronts.server.url
    for url in (direct, f"{direct}{PATH}", f"{fronts.strips}{PATH}", f"{fronts.keeps}{PATH}"):
        for path in ("/livez", "/readyz", "/metrics", "/api/v1/hosts"):
            answer = requests.get(url + path, headers={"Authorization": f"Bearer {token}"})
            assert answer.status_code == 200, url + path


def test_the_path_alone_leads_to_the_overview(fronts: Fronts) -> None:
    for front in (fronts.keeps, fronts.server.url):
        answer = requests.get(front + PATH, allow_redirects=False)
        assert (answer.status_code, answer.headers["Location"]) == (302, f"{PATH}/")


def test_a_name_that_only_begins_like_the_path_is_another(fronts: Fronts) -> None:
    assert requests.get(f"{fronts.server.url}{PATH}er/livez").status_code == 404


def test_the_api_gives_addresses_below_the_path(seen: DockmeshServer, token: str) -> None:
    headers = {"Authorization": f"Bearer {token}"}
    made = requests.post(
        f"{seen.url}/api/v1/alert-rules",
        json={"name": f"rule of {seen.url}", "kind": "host_offline", "severity": "warning"},
        headers=headers,
    )
    assert made.status_code == 201, made.text
    location = urljoin(made.url, made.headers["Location"])
    assert location == f"{seen.url}/api/v1/alert-rules/{made.json()['id']}"
    assert requests.get(location, headers=headers).json()["name"] == f"rule of {seen.url}"
    for collection in ("tokens", "audit"):
        page = requests.get(f"{seen.url}/api/v1/{collection}?page_size=1", headers=headers).json()
        if page["next"]:
            assert urljoin(seen.url, page["next"]).startswith(f"{seen.url}/api/v1/{collection}?")
            assert requests.get(urljoin(seen.url, page["next"]), headers=headers).ok
    schema = requests.get(f"{seen.url}/api/v1/schema").json()
    assert schema["servers"][0]["url"].endswith(PATH)
    assert "/api/v1/hosts" in schema["paths"]


def test_every_link_of_every_page_stays_below_the_path(seen: DockmeshServer, token: str) -> None:
    api = Api(seen, token)
    agent = HandAgent(seen, f"crawled-{urlsplit(seen.url).port}")
    agent.beat([container(1, stack="shop", state="running")])
    api.post("alert-channels", {"name": seen.url, "kind": "apprise", "url": "json://192.0.2.1"})
    session = signed_in(seen)
    waiting, known = [f"{PATH}/", f"{PATH}/admin/", f"{PATH}/api/v1/docs"], set[str]()
    while waiting:
        path = waiting.pop()
        if (shape := re.sub(r"\d+", "0", path.partition("?")[0])) in known:
            continue
        known.add(shape)
        page = session.get(urljoin(seen.url, path))
        assert page.status_code == 200, page.url
        if "text/html" not in page.headers["Content-Type"]:
            continue
        html = re.sub(r"(?s)<(pre|samp)\b.*?</\1>", "", page.text)
        for address in map(unescape, re.findall(r'\s(?:href|src|action|hx-get)="([^"]*)"', html)):
            target = urlsplit(urljoin(page.url, address))
            if target.netloc == urlsplit(seen.url).netloc:
                assert target.path.startswith(f"{PATH}/"), f"{page.url} leads to {address}"
                if "/admin/" not in target.path and f'action="{address}"' not in page.text:
                    waiting.append(target._replace(scheme="", netloc="", fragment="").geturl())
    assert {f"{PATH}/hosts/0/", f"{PATH}/alerts/channels/0/", f"{PATH}/settings/tokens/"} <= known


def test_django_admin_is_below_the_path(seen: DockmeshServer) -> None:
    page = signed_in(seen).get(f"{seen.url}/admin/tokens/role/")
    assert page.status_code == 200
    assert f'href="{PATH}/admin/tokens/role/add/"' in page.text


def test_what_is_pasted_elsewhere_has_the_path(seen: DockmeshServer, fronts: Fronts) -> None:
    session = signed_in(seen)
    base = f"{fronts.strips}{PATH}"
    page = session.get(f"{seen.url}/hosts/add/")
    form = dict(re.findall(r'<input type="hidden" name="([^"]+)" value="([^"]*)"', page.text))
    page = session.post(page.url, {**form, "lifetime": "3600"})
    assert f"--server {base} --enrollment-token dme_" in page.text
    assert f"curl -fsS {base}/agent/install | sh" in page.text
    assert f"{base}\n" in requests.get(f"{seen.url}/agent/install").text.replace('"', "\n").replace("'", "\n")
    shown = unescape(session.get(f"{seen.url}/settings/metrics/").text)
    assert f"metrics_path: {PATH}/metrics" in shown
    jobs = yaml.safe_load(fronts.server.manage("scrapeconfig"))["scrape_configs"]
    assert (jobs[0]["metrics_path"], jobs[0]["static_configs"][0]["targets"]) == (
        f"{PATH}/metrics",
        [urlsplit(base).netloc],
    )
    assert jobs[1]["http_sd_configs"][0]["url"].startswith(f"{base}/api/v1/discovery/prometheus?")


def test_a_real_prometheus_scrapes_with_the_configuration_that_is_shown(
    fronts: Fronts, token: str, tmp_path: Path
) -> None:
    credentials = tmp_path / "token"
    credentials.write_text(token)
    jobs = fronts.server.manage("scrapeconfig", "--credentials-file", str(credentials))
    HandAgent(fronts.below("strips"), "seen-by-prometheus").beat([])
    with PrometheusServer(f"global:\n  scrape_interval: 1s\n{jobs}\n") as prometheus:
        wait_for(lambda: prometheus.query('up{job="dockmesh"} == 1'), what="the first scrape")
        # Found by dockmesh's list of the fleet; nobody has such an exporter.
        wait_for(
            lambda: prometheus.query('up{job="node",host="seen-by-prometheus"} == 0'), what="the discovery"
        )


def test_rules_for_prometheus_lead_to_the_pages(fronts: Fronts) -> None:
    assert f"page: {fronts.strips}{PATH}/alerts/" in fronts.server.manage("alertrules")


def test_a_real_agent_reports_through_the_proxy(seen: DockmeshServer, token: str, tmp_path: Path) -> None:
    name = f"agent-{urlsplit(seen.url).port}"
    agent = AgentProcess(
        tmp_path / "state",
        f"--server={seen.url}/",
        f"--enrollment-token={seen.enrollmenttoken()}",
        f"--name={name}",
        "--docker-host=unix:///nonexistent/docker.sock",
    )
    api = Api(seen, token)
    try:
        agent.start()
        until(
            lambda: [
                each for each in api.get("hosts")["results"] if each["name"] == name and each["last_seen_at"]
            ],
            seconds=30,
            what=lambda: f"{name} does not report:\n{agent.log}",
        )
        until(
            lambda: 'path="/api/v1/agents/heartbeat",status="200"' in _metrics(seen, token),
            seconds=10,
            what="no heartbeat is counted",
        )
        assert agent.stop() == 0
    finally:
        agent.close()
    # In the log and on /metrics an address is the same by whichever way it came.
    assert PATH not in "".join(re.findall(r"dockmesh_api_requests_total\{[^}]*\}", _metrics(seen, token)))
    assert 'path="unmatched"' not in _metrics(seen, token)
    assert not re.search(rf'"(GET|POST) {PATH}/api/', seen.log)


def _metrics(seen: DockmeshServer, token: str) -> str:
    return requests.get(f"{seen.url}/metrics", headers={"Authorization": f"Bearer {token}"}).text


@pytest.mark.browser
@pytest.mark.parametrize("front", ["strips", "keeps"])
def test_a_person_signs_in_changes_a_host_and_sees_it_live(
    front: str, fronts: Fronts, chromium: Browser
) -> None:
    seen = fronts.below(front)
    agent = HandAgent(seen, f"watched-by-{front}")
    agent.beat([container(1, stack="shop", state="running")])
    context = chromium.new_context()
    # What else answers by this name has a cookie of Django's usual name, for all of it.
    context.add_cookies([{"name": "sessionid", "value": "of-somebody-else", "url": getattr(fronts, front)}])
    try:
        page = context.new_page()
        page.set_default_timeout(PATIENCE * 10_000)
        left: list[str] = []
        page.on("response", lambda answer: left.append(answer.url) if answer.status == LEFT else None)
        page.goto(f"{seen.url}/hosts/{agent.host_id}/change/")
        page.get_by_label("Name").fill(USER)
        page.get_by_label("Password").fill(PASSWORD)
        page.get_by_role("button", name="Sign in").click()
        page.get_by_label("Name", exact=True).fill(f"renamed-by-{front}")
        page.get_by_role("button", name="Save").click()
        expect(page.get_by_role("heading", level=1)).to_have_text(f"renamed-by-{front}")
        assert page.url == f"{seen.url}/hosts/{agent.host_id}/"
        names = page.locator("#live td.main-cell")
        expect(names.filter(has_text="shop-2")).to_have_count(0)
        agent.beat([container(number, stack="shop", state="running") for number in (1, 2)])
        expect(names.filter(has_text="shop-2")).to_have_count(1, timeout=PATIENCE * 15_000)
        page.get_by_role("button", name="Dark theme").click()
        page.reload()
        expect(page.locator("html")).to_have_attribute("data-theme", "dark")
        page.get_by_role("button", name="Sign out").click()
        expect(page.get_by_role("heading", level=1)).to_have_text("Sign in")
        assert left == []
    finally:
        context.close()
