"""Error answers shaped like `application/problem+json` (RFC 9457): `title`, `status`, `detail`, `errors`."""

from collections.abc import Mapping, Sequence
from typing import Any

from django.http import JsonResponse

from dockmesh.core.errors import DomainError

CONTENT_TYPE = "application/problem+json"

TITLES = {
    400: "Bad request",
    401: "Unauthorized",
    403: "Forbidden",
    404: "Not found",
    405: "Method not allowed",
    409: "Conflict",
    411: "Length required",
    413: "Body too large",
    415: "Unsupported media type",
    422: "Unprocessable",
    429: "Too many requests",
    500: "Internal error",
    503: "Unavailable",
}


def problem(
    status: int, detail: str, *, errors: Mapping[str, Sequence[str]] | None = None, title: str | None = None
) -> dict[str, Any]:
    """The body of an error answer."""
    body: dict[str, Any] = {
        "title": title or TITLES.get(status, "Error"),
        "status": status,
        "detail": detail,
    }
    if errors:
        body["errors"] = {field: list(messages) for field, messages in errors.items()}
    return body


def problem_answer(
    status: int,
    detail: str,
    *,
    errors: Mapping[str, Sequence[str]] | None = None,
    headers: Mapping[str, str] | None = None,
) -> JsonResponse:
    """A complete Django response with such a body."""
    return _answer(problem(status, detail, errors=errors), status, headers)


def answer_for(error: DomainError) -> JsonResponse:
    """The response that a service's refusal becomes."""
    return _answer(
        problem(error.status, error.detail, errors=error.errors, title=error.title),
        error.status,
        error.headers,
    )


def _answer(body: dict[str, Any], status: int, headers: Mapping[str, str] | None) -> JsonResponse:
    # The same bytes as DRF's renderer makes of the same body.
    return JsonResponse(
        body,
        status=status,
        headers=dict(headers or {}),
        content_type=CONTENT_TYPE,
        json_dumps_params={"separators": (",", ":"), "ensure_ascii": False},
    )
