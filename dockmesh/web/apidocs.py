"""The REST API's OpenAPI schema, and a page to read it. Neither holds anything secret: both are public."""

from __future__ import annotations

import gzip
import hashlib
import re
import threading
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

from django.conf import settings
from django.http import Http404, HttpRequest, HttpResponse
from django.http.response import HttpResponseBase
from django.shortcuts import render
from django.template.loader import render_to_string
from django.urls import reverse
from django.utils.cache import get_conditional_response
from django.views.decorators.gzip import gzip_page
from django.views.decorators.http import require_safe
from drf_spectacular.generators import SchemaGenerator
from drf_spectacular.utils import extend_schema
from rest_framework.renderers import JSONRenderer
from rest_framework.request import Request
from rest_framework.views import APIView

from dockmesh.web.theme import COOKIE, theme_of
from tokens.principals import principal_of

METHODS = ("get", "post", "put", "patch", "delete")
PERMISSION = re.compile(r"\s*Needs the permission `([a-z.]+)`(?: or `([a-z.]+)`)?\.\s*")


@dataclass(frozen=True)
class Field:
    """A parameter, or a field of a body or an answer."""

    name: str
    type: str
    is_required: bool
    description: str
    values: tuple[str, ...] = ()


@dataclass(frozen=True)
class Operation:
    """One method at one path."""

    anchor: str
    method: str
    path: str
    summary: str
    description: tuple[str, ...]
    """Its paragraphs."""
    permissions: tuple[str, ...]
    parameters: tuple[Field, ...]
    body: tuple[Field, ...]
    status: str
    answer: tuple[Field, ...]
    shape: str
    """The name of the answer's shape; empty where it has none."""
    same_as: Operation | None = None
    """One above it that has told of the answer's fields."""


@dataclass(frozen=True)
class Section:
    """The operations of one collection."""

    name: str
    title: str
    operations: tuple[Operation, ...]


@dataclass(frozen=True)
class Kept:
    """An answer to everybody, made once: also compressed, and with what tells it from that of another version."""

    body: bytes
    compressed: bytes
    etag: str

    @classmethod
    def of(cls, body: bytes) -> Kept:
        """Of the answer as it is."""
        compressed = gzip.compress(body, compresslevel=9, mtime=0)
        return cls(body, compressed, f'W/"{hashlib.sha256(body).hexdigest()[:32]}"')

    def answer(self, request: HttpRequest, content_type: str, *vary: str) -> HttpResponseBase:
        """The response; 304 to who has it already."""
        is_small = "gzip" in request.headers.get("Accept-Encoding", "")
        response = HttpResponse(self.compressed if is_small else self.body, content_type=content_type)
        if is_small:
            response.headers["Content-Encoding"] = "gzip"
        response.headers["Content-Length"] = str(len(response.content))
        response.headers["ETag"] = self.etag
        response.headers["Cache-Control"] = "no-cache"  # kept, but asked about each time
        response.headers["Vary"] = ", ".join(("Accept-Encoding", *vary))
        return get_conditional_response(request, etag=self.etag, response=response) or response


class SchemaView(APIView):
    """OpenAPI 3, as JSON."""

    authentication_classes = ()
    permission_classes = ()

    @extend_schema(exclude=True)
    def get(self, request: Request) -> HttpResponseBase:
        """The whole schema."""
        with _making:
            kept = _schema()
        return kept.answer(request._request, "application/json")


@require_safe
@gzip_page
def docs(request: HttpRequest, section: str = "") -> HttpResponseBase:
    """The schema as pages for people: what there is, and one for each collection.

    Each is made once for all who are not signed in.
    """
    with _making:
        if principal_of(request) is None:
            return _page(theme_of(request), section).answer(request, "text/html; charset=utf-8", "Cookie")
        template, context = _content_of(section)
    return render(request, template, context)


# Whoever comes while it is being made waits, instead of making it too.
_making = threading.Lock()


@cache
def _schema() -> Kept:
    return Kept.of(JSONRenderer().render(openapi()))


@cache
def _page(theme: str, section: str) -> Kept:
    """The page with nothing of anybody's request but the theme, which is one of three."""
    template, context = _content_of(section)
    request = HttpRequest()
    request.method = "GET"
    request.path = request.path_info = reverse("web:api-docs")
    request.COOKIES[COOKIE] = theme
    return Kept.of(render_to_string(template, context, request).encode())


@cache
def _content_of(name: str) -> tuple[str, dict[str, Any]]:
    """A page's template and what it shows: of all sections, or of the one that is named; raises `Http404`."""
    if not name:
        return "web/apidocs.html", {"sections": sections()}
    section = next((each for each in sections() if each.name == name), None)
    if section is None:
        raise Http404
    operations = render_to_string("web/parts/apioperations.html", {"operations": section.operations})
    crumbs = (("REST API", reverse("web:api-docs")), (section.title, ""))
    return "web/apisection.html", {"section": section, "operations": operations, "crumbs": crumbs}


