"""Settings → Metrics: what an operator sees."""

import re

import pytest
from django.db import OperationalError
from django.test import Client

from metrics import scrapelog
from metrics.groups import Group
from tests.metrics import fleets
from tests.tokens.support import bearer, token_with, user_with


@pytest.fixture
def operator(db):
    client = Client()
    client.force_login(user_with("metrics.read", "fleet.read"))
    return client


def page(client):
    answer = client.get("/settings/metrics/")
    assert answer.status_code == 200
    return answer.content.decode()


def test_whoever_is_not_signed_in_is_led_to_sign_in(db):
    answer = Client().get("/settings/metrics/")
    assert answer.status_code == 302
    assert "/sign-in/" in answer["Location"]


def test_whoever_may_not_read_metrics_does_not_see_it(db):
    client = Client()
    client.force_login(user_with("fleet.read"))
    assert client.get("/settings/metrics/").status_code == 403


def test_the_scrape_configuration_is_there_in_both_forms(operator, settings):
    settings.DOCKMESH_BASE_URL = "https://dockmesh.example.com"
    text = page(operator)
    assert "Authentication is on" in text
    assert "credentials_file: /etc/prometheus/dockmesh.token" in text
    assert "credentials: &lt;your-api-token&gt;" in text
    assert "scheme: https" in text
    assert "dockmesh.example.com" in text


def test_public_metrics_are_a_loud_warning(operator, settings):
    settings.DOCKMESH_METRICS_AUTH = False
    text = page(operator)
    assert "Authentication is off" in text
    assert 'role="alert"' in text
    assert "credentials_file" not in text


def test_an_operator_sees_who_scrapes_and_why_another_is_refused(operator):
    _, good = token_with("metrics.read", name="prometheus-eu")
    _, poor = token_with("fleet.read", name="prometheus-us")
    client = Client(headers={"user-agent": "Prometheus/2.42.0"})
    client.get("/metrics", headers=bearer(good))
    client.get("/metrics", headers=bearer(poor))
    client.get("/metrics")
    scrapelog.log.flush()
    text = page(operator)
    scrapes, refusals = text.split("Last refusals")
    assert "prometheus-eu" in scrapes
    assert "Prometheus/2.42.0" in scrapes
    assert "prometheus-us" in refusals
    assert "Lacks the permission" in refusals
    assert "No credential" in refusals


def test_before_the_first_scrape_the_page_says_what_belongs_here(operator):
    assert "No scrape yet" in page(operator)


# What a scrape costs, and a choice of groups.


def test_an_operator_sees_how_many_series_each_family_has_and_what_a_scrape_costs(operator):
    fleets.small_fleet()
    text = page(operator)
    assert re.search(r"dockmesh_hosts_total</td><td class=\"num\">3<", text)
    assert re.search(r"dockmesh_container_state</td><td class=\"num\">[1-9]", text)
    assert "process_cpu_seconds_total" in text
    for group in Group:
        assert f'value="{group}" checked' in text
    assert "collect[]" not in text
    assert len(text) < 100_000


def test_the_configuration_is_for_the_groups_that_were_chosen(operator):
    text = operator.get("/settings/metrics/?collect=server&collect=fleet&collect=nonsense").content.decode()
    assert text.count("&#x27;collect[]&#x27;: [fleet, server]") >= 2
    assert 'value="fleet" checked' in text
    assert 'value="objects" checked' not in text
    assert 'value="objects"' in text


def test_all_groups_need_no_choice_in_the_configuration(operator):
    query = "&".join(f"collect={group}" for group in Group)
    assert "collect[]" not in operator.get(f"/settings/metrics/?{query}").content.decode()


def test_the_page_is_there_though_the_costs_are_not_known(operator, monkeypatch):
    def away():
        raise OperationalError("away")

    monkeypatch.setattr("metrics.rendering.snapshot", away)
    text = page(operator)
    assert "Not known now" in text
    assert "Scrape configuration" in text
