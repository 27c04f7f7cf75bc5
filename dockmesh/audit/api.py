"""The REST API of the audit log."""

from typing import Any

from django.http import StreamingHttpResponse
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiParameter, OpenApiResponse, extend_schema
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from dockmesh.audit import filters, selectors
from dockmesh.audit.actions import Action
from dockmesh.audit.serializers import EntryOutput, EntryPageOutput
from dockmesh.core.errors import NotFound

FILTERS = [
    OpenApiParameter("action", str, many=True, enum=[action.value for action in Action]),
    OpenApiParameter("actor", str, description="The actor's name."),
    OpenApiParameter("actor_kind", str, enum=["user", "token", "agent", "system"]),
    OpenApiParameter("actor_id", str),
    OpenApiParameter("target", str, description="The target's name."),
    OpenApiParameter("target_kind", str),
    OpenApiParameter("target_id", str),
    OpenApiParameter("since", OpenApiTypes.DATETIME, description="That moment or later."),
    OpenApiParameter("until", OpenApiTypes.DATETIME, description="Before that moment."),
]
PLACES = [
    OpenApiParameter("before", int, description="Entries older than the one with this id."),
    OpenApiParameter("after", int, description="Entries newer than the one with this id."),
    OpenApiParameter("page_size", int, description="50, at most 500."),
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
        """What happened, newest first. Follow `next` for what is older."""
        params = request.query_params
        filters.refuse_unknown(params, *filters.PLACES, "page_size")
        wanted = filters.filters_of(params)
        page = selectors.entry_page(
            wanted,
            size=filters.page_size(params),
            before=filters.place(params, "before"),
            after=filters.place(params, "after"),
        )
        body: dict[str, Any] = {
            "count": selectors.entry_count() if wanted.is_empty else None,
            "next": _url(request, before=page.older),
            "previous": _url(request, after=page.newer),
            "results": [selectors.as_json(entry) for entry in page.entries],
        }
        return Response(body)


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
        filters.refuse_unknown(request.query_params)
        lines = selectors.json_lines(filters.filters_of(request.query_params))
        return StreamingHttpResponse(
            lines,
            content_type="application/jsonl",
            headers={
                "Content-Disposition": 'attachment; filename="dockmesh-audit.jsonl"',
                "Cache-Control": "no-store",
            },
        )


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
