"""The REST API of the audit log."""

from typing import Any

from django.http import StreamingHttpResponse
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import extend_schema
from rest_framework.request import Request
from rest_framework.response import Response

from dockmesh.audit import filters, selectors
from dockmesh.audit.models import AuditEntry
from dockmesh.audit.serializers import EntrySerializer
from dockmesh.core.api import Paging, no_such_page, size_of_page
from dockmesh.core.errors import NotFound
from dockmesh.core.viewsets import ServiceViewSet, operation


class EntryPaging(Paging):
    """Pages by their place in the chain, which new entries don't shift; by number where `page` is given."""

    parameters = (*Paging.parameters, *filters.PLACES)
    request: Request

    def paginate_queryset(self, queryset: Any, request: Request, view: Any = None) -> Any:
        """The entries of the page asked for."""
        self.request, params = request, request.query_params
        self._is_narrowed = bool(filters.EntryFilter.given(params))
        size, number = size_of_page(params), filters.page_number(params)
        if number is None:
            page = selectors.entry_page(
                queryset,
                size=size,
                before=filters.place(params, "before"),
                after=filters.place(params, "after"),
            )
            self._following, self._previous = self._url(before=page.older), self._url(after=page.newer)
            return page.entries
        entries, has_more = selectors.numbered_page(
            queryset, size=size, number=number, is_narrowed=self._is_narrowed
        )
        if number > 1 and not entries:
            raise no_such_page(params)
        self._following = self._url(page=number + 1 if has_more else None)
        self._previous = self._url(page=number - 1 if number > 1 else None)
        return entries

    def get_paginated_response(self, data: Any) -> Response:
        """Counted where that costs nothing."""
        count = None if self._is_narrowed else selectors.entry_count()
        links = {"next": self._following, "previous": self._previous}
        return Response({"count": count, **links, "results": data})

    def get_paginated_response_schema(self, schema: Any) -> dict[str, Any]:
        """As everywhere, but for the count."""
        told: dict[str, Any] = super().get_paginated_response_schema(schema)
        told["properties"]["count"] |= {"nullable": True, "description": "Null where filters are given."}
        return told

    def get_schema_operation_parameters(self, view: Any) -> list[dict[str, Any]]:
        """With the places."""
        places = [
            {"name": name, "in": "query", "description": text, "schema": {"type": "integer", "minimum": 0}}
            for name, text in (
                ("before", "Entries older than the one with this id."),
                ("after", "Entries newer than the one with this id."),
            )
        ]
        return [*places, *super().get_schema_operation_parameters(view)]

    def _url(self, **place: int | None) -> str | None:
        """This address at another place; None where there is none."""
        name, value = next(iter(place.items()))
        if value is None:
            return None
        params = self.request.query_params.copy()
        for each in filters.PLACES:
            params.pop(each, None)
        params[name] = str(value)
        return self.request.build_absolute_uri(f"{self.request.path}?{params.urlencode()}")


class EntryViewSet(ServiceViewSet[AuditEntry]):
    """What happened, newest first. Follow `next` for what is older.

    Without `page` it leads on by `before`, which new entries don't shift and which stays fast however far.
    """

    noun = "audit entry"
    queryset = AuditEntry.objects.all()
    serializer_class = EntrySerializer
    filterset_class = filters.EntryFilter
    pagination_class = EntryPaging
    read_permission = "audit.read"

    def one(self, id: int) -> AuditEntry:
        """The entry at this place of the chain."""
        if (entry := selectors.entry(id)) is None:
            raise NotFound("There is no such entry, or retention has pruned it.")
        return entry

    @extend_schema(filters=True, responses={(200, "application/jsonl"): OpenApiTypes.STR})
    @operation("audit.read", method="get", detail=False, summary="Export the audit log")
    def export(self) -> StreamingHttpResponse:
        """All matching entries, oldest first, one JSON object a line."""
        return StreamingHttpResponse(
            selectors.json_lines(self.filter_queryset(self.get_queryset())),
            content_type="application/jsonl",
            headers={
                "Content-Disposition": 'attachment; filename="dockmesh-audit.jsonl"',
                "Cache-Control": "no-store",
            },
        )
