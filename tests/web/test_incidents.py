"""What is wrong now, by its root: on fleets where many things are wrong at once."""

from __future__ import annotations

import datetime
import re

import pytest
from django.test import Client
from pytest_django import DjangoAssertNumQueries

from dockmesh.alerts import services as alerts
from dockmesh.alerts import silences
from dockmesh.alerts.models import Alert, AlertRule
from dockmesh.audit.services import SYSTEM
from dockmesh.core import clock
from dockmesh.deploys.models import Deploy
from dockmesh.fleet.models import Container, HeartbeatState, Host, Stack
from dockmesh.fleet.selectors import summary
from dockmesh.fleet.states import ContainerState, StackState
from dockmesh.web import incidents
from dockmesh.web.incidents import Incident
from tests.tokens.support import user_with
from tokens.models import User

pytestmark = pytest.mark.django_db


def make_hosts(count: int, *, age: float = 2, apart: float = 0) -> list[Host]:
    """Hosts that were heard so many seconds ago, each a while before the next."""
    now = clock.now()
    first = Host.objects.count()
    hosts = Host.objects.bulk_create(
        Host(
            name=f"host-{number:03d}",
            agent_token_id=f"sim{number:09d}",
            agent_digest="0" * 64,
            agent_pepper=0,
        )
        for number in range(first, first + count)
    )
    HeartbeatState.objects.bulk_create(
        HeartbeatState(
            host=host, sequence=1, last_seen_at=now - datetime.timedelta(seconds=age - number * apart)
        )
        for number, host in enumerate(hosts)
    )
    return hosts


def break_stack(host: Host, name: str, *, exit_code: int = 139, service: str = "worker") -> Stack:
    """A stack of which one container has crashed."""
    now = clock.now()
    stack = Stack.objects.create(host=host, name=name, state="error", state_changed_at=now)
    Container.objects.create(
        host=host,
        stack=stack,
        container_id=f"{stack.pk:064x}",
        name=f"{name}-{service}-1",
        service=service,
        state="exited",
        exit_code=exit_code,
        finished_at=now - datetime.timedelta(seconds=stack.pk),
        changed_at=now,
    )
    return stack


def read() -> list[Incident]:
    now = clock.now()
    return incidents.with_flaps(incidents.read(summary.fleet_summary(now), now), now)


def test_hosts_that_went_silent_together_are_one_incident_and_come_before_stacks() -> None:
    make_hosts(50, age=600, apart=1)
    late = make_hosts(1, age=300)[0]
    well = make_hosts(1)[0]
    for number in range(12):
        break_stack(well, f"stack-{number}", service=f"service-{number}")
    found = read()
    assert [each.subject for each in found[:2]] == ["50 hosts", f"Host {late.name}"]
    assert found[0].words.startswith("are silent since ")
    assert found[0].path == "/hosts/?status=offline"
    assert len(found[0].hosts) == 50
    assert len(found) == 14


def test_a_silent_host_swallows_what_is_on_it() -> None:
    host = make_hosts(1)[0]
    break_stack(host, "shop")
    alerts.create_recommended_rules(actor=SYSTEM)
    AlertRule.objects.update(for_seconds=0)
    alerts.evaluate()
    HeartbeatState.objects.update(last_seen_at=clock.now() - datetime.timedelta(hours=1))
    alerts.evaluate()
    assert Alert.objects.filter(status="firing").count() >= 2
    (incident,) = read()
    assert incident.subject == f"Host {host.name}"
    assert incident.swallowed == Alert.objects.filter(status="firing").count()


def test_the_same_service_that_fails_on_many_hosts_is_one_incident() -> None:
    for host in make_hosts(12):
        break_stack(host, "shop")
    other = make_hosts(1)[0]
    break_stack(other, "shop", exit_code=1)
    several, one = sorted(read(), key=lambda each: each.subject == f"Stack shop on {other.name}")
    assert several.subject == "shop"
    assert several.words == "fails on 12 hosts: worker exited with 139."
    assert len(several.containers) == 12
    assert several.restart_path.count("container=") == 12
    assert "exited with 1," in one.words
    assert one.logs_path == f"/containers/{one.containers[0]}/"