@cache
def openapi() -> dict[str, Any]:
    """The schema, made once: it doesn't change while the process runs."""
    schema: dict[str, Any] = SchemaGenerator().get_schema(request=None, public=True)  # type: ignore[no-untyped-call]
    return schema


@cache
def sections() -> tuple[Section, ...]:
    """The operations by collection, in the order of their names and paths."""
    found: dict[str, list[Operation]] = {}
    for path, methods in sorted(openapi()["paths"].items()):
        for method in METHODS:
            if method in methods:
                tag = (methods[method].get("tags") or ["other"])[0]
                found.setdefault(tag, []).append(_operation(path, method, methods[method]))
    return tuple(
        Section(name, name.replace("-", " ").capitalize(), _told_once(operations))
        for name, operations in sorted(found.items())
    )


def _told_once(operations: list[Operation]) -> tuple[Operation, ...]:
    """The operations of a section; the fields of an answer are told where it comes first, and named after that."""
    first: dict[str, Operation] = {}
    found = []
    for each in operations:
        above = first.setdefault(each.shape, each) if each.shape else each
        found.append(each if above is each else replace(each, answer=(), same_as=above))
    return tuple(found)


def _operation(path: str, method: str, told: dict[str, Any]) -> Operation:
    description = told.get("description", "")
    needed = PERMISSION.search(description)
    status, answer = next(
        ((code, answer) for code, answer in told.get("responses", {}).items() if code.startswith("2")),
        ("", {}),
    )
    return Operation(
        anchor=told["operationId"],
        method=method.upper(),
        path=f"{settings.DOCKMESH_BASE_PATH}{path}",
        summary=told.get("summary", ""),
        description=tuple(PERMISSION.sub("", description).strip().split("\n\n")),
        permissions=tuple(filter(None, needed.groups())) if needed else (),
        parameters=tuple(
            Field(
                each["name"],
                _type(each.get("schema", {})),
                bool(each.get("required", False)),
                each.get("description", ""),
                _values(each.get("schema", {})),
            )
            for each in told.get("parameters", ())
            if each["in"] == "query"
        ),
        body=_fields(_content(told.get("requestBody", {}))),
        status=status,
        answer=_fields(_content(answer)),
        shape=_shape(_content(answer)),
    )


def _shape(schema: dict[str, Any]) -> str:
    """The name of an object's schema; of a list or a page of results, that of one of them."""
    schema = _resolved(schema).get("properties", {}).get("results", schema)
    return str(schema.get("items", schema).get("$ref", "")).rpartition("/")[2]


def _content(part: dict[str, Any]) -> dict[str, Any]:
    content: dict[str, dict[str, Any]] = part.get("content", {})
    for told in content.values():
        schema: dict[str, Any] = told.get("schema", {})
        return schema
    return {}


def _fields(schema: dict[str, Any]) -> tuple[Field, ...]:
    """An object's fields; of a page of results, those of one result."""
    schema = _resolved(schema)
    properties = schema.get("properties", {})
    results = _resolved(properties.get("results", {}))
    if results.get("type") == "array":
        schema = _resolved(results.get("items", {}))
        properties = schema.get("properties", {})
    elif schema.get("type") == "array":
        schema = _resolved(schema.get("items", {}))
        properties = schema.get("properties", {})
    required = schema.get("required", ())
    return tuple(
        Field(name, _type(each), name in required, _resolved(each).get("description", ""), _values(each))
        for name, each in properties.items()
    )


def _type(schema: dict[str, Any]) -> str:
    """A short word for a schema's type."""
    schema = _resolved(schema)
    if "oneOf" in schema or "anyOf" in schema:
        return " or ".join(_type(each) for each in schema.get("oneOf", schema.get("anyOf", ())))
    if schema.get("type") == "array":
        return f"list of {_type(schema.get('items', {}))}"
    word = (
        schema.get("format") if schema.get("format") in ("date-time", "uri", "uuid") else schema.get("type")
    )
    return f"{word or 'any'}{' or null' if schema.get('nullable') else ''}"


def _values(schema: dict[str, Any]) -> tuple[str, ...]:
    schema = _resolved(schema)
    if schema.get("type") == "array":
        schema = _resolved(schema.get("items", {}))
    return tuple(str(value) for value in schema.get("enum", ()) if value not in (None, ""))


def _resolved(schema: dict[str, Any]) -> dict[str, Any]:
    """The schema that a reference leads to, with what stands beside the reference."""
    parts = schema.get("allOf", [schema] if "$ref" in schema else [])
    if len(parts) != 1 or "$ref" not in parts[0]:
        return schema
    name = parts[0]["$ref"].rpartition("/")[2]
    beside = {key: value for key, value in schema.items() if key not in ("allOf", "$ref")}
    return {**openapi()["components"]["schemas"][name], **beside}
