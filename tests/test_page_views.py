"""Every address that a browser opens is one of the four kinds of pages, or an action, or is listed here with a reason."""

from collections.abc import Iterator
from typing import Any

import pytest
from django.urls import URLPattern, URLResolver, get_resolver

from dockmesh.core.pages import (
    Action,
    ConfirmPage,
    DetailPage,
    FormPage,
    ListPage,
    ObjectPage,
    Page,
    ServicePage,
)
from tokens.permissions import Permission

# Those of programs, the files for new hosts, and Django's own admin.
NOT_PAGES = ("api/", "metrics", "agent/", "admin/")

NO_PERMISSION = {
    "sign-in/": "who signs in is not known yet",
    "setup/<str:code>/": "the first administrator has the one-time link alone",
    "password/": "one's own password is changed whatever one's role",
}
OTHER_VIEWS = {
    "sign-out/": "ends the session of whoever has one",
    "theme/": "remembers light or dark for visitors too, in a cookie",
    "favicon.ico": "a redirect to the static file",
    "containers/act/": "names and acts on several objects, whose names nobody would type",
    "containers/<int:pk>/log/open/": "JSON, for the script of the container's page",
    "containers/logs/<uuid:session>/": "JSON, for the script of the container's page",
    "audit/": "paged by a place in the chain, which new entries don't shift; its filters are the API's",
}


def patterns(resolver: URLResolver, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """(route, view) of every address."""
    for each in resolver.url_patterns:
        route = f"{prefix}{each.pattern}"
        if isinstance(each, URLPattern):
            yield route, each.callback
        else:
            yield from patterns(each, route)


PAGES = [(route, view) for route, view in patterns(get_resolver()) if not route.startswith(NOT_PAGES)]


def class_of(view: Any) -> Any:
    return getattr(view, "view_class", None)


def test_there_are_pages() -> None:
    assert len(PAGES) > 70
    routes = {route for route, _ in PAGES}
    assert routes >= {*NO_PERMISSION, *OTHER_VIEWS}


@pytest.mark.parametrize(("route", "view"), PAGES, ids=[route or "overview" for route, _ in PAGES])
def test_a_page_is_one_of_four_views(route: str, view: Any) -> None:
    page = class_of(view)
    kinds = [
        kind
        for kind in (ListPage, DetailPage, FormPage, Action)
        if isinstance(page, type) and issubclass(page, kind)
    ]
    assert len(kinds) == (0 if route in OTHER_VIEWS else 1), kinds


@pytest.mark.parametrize(
    "page", {class_of(view): route for route, view in PAGES if isinstance(class_of(view), type)}
)
def test_a_page_declares_what_it_needs(page: type[Page]) -> None:
    routes = {route for route, view in PAGES if class_of(view) is page}
    if not routes & set(NO_PERMISSION):
        assert page.required_permission in set(Permission)
    if issubclass(page, ListPage | DetailPage | FormPage):
        assert page.template.endswith(".html")
    if issubclass(page, ObjectPage):
        assert page.kind
        assert page.parents
    if issubclass(page, ConfirmPage):
        assert page.template == ConfirmPage.template
    if issubclass(page, ServicePage):
        # Whatever does more than call its service says how.
        own = "save" if issubclass(page, FormPage) else "act"
        base = FormPage if issubclass(page, FormPage) else Action
        assert hasattr(page, "service") or getattr(page, own) is not getattr(base, own)
    if issubclass(page, ListPage):
        sortable = {column.key for column in page.columns if column.order_by}
        assert page.default_sort.removeprefix("-") in sortable
        assert page.search
