"""A healthy installation has no alert; each fault brings exactly its own to the receiver, names it, and it ends.

On Debian 12's Prometheus and Alertmanager and on newer ones at once, each of which looks at the same server. Faults that
don't touch each other are made together: each is a block in which it is there.
"""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

import pytest

from dockmesh import __version__
from tests.integration.prometheus import WebhookReceiver, free_port, wait_for
from tests.monitoring import files
from tests.monitoring.installation import RUNS_OUT_SECONDS, Installation, Watch, installation

pytestmark = [pytest.mark.integration, pytest.mark.alone]
SETTLE_SECONDS = 6.0
RECEIVERS = {"critical": "pager", "warning": "team", "info": "journal"}
SEVERITIES = {rule["alert"]: rule["labels"]["severity"] for rule in files.alert_rules()}


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Installation]:
    """With Prometheus 2.42 and Alertmanager 0.25, and with 3.x and a newer one."""
    with installation(tmp_path_factory.mktemp("faults"), hosts=7, suites=("", "sid")) as made:
        yield made


@dataclass(frozen=True)
class Told:
    """An alert that has to come: with these labels, and these words in its description."""

    alert: str
    labels: Mapping[str, str]
    words: str = ""

    def is_in(self, alert: dict[str, Any]) -> bool:
        labels = alert["labels"]
        return (
            labels["alertname"] == self.alert
            and all(labels.get(name, "") == value for name, value in self.labels.items())
            and self.words in alert["annotations"]["description"]
        )


Fault = Callable[[Installation], AbstractContextManager[list[Told]]]


def settle(installed: Installation, what: str) -> None:
    """Until nothing is left of what was before, nor on its way to the receiver."""
    wait_for(installed.quiet, seconds=90, every=0.5, what=f"quiet before {what}")
    time.sleep(3)
    for watch in installed.watches:
        watch.hook.clear()


def told(watch: Watch, status: str, expected: Told) -> bool:
    return any(expected.is_in(alert) for alert in watch.hook.notifications(status))


def await_all(installed: Installation, status: str, expected: list[Told], *, seconds: float) -> None:
    """Until everybody was told all of it."""

    def missing() -> list[tuple[int, Told]]:
        return [
            (number, each)
            for number, watch in enumerate(installed.watches)
            for each in expected
            if not told(watch, status, each)
        ]

    def is_complete() -> bool:
        return not missing()

    try:
        wait_for(is_complete, seconds=seconds, every=0.5, what=status)
    except AssertionError:
        got = [sorted(watch.hook.names(status)) for watch in installed.watches]
        raise AssertionError(f"{status} was not told: {missing()}; but: {got}") from None


def check(
    installed: Installation, *faults: Fault, seconds: float = 60, may_tell: Collection[str] = ()
) -> None:
    """Make the faults, await their alerts, put all right again, and await the ends; nothing else may be told.

    `may_tell` are alerts that are true as well if it so happens.
    """
    settle(installed, str(faults))
    with contextlib.ExitStack() as made:
        expected = [each for fault in faults for each in made.enter_context(fault(installed))]
        await_all(installed, "firing", expected, seconds=seconds)
        time.sleep(SETTLE_SECONDS)
    await_all(installed, "resolved", expected, seconds=120)
    for watch in installed.watches:
        assert watch.hook.names() - set(may_tell) == {each.alert for each in expected}
        for path, document in watch.hook.received():
            for alert in document["alerts"]:
                assert path == f"/{RECEIVERS[SEVERITIES[alert['labels']['alertname']]]}"


def test_a_healthy_installation_has_no_alert(installed: Installation) -> None:
    settle(installed, "anything")
    end = time.monotonic() + 20
    while time.monotonic() < end:
        for watch in installed.watches:
            assert watch.prometheus.alerts() == []
        time.sleep(1)
    for watch in installed.watches:
        assert watch.hook.received() == []
        assert all(rule["health"] == "ok" for rule in watch.prometheus.rules())
        assert watch.prometheus.value('sum(dockmesh_hosts_total{status="online"})') == 7
        assert watch.prometheus.value('count(up{job="node"} == 1)') == 7
    major = [
        watch.prometheus.get_json("/api/v1/status/buildinfo")["data"]["version"].split(".")[0]
        for watch in installed.watches
    ]
    assert major == ["2", "3"]


