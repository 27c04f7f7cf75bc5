"""The page that dockmesh implements, followed word for word by a stranger with a browser and a Prometheus."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, Page

from tests.end_to_end.conftest import read_metrics
from tests.end_to_end.hand_agent import HandAgent, call, container
from tests.integration.prometheus import PrometheusServer, wait_for
from tests.integration.server import DockmeshServer
from tests.support import PATIENCE

pytestmark = [pytest.mark.integration, pytest.mark.browser]

PASSWORD = "correct horse battery staple"

SCRAPE = """
global: {{scrape_interval: 1s, scrape_timeout: 1s, external_labels: {{region: {region}}}}}
scrape_configs:
- job_name: dockmesh
  metrics_path: /metrics
  scheme: http
  static_configs:
  - targets: ['{target}']
  authorization:
    type: Bearer
    credentials_file: token
"""

FEDERATE = """
scrape_configs:
- job_name: federate
  scrape_interval: 1s
  scrape_timeout: 1s
  honor_labels: true
  metrics_path: /federate
  params:
    match[]:
    - '{job="dockmesh"}'
  static_configs:
  - targets: [TARGETS]
"""

# The five expressions of the page, as it has them.
EXAMPLES = {
    "stale agents": "dockmesh_agent_last_seen_seconds > 120",
    "stacks in error": 'dockmesh_stacks_total{state="error"}',
    "overdue backups": "time() - dockmesh_backup_last_run_timestamp > 26 * 3600",
    "deploy time": "histogram_quantile(0.95,\nrate(dockmesh_deploy_duration_seconds_bucket[5m]))",
    "alert rate": "sum by (severity) (rate(dockmesh_alerts_fired_total[5m]))",
}


def set_up(page: Page, server: DockmeshServer) -> None:
    """Make the first administrator at the one-time link that the server printed."""
    link = re.search(r"http://\S+/setup/\S+", server.log)
    assert link, server.log
    page.goto(link[0])
    page.locator("input[type=text]").first.fill("ann")
    for field in page.locator("input[type=password]").all():
        field.fill(PASSWORD)
    page.get_by_role("button", name="Make the administrator").click()
    page.wait_for_url(f"{server.url}/")


def make_scraper_token(page: Page) -> str:
    """The page's four steps; gives the text that the copy button put on the clipboard."""
    page.get_by_role("link", name="API tokens").click()
    page.get_by_role("link", name="New token").first.click()
    page.get_by_label("Name", exact=True).fill("prometheus-scraper")
    page.get_by_label("Role", exact=True).select_option("New custom role")
    page.get_by_label("metrics.read").check()
    page.get_by_role("button", name="Create token").click()
    page.get_by_role("button", name="Copy token").click()
    copied: str = page.evaluate("navigator.clipboard.readText()")
    assert re.fullmatch(r"dmt_[0-9A-Za-z]{12}_[0-9A-Za-z]{40}_[0-9A-Za-z]{6}", copied)
    assert "credentials_file" in page.content()
    assert "metrics_path: /metrics" in page.content()
    return copied


def is_up(prometheus: PrometheusServer) -> bool:
    targets = prometheus.targets()
    return bool(targets) and all(target["health"] == "up" for target in targets)


def region(server: DockmeshServer, token: str, name: str) -> PrometheusServer:
    """A Prometheus with the page's scrape configuration; the token is in its credentials file."""
    config = SCRAPE.format(region=name, target=server.url.removeprefix("http://"))
    return PrometheusServer(config, files={"token": token})


@pytest.fixture
def page(chromium: Browser) -> Iterator[Page]:
    """A browser of its own, which may read the clipboard."""
    context = chromium.new_context(permissions=["clipboard-read", "clipboard-write"])
    opened = context.new_page()
    opened.set_default_timeout(PATIENCE * 15_000)
    yield opened
    context.close()


@pytest.fixture
def playing(dockmesh: DockmeshServer) -> Callable[..., HandAgent]:
    """Makes agents that the test plays."""
    return lambda hostname: HandAgent(dockmesh, hostname)


def test_the_pages_four_steps_and_its_scrape_configuration(dockmesh: DockmeshServer, page: Page) -> None:
    set_up(page, dockmesh)
    token = make_scraper_token(page)
    with region(dockmesh, token, "eu") as prometheus:
        wait_for(lambda: is_up(prometheus), what="the target up")
        assert prometheus.value('dockmesh_hosts_total{status="online"}') == 0
        assert prometheus.value("dockmesh_metrics_auth_enabled") == 1

        page.goto(f"{dockmesh.url}/settings/tokens/")
        assert token.split("_")[2] not in page.content(), "the secret is never shown again"
        page.get_by_role("link", name="prometheus-scraper").click()
        page.get_by_role("link", name="Revoke").click()
        page.locator("main input[type=text]").fill("prometheus-scraper")
        page.locator("main form button[type=submit]").last.click()

        def refused() -> bool:
            target = prometheus.targets()[0]
            return target["health"] == "down" and "401" in target["lastError"]

        wait_for(refused, what="the target down with 401")
        page.get_by_role("link", name="Metrics", exact=True).click()

        def reason() -> str:
            page.reload()
            rows = page.get_by_role("row").filter(has_text="prometheus-scraper")
            return " ".join(rows.all_inner_texts())

        wait_for(lambda: "Revoked" in reason(), what="the reason on Settings → Metrics")


