"""The Prometheus, Alertmanager and webhook fixtures work together."""

from __future__ import annotations

import pytest

from tests.integration.prometheus import (
    AlertmanagerServer,
    PrometheusServer,
    QueryError,
    WebhookReceiver,
    wait_for,
)

pytestmark = pytest.mark.integration

ALERTMANAGER = """
route: {receiver: hook, group_by: [alertname], group_wait: 0s, group_interval: 1s, repeat_interval: 1h}
receivers: [{name: hook, webhook_configs: [{url: "%s", send_resolved: true}]}]
"""

PROMETHEUS = """
global: {scrape_interval: 1s, evaluation_interval: 1s}
rule_files: [rules.yml]
alerting: {alertmanagers: [{static_configs: [{targets: ["%s"]}]}]}
scrape_configs: [{job_name: alertmanager, static_configs: [{targets: ["%s"]}]}]
"""

RULES = """
groups: [{name: one, rules: [{alert: AlwaysUp, expr: up == 1}]}]
"""


def test_an_alert_travels_from_prometheus_to_the_webhook() -> None:
    with WebhookReceiver() as hook, AlertmanagerServer(ALERTMANAGER % hook.url) as alertmanager:
        config = PROMETHEUS % (alertmanager.address, alertmanager.address)
        with PrometheusServer(config, files={"rules.yml": RULES}) as prometheus:
            prometheus.wait_for_scrape()
            assert [sample.value for sample in prometheus.query("up")] == [1.0]
            with pytest.raises(QueryError, match="parse error"):
                prometheus.query("rate(up)")
            wait_for(lambda: "AlwaysUp" in hook.names("firing"), what="the notification")
            assert prometheus.firing() == {"AlwaysUp"}
            prometheus.write("rules.yml", RULES.replace("== 1", "== 2"))
            prometheus.reload()
            wait_for(lambda: not prometheus.firing(), what="the alert to end")