def test_a_plain_deploy_is_no_alert(installed: Installation) -> None:
    """Nor is one that stops the stack's containers and starts them again."""
    stack = installed.make_stack(installed.fleet.names[0], "plain")
    settle(installed, "a plain deploy")
    for _ in range(2):
        assert installed.deploy(stack) == "success"
    end = time.monotonic() + SETTLE_SECONDS
    while time.monotonic() < end:
        for watch in installed.watches:
            assert watch.prometheus.firing() == set()
        time.sleep(0.5)
    for watch in installed.watches:
        assert watch.hook.received() == []


# Hosts and their containers.


@contextlib.contextmanager
def an_agent_stops(installed: Installation) -> Iterator[list[Told]]:
    name = installed.fleet.names[0]
    installed.fleet.silent.add(name)
    yield [Told("DockmeshAgentStale", {"host": name})]
    installed.fleet.silent.clear()


@contextlib.contextmanager
def docker_does_not_answer(installed: Installation) -> Iterator[list[Told]]:
    host = installed.fleet.host(installed.fleet.names[1])
    host.docker_down_until = float("inf")
    yield [Told("DockmeshHostDegraded", {"host": host.name})]
    host.docker_down_until = 0.0


@contextlib.contextmanager
def containers_end_restart_and_sicken(installed: Installation) -> Iterator[list[Told]]:
    """Their stacks are in error too, and Alertmanager holds that back."""
    host = installed.fleet.host(installed.fleet.names[2])
    containers = list(host.containers.values())
    sick = next(each for each in containers if each.has_health_check)
    crashed, killed, looping = [each for each in containers if each is not sick][:3]
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
    words = {
        "DockmeshContainerExited": (crashed, "{} has exited with 3, and does not run."),
        "DockmeshContainerOOMKilled": (killed, "{} was killed for memory "),
        "DockmeshContainerRestarting": (looping, "Docker has restarted {} "),
        "DockmeshContainerUnhealthy": (sick, "{} runs, and its health check fails."),
    }
    yield [
        Told(
            alert,
            {"host": host.name, "stack": one.stack, "service": one.service, "container": one.name},
            text.format(f"{one.service} of {one.stack} on {host.name}"),
        )
        for alert, (one, text) in words.items()
    ]
    for watch in installed.watches:
        assert "DockmeshStackError" in watch.prometheus.firing()
        for alert in watch.hook.notifications("firing"):
            if alert["labels"]["alertname"] in words:
                assert alert["annotations"]["page"] == f"/containers/?q={alert['labels']['container']}"
    crashed.start("2026-01-01T00:00:00Z")
    sick.health = "healthy"


@contextlib.contextmanager
def a_clock_is_wrong(installed: Installation) -> Iterator[list[Told]]:
    name = installed.fleet.names[4]
    installed.fleet.skewed[name] = -120.0
    yield [Told("DockmeshClockSkew", {"host": name})]
    installed.fleet.skewed.clear()


@contextlib.contextmanager
def a_host_is_slow_to_reach(installed: Installation) -> Iterator[list[Told]]:
    name = installed.fleet.names[5]
    installed.fleet.slow[name] = 3.0
    yield [Told("DockmeshAgentRTTHigh", {"host": name})]
    installed.fleet.slow.clear()


@contextlib.contextmanager
def an_agent_is_of_another_version(installed: Installation) -> Iterator[list[Told]]:
    name = installed.fleet.names[6]
    installed.fleet.versions[name] = "0.0.9"
    yield [Told("DockmeshAgentVersionSkew", {"host": name, "agent_version": "0.0.9"})]
    installed.fleet.versions[name] = __version__


# Deploys and backups.


@contextlib.contextmanager
def deploys_fail_are_slow_and_do_not_end(installed: Installation) -> Iterator[list[Told]]:
    """The one that fails is a new stack's very first, which Prometheus first sees as a count of 1."""
    name, fleet = installed.fleet.names[3], installed.fleet
    slow, stuck, fails = (installed.make_stack(name, each) for each in ("slow", "stuck", "fails"))
    fleet.deploy_seconds |= {"slow": 12.0, "stuck": float("inf")}
    fleet.do_deploys_fail = True
    assert installed.deploy(fails) == "failure"
    fleet.do_deploys_fail = False
    assert installed.deploy(fails) == "success"
    deploys = [installed.begin_deploy(slow), installed.begin_deploy(stuck)]
    yield [
        Told("DockmeshDeployFailed", {"host": name, "stack": "fails"}, f"fails on {name} has failed"),
        Told("DockmeshDeploySlow", {"host": name, "stack": "slow"}, f"slow on {name} took up to"),
        Told("DockmeshDeployStuck", {"host": name, "stack": "stuck"}, f"stuck on {name} has been deploying"),
    ]
    fleet.deploy_seconds["stuck"] = 1.0
    assert [installed.deployed(each) for each in deploys] == ["success", "success"]
    # Or the next one would be told to be slow: this one took long.
    installed.api("DELETE", f"stacks/{stuck}")


