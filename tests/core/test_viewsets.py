"""The shape of the REST API: each of its views is a `ServiceViewSet`, and what that does for all of them."""

import re
from collections.abc import Iterator
from typing import Any

import pytest
from django.contrib.auth.models import Group
from django.test import Client
from django.test.utils import override_script_prefix
from django.urls import URLPattern, URLResolver, get_resolver
from rest_framework.serializers import BaseSerializer
from rest_framework.test import APIRequestFactory

from dockmesh.core.api import StrictSerializer, Text
from dockmesh.core.filters import FilterSet
from dockmesh.core.viewsets import Router, ServiceViewSet, operation
from dockmesh.web.apidocs import openapi
from tests.tokens.support import bearer, role_with, token_with
from tokens.permissions import Permission

# Whatever is below /api/v1/ and is none, with the reason.
OTHERS = {
    r"schema": "the schema of the others",
    r"docs(/<slug:section>)?": "pages",
    r"discovery/prometheus": "Prometheus's format: the whole list, never a page of it",
    r"agents/.*": "the agents' protocol, which has a reader of its own",
}


def routes(patterns: Any = None, before: str = "") -> Iterator[tuple[str, Any]]:
    """(route, view) of everything that has an address."""
    for each in get_resolver().url_patterns if patterns is None else patterns:
        route = before + str(each.pattern)
        if isinstance(each, URLResolver):
            yield from routes(each.url_patterns, route)
        elif isinstance(each, URLPattern):
            yield route, each.callback


API = {route.removeprefix("api/v1/"): view for route, view in routes() if route.startswith("api/v1/")}
VIEWSETS = {view.cls for view in API.values() if issubclass(getattr(view, "cls", object), ServiceViewSet)}


def reasons(route: str) -> list[str]:
    return [reason for pattern, reason in OTHERS.items() if re.fullmatch(pattern, route)]


def test_every_view_of_the_api_is_a_service_viewset_or_is_listed_with_a_reason() -> None:
    others = {route for route, view in API.items() if getattr(view, "cls", None) not in VIEWSETS}
    assert [route for route in others if not reasons(route)] == []
    assert [route for route in API.keys() - others if reasons(route)] == []
    assert {reason for route in others for reason in reasons(route)} == set(OTHERS.values())
    assert len(VIEWSETS) >= 13


def test_views_serializers_filters_and_arguments_are_named_alike_everywhere() -> None:
    for route in API:
        assert set(re.findall(r"<\w+:(\w+)>", route)) <= {"id"} or reasons(route), route
    for view in VIEWSETS:
        assert view.__name__.endswith("ViewSet")
        assert issubclass(getattr(view, "filterset_class", FilterSet), FilterSet)
        shapes: set[type[BaseSerializer[Any]] | None] = {view.serializer_class, view.detail_serializer_class}
        for name in dir(view):
            if told := view.declared(name):
                shapes |= {told.body, told.answer}
        assert {
            shape.__name__ for shape in shapes if shape and not shape.__name__.endswith("Serializer")
        } == set()


def test_every_operation_of_the_schema_has_a_summary_a_description_and_a_name_of_its_own() -> None:
    told = [each for methods in openapi()["paths"].values() for each in methods.values()]
    assert [
        each["operationId"] for each in told if not (each.get("summary") and each.get("description"))
    ] == []
    assert len({each["operationId"] for each in told}) == len(told)


class NameSerializer(StrictSerializer):
    """A body."""

    name = Text(required=False)


class GroupSerializer(StrictSerializer):
    """An answer."""

    name = Text()


class GroupViewSet(ServiceViewSet[Group]):
    """Django's groups, with operations of which some declare no permission."""

    noun = "group"
    queryset = Group.objects.order_by("name")
    serializer_class = GroupSerializer

    @operation(None, body=NameSerializer)
    def create(self, **values: Any) -> Group:
        """Never called."""
        raise AssertionError

    @operation(Permission.FLEET_MANAGE, body=NameSerializer)
    def change(self, id: int, **values: Any) -> dict[str, Any]:
        """What was sent."""
        return {"name": f"{id} {sorted(values)}"}


VIEWS: dict[str, Any] = {str(each.pattern): each.callback for each in Router({"groups": GroupViewSet}).urls}


@pytest.fixture
def headers() -> dict[str, str]:
    """Of a token that may do everything."""
    return bearer(token_with(*Permission)[1])


def answer(headers: dict[str, str], method: str, path: str, data: dict[str, Any] | None = None) -> Any:
    request = getattr(APIRequestFactory(), method)(path, data, format="json", headers=headers)
    return VIEWS["groups/<int:id>"](request, id=1) if path == "groups/1" else VIEWS["groups"](request)


@pytest.mark.django_db
@pytest.mark.parametrize(("method", "path"), [("get", "groups"), ("post", "groups"), ("get", "groups/1")])
def test_what_declares_no_permission_lets_nobody_in(method: str, path: str, headers: dict[str, str]) -> None:
    assert answer(headers, method, path, {} if method == "post" else None).status_code == 403


@pytest.mark.django_db
def test_a_change_gets_the_fields_that_were_sent_and_no_others(headers: dict[str, str]) -> None:
    assert answer(headers, "patch", "groups/1", {}).data == {"name": "1 []"}
    assert answer(headers, "patch", "groups/1", {"name": "x"}).data == {"name": "1 ['name']"}
    assert answer(headers, "patch", "groups/1", {"nmae": "x"}).data["errors"] == {
        "nmae": ["is no field here."]
    }


@pytest.mark.django_db
def test_a_filter_given_several_times_matches_any_of_its_values(headers: dict[str, str]) -> None:
    for name in ("red", "green", "blue"):
        role_with("fleet.read", name=name)

    def names(query: str) -> list[str]:
        return [
            row["name"] for row in Client().get(f"/api/v1/roles?{query}", headers=headers).json()["results"]
        ]

    assert names("name=red&name=blue") == ["blue", "red"]
    assert names("name=red&name=blue&is_builtin=true") == []
    assert names("is_builtin=TRUE&is_builtin=0&name=red") == ["red"]
    assert names("name=") == []


@pytest.mark.django_db
def test_what_was_made_is_found_below_the_path_at_which_a_proxy_serves_us(headers: dict[str, str]) -> None:
    with override_script_prefix("/dockmesh/"):  # as a WSGI server's request does
        made = Client().post(
            "/api/v1/roles",
            {"name": "a", "permissions": []},
            "application/json",
            headers=headers,
            SCRIPT_NAME="/dockmesh",
        )
        page = Client().get("/api/v1/roles?page_size=1", headers=headers, SCRIPT_NAME="/dockmesh")
    assert made["Location"] == f"/dockmesh/api/v1/roles/{made.json()['id']}"
    assert page.json()["next"] == "http://testserver/dockmesh/api/v1/roles?page=2&page_size=1"