def test_the_pages_five_expressions_give_what_the_fleet_implies(
    dockmesh: DockmeshServer, playing: Callable[..., HandAgent]
) -> None:
    scraper = dockmesh.createtoken("prometheus-scraper", permissions=["metrics.read"])
    admin = dockmesh.createtoken("admin", role="admin")
    web, gone = playing("web-1"), playing("gone-1")
    sound = container(1, stack="shop", state="running")
    broken = container(2, stack="blog", state="exited", exit_code=3)
    web.beat([sound, container(2, stack="blog", state="running")])
    gone.beat([])
    call(
        dockmesh,
        admin,
        "POST",
        "alert-rules",
        {"name": "Errors", "kind": "stack_error", "severity": "critical"},
    )
    backup = {
        "name": "nightly",
        "host": "web-1",
        "source_kind": "path",
        "path": "/srv",
        "repository": "offsite",
    }
    call(dockmesh, admin, "POST", "backup-jobs", backup)
    compose = "services:\n  app:\n    image: busybox:latest\n"
    stack = call(dockmesh, admin, "POST", "stacks", {"host": "web-1", "name": "app", "compose_file": compose})
    with region(dockmesh, scraper, "eu") as prometheus:
        wait_for(lambda: is_up(prometheus), what="the target up")
        for name, expression in EXAMPLES.items():
            prometheus.query(expression), name
        wait_for(
            lambda: (
                prometheus.value('dockmesh_deploy_duration_seconds_count{stack="app",result="success"}') == 0
            ),
            what="the deploy histogram at 0",
        )

        call(dockmesh, admin, "POST", f"stacks/{stack['id']}/deploy")
        commands = web.beat([sound, broken])["commands"]
        assert [command["kind"] for command in commands] == ["deploy"]
        result = {"result": "success", "duration_seconds": 7.0, "exit_code": 0, "output": "", "error": ""}
        call(dockmesh, web.token, "POST", f"agents/commands/{commands[0]['id']}/result", result)
        dockmesh.manage(
            "shell",
            "--command",
            "import datetime; from dockmesh.core import clock; from dockmesh.fleet.models import HeartbeatState;"
            f"HeartbeatState.objects.filter(host_id={gone.host_id})"
            ".update(last_seen_at=clock.now() - datetime.timedelta(seconds=200))",
        )

        def beating(expression: str) -> list[Any]:
            web.beat([sound, broken])
            return prometheus.query(expression)

        stale = wait_for(lambda: beating(EXAMPLES["stale agents"]), what="the stale agent")
        assert [(sample.labels["host"], sample.value > 120) for sample in stale] == [("gone-1", True)]

        wait_for(
            lambda: (
                sorted((s.labels["host"], s.value) for s in beating(EXAMPLES["stacks in error"]))
                == [("gone-1", 0), ("web-1", 1)]
            ),
            what="the stack in error",
        )
        overdue = prometheus.query(EXAMPLES["overdue backups"])
        assert [sample.labels["exported_job"] for sample in overdue] == ["nightly"]

        def deploy_time() -> float | None:
            web.beat([sound, broken])
            values = [s for s in prometheus.query(EXAMPLES["deploy time"]) if s.value == s.value]
            return values[0].value if values and values[0].labels["stack"] == "app" else None

        seconds = wait_for(deploy_time, what="the deploy's time")
        assert 5 <= seconds <= 10, "7 s lie in the bucket from 5 to 10"

        def fired() -> dict[str, float]:
            web.beat([sound, broken])
            found = {s.labels["severity"]: s.value for s in prometheus.query(EXAMPLES["alert rate"])}
            return found if found.get("critical", 0) > 0 else {}

        assert set(wait_for(fired, seconds=60, what="the alert")) == {"critical"}


def test_federation_shows_both_regions(dockmesh: DockmeshServer, playing: Callable[..., HandAgent]) -> None:
    token = dockmesh.createtoken("prometheus-scraper", permissions=["metrics.read"])
    agent = playing("web-1")
    agent.beat([container(1, stack="shop", state="running")])
    with region(dockmesh, token, "eu") as eu, region(dockmesh, token, "us") as us:
        wait_for(lambda: is_up(eu) and is_up(us), what="both regions up")
        targets = ", ".join(f"'{server.address}'" for server in (eu, us))
        with PrometheusServer(FEDERATE.replace("TARGETS", targets)) as central:

            def regions() -> set[str]:
                agent.beat([container(1, stack="shop", state="running")])
                found = central.query('dockmesh_containers_total{host="web-1",state="running"} == 1')
                return {sample.labels["region"] for sample in found}

            wait_for(lambda: regions() == {"eu", "us"}, what="both regions at the centre")
            jobs = {sample.labels["job"] for sample in central.query("dockmesh_hosts_total")}
            assert jobs == {"dockmesh"}, "honor_labels keeps the job"


def test_public_metrics_need_no_token_and_say_so(tmp_path: Path) -> None:
    with DockmeshServer(tmp_path / "data", {"DOCKMESH_METRICS_AUTH": "false"}) as server:
        assert read_metrics(server.url)["dockmesh_metrics_auth_enabled"] == 0
        assert "DOCKMESH_METRICS_AUTH" in server.log
    with pytest.raises(RuntimeError, match="DOCKMESH_METRICS_AUTH='maybe'"):
        DockmeshServer(tmp_path / "other", {"DOCKMESH_METRICS_AUTH": "maybe"}).start()