@contextlib.contextmanager
def backups_fail_are_partial_late_and_not_verified(installed: Installation) -> Iterator[list[Told]]:
    name, fleet = installed.fleet.names[3], installed.fleet
    never, overdue, partial, fails = (
        installed.make_job(name, each) for each in ("never", "overdue", "partial", "fails")
    )
    assert installed.back_up(overdue) == "success"
    assert installed.back_up(fails) == "success"
    fleet.do_backups_fail = True
    assert installed.back_up(fails) == "failure"
    fleet.do_backups_fail = False
    fleet.do_backups_leave_out = 3
    assert installed.back_up(partial) == "partial"
    fleet.do_backups_leave_out = 0
    yield [
        Told("DockmeshBackupFailed", {"host": name, "backup_job": "fails"}),
        Told("DockmeshBackupPartial", {"host": name, "backup_job": "partial"}, "could not be read: 3."),
        Told("DockmeshBackupStale", {"host": name, "exported_job": "overdue"}),
        Told("DockmeshBackupNeverSucceeded", {"host": name, "exported_job": "never"}),
        Told("DockmeshBackupNeverVerified", {"host": name, "backup_job": "overdue"}),
    ]
    for job in (never, fails, partial):
        assert installed.back_up(job) == "success"
    assert installed.verify(overdue) == "success"
    ended = [
        Told("DockmeshBackupNeverVerified", {"host": name, "backup_job": "overdue"}),
        Told("DockmeshBackupFailed", {"backup_job": "fails"}),
        Told("DockmeshBackupPartial", {"backup_job": "partial"}),
        Told("DockmeshBackupNeverSucceeded", {"exported_job": "never"}),
    ]
    await_all(installed, "resolved", ended, seconds=60)
    for job in (never, overdue, partial, fails):
        installed.api("DELETE", f"backup-jobs/{job}")


# What dockmesh and Prometheus have to do with others.


@contextlib.contextmanager
def a_token_is_close_to_its_end(installed: Installation) -> Iterator[list[Told]]:
    installed.server.manage("createtoken", "--name", "ci", "--permission", "fleet.read", "--expires-in", "1d")
    yield [Told("DockmeshTokenExpiring", {"token": "ci"})]
    tokens = installed.api("GET", "tokens?page_size=100")["results"]
    [token] = [token for token in tokens if token["name"] == "ci"]
    installed.api("POST", f"tokens/{token['id']}/revoke", {})


@contextlib.contextmanager
def a_channel_is_not_reached(installed: Installation) -> Iterator[list[Told]]:
    """Until somebody listens at its address."""
    port = free_port()
    url = f"json://127.0.0.1:{port}/"
    channel = installed.api(
        "POST", "alert-channels", {"name": "ops", "kind": "apprise", "url": url, "minimum_severity": "info"}
    )
    rule = {"name": "Agent silent", "kind": "host_offline", "severity": "critical", "for_seconds": 0}
    rule_id = installed.api("POST", "alert-rules", rule)["id"]
    yield [Told("DockmeshChannelFailing", {"channel": "ops"}, "The channel ops could not be told")]
    with WebhookReceiver(port) as receiver:
        wait_for(receiver.received, seconds=90, what="the channel to be told")
        await_all(installed, "resolved", [Told("DockmeshChannelFailing", {"channel": "ops"})], seconds=60)
    installed.api("DELETE", f"alert-rules/{rule_id}")
    installed.api("DELETE", f"alert-channels/{channel['id']}")


