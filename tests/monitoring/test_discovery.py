"""http_sd_configs: a real Prometheus finds the fleet's exporters through dockmesh."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.integration.prometheus import wait_for
from tests.monitoring.installation import Installation, installation

pytestmark = pytest.mark.integration


def hosts_of(installed: Installation, job: str) -> set[str]:
    targets = installed.prometheus.targets()
    return {target["labels"].get("host", "") for target in targets if target["labels"]["job"] == job}


def test_the_targets_follow_the_fleet_and_survive_the_server(tmp_path: Path) -> None:
    with installation(tmp_path) as installed:
        names = set(installed.fleet.names)
        for job in ("node", "cadvisor"):

            def are_there(job: str = job) -> bool:
                return hosts_of(installed, job) == names

            wait_for(are_there, what=f"the targets of {job}")
        assert installed.prometheus.value('count(node_uname_info{host!=""})') == 3

        gone = installed.fleet.names[0]
        installed.fleet.silent.add(gone)
        installed.api("DELETE", f"hosts/{installed.host_id(gone)}")
        wait_for(lambda: hosts_of(installed, "node") == names - {gone}, seconds=8, what="the removal")
        wait_for(
            lambda: installed.prometheus.query(f'up{{job="node", host="{gone}"}}') == [],
            seconds=8,
            what="the end of its series",
        )
        assert installed.prometheus.query(f'dockmesh_agent_last_seen_seconds{{host="{gone}"}}') == []

        installed.server.stop()
        failures = "prometheus_sd_http_failures_total"
        wait_for(
            lambda: (installed.prometheus.value(failures) or 0) >= 4, seconds=30, what="failed refreshes"
        )
        assert hosts_of(installed, "node") == names - {gone}
        assert installed.prometheus.value('count(up{job="node"} == 1)') == 2
