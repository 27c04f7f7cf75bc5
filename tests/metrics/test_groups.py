"""`collect[]` and `exclude[]`: a scrape that asks for less gets less, and costs less."""

import itertools

import pytest
from django.db import OperationalError
from django.test import Client
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families as parse_text

from metrics import families as f
from metrics import rendering
from metrics.groups import ALL, Group
from tests.metrics import fleets
from tests.tokens.support import bearer, token_with


@pytest.fixture
def _public(db, settings):
    settings.DOCKMESH_METRICS_AUTH = False


def scrape(accept="text/plain", **asked):
    answer = Client().get(
        "/metrics", {f"{name}[]": values for name, values in asked.items()}, headers={"accept": accept}
    )
    assert answer.status_code == 200, answer.content
    return answer.content.decode()


def heads(text):
    return [line.split()[2] for line in text.splitlines() if line.startswith("# TYPE")]


def own(text):
    return [name for name in heads(text) if name.startswith("dockmesh_")]


def of(*groups):
    return [family.name for group in groups for family in f.GROUPS[group]]


def collectors(text):
    return [
        sample.labels["collector"]
        for family in parse_text(text)
        if family.name == f.COLLECTOR_SUCCESS.name
        for sample in family.samples
    ]


@pytest.mark.usefixtures("_public")
def test_every_family_is_in_one_group_and_all_of_them_are_the_page():
    pages = {group: heads(scrape(collect=[group])) for group in Group}
    whole = heads(scrape())
    assert list(itertools.chain(*pages.values())) == whole
    assert len(whole) == len(set(whole))
    for group in Group:
        assert [name for name in pages[group] if name.startswith("dockmesh_")] == of(group)


@pytest.mark.usefixtures("_public")
def test_the_process_own_metrics_are_the_servers():
    text = scrape(collect=["server"])
    assert {"process_cpu_seconds_total", "python_info"} <= set(heads(text))
    assert "django_http_requests_total_by_method_total" in heads(text)
    assert not [name for name in heads(scrape(exclude=["server"])) if not name.startswith("dockmesh_")]


@pytest.mark.usefixtures("_public")
def test_several_may_be_collected_and_others_excluded():
    assert own(scrape(collect=["server", "fleet"])) == of(Group.FLEET, Group.SERVER)
    assert own(scrape(exclude=["server", "objects"])) == of(Group.FLEET, Group.USAGE)
    assert own(scrape(collect=["server", "fleet", "fleet"], exclude=["server"])) == of(Group.FLEET)
    assert scrape(exclude=list(Group)) == ""
    assert scrape("application/openmetrics-text", exclude=list(Group)) == "# EOF\n"


@pytest.mark.usefixtures("_public")
@pytest.mark.parametrize("group", Group)
def test_each_choice_is_whole_in_both_formats_and_by_head(group):
    fleets.small_fleet()
    list(parse_openmetrics(scrape("application/openmetrics-text", collect=[group])))
    list(parse_text(scrape(collect=[group])))
    head = Client().head("/metrics", {"collect[]": group})
    assert (head.status_code, head.content) == (200, b"")


@pytest.mark.usefixtures("_public")
def test_names_filter_within_the_groups():
    names = ["dockmesh_hosts_total", "python_info"]
    assert heads(scrape(name=names)) == names
    assert heads(scrape(name=names, collect=["fleet"])) == names[:1]
    assert heads(scrape(name=names, exclude=["fleet"])) == names[1:]


@pytest.mark.usefixtures("_public")
@pytest.mark.parametrize("parameter", ["collect[]", "exclude[]"])
@pytest.mark.parametrize("name", ["nonsense", "", "FLEET", "fleet,server", "x" * 5000, "\x00"])
def test_an_unknown_group_is_400_that_names_the_known_ones(parameter, name):
    answer = Client().get("/metrics", {parameter: ["fleet", name]})
    assert answer.status_code == 400
    assert answer["Content-Type"] == "application/problem+json"
    assert "fleet, objects, usage, server" in answer.json()["detail"]
    assert list(answer.json()["errors"]) == [parameter]
    assert len(answer.content) < 1000


def test_who_may_not_read_is_told_nothing_of_groups(db):
    assert Client().get("/metrics", {"collect[]": "nonsense"}).status_code == 401
    headers = bearer(token_with("fleet.read")[1])
    assert Client().get("/metrics", {"collect[]": "nonsense"}, headers=headers).status_code == 403


