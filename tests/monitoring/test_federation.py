"""Federation with three Prometheus servers: two regions and the centre, as in snippets/central.yml."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

from tests.integration.prometheus import PrometheusServer, wait_for
from tests.monitoring import files
from tests.monitoring.installation import Installation, installation

pytestmark = pytest.mark.integration


def region(name: str, installed: Installation) -> PrometheusServer:
    """The region's committed configuration with the tests' address; both scrape one dockmesh here."""
    text = (files.PROMETHEUS / "snippets" / f"region-{name}.yml").read_text()
    text = text.replace(f"dockmesh-{name}.example.com", installed.server.url.removeprefix("http://"))
    text = text.replace("scheme: https", "scheme: http").replace("/etc/prometheus/dockmesh.token", "token")
    text = text.replace("scrape_interval: 15s", "scrape_interval: 2s\n  scrape_timeout: 2s")
    return PrometheusServer(text, files={"token": installed.token})


def central(change: Callable[[str], str], *regions: PrometheusServer) -> PrometheusServer:
    text = (files.PROMETHEUS / "snippets" / "central.yml").read_text()
    for name, server in zip(("eu", "us"), regions, strict=True):
        text = text.replace(f"prometheus-{name}.example.com", server.address)
    text = text.replace("scrape_interval: 30s", "scrape_interval: 2s\n    scrape_timeout: 2s")
    return PrometheusServer(change(text))


def as_on_the_page(text: str) -> str:
    """Without our addition."""
    assert "    honor_timestamps: false\n" in text
    return text.replace("    honor_timestamps: false\n", "")


def has_both(server: PrometheusServer) -> bool:
    return server.value('count(dockmesh_hosts_total{status="online"} == 3)') == 2


def test_both_regions_are_there_and_a_removed_host_goes(tmp_path: Path) -> None:
    with (
        installation(tmp_path) as installed,
        region("eu", installed) as eu,
        region("us", installed) as us,
        central(lambda text: text, eu, us) as centre,
        central(as_on_the_page, eu, us) as plain,
    ):
        for server in (centre, plain):
            wait_for(
                partial(has_both, server),
                what="both regions",
            )
            regions = {sample.labels["region"] for sample in server.query("dockmesh_hosts_total")}
            assert regions == {"eu", "us"}
            assert {sample.labels["job"] for sample in server.query("dockmesh_hosts_total")} == {"dockmesh"}

        gone = installed.fleet.names[0]
        installed.fleet.silent.add(gone)
        installed.api("DELETE", f"hosts/{installed.host_id(gone)}")
        series = f'dockmesh_agent_last_seen_seconds{{host="{gone}"}}'
        began = time.monotonic()
        wait_for(
            lambda: eu.query(series) == [] == us.query(series), seconds=30, what="its end in the regions"
        )
        wait_for(lambda: centre.query(series) == [], seconds=30, what="its end in the centre")
        assert time.monotonic() - began < 60
        # With the regions' own times nothing marks its end: Prometheus looks five minutes back.
        time.sleep(6)
        assert len(plain.query(series)) == 2
        assert plain.query(series, at=time.time() + 310) == []
