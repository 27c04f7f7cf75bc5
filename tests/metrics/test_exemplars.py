"""Real Prometheus servers parse the page's exemplars and keep them."""

import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from tests.integration.prometheus import PrometheusServer, wait_for
from tests.integration.versions import require_version

# What a scrape answers, as another test holds it.
PAGE = (Path(__file__).parents[1] / "golden" / "metrics.openmetrics").read_bytes()
CONFIG = """
global: {scrape_interval: 1s, scrape_timeout: 1s}
scrape_configs:
- job_name: dockmesh
  static_configs: [{targets: ['127.0.0.1:%d']}]
"""


class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.send_header("Content-Type", "application/openmetrics-text; version=1.0.0; charset=utf-8")
        self.send_header("Content-Length", str(len(PAGE)))
        self.end_headers()
        self.wfile.write(PAGE)

    def log_message(self, *_arguments):
        pass


@pytest.fixture(scope="module")
def port():
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield server.server_port
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.mark.integration
@pytest.mark.parametrize("suite", ["", "trixie", "sid"])
def test_prometheus_keeps_the_deploys_ids(port, suite):
    program = require_version("prometheus", suite) if suite else ""
    flags = ["--enable-feature=exemplar-storage"]
    with PrometheusServer(CONFIG % port, program=program, flags=flags) as prometheus:

        def kept():
            answer = prometheus.get_json(
                "/api/v1/query_exemplars",
                {
                    "query": "dockmesh_deploy_duration_seconds_bucket",
                    "start": 1763799000,
                    "end": 1763801000,
                },
            )
            return answer["data"]

        series = wait_for(kept, what="the exemplars")
        assert prometheus.query("up")[0].value == 1
    found = {
        (each["seriesLabels"]["stack"], each["seriesLabels"]["result"], each["seriesLabels"]["le"]): exemplar
        for each in series
        for exemplar in each["exemplars"]
    }
    assert {at[:2]: (each["labels"], float(each["value"])) for at, each in found.items()} == {
        ("shop", "success"): ({"deploy_id": "17"}, 4.25),
        ("shop", "failure"): ({"deploy_id": "18"}, 2000.25),
    }
    assert {each["timestamp"] for each in found.values()} == {1763800000.125, 1763800100.5}
