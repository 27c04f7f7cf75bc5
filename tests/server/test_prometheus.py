"""What a real Prometheus says when its configuration is wrong, and what it counts of a first failure."""

from __future__ import annotations

import urllib.error
import urllib.request
from pathlib import Path

import pytest

from tests.integration.prometheus import PrometheusServer, wait_for
from tests.integration.server import DockmeshServer

pytestmark = pytest.mark.integration

CONFIG = """
global: {{scrape_interval: 500ms}}
scrape_configs:
  - job_name: right
    authorization: {{credentials: {token}}}
    static_configs: [{{targets: ["{address}"]}}]
  - job_name: tls
    scheme: https
    static_configs: [{{targets: ["{address}"]}}]
  - job_name: name
    authorization: {{credentials: {token}}}
    static_configs: [{{targets: ["localhost:{port}"]}}]
"""
BORN = 'dockmesh_api_requests_total{job="right",path="/api/v1/agents/heartbeat",status="401"}'


def test_wrong_configurations_are_told_apart_and_the_first_refusal_is_an_increase(tmp_path: Path) -> None:
    # Only another name is listed: localhost is refused, the address of the first job is not.
    with DockmeshServer(tmp_path / "data", {"DOCKMESH_ALLOWED_HOSTS": "dockmesh.example.com"}) as server:
        address = server.url.removeprefix("http://")
        port = address.rpartition(":")[2]
        token = server.createtoken("prometheus", permissions=["metrics.read"])
        config = CONFIG.format(token=token, address=address, port=port)
        with PrometheusServer(config) as prometheus:
            wait_for(lambda: prometheus.value(BORN) == 0.0, what="the series at 0")

            def error_of(job: str) -> str:
                (target,) = [each for each in prometheus.targets() if each["labels"]["job"] == job]
                return str(target["lastError"])

            tls = wait_for(lambda: error_of("tls"), what="the scrape by https")
            assert "server gave HTTP response to HTTPS client" in tls
            assert "400" in wait_for(lambda: error_of("name"), what="the scrape by a name")
            assert error_of("right") == ""
            request = urllib.request.Request(server.url + "/api/v1/agents/heartbeat", b"{}")
            with pytest.raises(urllib.error.HTTPError, match="401"):
                urllib.request.urlopen(request, timeout=60)
            wait_for(lambda: (prometheus.value(f"increase({BORN}[1m])") or 0) > 0, what="the increase")
        assert "TLS" in server.log
        assert "DOCKMESH_ALLOWED_HOSTS" in server.log
