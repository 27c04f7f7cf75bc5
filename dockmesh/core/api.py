"""What all REST endpoints share: strict JSON in, JSON out, paging, errors as problems."""

import logging
import math
from collections.abc import Mapping, Sequence
from typing import Any

from django.conf import settings
from django.core.exceptions import PermissionDenied, RequestDataTooBig
from django.db import InterfaceError, OperationalError
from django.http import Http404
from rest_framework import exceptions, serializers
from rest_framework.metadata import SimpleMetadata
from rest_framework.negotiation import BaseContentNegotiation
from rest_framework.pagination import PageNumberPagination
from rest_framework.parsers import BaseParser
from rest_framework.renderers import BaseRenderer
from rest_framework.request import Request
from rest_framework.response import Response

from dockmesh.core import busy, strictjson
from dockmesh.core.errors import DomainError, Forbidden, InvalidInput, NotFound
from dockmesh.core.problems import CONTENT_TYPE, problem
from dockmesh.core.text import counting_number

logger = logging.getLogger(__name__)

# RFC 6750 section 3.1: the token is good, but does not allow this.
INSUFFICIENT_SCOPE = 'Bearer realm="dockmesh", error="insufficient_scope"'


class StrictJSONParser(BaseParser):
    """`application/json`, read by `strictjson`; the top level is an object."""

    media_type = "application/json"

    def parse(
        self, stream: Any, media_type: str | None = None, parser_context: Mapping[str, Any] | None = None
    ) -> Any:
        """The parsed object; an empty body is an empty object."""
        raw = stream.read(settings.DOCKMESH_MAX_BODY_BYTES + 1)
        if len(raw) > settings.DOCKMESH_MAX_BODY_BYTES:
            raise RequestDataTooBig
        if not raw:
            return {}
        value = strictjson.loads(raw)
        if not isinstance(value, dict):
            raise InvalidInput(strictjson.BODY, "must be a JSON object.")
        return value


class JSONOnly(BaseContentNegotiation):
    """Every client gets JSON, whatever its Accept header says."""

    def select_parser(self, request: Request, parsers: Any) -> BaseParser | None:
        """The parser of the request's Content-Type; without one, JSON."""
        content_type = (request.content_type or "application/json").split(";")[0].strip().lower()
        for parser in parsers:
            if parser.media_type == content_type:
                return parser  # type: ignore[no-any-return]
        return None

    def select_renderer(
        self, request: Request, renderers: Any, format_suffix: str | None = None
    ) -> tuple[BaseRenderer, str]:
        """The first renderer."""
        renderer = renderers[0]
        return renderer, renderer.media_type


class Metadata(SimpleMetadata):
    """The answer to OPTIONS: what this is and, by `Allow`, which methods it has. Fields are in the schema."""

    def determine_actions(self, request: Any, view: Any) -> Any:
        """None: Django REST framework would show the form of answers as that of bodies, if it finds one at all."""
        return None


PAGE_SIZE = 50
MAX_PAGE_SIZE = 500
# More than any collection has; a page is counted no further.
MOST_PAGES = 10**12


class Paging(PageNumberPagination):
    """`?page=2&page_size=100`: 50 rows a page, 500 at most; answers `count`, `next`, `previous`, `results`.

    A page after the last is 404; one that is no number from 1, or such a size, is 400 by its name. A size above the
    maximum is the maximum.
    """

    parameters: tuple[str, ...] = ("page", "page_size")
    page_size = PAGE_SIZE
    page_size_query_param = "page_size"
    max_page_size = MAX_PAGE_SIZE

    def get_page_size(self, request: Request) -> int:
        """The size asked for."""
        return size_of_page(request.query_params)

    def get_page_number(self, request: Request, paginator: Any) -> int:
        """The page asked for; there is always a first one."""
        number = number_of_page(request.query_params)
        if number > paginator.num_pages:
            raise no_such_page(request.query_params)
        return number

    def get_schema_operation_parameters(self, view: Any) -> list[dict[str, Any]]:
        """With the bounds."""
        number = {"type": "integer", "minimum": 1}
        size = number | {"maximum": MAX_PAGE_SIZE, "default": PAGE_SIZE}
        return [
            {"name": name, "in": "query", "required": False, "description": text, "schema": schema}
            for name, text, schema in (
                ("page", "Which page; one after the last is 404.", number),
                (
                    "page_size",
                    f"Rows a page, {PAGE_SIZE} if left out; more than {MAX_PAGE_SIZE} is {MAX_PAGE_SIZE}.",
                    size,
                ),
            )
        ]


