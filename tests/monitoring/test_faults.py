"""A healthy installation has no alert; each fault brings exactly its own to the receiver, and it ends."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Iterator

import pytest

from tests.integration.prometheus import free_port, wait_for
from tests.monitoring.installation import RUNS_OUT_SECONDS, Installation

pytestmark = [pytest.mark.integration, pytest.mark.alone]
SETTLE_SECONDS = 6.0


def settle(installed: Installation, what: str) -> None:
    """Until nothing is left of what was before, nor on its way to the receiver."""
    wait_for(installed.quiet, seconds=90, every=0.5, what=f"quiet before {what}")
    time.sleep(3)
    installed.hook.clear()


@contextlib.contextmanager
def only(installed: Installation, *alerts: str, receiver: str) -> Iterator[None]:
    """Within the block a fault is made and put right by `expect`; nothing but `alerts` may be notified."""
    settle(installed, str(alerts))
    yield
    wait_for(
        lambda: set(alerts) <= installed.hook.names("resolved"),
        seconds=90,
        every=0.5,
        what=f"{alerts} to be resolved",
    )
    assert installed.hook.names() == set(alerts)
    assert {path for path, _ in installed.hook.received()} == {f"/{receiver}"}


def fires(installed: Installation, *alerts: str, seconds: float = 60) -> None:
    """Until all are notified, and a little longer for what else might come."""
    wait_for(
        lambda: set(alerts) <= installed.hook.names("firing"), seconds=seconds, every=0.5, what=f"{alerts}"
    )
    time.sleep(SETTLE_SECONDS)


def test_a_healthy_installation_has_no_alert(installed: Installation) -> None:
    settle(installed, "anything")
    end = time.monotonic() + 20
    while time.monotonic() < end:
        assert installed.prometheus.alerts() == []
        time.sleep(1)
    assert installed.hook.received() == []
    assert all(rule["health"] == "ok" for rule in installed.prometheus.rules())
    assert installed.prometheus.value('sum(dockmesh_hosts_total{status="online"})') == 3
    assert installed.prometheus.value('count(up{job="node"} == 1)') == 3


def test_a_plain_deploy_is_no_alert(installed: Installation) -> None:
    """Nor is one that stops the stack's containers and starts them again."""
    stack = installed.make_stack(installed.fleet.names[0], "plain")
    settle(installed, "a plain deploy")
    for _ in range(2):
        assert installed.deploy(stack) == "success"
    end = time.monotonic() + SETTLE_SECONDS
    while time.monotonic() < end:
        assert installed.prometheus.firing() == set()
        time.sleep(0.5)
    assert installed.hook.received() == []


def test_an_agent_stops(installed: Installation) -> None:
    name = installed.fleet.names[0]
    with only(installed, "DockmeshAgentStale", receiver="pager"):
        installed.fleet.silent.add(name)
        fires(installed, "DockmeshAgentStale")
        assert {alert["labels"]["host"] for alert in installed.hook.notifications()} == {name}
        installed.fleet.silent.clear()


def test_docker_does_not_answer(installed: Installation) -> None:
    host = installed.fleet.host(installed.fleet.names[0])
    with only(installed, "DockmeshHostDegraded", receiver="team"):
        host.docker_down_until = float("inf")
        fires(installed, "DockmeshHostDegraded")
        assert {alert["labels"]["host"] for alert in installed.hook.notifications()} == {host.name}
        host.docker_down_until = 0.0


