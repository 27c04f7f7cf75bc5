"""What the web process and the scheduler process do, from their first signal handler to their exit."""

import signal
import socket
from collections.abc import Callable, Sequence

from django.conf import settings

from dockmesh.core import answered, health, lifecycle
from dockmesh.core.http import is_trusted_proxy
from dockmesh.core.postgresql.base import JOB_SECONDS, REQUEST_SECONDS, limit_waits
from dockmesh.server import accesslog, memory
from dockmesh.server.batch import BatchEndpoint
from dockmesh.server.http import HTTPServer, WSGIApplication
from dockmesh.server.parking import Parking

SECRET_PATHS = ("/setup/",)  # what follows is a one-time code: it stays out of the log


def run_web(
    listeners: Sequence[socket.socket],
    application: WSGIApplication,
    *,
    threads: int,
    max_body_bytes: int,
    batch_endpoint: BatchEndpoint | None = None,
    parking: Parking | None = None,
) -> None:
    """Serve until SIGTERM, then finish what was accepted."""
    memory.use_few_arenas()
    memory.freeze()
    limit_waits(REQUEST_SECONDS)
    lifecycle.start()
    server = HTTPServer(
        listeners,
        application,
        threads=threads,
        max_body_bytes=max_body_bytes,
        base_path=settings.DOCKMESH_BASE_PATH,
        probe_paths=health.PATHS,
        batch_endpoint=batch_endpoint,
        parking=parking,
        secret_paths=SECRET_PATHS,
        on_drain=health.begin_draining,
        on_refused=answered.note_refused,
        is_proxy=is_trusted_proxy,
        log=accesslog.write,
    )
    signal.signal(signal.SIGTERM, lambda *_: server.stop())
    server.run()
    lifecycle.stop()


def run_scheduler(run: Callable[[], None], stop: Callable[[], None]) -> None:
    """Run the scheduler until SIGTERM."""
    limit_waits(JOB_SECONDS)
    lifecycle.stop_at((signal.SIGTERM,), stop)
    run()
