"""`ServiceViewSet`: how each collection of the REST API is made."""

import functools
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Generic, Literal, TypeVar

from django.db.models import Model
from django.http.response import HttpResponseBase
from django.urls import reverse
from rest_framework import decorators
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.routers import DynamicRoute, Route, SimpleRouter
from rest_framework.serializers import BaseSerializer
from rest_framework.viewsets import GenericViewSet

from dockmesh.core.api import StrictSerializer
from dockmesh.core.errors import NotFound
from dockmesh.core.filters import Filters

M = TypeVar("M", bound=Model)
Permissions = str | Iterable[str] | None

# Of the writes that every collection may have: the status of the answer.
WRITES = {"create": 201, "change": 200, "remove": 204}
VERBS = {"list": "List", "read": "Show", "create": "Make", "change": "Change", "remove": "Remove"}


@dataclass(frozen=True)
class Operation:
    """What a method of a `ServiceViewSet` declares."""

    permission: Permissions
    status: int
    body: type[StrictSerializer] | None = None
    answer: type[BaseSerializer[Any]] | None = None
    location: str = ""
    summary: str = ""
    many: bool = False
    is_body_optional: bool = False


def operation(
    permission: Permissions,
    *,
    status: int | None = None,
    method: Literal["get", "post"] = "post",
    detail: bool = True,
    beside: Any = None,
    path: str = "",
    **declared: Any,
) -> Callable[[Callable[..., Any]], Any]:
    """Makes a method of a `ServiceViewSet` an operation: `create`, `change` and `remove`, or an action by its name.

    The method gets the object's `id` (not those of the whole collection: `create`, or `detail=False`) and the body's
    fields, those that were sent, as keywords. It calls a service, and returns what the answer shows, or a response.

    `permission`: one, or several of which one is enough. `body`: its serializer; without one no body is read.
    `answer`: the answer's serializer if it isn't that of one object, and `many` of them; at 204 there is none.
    `status`: 201, 200 and 204 of the writes, 200 of actions. `location`: the name of the route at which what was made
    is found, if it isn't the object. `method`: an action's. `beside`: the action of another method at the same address.
    """

    def decorate(function: Callable[..., Any]) -> Any:
        name = function.__name__
        told = Operation(permission, status or WRITES.get(name, 200), **declared)

        @functools.wraps(function)
        def handle(view: ServiceViewSet[Any], request: Request, **where: Any) -> HttpResponseBase:
            return view.answered(told, function(view, **where, **view.sent(told)), **where)

        handle.operation = told  # type: ignore[attr-defined]
        if name in WRITES:
            return handle
        if beside is not None:
            return getattr(beside.mapping, method)(handle)
        backends = (Filters,) if method == "get" else ()
        return decorators.action(
            detail=detail,
            methods=[method],
            url_path=path or None,
            pagination_class=None,
            filter_backends=backends,
        )(handle)

    return decorate


