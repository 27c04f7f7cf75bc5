"""`/metrics` as a client sees it."""

import datetime
import gzip
import re
import threading

import pytest
from django.db import OperationalError, connection
from django.test import Client
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families as parse_text

from dockmesh.core import clock
from dockmesh.core.compiled import CompiledQuery, Statement
from metrics import families as f
from metrics import rendering, scrapelog
from metrics.models import ScrapeRecord
from tests.metrics import fleets
from tests.tokens.support import bearer, token_with

PROMETHEUS_2 = (
    "application/openmetrics-text;version=1.0.0;q=0.5,application/openmetrics-text;version=0.0.1;q=0.4,"
    "text/plain;version=0.0.4;q=0.3,*/*;q=0.2"
)
PROMETHEUS_3 = (
    "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.6,"
    "application/openmetrics-text;version=0.0.1;q=0.5,"
    "text/plain;version=1.0.0;escaping=allow-utf-8;q=0.4,text/plain;version=0.0.4;q=0.3,*/*;q=0.2"
)
PROMETHEUS_WITH_PROTOBUF = (
    "application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=delimited;q=0.6,"
    + PROMETHEUS_2
)


@pytest.fixture
def scraper(db):
    """Headers of a token that may scrape."""
    _, text = token_with("metrics.read", name="scraper")
    return bearer(text)


def scrape(headers, **more):
    return Client().get("/metrics", headers={**headers, **more})


def test_a_token_with_metrics_read_gets_every_family_in_the_pages_order(scraper):
    answer = scrape(scraper)
    assert answer.status_code == 200
    text = answer.content.decode()
    found = [line.split()[2] for line in text.splitlines() if line.startswith("# TYPE dockmesh_")]
    assert found == [family.name for families in f.GROUPS.values() for family in families]
    helped = [line.split()[2] for line in text.splitlines() if line.startswith("# HELP dockmesh_")]
    assert helped == found


def test_the_process_and_pythons_runtime_and_requests_come_along(scraper):
    scrape(scraper)
    names = {family.name for family in parse_text(scrape(scraper).content.decode())}
    assert {"process_cpu_seconds", "python_info", "python_gc_collections"} <= names
    assert "django_http_requests_total_by_method" in names
    assert not [name for name in names if name.endswith("_created")]


def test_order_does_not_change_from_scrape_to_scrape(scraper):
    def heads():
        return [line for line in scrape(scraper).content.decode().splitlines() if line.startswith("# TYPE")]

    scrape(scraper)
    assert heads() == heads()


@pytest.mark.parametrize(
    ("accept", "content_type"),
    [
        ("", "text/plain; version=0.0.4; charset=utf-8"),
        ("*/*", "text/plain; version=0.0.4; charset=utf-8"),
        ("text/html", "text/plain; version=0.0.4; charset=utf-8"),
        ("application/json", "text/plain; version=0.0.4; charset=utf-8"),
        ("nonsense;;;q=x,,", "text/plain; version=0.0.4; charset=utf-8"),
        ("text/plain;version=0.0.4", "text/plain; version=0.0.4; charset=utf-8"),
        ("application/openmetrics-text", "application/openmetrics-text; version=1.0.0; charset=utf-8"),
        ("application/openmetrics-text;version=2.0.0", "text/plain; version=0.0.4; charset=utf-8"),
        ("application/openmetrics-text;q=0,text/plain;q=0.1", "text/plain; version=0.0.4; charset=utf-8"),
        ("text/plain;q=0.9,application/openmetrics-text;q=0.8", "text/plain; version=0.0.4; charset=utf-8"),
        (PROMETHEUS_2, "application/openmetrics-text; version=1.0.0; charset=utf-8"),
        (PROMETHEUS_WITH_PROTOBUF, "application/openmetrics-text; version=1.0.0; charset=utf-8"),
        (
            PROMETHEUS_3,
            "application/openmetrics-text; version=1.0.0; charset=utf-8; escaping=allow-utf-8",
        ),
        (
            "application/openmetrics-text;version=1.0.0;escaping=evil",
            "application/openmetrics-text; version=1.0.0; charset=utf-8",
        ),
    ],
)
def test_the_format_follows_the_accept_header(scraper, accept, content_type):
    answer = scrape(scraper, accept=accept)
    assert answer.status_code == 200
    assert answer["Content-Type"] == content_type
    text = answer.content.decode()
    if "openmetrics" in content_type:
        assert text.endswith("# EOF\n")
        list(parse_openmetrics(text))
    else:
        assert "# EOF" not in text
        list(parse_text(text))


