"""Queries that are compiled once give what the ORM gives."""

import datetime
import threading

import pytest

from dockmesh.core.compiled import CompiledQuery, Statement, read_together
from dockmesh.fleet.models import HeartbeatState, Host
from tests.metrics import fleets
from tests.tokens.support import token_with
from tokens.models import ApiToken


@pytest.fixture(autouse=True)
def _hosts(db):
    fleets.host("a", seen=5.25, degraded=True)
    fleets.host("b")
    Host.objects.filter(name="a").update(labels={"rack": "1"})


def test_rows_are_those_of_values_list_with_all_conversions():
    build = lambda: Host.objects.order_by("name").values_list("id", "name", "labels", "enrolled_at")  # noqa: E731
    query = CompiledQuery(build)
    for _ in range(2):
        assert query.rows() == list(build())
    assert isinstance(query.rows()[0][3], datetime.datetime)


def test_a_value_is_put_in_the_place_that_was_left_for_it():
    query = CompiledQuery(lambda: Host.objects.filter(name="<name>").values_list("name"))
    assert query.rows({"<name>": "a"}) == [("a",)]
    assert query.rows({"<name>": "b"}) == [("b",)]
    assert query.rows({"<name>": "' OR 1=1 --"}) == []


def test_it_is_built_once_and_runs_one_query(django_assert_num_queries):
    built = []

    def build():
        built.append(1)
        return Host.objects.filter(pk=-1).values_list("name")

    query = CompiledQuery(build)
    for host in Host.objects.all():
        with django_assert_num_queries(1):
            assert query.rows({-1: host.pk}) == [(host.name,)]
    assert built == [1]


def test_json_and_times_of_a_joined_row_are_converted():
    row, _ = token_with("metrics.read", expires_at=fleets.NOW)
    query = CompiledQuery(
        lambda: ApiToken.objects.filter(public_id="<id>").values_list("role__permissions", "expires_at")
    )
    assert query.rows({"<id>": row.public_id}) == [(["metrics.read"], fleets.NOW)]


# Several in one statement.


def _together():
    token_with("metrics.read", name="a", expires_at=fleets.NOW)
    token_with("metrics.read", name='b "quoted" \\ Zürich\n')
    return (
        CompiledQuery(lambda: Host.objects.order_by("-name").values_list("name", "id")),
        CompiledQuery(lambda: ApiToken.objects.order_by("name").values_list("name", "expires_at")),
        CompiledQuery(lambda: Host.objects.filter(name="no such").values_list("name")),
        CompiledQuery(lambda: Statement("SELECT count(*), 'x' FROM fleet_host", columns=2)),
    )


def test_what_is_read_together_is_what_each_query_gives_alone(django_assert_num_queries):
    queries = _together()
    alone = [query.rows() for query in queries]
    with django_assert_num_queries(1), read_together(queries):
        assert [query.rows() for query in queries] == alone
    assert alone[1][0] == ("a", fleets.NOW)
    assert alone[2] == []
    assert [query.text for query in queries] == [None] * 4


def test_rows_that_did_not_change_are_the_same_list_and_others_are_read_anew():
    hosts, *others = queries = _together()
    with read_together(queries):
        before = [query.rows() for query in queries]
    Host.objects.filter(name="a").update(name="c")
    assert hosts.rows()[0][0] == "c"
    with read_together(queries):
        assert hosts.rows()[0][0] == "c"
        assert [query.rows() is rows for query, rows in zip(others, before[1:], strict=True)] == [True] * 3


def test_another_thread_reads_for_itself():
    queries = _together()
    found = []
    with read_together(queries):
        thread = threading.Thread(target=lambda: found.append(queries[0].text))
        thread.start()
        thread.join()
    assert found == [None]


def test_what_json_would_change_is_not_read_together():
    query = CompiledQuery(lambda: HeartbeatState.objects.values_list("rtt_sum"))
    with pytest.raises(TypeError, match="together"), read_together([query]):
        pass
