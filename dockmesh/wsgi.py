"""The WSGI application for any other WSGI server than `manage.py serve`."""

import atexit
import os
import threading
from collections.abc import Iterable
from typing import Any

from django.core.wsgi import get_wsgi_application

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "dockmesh.settings")
_django = get_wsgi_application()

from dockmesh.core import lifecycle  # noqa: E402  (the rooms have registered once the application is there)
from dockmesh.core.postgresql.base import REQUEST_SECONDS, limit_waits  # noqa: E402
from dockmesh.core.shortways import with_short_ways  # noqa: E402

_application = with_short_ways(_django)

limit_waits(REQUEST_SECONDS)

_starting = threading.Lock()
_started_in = 0


def application(environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
    """Django's application with its short ways. What runs beside the requests starts with the first one, in the process that serves.

    A server may import this in a process that only forks the others (`gunicorn --preload`): no thread survives that.
    """
    if _started_in != os.getpid():
        _start()
    return _application(environ, start_response)


def _start() -> None:
    global _started_in
    with _starting:
        if _started_in != os.getpid():
            lifecycle.start()
            atexit.register(lifecycle.stop)
            _started_in = os.getpid()