@pytest.mark.parametrize(
    ("encoding", "is_gzip"),
    [
        ("", False),
        ("gzip", True),
        ("GZIP", True),
        ("gzip;q=0", False),
        ("gzip;q=0, *", False),
        ("deflate, gzip;q=0.5", True),
        ("*", True),
        ("*;q=0", False),
        ("identity", False),
        ("br", False),
    ],
)
def test_gzip_follows_the_accept_encoding_header(scraper, encoding, is_gzip):
    answer = scrape(scraper, **{"accept-encoding": encoding})
    assert answer.headers.get("Content-Encoding") == ("gzip" if is_gzip else None)
    text = gzip.decompress(answer.content) if is_gzip else answer.content
    assert text.startswith(b"# HELP dockmesh_hosts_total ")
    assert int(answer["Content-Length"]) == len(answer.content)


def test_head_has_the_headers_and_no_body(scraper):
    answer = Client().head("/metrics", headers=scraper)
    assert answer.status_code == 200
    assert answer.content == b""
    assert int(answer["Content-Length"]) > 1000


@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "FOO123"])
def test_other_methods_are_405_with_what_is_allowed(scraper, method):
    answer = Client(enforce_csrf_checks=True).generic(method, "/metrics", headers=scraper)
    assert answer.status_code == 405
    assert answer["Allow"].startswith("GET, HEAD")


@pytest.mark.parametrize("name", ["dockmesh_agent_rtt_seconds", "dockmesh_agent_rtt_seconds_bucket"])
def test_name_filters_families(scraper, name):
    answer = Client().get("/metrics", {"name[]": [name, "python_info", "nobody"]}, headers=scraper)
    heads = [line.split()[2] for line in answer.content.decode().splitlines() if line.startswith("# TYPE")]
    assert heads == ["dockmesh_agent_rtt_seconds", "python_info"]


# Who may.


def test_no_credential_is_401_without_an_error_and_without_a_series(db):
    answer = scrape({})
    assert answer.status_code == 401
    assert answer["WWW-Authenticate"] == 'Bearer realm="dockmesh"'
    assert b"dockmesh_" not in answer.content


def test_bad_tokens_are_401_with_the_same_body(db):
    now = clock.now()
    past = now - datetime.timedelta(days=1)
    texts = [
        "",
        "nonsense",
        token_with("metrics.read", name="a", expires_at=past)[1],
        token_with("metrics.read", name="b", revoked_at=past)[1],
        token_with("metrics.read", name="c", is_enabled=False)[1],
    ]
    answers = [scrape(bearer(text)) for text in texts]
    assert {answer.status_code for answer in answers} == {401}
    assert {answer["WWW-Authenticate"] for answer in answers} == {
        'Bearer realm="dockmesh", error="invalid_token"'
    }
    assert len({answer.content for answer in answers}) == 1


def test_a_token_without_the_permission_is_403(db):
    answer = scrape(bearer(token_with("fleet.read")[1]))
    assert answer.status_code == 403
    assert answer["WWW-Authenticate"] == 'Bearer realm="dockmesh", error="insufficient_scope"'


def test_an_address_outside_the_allow_list_is_403(db):
    _, text = token_with("metrics.read", allowed_cidrs=["192.0.2.0/24"])
    answer = scrape({**bearer(text), "x-forwarded-for": "192.0.2.1", "forwarded": "for=192.0.2.1"})
    assert answer.status_code == 403


def test_a_token_in_the_query_or_a_cookie_is_no_credential(db):
    _, text = token_with("metrics.read")
    client = Client()
    client.cookies["token"] = text
    assert client.get(f"/metrics?token={text}&access_token={text}").status_code == 401


