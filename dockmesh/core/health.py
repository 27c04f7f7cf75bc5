"""`/livez` and `/readyz`: is the process alive, and may it get requests?"""

import os
import threading
from collections.abc import Callable
from functools import cache
from pathlib import Path

from django.db import DatabaseError, InterfaceError, connection
from django.db.migrations.loader import MigrationLoader
from django.db.migrations.recorder import MigrationRecorder
from django.http import HttpRequest, HttpResponse, JsonResponse

from dockmesh.core.compiled import CompiledQuery, Statement
from dockmesh.core.postgresql.base import waits_limited_to

PATHS = ("/livez", "/readyz")
DATABASE_SECONDS = 1.0

_draining = threading.Event()


def begin_draining() -> None:
    """Say from now on that this process should get no more requests."""
    _draining.set()


@cache
def _migrations_of_the_code() -> frozenset[tuple[str, str]]:
    return frozenset(MigrationLoader(None, ignore_no_migrations=True).disk_migrations or ())


def count_migrations() -> tuple[int, int]:
    """How many migrations the database has had, and how many the code has besides; one query."""
    applied = set(MigrationRecorder(connection).migration_qs.values_list("app", "name"))
    return len(applied), len(_migrations_of_the_code() - applied)


_SIZES = {
    "postgresql": "SELECT pg_database_size(current_database())",
    "sqlite": "SELECT page_count * page_size FROM pragma_page_count(), pragma_page_size()",
}
DATABASE_BYTES = CompiledQuery(lambda: Statement(_SIZES[connection.vendor], columns=1))


def database_bytes() -> int:
    """The size of the database on its disk; one query."""
    ((size,),) = DATABASE_BYTES.rows()
    return int(size)


def failures() -> dict[str, str]:
    """What stands against readiness: `database`, `migrations`, `draining`, each with a short reason."""
    found: dict[str, str] = {}
    if _draining.is_set():
        found["draining"] = "the server is stopping"
    try:
        with waits_limited_to(DATABASE_SECONDS):
            _, missing = count_migrations()
            is_read_only = _is_read_only()
    except (DatabaseError, InterfaceError) as error:
        if "django_migrations" in str(error):
            found["migrations"] = "none is applied"
        else:
            found["database"] = "it does not answer"
            connection.close()
    else:
        if missing:
            found["migrations"] = f"{missing} not applied"
        if is_read_only:
            found["database"] = "it is read-only"
    return found


def _is_read_only() -> bool:
    """Whether no transaction may write: a standby, a read-only primary, a file or a disk that can't be written."""
    if connection.vendor == "postgresql":
        with connection.cursor() as cursor:
            cursor.execute("SHOW transaction_read_only")
            return bool(cursor.fetchone()[0] == "on")
    file = Path(connection.settings_dict["NAME"])
    return not (os.access(file, os.W_OK) and os.access(file.parent, os.W_OK))


class HealthMiddleware:
    """Answers both before anything else looks at the request, so whatever its Host header says."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponse]) -> None:
        self._get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        if request.path_info not in PATHS:
            return self._get_response(request)
        if request.method not in ("GET", "HEAD"):
            return HttpResponse(status=405, headers={"Allow": "GET, HEAD"})
        found = failures() if request.path_info == "/readyz" else {}
        return JsonResponse(
            {"status": "unavailable" if found else "ok", "failed": found},
            status=503 if found else 200,
            headers={"Cache-Control": "no-store", **({"Retry-After": "2"} if found else {})},
        )