def test_alerts_of_a_stack_and_its_containers_are_one_incident_with_it() -> None:
    host = make_hosts(1)[0]
    break_stack(host, "shop")
    alerts.create_recommended_rules(actor=SYSTEM)
    rule = AlertRule.objects.get(kind="container_state")
    rule.parameters = {"states": ["exited"], "healths": []}
    rule.save()
    AlertRule.objects.update(for_seconds=0)
    alerts.evaluate()
    (incident,) = read()
    assert incident.swallowed == 2
    assert incident.words.count("worker exited with 139") == 1


def test_ids_and_order_stay_while_others_come_and_go() -> None:
    first, second, third = make_hosts(3)
    shop, blog = break_stack(first, "shop"), break_stack(second, "blog", service="web")
    before = {each.subject: each.id for each in read()}
    break_stack(third, "wiki", service="php")
    after = {each.subject: each.id for each in read()}
    assert list(after)[:2] == list(before)
    assert {name: after[name] for name in before} == before
    shop.delete()
    blog.containers.update(exit_code=3)
    assert {each.subject: each.id for each in read()}[f"Stack blog on {second.name}"] == before[
        f"Stack blog on {second.name}"
    ]


def test_hosts_whose_docker_fails_alike_are_one_incident() -> None:
    hosts = make_hosts(3)
    Host.objects.filter(pk__in=[host.pk for host in hosts[:2]]).update(docker_error="disk full")
    Host.objects.filter(pk=hosts[2].pk).update(docker_error="connection refused")
    HeartbeatState.objects.update(is_degraded=True)
    assert {(each.subject, each.words) for each in read()} == {
        ("2 hosts", "are degraded: disk full"),
        (f"Host {hosts[2].name}", "is degraded: connection refused"),
    }


def test_how_often_it_came_within_a_day_is_told() -> None:
    make_hosts(1)
    alerts.create_recommended_rules(actor=SYSTEM)
    AlertRule.objects.update(for_seconds=0)
    for _ in range(3):
        HeartbeatState.objects.update(last_seen_at=clock.now() - datetime.timedelta(hours=1))
        alerts.evaluate()
        (incident,) = read()
        HeartbeatState.objects.update(last_seen_at=clock.now())
        alerts.evaluate()
    assert incident.flaps == 3
    assert read() == []


def test_a_bad_day_of_500_hosts_is_a_small_page_with_few_questions(
    client: Client, django_assert_max_num_queries: DjangoAssertNumQueries
) -> None:
    client.force_login(User.objects.create(username="ada", is_superuser=True))
    make_hosts(19, age=7200, apart=300)
    for host in make_hosts(481):
        break_stack(host, "shop")
    with django_assert_max_num_queries(16):
        answer = client.get("/")
    assert len(answer.content) < 100_000
    text = answer.content.decode()
    assert "fails on 481 hosts" in text
    assert text.index("Host host-000") < text.index("fails on 481 hosts")


# The strip of hosts.


def strip_of(client: Client, path: str = "/") -> dict[str, tuple[str, str]]:
    """By the host's name: the look of its cell, and what it says."""
    text = client.get(path).content.decode()
    cells = re.findall(r'class="strip-(\w+)"\s+href="/hosts/\d+/" title="([^:"]+): ([^"]+)"', text)
    return {name: (look, words) for look, name, words in cells}


def test_a_cell_looks_like_the_worst_that_is_on_its_host(client: Client) -> None:
    client.force_login(User.objects.create(username="ada", is_superuser=True))
    _, stack, container, docker, away, new = hosts = make_hosts(6)
    states = {state: index for index, state in enumerate(StackState)}
    counts = ["0"] * len(states)
    counts[states[StackState.ERROR]] = "2"
    Host.objects.filter(pk__in=[stack.pk, away.pk]).update(stack_counts=",".join(counts))
    failing = ["1" if state == "restarting" else "0" for state in ContainerState]
    Host.objects.filter(pk=container.pk).update(container_counts=",".join(failing))
    HeartbeatState.objects.filter(pk=docker.pk).update(is_degraded=True)
    long_ago = clock.now() - datetime.timedelta(hours=1)
    HeartbeatState.objects.filter(pk=away.pk).update(last_seen_at=long_ago)
    HeartbeatState.objects.filter(pk=new.pk).update(last_seen_at=long_ago, sequence=-1)
    shown = strip_of(client)
    assert [shown[host.name][0] for host in hosts] == [
        "well",
        "error",
        "failing",
        "degraded",
        "offline",
        "unknown",
    ]
    assert shown[stack.name][1].startswith("online, last seen ")
    assert shown[stack.name][1].endswith(", 2 stacks in error")
    assert shown[container.name][1].endswith(", 1 container failing")


