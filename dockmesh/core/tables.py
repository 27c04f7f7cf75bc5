"""Tables on the pages: sorting, searching, filtering and paging, all of it in the address.

A `ListPage` makes a `Table` of its request and has it order, narrow and page the rows; `web/list.html` shows it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, TypeVar

from django.core.paginator import EmptyPage, Page, PageNotAnInteger, Paginator
from django.db.models import Count, F, Model, Q, QuerySet
from django.db.models.expressions import OrderBy
from django.http import QueryDict

from dockmesh.core.text import state_word

M = TypeVar("M", bound=Model)

SEARCH_LENGTH = 200
PAGE_SIZE = 50


@dataclass(frozen=True)
class Column:
    """A column; one without `order_by` can't be sorted by. `css` is the class of its head cell."""

    key: str
    label: str
    order_by: tuple[str, ...] = ()
    css: str = ""
    is_largest_first: bool = False
    """Who sorts by it wants to see the largest first."""
    is_hidden: bool = False
    """The head is for screen readers alone, such as that of a column of buttons."""


@dataclass(frozen=True)
class Choice:
    value: str
    label: str
    tone: str = ""


@dataclass(frozen=True)
class Filter:
    """One of these values or none; the chosen one is in the address as `?key=value`.

    `where` tells which rows have it; without, those whose field of this name does.
    """

    key: str
    label: str
    choices: Sequence[Choice]
    where: Callable[[str], Q] | None = None
    counts: Callable[[], Mapping[str, int]] | None = None
    """How many rows have each value, where that is known without counting them."""
    are_states: bool = False
    """The values are words of the palette, each with its shape."""

    def condition(self, value: str) -> Q:
        """Which rows have this value."""
        return self.where(value) if self.where else Q(**{self.key: value})


def words(
    key: str,
    label: str,
    values: Mapping[str, str] | Iterable[str],
    where: Callable[[str], Q] | None = None,
    *,
    counts: Callable[[], Mapping[str, int]] | None = None,
    labels: Mapping[str, str] | None = None,
    are_states: bool = False,
) -> Filter:
    """A filter whose values are words that say themselves what they are; of a mapping, each with its tone. `labels` are
    for those that don't."""
    tones = values if isinstance(values, Mapping) else dict.fromkeys(map(str, values), "")
    said = labels or {}
    choices = [Choice(word, said.get(word) or state_word(word), tone) for word, tone in tones.items()]
    return Filter(key, label, choices, where, counts, are_states)


@dataclass(frozen=True)
class Head:
    label: str
    url: str
    aria_sort: str
    css: str
    is_hidden: bool


@dataclass(frozen=True)
class FilterLink:
    value: str
    label: str
    url: str
    tone: str
    is_chosen: bool
    count: int | None = None


@dataclass(frozen=True)
class PageLink:
    label: str
    url: str
    is_current: bool


@dataclass(frozen=True)
class FilterLinks:
    label: str
    are_states: bool
    links: tuple[FilterLink, ...]


