"""The overview: what it says about fleets that are empty, well and not well."""

from __future__ import annotations

import pytest
from django.test import Client
from django.utils.html import escape
from pytest_django import DjangoAssertNumQueries

from dockmesh.alerts import services as alerts
from dockmesh.alerts.models import Alert, AlertRule
from dockmesh.audit.services import SYSTEM as AUDIT_SYSTEM
from dockmesh.core import clock
from dockmesh.fleet.models import HeartbeatState, Host
from tests.fleetdata import make_fleet
from tokens.models import ApiToken, Role, User

pytestmark = pytest.mark.django_db


@pytest.fixture
def ada(client: Client) -> User:
    user = User.objects.create(username="ada", is_superuser=True)
    client.force_login(user)
    return user


def text_of(client: Client, path: str = "/") -> str:
    return client.get(path).content.decode()


def test_an_empty_overview_walks_a_newcomer_through(client: Client, ada: User) -> None:
    text = text_of(client)
    assert "No hosts yet" in text
    for words in (
        "Add a host",
        "Make a token for Prometheus",
        "credentials_file",
        "See the first scrape arrive",
    ):
        assert words in text
    assert "targets: [&#x27;testserver&#x27;]" in text
    role = Role.objects.create(name="scraper", permissions=["metrics.read"])
    token = ApiToken.objects.create(
        name="prometheus-scraper", public_id="abcdefghijkl", digest="0" * 64, pepper=0, role=role
    )
    assert text_of(client).count("is-done") == 1
    ApiToken.objects.filter(pk=token.pk).update(last_used_at=clock.now())
    assert text_of(client).count("is-done") == 3
    make_fleet(2, offline=0, degraded=0, broken=0)
    assert "From here to your first graph" not in text_of(client)


def test_who_may_not_add_hosts_is_not_told_to(client: Client) -> None:
    client.force_login(User.objects.create(username="vi", role=Role.objects.get(name="viewer")))
    text = text_of(client)
    assert "No hosts yet" in text
    assert "/hosts/add/" not in text
    assert "Recent activity" not in text


def test_a_fleet_that_is_well_says_so(client: Client, ada: User) -> None:
    make_fleet(3, offline=0, degraded=0, broken=0)
    text = text_of(client)
    assert "All 3 hosts are well" in text
    assert "Nothing: every host answers" in text


def test_what_is_wrong_comes_first_and_leads_there(client: Client, ada: User) -> None:
    make_fleet(8, offline=1, degraded=1, broken=1)
    offline = Host.objects.get(pk=HeartbeatState.objects.earliest("last_seen_at").pk)
    text = text_of(client)
    assert "3 things are wrong" in text
    assert f"<strong>Host {offline.name}</strong>" in text
    assert f'href="/hosts/{offline.pk}/"' in text
    assert "connection refused on /var/run/docker.sock" in text
    assert text.index("is offline") < text.index("is degraded")


def test_the_stacks_and_containers_of_an_offline_host_count_as_unknown(client: Client, ada: User) -> None:
    make_fleet(1, offline=1, degraded=0, broken=1)
    text = text_of(client)
    assert "?state=running" not in text
    assert "?state=unknown" in text
    assert "is in error" not in text


def test_a_firing_alert_stands_for_what_it_tells_of(client: Client, ada: User) -> None:
    make_fleet(4, offline=1, degraded=0, broken=1)
    alerts.create_recommended_rules(actor=AUDIT_SYSTEM)
    AlertRule.objects.update(for_seconds=0)
    alerts.evaluate()
    offline = Host.objects.get(pk=HeartbeatState.objects.earliest("last_seen_at").pk)
    alert = Alert.objects.get(key=f"host:{offline.pk}")
    text = text_of(client)
    assert text.count(f"<strong>Host {offline.name}</strong>") == 1
    assert f'href="/alerts/{alert.pk}/"' in text


def test_two_alerts_about_one_subject_are_one_trouble(client: Client, ada: User) -> None:
    make_fleet(1, offline=1, degraded=0, broken=0)
    alerts.create_recommended_rules(actor=AUDIT_SYSTEM)
    AlertRule.objects.update(for_seconds=0)
    twin = AlertRule.objects.create(name="Twin", kind="host_offline", severity="info")
    alerts.evaluate()
    assert Alert.objects.filter(status="firing", rule=twin).count() == 1
    text = text_of(client)
    assert "1 thing is wrong" in text
    assert text.count("No heartbeat since") == 1


def test_a_host_name_is_text_and_never_markup(client: Client, ada: User) -> None:
    make_fleet(1, offline=1, degraded=0, broken=0)
    name = '"><script>alert(1)</script>'
    Host.objects.update(name=name)
    text = text_of(client)
    assert name not in text
    assert escape(name) in text


def test_the_live_part_is_a_fragment(client: Client, ada: User) -> None:
    answer = client.get("/?part=live")
    assert answer.headers["X-Dockmesh-Part"] == "live"
    assert "<html" not in answer.content.decode()


@pytest.mark.parametrize("hosts", [10, 40])
def test_the_overview_asks_the_database_a_fixed_number_of_questions(
    client: Client, ada: User, hosts: int, django_assert_num_queries: DjangoAssertNumQueries
) -> None:
    make_fleet(hosts)
    with django_assert_num_queries(16):
        client.get("/")


def test_a_thousand_hosts_fit_on_a_small_page(client: Client, ada: User) -> None:
    make_fleet(2)
    hosts = []
    for number in range(1000):
        host = Host(name=f"host-{number:04d}", agent_token_id=f"x{number}", agent_digest="", agent_pepper=0)
        hosts.append(host)
    Host.objects.bulk_create(hosts)
    HeartbeatState.objects.bulk_create(HeartbeatState(host=host, last_seen_at=clock.now()) for host in hosts)
    answer = client.get("/", headers={"Accept-Encoding": "gzip"})
    assert answer.headers["Content-Encoding"] == "gzip"
    assert len(answer.content) < 40_000