def test_containers_that_end_restart_or_sicken_are_named(installed: Installation) -> None:
    """Their stacks are in error too, and Alertmanager holds that back."""
    host = installed.fleet.host(installed.fleet.names[1])
    containers = list(host.containers.values())
    sick = next(each for each in containers if each.has_health_check)
    crashed, killed, looping = [each for each in containers if each is not sick][:3]
    expected = {
        "DockmeshContainerExited": (crashed, " has exited with 3, and does not run."),
        "DockmeshContainerOOMKilled": (killed, " was killed for memory "),
        "DockmeshContainerRestarting": (looping, "Docker has restarted "),
        "DockmeshContainerUnhealthy": (sick, " runs, and its health check fails."),
    }
    with only(installed, *expected, receiver="team"):
        crashed.end(3)
        sick.health = "unhealthy"
        killed.end(137, is_oom_killed=True)
        looping.end(2)
        for _ in range(6):
            looping.state = "restarting"
            looping.restart_count += 1
            time.sleep(1)
        killed.start("2026-01-01T00:00:00Z")
        looping.start("2026-01-01T00:00:00Z")
        fires(installed, *expected)
        assert "DockmeshStackError" in installed.prometheus.firing()
        told = {alert["labels"]["alertname"]: alert for alert in installed.hook.notifications("firing")}
        for name, (container, words) in expected.items():
            labels = told[name]["labels"]
            assert [labels[key] for key in ("host", "stack", "service", "container")] == [
                host.name, container.stack, container.service, container.name,
            ]  # fmt: skip
            description = told[name]["annotations"]["description"]
            assert words in description
            assert f"{container.service} of {container.stack} on {host.name}" in description
            assert told[name]["annotations"]["page"] == f"/containers/?q={container.name}"
        crashed.start("2026-01-01T00:00:00Z")
        sick.health = "healthy"


def test_a_deploy_fails(installed: Installation) -> None:
    """A new stack's very first deploy, which Prometheus first sees as a count of 1."""
    stack = installed.make_stack(installed.fleet.names[2], "fails")
    with only(installed, "DockmeshDeployFailed", receiver="team"):
        installed.fleet.do_deploys_fail = True
        assert installed.deploy(stack) == "failure"
        installed.fleet.do_deploys_fail = False
        assert installed.deploy(stack) == "success"
        fires(installed, "DockmeshDeployFailed")


def test_a_backup_fails(installed: Installation) -> None:
    """Until one succeeds again."""
    with only(installed, "DockmeshBackupFailed", receiver="team"):
        job = installed.make_job(installed.fleet.names[0], "fails")
        assert installed.back_up(job) == "success"
        installed.fleet.do_backups_fail = True
        assert installed.back_up(job) == "failure"
        installed.fleet.do_backups_fail = False
        wait_for(lambda: "DockmeshBackupFailed" in installed.hook.names("firing"), seconds=60, every=0.5)
        [alert] = installed.hook.notifications("firing")
        assert alert["labels"]["backup_job"] == "fails"
        assert alert["labels"]["host"] == installed.fleet.names[0]
        assert installed.back_up(job) == "success"
        wait_for(lambda: "DockmeshBackupFailed" in installed.hook.names("resolved"), seconds=60, every=0.5)
        installed.api("DELETE", f"backup-jobs/{job}")


def test_a_backup_is_overdue(installed: Installation) -> None:
    job = installed.make_job(installed.fleet.names[0], "overdue")
    assert installed.back_up(job) == "success"
    with only(installed, "DockmeshBackupStale", receiver="pager"):
        fires(installed, "DockmeshBackupStale", seconds=RUNS_OUT_SECONDS + 30)
        [alert] = installed.hook.notifications("firing")
        assert alert["labels"]["exported_job"] == "overdue"
        installed.api("DELETE", f"backup-jobs/{job}")


def test_a_backup_job_never_succeeds(installed: Installation) -> None:
    with only(installed, "DockmeshBackupNeverSucceeded", receiver="pager"):
        job = installed.make_job(installed.fleet.names[0], "never")
        fires(installed, "DockmeshBackupNeverSucceeded")
        installed.api("DELETE", f"backup-jobs/{job}")


def test_a_clock_is_wrong(installed: Installation) -> None:
    name = installed.fleet.names[2]
    with only(installed, "DockmeshClockSkew", receiver="team"):
        installed.fleet.skewed[name] = -120.0
        fires(installed, "DockmeshClockSkew")
        installed.fleet.skewed.clear()