@contextlib.contextmanager
def prometheus_can_not_read_its_targets_and_a_replica_is_down(
    installed: Installation,
) -> Iterator[list[Told]]:
    """The targets that it has stay, as its documentation says."""
    address = installed.server.url.removeprefix("http://")
    replica = f"127.0.0.1:{free_port()}"
    for watch in installed.watches:
        wrong = watch.scrapes.replace("credentials_file: token", "credentials_file: wrong", 3).replace(
            "credentials_file: wrong", "credentials_file: token", 1
        )
        watch.prometheus.write("wrong", installed.token)
        watch.prometheus.reload(
            wrong.replace(f'targets: ["{address}"]', f'targets: ["{address}", "{replica}"]')
        )
        wait_for(
            lambda: watch.prometheus.value('count(up{job="node"})') == 7,  # noqa: B023
            what="the targets",
        )
        watch.prometheus.write("wrong", "no-token")
    yield [Told("DockmeshServiceDiscoveryFailing", {}), Told("DockmeshReplicaDown", {"instance": replica})]
    for watch in installed.watches:
        assert watch.prometheus.value('count(up{job="node"} == 1)') == 7
        watch.prometheus.write("wrong", installed.token)
        watch.prometheus.reload(watch.scrapes)


def test_faults_of_hosts_containers_deploys_backups_channels_and_targets(installed: Installation) -> None:
    check(
        installed,
        backups_fail_are_partial_late_and_not_verified,
        deploys_fail_are_slow_and_do_not_end,
        prometheus_can_not_read_its_targets_and_a_replica_is_down,
        a_clock_is_wrong,
        a_host_is_slow_to_reach,
        an_agent_is_of_another_version,
        docker_does_not_answer,
        a_token_is_close_to_its_end,
        an_agent_stops,
        a_channel_is_not_reached,
        containers_end_restart_and_sicken,
        seconds=RUNS_OUT_SECONDS + 60,
    )


# The server itself.


@contextlib.contextmanager
def prometheus_has_no_target_for_dockmesh(installed: Installation) -> Iterator[list[Told]]:
    address = installed.server.url.removeprefix("http://")
    for watch in installed.watches:
        watch.prometheus.reload(watch.scrapes.replace(f'targets: ["{address}"]', "targets: []"))
    yield [Told("DockmeshAbsent", {"job": "dockmesh"})]
    for watch in installed.watches:
        watch.prometheus.reload(watch.scrapes)


@contextlib.contextmanager
def the_scheduler_hangs(installed: Installation) -> Iterator[list[Told]]:
    """Its lease runs out, and no other replica is there to take it."""
    scheduler = installed.server.children()[1]
    os.kill(scheduler, signal.SIGSTOP)
    try:
        yield [
            Told("DockmeshSchedulerNoLeader", {"job": "dockmesh"}),
            Told("DockmeshPeriodicTaskLate", {"task": "alerts.evaluate"}, "alerts.evaluate last ran whole"),
        ]
    finally:
        os.kill(scheduler, signal.SIGCONT)


@contextlib.contextmanager
def the_server_stops(installed: Installation) -> Iterator[list[Told]]:
    """Discovery fails with it; Alertmanager holds that back."""
    installed.server.stop()
    yield [Told("DockmeshDown", {"job": "dockmesh"})]
    installed.server.start()


@contextlib.contextmanager
def metrics_are_public_and_the_web_process_keeps_dying(installed: Installation) -> Iterator[list[Told]]:
    installed.server.stop()
    installed.server.environment["DOCKMESH_METRICS_AUTH"] = "off"
    installed.server.start()
    # The web process is the older child at first; after that it is the one that was started anew.
    for child in (0, -1, -1, -1):
        os.kill(installed.server.children()[child], signal.SIGKILL)
        time.sleep(1)
        wait_for(lambda: installed.server.readyz() == 200, what="the server")
        time.sleep(2.5)
    address = installed.server.url.removeprefix("http://")
    yield [Told("DockmeshMetricsPublic", {}), Told("DockmeshRestartLoop", {"instance": address})]
    installed.server.stop()
    del installed.server.environment["DOCKMESH_METRICS_AUTH"]
    installed.server.start()


@pytest.mark.parametrize(
    "fault",
    [
        the_scheduler_hangs,
        prometheus_has_no_target_for_dockmesh,
        metrics_are_public_and_the_web_process_keeps_dying,
        the_server_stops,
    ],
    ids=lambda fault: fault.__name__,
)
def test_a_fault_of_the_server(installed: Installation, fault: Fault) -> None:
    # Prometheus may ask for its targets just while the web process is dead, twice.
    is_dying = fault is metrics_are_public_and_the_web_process_keeps_dying
    check(installed, fault, may_tell=["DockmeshServiceDiscoveryFailing"] if is_dying else [])