def test_without_authentication_the_page_is_public_and_says_so(db, settings):
    settings.DOCKMESH_METRICS_AUTH = False
    answer = scrape({})
    assert answer.status_code == 200
    assert b"\ndockmesh_metrics_auth_enabled 0\n" in answer.content


def test_with_authentication_the_page_says_so(scraper):
    assert b"\ndockmesh_metrics_auth_enabled 1\n" in scrape(scraper).content


# What fails.


def _away(*_args, **_kwargs):
    raise OperationalError("the database is away")


def test_a_database_away_is_503_and_never_401(scraper, monkeypatch):
    monkeypatch.setattr("tokens.bearer.authenticate", _away)
    answer = scrape(scraper)
    assert answer.status_code == 503
    assert answer["Retry-After"]


def test_a_database_that_goes_away_after_authentication_is_503(scraper, monkeypatch):
    monkeypatch.setattr("metrics.rendering.snapshot", _away)
    answer = scrape(scraper)
    assert answer.status_code == 503
    assert b"dockmesh_" not in answer.content


def test_a_public_page_without_a_database_shows_the_process_only(db, settings, monkeypatch):
    settings.DOCKMESH_METRICS_AUTH = False
    monkeypatch.setattr("metrics.rendering.snapshot", _away)
    answer = scrape({})
    assert answer.status_code == 200
    text = answer.content.decode()
    assert "\ndockmesh_db_up 0\n" in text
    assert "process_cpu_seconds_total" in text
    assert "dockmesh_hosts_total" not in text


@pytest.mark.parametrize(
    ("broken", "collector", "gone"),
    [
        ("dockmesh.fleet.selectors.heartbeat_columns", "fleet", f.CONTAINERS),
        ("dockmesh.fleet.selectors.objects.host_objects", "objects", f.CONTAINER_STATE),
        ("dockmesh.fleet.selectors.stack_series_versions", "deploys", f.DEPLOY_DURATION),
        ("dockmesh.backups.selectors.job_rows", "backups", f.BACKUP_LAST_RUN),
        ("dockmesh.alerts.selectors.rule_samples", "alerts", f.ALERTS_FIRED),
        ("dockmesh.audit.selectors.action_counts", "audit", f.AUDIT_ENTRIES),
        ("tokens.selectors.token_expiries", "tokens", f.TOKEN_EXPIRES),
        ("dockmesh.alerts.selectors.channel_samples", "channels", f.NOTIFICATIONS),
        ("dockmesh.deploys.selectors.open_deploys", "open_deploys", f.DEPLOYS_OPEN),
        ("dockmesh.fleet.selectors.last_deploy_versions", "last_deploys", f.STACK_LAST_DEPLOY),
        ("metrics.events.counts", "server", f.HEARTBEATS),
        ("dockmesh.scheduler.selectors.task_samples", "tasks", f.PERIODIC_TASK_FAILURES),
    ],
)
def test_a_collector_that_fails_takes_only_its_own_families_away(
    scraper, monkeypatch, caplog, broken, collector, gone
):
    def fail(*_args):
        raise RuntimeError("broken")

    fleets.host("atlas")
    monkeypatch.setattr(broken, fail)
    text = scrape(scraper).content.decode()
    assert f'dockmesh_collector_success{{collector="{collector}"}} 0\n' in text
    # The process's own is one besides.
    assert text.count('dockmesh_collector_success{collector="') == len(rendering.renderer.collectors) + 1
    assert f"# TYPE {gone.name} " not in text
    assert f"# TYPE {f.API_REQUESTS.name} " in text
    assert f"Collector {collector} failed" in caplog.text
    monkeypatch.undo()


