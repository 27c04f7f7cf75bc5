"""Tables: whatever the address holds, the answer is a page; what was chosen stays in every link."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

import pytest
from django.db.models import F, QuerySet
from django.http import QueryDict
from hypothesis import given
from hypothesis import strategies as st

from dockmesh.core.tables import Choice, Column, Filter, Table

COLUMNS = (
    Column("name", "Name", ("name",)),
    Column("seen", "Seen", ("-seen_at",)),
    Column("buttons", "Buttons"),
)
FILTERS = (Filter("status", "Status", (Choice("on", "On"), Choice("off", "Off"))),)


def table(query: str = "", rows: int = 0) -> Table:
    made = Table(QueryDict(query), columns=COLUMNS, default_sort="name", filters=FILTERS, page_size=10)
    return made.show(range(rows))


@pytest.mark.parametrize(
    ("query", "order"),
    [
        ("", ("name", "pk")),
        ("sort=-name", ("-name", "-pk")),
        ("sort=seen", ("-seen_at", "pk")),
        ("sort=-seen", ("seen_at", "-pk")),
        ("sort=buttons", ("name", "pk")),
        ("sort=password", ("name", "pk")),
        ("sort=--name", ("name", "pk")),
    ],
)
def test_only_known_columns_sort(query: str, order: tuple[str, ...]) -> None:
    assert table(query).order_by == order


@pytest.mark.parametrize(
    ("page", "first", "last"),
    [("1", 1, 10), ("3", 21, 25), ("99", 21, 25), ("0", 1, 10), ("-1", 1, 10), ("x", 1, 10), ("", 1, 10)],
)
def test_any_page_number_shows_rows(page: str, first: int, last: int) -> None:
    shown = table(f"page={page}", rows=25)
    assert (shown.first_index, shown.last_index, shown.total) == (first, last, 25)


def test_what_was_chosen_stays_in_every_link() -> None:
    shown = table("q=web+1&status=on&sort=-name&page=2", rows=25)
    assert shown.next_url == "?q=web+1&status=on&sort=-name&page=3"
    assert shown.previous_url == "?q=web+1&status=on&sort=-name"
    assert shown.heads[0].url == "?q=web+1&status=on"
    assert shown.heads[1].url == "?q=web+1&status=on&sort=seen"
    assert shown.heads[2].url == ""
    assert [link.url for link in shown.filter_links[0].links] == [
        "?q=web+1&sort=-name",
        "?q=web+1&status=on&sort=-name",
        "?q=web+1&status=off&sort=-name",
    ]
    assert shown.clear_url == "?sort=-name"
    assert shown.hidden_inputs == [("status", "on"), ("sort", "-name")]


def test_the_sorted_column_says_so() -> None:
    assert [head.aria_sort for head in table("sort=-seen").heads] == ["none", "descending", ""]


@pytest.mark.parametrize(
    ("page", "labels"),
    [("1", "[1] 2 … 30"), ("2", "1 [2] 3 … 30"), ("15", "1 … 14 [15] 16 … 30"), ("30", "1 … 29 [30]")],
)
def test_the_first_pages_those_nearby_and_the_last_are_linked(page: str, labels: str) -> None:
    links = table(f"status=on&page={page}", rows=300).page_links
    assert " ".join(f"[{link.label}]" if link.is_current else link.label for link in links) == labels
    assert all(bool(link.url) == (not link.is_current and link.label != "…") for link in links)
    assert {link.url for link in links if link.label == "1" and link.url} <= {"?status=on"}


def test_what_is_alike_stands_by_the_ties_whichever_way_it_is_sorted() -> None:
    for sort, order in (
        ("name", ("name", "host", "pk")),
        ("-name", ("-name", "host", "-pk")),
        ("host", ("host", "name", "pk")),
        ("number", ("pk", "pk")),
    ):
        made = Table(
            QueryDict(f"sort={sort}"),
            columns=[
                Column(key, key, (field,)) for key, field in (("name",) * 2, ("host",) * 2, ("number", "pk"))
            ],
            default_sort="name",
            ties=("host", "name"),
        )
        assert made.order_by == order


@pytest.mark.django_db
def test_each_choice_has_its_count_whatever_else_is_chosen_in_one_query(
    django_assert_num_queries: Callable[[int], AbstractContextManager[None]],
) -> None:
    from dockmesh.fleet.models import Host
    from tests.fleet.factories import make_host

    for name in ("a", "b", "c"):
        make_host(name)
    by_name = Filter("name", "Name", (Choice("a", "A"), Choice("z", "Z")))
    made = Table(
        QueryDict("name=z&q=nothing"),
        columns=COLUMNS,
        default_sort="name",
        filters=(by_name,),
        counted=Host.objects.all(),
    )
    with django_assert_num_queries(1):
        assert [(link.label, link.count) for link in made.filter_links[0].links] == [
            ("All", 3),
            ("A", 1),
            ("Z", 0),
        ]


def test_an_unknown_filter_value_counts_as_none() -> None:
    assert table("status=evil").filter_value("status") == ""
    assert not table("status=evil").is_filtered


@given(st.dictionaries(st.sampled_from(["q", "sort", "page", "status"]), st.text(max_size=300)))
def test_whatever_the_address_holds_a_page_is_shown(params: dict[str, str]) -> None:
    query = QueryDict(mutable=True)
    query.update(params)
    shown = Table(query, columns=COLUMNS, default_sort="name", filters=FILTERS, page_size=10).show(range(25))
    assert len(shown.rows) in (5, 10)
    assert "\x00" not in shown.query
    assert len(shown.query) <= 200
    assert shown.next_url.startswith("?") or not shown.next_url


@pytest.mark.django_db
@pytest.mark.parametrize("column", ["inventory_at", "heartbeat_state__inventory_at", "annotated"])
def test_what_has_no_value_comes_first_on_either_database(column: str) -> None:
    from dockmesh.fleet.models import HeartbeatState, Host
    from tests.fleet.factories import make_host

    for name, at in (("a", None), ("b", "2026-11-22T12:00Z"), ("c", "2026-11-21T12:00Z"), ("d", None)):
        HeartbeatState.objects.filter(host=make_host(name)[0]).update(inventory_at=at)
    rows: QuerySet[Any] = HeartbeatState.objects.all() if column == "inventory_at" else Host.objects.all()
    if column == "annotated":
        rows = rows.annotate(annotated=F("heartbeat_state__inventory_at"))

    def order(sort: str) -> str:
        made = Table(QueryDict(f"sort={sort}"), columns=(Column("at", "At", (column,)),), default_sort="at")
        return "".join(
            each.host.name if isinstance(each, HeartbeatState) else each.name for each in made.ordered(rows)
        )

    assert (order("at"), order("-at")) == ("adcb", "bcda")


def test_an_index_is_of_use_where_there_is_a_value_always() -> None:
    from dockmesh.fleet.models import Container

    for sort in ("name", "-name"):
        ordered = table(f"sort={sort}").ordered(Container.objects.all())
        assert "NULLS" not in str(ordered.query)