def size_of_page(params: Mapping[str, str]) -> int:
    """`?page_size=`, from 1; `PAGE_SIZE` where it isn't given, and `MAX_PAGE_SIZE` where it is above that."""
    text = params.get("page_size")
    return PAGE_SIZE if text is None else counting_number("page_size", text, cap=MAX_PAGE_SIZE)


def number_of_page(params: Mapping[str, str]) -> int:
    """`?page=`, from 1, which it is where it isn't given; raises `InvalidInput` for what is no such number."""
    return counting_number("page", params.get("page", "1"), cap=MOST_PAGES)


def no_such_page(params: Mapping[str, str]) -> NotFound:
    """What to raise where `number_of_page` is after the last one."""
    return NotFound(f"There is no page {params['page'].lstrip('0')[:20]}.")


class StrictSerializer(serializers.Serializer[Any]):
    """The shape of a body; a field that it doesn't know is refused by name."""

    def to_internal_value(self, data: Any) -> Any:
        """The validated values; 400 with every unknown field's name."""
        if isinstance(data, Mapping):
            unknown = sorted(set(data) - set(self.fields))
            if unknown:
                raise exceptions.ValidationError({name: ["is no field here."] for name in unknown})
        return super().to_internal_value(data)


class Text(serializers.CharField):
    """A JSON string; a number is not taken for one."""

    def to_internal_value(self, data: Any) -> str:
        """The text as it is; what it may hold is checked by the services."""
        if not isinstance(data, str):
            self.fail("invalid")
        return super().to_internal_value(data)


class Whole(serializers.IntegerField):
    """A JSON integer: neither a text nor a boolean nor 1.0."""

    def to_internal_value(self, data: Any) -> int:
        """The number."""
        if isinstance(data, bool) or not isinstance(data, int):
            self.fail("invalid")
        return super().to_internal_value(data)


class Flag(serializers.BooleanField):
    """A JSON boolean; neither 1 nor "yes"."""

    def to_internal_value(self, data: Any) -> bool:
        """True or False."""
        if not isinstance(data, bool):
            self.fail("invalid", input=data)
        return data


def problem_response(error: Exception, context: Mapping[str, Any]) -> Response | None:
    """DRF's exception handler: every error becomes a problem, none shows a traceback."""
    headers: dict[str, str] = {}
    if isinstance(error, DomainError):
        headers |= error.headers
        auth = getattr(context.get("request"), "auth", None)
        if isinstance(error, Forbidden) and getattr(auth, "kind", "") == "token":
            headers["WWW-Authenticate"] = INSUFFICIENT_SCOPE
        return _answer(error.status, error.detail, headers, errors=error.errors, title=error.title)
    if isinstance(error, OperationalError | InterfaceError):
        detail, seconds = busy.in_words(error)
        logger.error("%s (%s)", detail, error)
        return _answer(503, detail, {"Retry-After": seconds})
    if isinstance(error, RequestDataTooBig):
        return _answer(413, "The body is over the limit.", headers)
    if isinstance(error, Http404):
        error = exceptions.NotFound()
    elif isinstance(error, PermissionDenied):
        error = exceptions.PermissionDenied()
    if not isinstance(error, exceptions.APIException):
        return None
    if challenge := getattr(error, "auth_header", None):
        headers["WWW-Authenticate"] = challenge
    if wait := getattr(error, "wait", None):
        headers["Retry-After"] = str(math.ceil(wait))
    if isinstance(error, exceptions.ValidationError):
        errors = _field_errors(error.detail)
        return _answer(error.status_code, "Some fields are not valid.", headers, errors=errors)
    return _answer(error.status_code, str(error.detail), headers)


def _answer(code: int, detail: str, headers: Mapping[str, str], **more: Any) -> Response:
    body = problem(code, detail, **more)
    return Response(body, status=code, headers=dict(headers), content_type=CONTENT_TYPE)


def _field_errors(detail: Any, path: str = "") -> dict[str, Sequence[str]]:
    """DRF's nested details as flat `field.path → messages`."""
    below: list[tuple[str, Any]]
    if isinstance(detail, dict):
        below = [(_below(path, key), child) for key, child in detail.items()]
    elif isinstance(detail, list) and any(isinstance(child, dict | list) for child in detail):
        below = [(_below(path, index), child) for index, child in enumerate(detail) if child]
    else:
        messages = detail if isinstance(detail, list) else [detail]
        return {path or "body": [str(message) for message in messages]}
    return {name: told for where, child in below for name, told in _field_errors(child, where).items()}


def _below(path: str, key: str | int) -> str:
    if isinstance(key, int):
        return f"{path}[{key}]"
    return f"{path}.{key}" if path else str(key)