@pytest.mark.django_db(transaction=True)
def test_a_failed_query_leaves_the_other_collectors_a_working_transaction(settings, monkeypatch):
    settings.DOCKMESH_METRICS_AUTH = False

    def ask_for_nonsense(_now):
        with connection.cursor() as cursor:
            cursor.execute("SELECT no_such_column FROM fleet_hostpulse")

    monkeypatch.setattr("dockmesh.fleet.selectors.heartbeat_columns", ask_for_nonsense)
    text = scrape({}).content.decode()
    assert 'dockmesh_collector_success{collector="fleet"} 0\n' in text
    assert text.count("} 1\n", text.index("dockmesh_collector_success{")) >= 8
    assert "dockmesh_audit_log_entries_total{" in text


@pytest.mark.django_db(transaction=True)
def test_a_query_that_fails_among_those_read_together_takes_only_its_own_collector_away(
    settings, monkeypatch
):
    settings.DOCKMESH_METRICS_AUTH = False
    nonsense = CompiledQuery(lambda: Statement("SELECT no_such_column FROM alerts_alertrule", columns=5))
    monkeypatch.setattr("dockmesh.alerts.selectors.RULES", nonsense)
    monkeypatch.setattr("metrics.collectors.alerts.AlertsCollector.queries", (nonsense,))
    for _ in range(2):
        text = scrape({}).content.decode()
        assert 'dockmesh_collector_success{collector="alerts"} 0\n' in text
        assert len(re.findall(r"^dockmesh_collector_success{.*} 0$", text, re.MULTILINE)) == 1


@pytest.mark.parametrize("timeout", ["0.0000001", "1e-9"])
def test_a_scrape_that_cannot_be_answered_in_time_is_503(scraper, timeout):
    answer = scrape(scraper, **{"x-prometheus-scrape-timeout-seconds": timeout})
    assert answer.status_code == 503
    assert answer["Retry-After"]


@pytest.mark.parametrize("timeout", ["", "x", "-1", "nan", "inf", "10"])
def test_a_timeout_that_makes_no_sense_is_ignored(scraper, timeout):
    assert scrape(scraper, **{"x-prometheus-scrape-timeout-seconds": timeout}).status_code == 200


# Who is told what afterwards.


def test_scrapes_and_refusals_are_recorded_with_reasons(db):
    _, good = token_with("metrics.read", name="good")
    _, poor = token_with("fleet.read", name="poor")
    _, old = token_with("metrics.read", name="old", expires_at=clock.now() - datetime.timedelta(days=1))
    for text in (good, good, poor, old):
        scrape(bearer(text), **{"user-agent": "Prometheus/2.42\x01"})
    scrape({})
    scrapelog.log.flush()
    scrape(bearer(good))
    scrapelog.log.flush()
    assert set(ScrapeRecord.objects.values_list("token_name", "refusal", "count")) == {
        ("good", "", 3),
        ("poor", "lacks the permission", 1),
        ("old", "expired", 1),
        ("", "no credential", 1),
    }
    assert ScrapeRecord.objects.get(token_name="poor").user_agent == "Prometheus/2.42?"


def test_the_record_of_scrapes_is_bounded(db):
    for number in range(scrapelog.KEPT_RECORDS + 50):
        scrapelog.log.add(token_name="", address=f"192.0.2.{number}", refusal="no credential")
    scrapelog.log.flush()
    assert ScrapeRecord.objects.count() == scrapelog.KEPT_RECORDS


# Guards.


@pytest.mark.django_db(transaction=True)
def test_a_scrape_takes_a_fixed_number_of_queries(django_assert_num_queries):
    _, text = token_with("metrics.read")
    headers = bearer(text)
    scrape(headers)
    # Token; begin; what is read together, heartbeats, usage; end.
    with django_assert_num_queries(6):
        scrape(headers)


@pytest.mark.django_db(transaction=True)
def test_parallel_scrapes_agree_on_the_families(settings):
    settings.DOCKMESH_METRICS_AUTH = False
    answers = []

    def run():
        answers.append(scrape({}).content.decode())
        connection.close()

    threads = [threading.Thread(target=run) for _ in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    families = {tuple(line for line in text.splitlines() if line.startswith("# TYPE d")) for text in answers}
    assert len(answers) == 20
    assert len({tuple(line for line in at if "dockmesh_" in line) for at in families}) == 1