class Table:
    """One request's view of a list. Whatever the address holds, the answer is a page, never an error:
    an unknown column, filter value or page number counts as not given."""

    def __init__(
        self,
        params: QueryDict,
        *,
        columns: Sequence[Column],
        default_sort: str,
        filters: Sequence[Filter] = (),
        page_size: int = PAGE_SIZE,
        ties: Sequence[str] = (),
        counted: QuerySet[Any] | None = None,
    ) -> None:
        """`ties`: the fields by which rows stand that are alike in the sorted column. `counted`: all rows, of which
        the filters tell how many have each value, whatever else the list is narrowed by."""
        self.columns = tuple(columns)
        self._ties = tuple(ties)
        self._counted = counted
        self.filters = tuple(filters)
        self.page_size = page_size
        self._default_sort = default_sort
        self.query = params.get("q", "").replace("\x00", "").strip()[:SEARCH_LENGTH]
        sortable = {column.key for column in self.columns if column.order_by}
        wanted = params.get("sort", default_sort)
        self.sort = wanted if wanted.removeprefix("-") in sortable else default_sort
        self.chosen: dict[str, str] = {}
        for each in self.filters:
            value = params.get(each.key, "")
            if any(choice.value == value for choice in each.choices):
                self.chosen[each.key] = value
        self._wanted_page = params.get("page", "1")
        self.page: Page[Any] | None = None
        self.total = 0
        self.page_count = 1

    # ---- what the view asks ----

    @property
    def is_descending(self) -> bool:
        return self.sort.startswith("-")

    @property
    def order_by(self) -> tuple[str, ...]:
        """The ORM's field names, with a last one that makes the order the same from page to page."""
        key = self.sort.removeprefix("-")
        names = next(column.order_by for column in self.columns if column.key == key)
        if self.is_descending:
            names = tuple(name[1:] if name.startswith("-") else f"-{name}" for name in names)
        sorted_by = {name.removeprefix("-") for name in names}
        # By what is unique already nothing else sorts.
        ties = () if "pk" in sorted_by else tuple(name for name in self._ties if name not in sorted_by)
        return (*names, *ties, "-pk" if self.is_descending else "pk")

    def ordered(self, rows: QuerySet[M]) -> QuerySet[M]:
        """The rows in this order. What has no value comes before all values, on SQLite as on PostgreSQL."""
        return rows.order_by(*(_ordering(rows, name) for name in self.order_by))

    def filter_value(self, key: str) -> str:
        return self.chosen.get(key, "")

    def narrowed(self, rows: QuerySet[M]) -> QuerySet[M]:
        """The rows that the chosen filters leave."""
        for each in self.filters:
            if value := self.filter_value(each.key):
                rows = rows.filter(each.condition(value))
        return rows

    @property
    def is_filtered(self) -> bool:
        return bool(self.query or self.chosen)

    def show(self, rows: Any) -> Table:
        """Takes the filtered, ordered rows (a queryset or a sequence) and keeps the page asked for."""
        paginator: Paginator[Any] = Paginator(rows, self.page_size)
        try:
            self.page = paginator.page(self._wanted_page)
        except PageNotAnInteger:
            self.page = paginator.page(1)
        except EmptyPage:
            # Rows went meanwhile: the nearest page that is left.
            is_past_end = self._wanted_page.isdigit() and self._wanted_page.strip("0") != ""
            self.page = paginator.page(paginator.num_pages if is_past_end else 1)
        self.total = paginator.count
        self.page_count = paginator.num_pages
        return self

    # ---- what the template asks ----

    def __iter__(self) -> Iterator[Any]:
        return iter(self.rows)

    @cached_property
    def rows(self) -> Sequence[Any]:
        return list(self.page.object_list) if self.page is not None else []

    def url(self, **changes: str | int) -> str:
        """The address of this table with something changed; an empty value leaves its name out."""
        params: dict[str, str] = {}
        if self.query:
            params["q"] = self.query
        params.update(self.chosen)
        if self.sort != self._default_sort:
            params["sort"] = self.sort
        for name, value in changes.items():
            if value == "" or (name == "page" and value == 1):
                params.pop(name, None)
            else:
                params[name] = str(value)
        encoded = QueryDict(mutable=True)
        encoded.update(params)
        return f"?{encoded.urlencode()}"

    @property
    def live_url(self) -> str:
        """This very page of this table, as the part that refreshes itself."""
        return self.url(page=self.page.number if self.page is not None else 1, part="live")

    @property
    def heads(self) -> list[Head]:
        found = []
        for column in self.columns:
            url, aria_sort = "", ""
            if column.order_by:
                is_current = self.sort.removeprefix("-") == column.key
                is_turned = not self.is_descending if is_current else column.is_largest_first
                turned = f"-{column.key}" if is_turned else column.key
                url = self.url(sort="" if turned == self._default_sort else turned)
                aria_sort = ("descending" if self.is_descending else "ascending") if is_current else "none"
            found.append(Head(column.label, url, aria_sort, column.css, column.is_hidden))
        return found

    @property
    def sorted_by(self) -> str:
        """The label of the column by which the rows are sorted."""
        return next(column.label for column in self.columns if column.key == self.sort.removeprefix("-"))

    def _counts(self) -> dict[tuple[str, str], int]:
        """How many rows have each value of the filters that don't know it themselves; one query. "" stands for all."""
        wanted = {
            (each.key, choice.value): each.condition(choice.value)
            for each in self.filters
            if each.counts is None
            for choice in each.choices
        }
        if self._counted is None or not wanted:
            return {}
        found = self._counted.order_by().aggregate(
            all=Count("pk"),
            **{f"count_{index}": Count("pk", filter=where) for index, where in enumerate(wanted.values())},
        )
        counts = {place: found[f"count_{index}"] for index, place in enumerate(wanted)}
        return {**counts, **{(key, ""): found["all"] for key, _ in wanted}}

    @property
    def filter_links(self) -> list[FilterLinks]:
        counted = self._counts()
        found = []
        for each in self.filters:
            value = self.filter_value(each.key)
            if each.counts:
                known = each.counts()
                counted |= {(each.key, name): count for name, count in known.items()}
                counted[each.key, ""] = sum(known.values())
            choices = (Choice("", "All"), *each.choices)
            links = [
                FilterLink(
                    c.value,
                    c.label,
                    self.url(**{each.key: c.value}),
                    c.tone,
                    c.value == value,
                    counted.get((each.key, c.value)),
                )
                for c in choices
            ]
            found.append(FilterLinks(each.label, each.are_states, tuple(links)))
        return found

    @property
    def hidden_inputs(self) -> list[tuple[str, str]]:
        """What the search form must send along to keep the filters and the order."""
        kept = list(self.chosen.items())
        if self.sort != self._default_sort:
            kept.append(("sort", self.sort))
        return kept

    @property
    def page_links(self) -> list[PageLink]:
        """The first pages, those around this one and the last; an empty address is a gap, or this page itself."""
        if self.page is None:
            return []
        here = self.page.number
        shown = self.page.paginator.get_elided_page_range(here, on_each_side=1, on_ends=1)
        return [
            PageLink(str(each), "" if each == here else self.url(page=each), each == here)
            if isinstance(each, int)
            else PageLink("…", "", False)
            for each in shown
        ]

    @property
    def clear_url(self) -> str:
        return self.url(q="", **dict.fromkeys(self.chosen, ""))

    @property
    def first_index(self) -> int:
        return self.page.start_index() if self.page is not None else 0

    @property
    def last_index(self) -> int:
        return self.page.end_index() if self.page is not None else 0

    @property
    def previous_url(self) -> str:
        has = self.page is not None and self.page.has_previous()
        return self.url(page=self.page.previous_page_number()) if has and self.page else ""

    @property
    def next_url(self) -> str:
        has = self.page is not None and self.page.has_next()
        return self.url(page=self.page.next_page_number()) if has and self.page else ""


def _ordering(rows: QuerySet[Any], name: str) -> str | OrderBy:
    """Said only where there may be no value: PostgreSQL's indexes have the other order, and would be of no use."""
    key = name.removeprefix("-")
    if not _may_be_null(rows, key):
        return name
    return F(key).desc(nulls_last=True) if name.startswith("-") else F(key).asc(nulls_first=True)


def _may_be_null(rows: QuerySet[Any], key: str) -> bool:
    if key in rows.query.annotations:
        return True
    model: Any = rows.model
    for part in key.split("__"):
        field = model._meta.pk if part == "pk" else model._meta.get_field(part)
        if field.null:
            return True
        model = field.related_model
    return False