# What isn't asked for does not run.


@pytest.mark.usefixtures("_public")
def test_collectors_that_are_not_asked_for_do_not_run(monkeypatch):
    ran = []
    for collector in rendering.renderer.collectors:

        def collect(_scrape, name=collector.name):
            ran.append(name)
            return {}

        monkeypatch.setattr(collector, "collect", collect)
    for group in Group:
        ran.clear()
        rendering.renderer._kept.clear()
        scrape(collect=[group])
        assert ran == [each.name for each in rendering.renderer.collectors if group in each.groups]


@pytest.mark.usefixtures("_public")
@pytest.mark.parametrize(
    ("names", "wanted"),
    [
        (["dockmesh_hosts_total"], ["fleet"]),
        (["dockmesh_deploy_duration_seconds_bucket", "dockmesh_scrapes"], ["deploys", "server"]),
        (["dockmesh_alerts"], ["alerts"]),
        (["dockmesh_db_up"], []),
        (["python_info"], ["process"]),
        (["dockmesh_no_such_thing"], ["process"]),
    ],
)
def test_collectors_that_have_none_of_the_names_do_not_run(monkeypatch, names, wanted):
    ran = []

    def note(name, found):
        ran.append(name)
        return found

    renderer = rendering.renderer
    for collector in renderer.collectors:
        monkeypatch.setattr(collector, "collect", lambda _scrape, name=collector.name: note(name, {}))
    monkeypatch.setattr(renderer._runtime, "sections", lambda: note("process", []))
    scrape(name=names)
    assert ran == wanted


@pytest.mark.usefixtures("_public")
def test_what_tells_of_collectors_tells_of_all_that_the_groups_have():
    text = scrape(name=["dockmesh_collector_success", "dockmesh_hosts_total"], collect=["fleet"])
    assert collectors(text) == collectors(scrape(collect=["fleet"]))


@pytest.mark.usefixtures("_public")
def test_every_family_is_found_alone():
    fleets.small_fleet()
    for family in (family for families in f.GROUPS.values() for family in families):
        assert heads(scrape(name=[family.name])) == [family.name]


@pytest.mark.usefixtures("_public")
def test_the_collectors_that_are_told_of_are_those_that_ran():
    assert "tasks" in collectors(scrape())
    told = collectors(scrape(collect=["fleet"]))
    assert "fleet" in told
    assert not {"tasks", "process"} & set(told)


@pytest.mark.django_db(transaction=True)
def test_a_scrape_that_asks_for_less_takes_fewer_queries(settings, django_assert_num_queries):
    settings.DOCKMESH_METRICS_AUTH = False
    fleets.small_fleet()
    scrape()
    # Begin; what is read together, heartbeats; end.
    for group in ("fleet", "objects"):
        with django_assert_num_queries(4):
            scrape(collect=[group])
    # Begin; what is read together; end.
    with django_assert_num_queries(3):
        scrape(collect=["server"])
    # Begin; what is read together; usage; end.
    with django_assert_num_queries(4):
        scrape(collect=["usage"])


@pytest.mark.usefixtures("_public")
def test_a_page_of_more_serves_who_asked_for_less_as_if_it_were_alone(monkeypatch):
    fleets.small_fleet()
    renderer = rendering.renderer
    shared = renderer._render(renderer.wanted(ALL)).page(frozenset({Group.FLEET}))
    alone = renderer._render(renderer.wanted(frozenset({Group.FLEET}))).page(frozenset({Group.FLEET}))
    text, other = (page.body(openmetrics=False, gzip=False).chunks[0].decode() for page in (shared, alone))
    assert heads(text) == heads(other)
    assert collectors(text) == collectors(other)


@pytest.mark.usefixtures("_public")
def test_without_a_database_a_choice_holds_too(monkeypatch):
    def away():
        raise OperationalError("away")

    monkeypatch.setattr("metrics.rendering.snapshot", away)
    assert "\ndockmesh_db_up 0\n" in scrape(collect=["fleet"])
    assert own(scrape(collect=["server"])) == []
    assert "python_info" in heads(scrape(collect=["server"]))
    assert "python_info" not in heads(scrape(collect=["fleet"]))