class ServiceViewSet(GenericViewSet[M], Generic[M]):
    """A collection of the REST API: its list, one object, and the operations that it declares.

    A subclass says `noun`, `queryset`, `serializer_class`, `read_permission` and its filters, and declares each write
    by `@operation`; whatever declares no permission lets nobody in. Reads are done here, writes by services.
    """

    noun: ClassVar[str]
    read_permission: Permissions = None
    detail_serializer_class: type[BaseSerializer[Any]] | None = None
    # Columns that lists do without; and whether there is a list at all.
    deferred: tuple[str, ...] = ()
    is_listed = True
    filter_backends = (Filters,)
    lookup_url_kwarg = "id"
    lookup_value_converter = "int"

    def list(self, request: Request) -> Response:
        """All of them, a page at a time."""
        rows = self.filter_queryset(self.get_queryset().defer(*self.deferred))
        page = self.completed(self.paginate_queryset(rows) or [])
        return self.get_paginated_response(self.get_serializer(page, many=True).data)

    def read(self, request: Request, id: Any) -> Response:
        """One of them."""
        return Response(self.get_serializer(self.one(id)).data)

    def completed(self, page: Any) -> Any:
        """What a list shows of the rows of a page."""
        return page

    def one(self, id: Any) -> Any:
        """What an answer shows of one object; raises `NotFound`."""
        row = self.get_queryset().filter(**{self.lookup_field: id}).first()
        if row is None:
            raise NotFound(f"There is no such {self.noun}.")
        return row

    def get_serializer_class(self) -> type[BaseSerializer[Any]]:
        """That of lists, or that of one object where it is another."""
        whole = super().get_serializer_class()
        return whole if self.action == "list" else self.detail_serializer_class or whole

    @property
    def principal(self) -> Any:
        """Who asks; the declared permission made sure that somebody does."""
        return self.request.auth

    @property
    def actor(self) -> Any:
        """Who asks, as services and the audit log name them."""
        return self.principal.actor

    def may(self, permission: str) -> bool:
        """Whether who asks holds the permission."""
        return bool(self.principal.has(permission))

    def sent(self, told: Operation) -> dict[str, Any]:
        """The fields of the body that were sent, checked for their shape."""
        if told.body is None:
            return {}
        is_json = "json" in (self.request.content_type or "json")
        body = told.body(data=self.request.data if is_json or not told.is_body_optional else {})
        body.is_valid(raise_exception=True)
        return dict(body.validated_data)

    def answered(self, told: Operation, found: Any, id: int | None = None) -> HttpResponseBase:
        """The answer that shows what an operation returned; a response that it made itself is that."""
        if isinstance(found, HttpResponseBase):
            return found
        if told.status == 204:
            return Response(status=204)
        shape, context = told.answer or self.get_serializer_class(), self.get_serializer_context()
        data = shape(found, many=told.many, context=context).data
        headers = {}
        if told.status in (201, 202):
            route = told.location or f"{self.basename}-detail"
            headers["Location"] = reverse(route, args=[data.get("id", id)])
        return Response(data, status=told.status, headers=headers)

    @classmethod
    def declared(cls, action: str) -> Operation | None:
        """What the action declares; None for those that read."""
        told: Operation | None = getattr(getattr(cls, action, None), "operation", None)
        return told

    @property
    def required_permission(self) -> Mapping[str, Permissions]:
        """By method, at this address."""
        return {
            method.upper(): told.permission if (told := self.declared(action)) else self.read_permission
            for method, action in (self.action_map or {}).items()
        }

    @property
    def operation_id(self) -> str:
        """The name of what is done, such as `backup_jobs_run`."""
        return f"{self.basename}_{self.action}".replace("-", "_")

    @property
    def summary(self) -> str:
        """What is done, in some words."""
        told, action = self.declared(self.action), self.action
        if told and told.summary:
            return told.summary
        many = f"{self.noun.removesuffix('y')}ies" if self.noun.endswith("ry") else f"{self.noun}s"
        one = f"{'an' if self.noun[0] in 'aeio' else 'a'} {self.noun}"
        return f"{VERBS.get(action, action.capitalize())} {many if action == 'list' else one}"


class Router(SimpleRouter):
    """The routes of view sets: no slash at the end, ids are numbers as a rule. A collection's name is that of its routes too."""

    routes = [
        Route("{prefix}", {"get": "list", "post": "create"}, "{basename}-list", False, {"suffix": "List"}),
        DynamicRoute("{prefix}/{url_path}", "{basename}-{url_name}", False, {}),
        Route(
            "{prefix}/{lookup}",
            {"get": "read", "patch": "change", "delete": "remove"},
            "{basename}-detail",
            True,
            {"suffix": "Detail"},
        ),
        DynamicRoute("{prefix}/{lookup}/{url_path}", "{basename}-{url_name}", True, {}),
    ]

    def __init__(self, collections: Mapping[str, type[ServiceViewSet[Any]]]) -> None:
        super().__init__(trailing_slash=False, use_regex_path=False)
        for name, viewset in collections.items():
            self.register(name, viewset, basename=name)

    def get_method_map(self, viewset: Any, method_map: Any) -> dict[str, str]:
        """The operations that the view set has."""
        found: dict[str, str] = super().get_method_map(viewset, method_map)
        return {method: name for method, name in found.items() if name != "list" or viewset.is_listed}
