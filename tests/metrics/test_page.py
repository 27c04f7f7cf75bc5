"""The whole page: as it is in the golden files, and what the fleet's states imply."""

import os
import re
import subprocess
from pathlib import Path

import pytest
from django.test import Client
from prometheus_client.parser import text_string_to_metric_families as parse_text

from dockmesh.core.schedule import PeriodicJob
from dockmesh.fleet.models import HeartbeatState, Host, StackSeries
from dockmesh.scheduler.services import note_run
from metrics import families as f
from metrics import routes
from tests.metrics import fleets
from tests.support import require
from tests.tokens.support import token_with

GOLDEN = Path(__file__).parents[1] / "golden"


@pytest.fixture(autouse=True)
def _frozen(db, settings, monkeypatch):
    settings.DOCKMESH_METRICS_AUTH = False
    monkeypatch.setattr("dockmesh.core.clock.now", lambda: fleets.NOW)


def page(accept="text/plain"):
    answer = Client().get("/metrics", headers={"accept": accept})
    assert answer.status_code == 200
    return answer.content.decode()


def values(text=None):
    """(sample name, sorted labels) → value."""
    return {
        (sample.name, *sorted(sample.labels.items())): sample.value
        for family in parse_text(text or page())
        for sample in family.samples
    }


def value(name, **labels):
    return values().get((name, *sorted(labels.items())))


def settled(text):
    """The page without what differs from run to run: of the process's own metrics only the heads."""
    lines = []
    for line in text.splitlines(keepends=True):
        if line.startswith("dockmesh_collector_duration_seconds{"):
            line = re.sub(r"} .*", "} 0.001", line)
        elif line.startswith("dockmesh_build_info{"):
            line = re.sub(r'(version|python|django)="[^"]*"', r'\1="1.2.3"', line)
        elif line.startswith("dockmesh_database_size_bytes "):
            line = "dockmesh_database_size_bytes 1000000\n"
        if line.startswith(("dockmesh_", "#")):
            lines.append(line)
    return "".join(lines)


@pytest.mark.parametrize(
    ("accept", "name"),
    [("text/plain", "metrics.txt"), ("application/openmetrics-text", "metrics.openmetrics")],
)
def test_the_whole_page_is_as_in_the_golden_file(monkeypatch, accept, name):
    monkeypatch.setattr(
        "dockmesh.audit.selectors.action_counts", lambda: [("host.enrolled", 3), ("token.created", 0)]
    )
    # Two will do: the whole list would change with every task that a room adds.
    monkeypatch.setattr(
        "dockmesh.scheduler.selectors.jobs",
        lambda: [PeriodicJob(name, 1.0, lambda: None) for name in ("alerts.evaluate", "backups.start_due")],
    )
    monkeypatch.setattr("dockmesh.audit.selectors.head_sequence", lambda: 42)
    monkeypatch.setattr("dockmesh.fleet.commands.kinds", lambda: {"backup", "cancel", "deploy"})
    # And the series of one route: there are more with every endpoint.
    born = routes.born()
    monkeypatch.setattr(routes, "born", lambda: tuple(key for key in born if key[1] == "/api/v1/hosts/{id}"))
    note_run(task="alerts.evaluate", is_whole=False, failures=2)
    fleets.small_fleet()
    token_with("metrics.read", name="scraper", expires_at=fleets.ago(-86400))
    text = settled(page(accept))
    path = GOLDEN / name
    if os.environ.get("DOCKMESH_TEST_WRITE_GOLDEN"):
        path.write_text(text, encoding="utf-8")
    assert text == path.read_text(encoding="utf-8")


# What is on the page without any host, stack, job or rule.


def test_an_empty_fleet_has_all_three_statuses_at_0():
    assert [value("dockmesh_hosts_total", status=status) for status in ("online", "offline", "degraded")] == [
        0,
        0,
        0,
    ]


def test_every_state_of_every_host_is_there_also_at_0():
    fleets.host("a")
    found = values()
    states = [dict(key[1:])["state"] for key in found if key[0] == "dockmesh_containers_total"]
    assert states == ["created", "running", "paused", "restarting", "removing", "exited", "dead", "unknown"]
    states = [dict(key[1:])["state"] for key in found if key[0] == "dockmesh_stacks_total"]
    assert states == ["running", "partial", "stopped", "error", "deploying", "unknown"]


# Offline is a matter of time.


@pytest.mark.parametrize(("seen", "status"), [(59.9, "online"), (60.0, "online"), (60.1, "offline")])
def test_a_host_is_offline_after_the_silence_that_the_setting_names(seen, status):
    fleets.host("a", seen=seen)
    assert value("dockmesh_hosts_total", status=status) == 1


def test_a_degraded_host_that_falls_silent_is_offline_only():
    fleets.host("a", seen=600, degraded=True)
    assert value("dockmesh_hosts_total", status="offline") == 1
    assert value("dockmesh_hosts_total", status="degraded") == 0


def test_what_an_offline_host_runs_is_unknown_and_known_again_when_it_is_heard():
    row = fleets.host("a", seen=5, containers="0,4,0,0,0,1,0,0", stacks="2,0,0,1,0,0")
    assert value("dockmesh_containers_total", host="a", state="running") == 4
    HeartbeatState.objects.filter(pk=row.pk).update(last_seen_at=fleets.ago(600))
    assert value("dockmesh_containers_total", host="a", state="running") == 0
    assert value("dockmesh_containers_total", host="a", state="unknown") == 5
    assert value("dockmesh_stacks_total", host="a", state="unknown") == 3
    assert value("dockmesh_stacks_total", host="a", state="error") == 0
    HeartbeatState.objects.filter(pk=row.pk).update(last_seen_at=fleets.ago(1))
    assert value("dockmesh_containers_total", host="a", state="running") == 4