def test_a_host_is_slow_to_reach(installed: Installation) -> None:
    name = installed.fleet.names[2]
    with only(installed, "DockmeshAgentRTTHigh", receiver="team"):
        installed.fleet.slow[name] = 3.0
        fires(installed, "DockmeshAgentRTTHigh")
        installed.fleet.slow.clear()


def test_a_token_is_close_to_its_end(installed: Installation) -> None:
    with only(installed, "DockmeshTokenExpiring", receiver="team"):
        installed.server.manage(
            "createtoken", "--name", "ci", "--permission", "fleet.read", "--expires-in", "1d"
        )
        fires(installed, "DockmeshTokenExpiring")
        tokens = installed.api("GET", "tokens?page_size=100")["results"]
        [token] = [token for token in tokens if token["name"] == "ci"]
        installed.api("POST", f"tokens/{token['id']}/revoke", {})


def test_prometheus_cannot_read_the_list_of_targets(installed: Installation) -> None:
    """The targets that it has stay, as its documentation says."""
    with only(installed, "DockmeshServiceDiscoveryFailing", receiver="team"):
        config = installed.scrapes
        wrong = config.replace("credentials_file: token", "credentials_file: wrong", 3).replace(
            "credentials_file: wrong", "credentials_file: token", 1
        )
        installed.prometheus.write("wrong", installed.token)
        installed.prometheus.reload(wrong)
        wait_for(lambda: installed.prometheus.value('count(up{job="node"})') == 3, what="the targets")
        installed.prometheus.write("wrong", "no-token")
        fires(installed, "DockmeshServiceDiscoveryFailing")
        assert installed.prometheus.value('count(up{job="node"} == 1)') == 3
        installed.prometheus.write("wrong", installed.token)
    installed.prometheus.reload(config)


def test_a_replica_is_down(installed: Installation) -> None:
    address = installed.server.url.removeprefix("http://")
    with only(installed, "DockmeshReplicaDown", receiver="team"):
        both = f'targets: ["{address}", "127.0.0.1:{free_port()}"]'
        installed.prometheus.reload(installed.scrapes.replace(f'targets: ["{address}"]', both))
        fires(installed, "DockmeshReplicaDown")
        installed.prometheus.reload(installed.scrapes)


def test_prometheus_has_no_target_for_dockmesh(installed: Installation) -> None:
    address = installed.server.url.removeprefix("http://")
    with only(installed, "DockmeshAbsent", receiver="pager"):
        installed.prometheus.reload(installed.scrapes.replace(f'targets: ["{address}"]', "targets: []"))
        fires(installed, "DockmeshAbsent")
        installed.prometheus.reload(installed.scrapes)


def test_the_server_process_keeps_restarting(installed: Installation) -> None:
    with only(installed, "DockmeshRestartLoop", receiver="team"):
        # The web process is the older child at first; after that it is the one that was started anew.
        for child in (0, -1, -1, -1):
            os.kill(installed.server.children()[child], signal.SIGKILL)
            time.sleep(1)
            wait_for(lambda: installed.server.readyz() == 200, what="the server")
            time.sleep(2.5)
        fires(installed, "DockmeshRestartLoop")


def test_the_server_stops(installed: Installation) -> None:
    """Discovery fails with it; Alertmanager holds that back."""
    with only(installed, "DockmeshDown", receiver="pager"):
        installed.server.stop()
        fires(installed, "DockmeshDown")
        installed.server.start()


def test_metrics_are_public(installed: Installation) -> None:
    with only(installed, "DockmeshMetricsPublic", receiver="journal"):
        installed.server.stop()
        installed.server.environment["DOCKMESH_METRICS_AUTH"] = "off"
        installed.server.start()
        fires(installed, "DockmeshMetricsPublic")
        installed.server.stop()
        del installed.server.environment["DOCKMESH_METRICS_AUTH"]
        installed.server.start()
