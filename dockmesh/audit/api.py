"""The REST API of the audit log."""

from typing import Any

from django.http import StreamingHttpResponse
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiParameter, OpenApiResponse, extend_schema
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from dockmesh.audit import filters, selectors
from dockmesh.audit.actions import ACTOR_KINDS, TARGET_KINDS, Action
from dockmesh.audit.models import AuditEntry
from dockmesh.audit.serializers import EntryOutput, EntryPageOutput
from dockmesh.core.api import Paging, no_such_page, refuse_unknown, size_of_page
from dockmesh.core.errors import NotFound

# Empty as the form on the page sends it.
MOMENT = {"anyOf": [{"type": "string", "format": "date-time"}, {"type": "string", "maxLength": 0}]}
FILTERS = [
    OpenApiParameter("action", str, many=True, enum=[action.value for action in Action]),
    OpenApiParameter("actor", str, description="The actor's name."),
    OpenApiParameter("actor_kind", str, enum=list(ACTOR_KINDS)),
    OpenApiParameter("actor_id", str),
    OpenApiParameter("target", str, description="The target's name."),
    OpenApiParameter("target_kind", str, enum=list(TARGET_KINDS)),
    OpenApiParameter("target_id", str),
    OpenApiParameter("since", MOMENT, description="That moment or later."),
    OpenApiParameter("until", MOMENT, description="Before that moment."),
]
PLACES = [
    OpenApiParameter("before", int, description="Entries older than the one with this id."),
    OpenApiParameter("after", int, description="Entries newer than the one with this id."),
    *(
        OpenApiParameter(each["name"], each["schema"], description=each["description"])
        for each in Paging().get_schema_operation_parameters(None)
    ),
]


class EntryCollection(APIView):
    """The audit log."""

    required_permission = "audit.read"

    @extend_schema(
        summary="Read the audit log",
        operation_id="audit_list",
        parameters=[*FILTERS, *PLACES],
        responses=EntryPageOutput,
    )
    def get(self, request: Request) -> Response:
        """What happened, newest first. Follow `next` for what is older.

        Without `page` it leads on by `before`, which new entries don't shift and which stays fast however far.
        """
        params = request.query_params
        refuse_unknown(params, filters.NAMES, *filters.PLACES, "page", "page_size", "format")
        wanted, size = filters.filters_of(params), size_of_page(params)
        number = filters.page_number(params)
        if number is not None:
            return Response(_numbered(request, wanted, size, number))
        page = selectors.entry_page(
            wanted,
            size=size,
            before=filters.place(params, "before"),
            after=filters.place(params, "after"),
        )
        return Response(
            _body(wanted, page.entries, _url(request, before=page.older), _url(request, after=page.newer))
        )


class EntryDetail(APIView):
    """One entry."""

    required_permission = "audit.read"

    @extend_schema(summary="Show an entry", operation_id="audit_retrieve", responses=EntryOutput)
    def get(self, request: Request, id: int) -> Response:
        """The entry at this place of the chain."""
        entry = selectors.entry(id)
        if entry is None:
            raise NotFound("There is no such entry, or retention has pruned it.")
        return Response(selectors.as_json(entry))


class EntryExport(APIView):
    """The log as JSON lines."""

    required_permission = "audit.read"

    @extend_schema(
        summary="Export the audit log",
        operation_id="audit_export",
        parameters=FILTERS,
        responses={(200, "application/jsonl"): OpenApiResponse(OpenApiTypes.STR)},
    )
    def get(self, request: Request) -> StreamingHttpResponse:
        """All matching entries, oldest first, one JSON object a line."""
        refuse_unknown(request.query_params, filters.NAMES)
        lines = selectors.json_lines(filters.filters_of(request.query_params))
        return StreamingHttpResponse(
            lines,
            content_type="application/jsonl",
            headers={
                "Content-Disposition": 'attachment; filename="dockmesh-audit.jsonl"',
                "Cache-Control": "no-store",
            },
        )


def _numbered(request: Request, wanted: selectors.Filters, size: int, number: int) -> dict[str, Any]:
    entries, has_more = selectors.numbered_page(wanted, size=size, number=number)
    if number > 1 and not entries:
        raise no_such_page(request.query_params)
    return _body(
        wanted,
        entries,
        _url(request, page=number + 1 if has_more else None),
        _url(request, page=number - 1 if number > 1 else None),
    )


def _body(
    wanted: selectors.Filters, entries: list[AuditEntry], following: str | None, previous: str | None
) -> dict[str, Any]:
    return {
        "count": selectors.entry_count() if wanted.is_empty else None,
        "next": following,
        "previous": previous,
        "results": [selectors.as_json(entry) for entry in entries],
    }


def _url(request: Request, **place: int | None) -> str | None:
    """This address at another place; None where there is none."""
    name, value = next(iter(place.items()))
    if value is None:
        return None
    params = request.query_params.copy()
    for each in filters.PLACES:
        params.pop(each, None)
    params[name] = str(value)
    return request.build_absolute_uri(f"{request.path}?{params.urlencode()}")