@pytest.mark.parametrize(("seen", "age"), [(2.5, 2.5), (0, 0), (-3600, 0)])
def test_an_age_is_never_negative(seen, age):
    fleets.host("a", seen=seen)
    assert value("dockmesh_agent_last_seen_seconds", host="a") == age


# What changes is shown, what goes leaves nothing behind.


def test_a_changed_host_is_shown_by_the_next_scrape():
    row = fleets.host("a", containers="0,4,0,0,0,0,0,0")
    page()
    fleets.change(row, container_counts="0,3,0,0,0,0,1,0")
    assert value("dockmesh_containers_total", host="a", state="dead") == 1


def test_hosts_and_stacks_stand_in_the_order_of_their_ids_whatever_was_written_last():
    hosts = [fleets.host(f"host-{number}", rtt_sum=number / 3) for number in range(40)]
    stacks = [StackSeries.objects.create(name=f"stack-{number}") for number in range(40)]
    for row in (*hosts[:7], hosts[30]):
        fleets.change(row, container_counts="0,5,0,0,0,0,0,0")
        HeartbeatState.objects.filter(pk=row.pk).update(rtt_sum=1000 + row.pk / 3)
    for series in stacks[:7]:
        StackSeries.objects.filter(pk=series.pk).update(version=2, success_sum=4.5)
    found = values()
    sums = {
        dict(key[1:])["host"]: at for key, at in found.items() if key[0] == "dockmesh_agent_rtt_seconds_sum"
    }
    assert sums == {
        heartbeat_state.host.name: heartbeat_state.rtt_sum
        for heartbeat_state in HeartbeatState.objects.order_by("pk")
    }
    assert list(sums) == [row.name for row in hosts]
    shown = [dict(key[1:])["stack"] for key in found if key[0] == "dockmesh_deploy_duration_seconds_sum"]
    assert list(dict.fromkeys(shown)) == [series.name for series in stacks]


def test_a_renamed_host_leaves_no_series_behind():
    row = fleets.host("old")
    assert 'host="old"' in page()
    fleets.change(row, name="new")
    assert 'host="old"' not in page()
    assert page().count('host="new"') == 6 + 8 + 1 + 14 + 1 + 1 + 3


def test_a_removed_host_leaves_no_series_behind():
    rows = [fleets.host(f"host-{number}") for number in range(70)]
    page()
    rows[35].delete()
    text = page()
    assert 'host="host-35"' not in text
    assert text.count('host="host-36"') == 6 + 8 + 1 + 14 + 1 + 1 + 3
    assert "dockmesh_hosts_total" in text
    Host.objects.all().delete()
    assert 'host="' not in page()


def test_a_removed_stack_leaves_no_series_behind():
    rows = [StackSeries.objects.create(name=f"stack-{number}") for number in range(40)]
    page()
    rows[20].delete()
    text = page()
    assert 'stack="stack-20"' not in text
    assert text.count('stack="stack-21"') == 2 * 15


def test_both_results_of_a_stack_are_born_at_0():
    StackSeries.objects.create(name="blog")
    for result in ("success", "failure"):
        assert value("dockmesh_deploy_duration_seconds_count", stack="blog", result=result) == 0
        assert value("dockmesh_deploy_duration_seconds_bucket", stack="blog", result=result, le="60.0") == 0


def test_a_job_that_never_succeeded_is_0_while_it_is_enabled():
    fleets.small_fleet()
    assert value("dockmesh_backup_last_run_timestamp", job="new") == 0
    assert value("dockmesh_backup_last_run_timestamp", job="paused") is None
    assert value("dockmesh_backup_last_duration_seconds", job="new") is None
    assert value("dockmesh_backup_last_run_timestamp", job="nightly") == fleets.ago(3600).timestamp()


def test_a_name_that_looks_like_a_series_is_one_escaped_label():
    fleets.host('x"} 1\nevil 1\n#\\')
    families = {family.name: family for family in parse_text(page())}
    assert "evil" not in families
    (sample,) = families["dockmesh_agent_last_seen_seconds"].samples
    assert sample.labels == {"host": 'x"} 1\nevil 1\n#\\'}


# What promtool says. The page fixes names that its linter does not like; nothing else may be said.

COMPLAINTS = {
    'dockmesh_hosts_total non-counter metrics should not have "_total" suffix',
    'dockmesh_stacks_total non-counter metrics should not have "_total" suffix',
    'dockmesh_containers_total non-counter metrics should not have "_total" suffix',
}


@pytest.mark.integration
def test_promtool_complains_of_nothing_but_the_names_that_the_page_fixes():
    promtool = require("promtool")
    fleets.small_fleet()
    page()
    found = subprocess.run(
        [promtool, "check", "metrics"], input=page(), capture_output=True, text=True, check=False
    )
    ours = {line for line in (found.stdout + found.stderr).splitlines() if line.startswith("dockmesh_")}
    others = {line for line in (found.stdout + found.stderr).splitlines() if line not in ours}
    assert ours == COMPLAINTS
    assert others == set()


def test_every_family_has_help_that_ends_with_a_full_stop():
    assert all(family.help.endswith(".") for families in f.GROUPS.values() for family in families)