def test_the_strip_is_grouped_by_a_label_of_the_address(client: Client) -> None:
    client.force_login(User.objects.create(username="ada", is_superuser=True))
    hosts = make_hosts(5)
    for host, labels in zip(hosts, [{"env": "prod"}, {"env": "dev"}, {"env": "prod"}, {}], strict=False):
        Host.objects.filter(pk=host.pk).update(labels=labels)
    text = client.get("/?by=env").content.decode()
    names = re.findall(r'<h3 class="strip-name break">([^<]+) <span class="muted">(\d+)', text)
    assert names == [("env=dev", "1"), ("env=prod", "2"), ("without env", "2")]
    assert len(strip_of(client, "/?by=env")) == 5
    assert "part=live&amp;by=env" in text
    assert "strip-name" not in client.get("/?by=nothing-of-that-name").content.decode()


def test_500_cells_fit_on_a_small_page(client: Client) -> None:
    client.force_login(User.objects.create(username="ada", is_superuser=True))
    make_hosts(500)
    text = client.get("/").content
    assert text.count(b'<a id="cell-') == 500
    assert len(text) < 100_000


def test_two_alerts_about_one_thing_are_one_incident_that_leads_to_the_worse() -> None:
    rules = [
        AlertRule.objects.create(name=name, kind="token_expiring", severity=severity)
        for name, severity in (("mild", "info"), ("grave", "critical"))
    ]
    now = clock.now()
    for rule in rules:
        Alert.objects.create(
            rule=rule,
            key="token:ci",
            subject="API token ci",
            cause=f"By {rule.name}.",
            severity=rule.severity,
            status="firing",
            active_since=now,
            fired_at=now,
        )
    (incident,) = read()
    assert incident.path == f"/alerts/{Alert.objects.get(rule=rules[1]).pk}/"
    assert (incident.words, incident.tone) == ("By grave. By mild.", "bad")


def test_whoever_may_read_it_sees_the_last_lines_of_the_deploy_that_failed(client: Client) -> None:
    host = make_hosts(1)[0]
    stack = break_stack(host, "shop")
    Stack.objects.filter(pk=stack.pk).update(has_failed_deploy=True)
    Deploy.objects.create(
        stack=stack,
        stack_name=stack.name,
        host_name=host.name,
        operation="up",
        status="failure",
        requested_by="ada",
        requested_at=clock.now(),
        error="exit code 1",
        finished_at=clock.now(),
        output="pulling\n" * 300 + "one\n\ntwo\nno such image: shop:9\n",
    )
    client.force_login(user_with("fleet.read", "stacks.read"))
    assert "no such image: shop:9" in client.get("/").content.decode()
    client.force_login(user_with("fleet.read", name="vi"))
    text = client.get("/").content.decode()
    assert "no such image" not in text
    assert "exit code 1" in text
    (incident,) = incidents.with_last_lines(read())
    assert incident.last_lines == ("one", "two", "no such image: shop:9")


def test_what_is_silenced_comes_last_and_is_not_counted(client: Client) -> None:
    client.force_login(User.objects.create(username="ada", is_superuser=True))
    away = make_hosts(1, age=600)[0]
    break_stack(make_hosts(1)[0], "shop")
    ends_at = clock.now() + datetime.timedelta(hours=1)
    silences.create_silence(actor=SYSTEM, match_host=away.name, ends_at=ends_at)
    found = read()
    assert [(each.host_name, each.is_silenced) for each in found][-1] == (away.name, True)
    text = client.get("/").content.decode()
    assert "1 thing is wrong" in text
    assert "Silenced" in text
    silences.create_silence(actor=SYSTEM, match_host="*", ends_at=ends_at)
    assert "What is wrong is silenced" in client.get("/").content.decode()
