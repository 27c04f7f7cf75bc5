"""What the web process and the scheduler process do, from their first signal handler to their exit."""

import contextlib
import os
import signal
import socket
import sys
from collections.abc import Callable

from dockmesh.core import health, lifecycle
from dockmesh.core.postgresql.base import JOB_SECONDS, REQUEST_SECONDS, limit_waits
from dockmesh.server import memory
from dockmesh.server.http import HTTPServer, WSGIApplication

SECRET_PATHS = ("/setup/",)  # what follows is a one-time code: it stays out of the log


def run_web(
    listener: socket.socket, application: WSGIApplication, *, threads: int, max_body_bytes: int
) -> None:
    """Serve until SIGTERM, then finish what was accepted."""
    memory.use_few_arenas()
    memory.freeze()
    limit_waits(REQUEST_SECONDS)
    lifecycle.start()
    server = HTTPServer(
        listener,
        application,
        threads=threads,
        max_body_bytes=max_body_bytes,
        lanes=health.PATHS,
        secret_paths=SECRET_PATHS,
        on_drain=health.begin_draining,
        log=write_line,
    )
    signal.signal(signal.SIGTERM, lambda *_: server.stop())
    server.run()
    lifecycle.stop()


def run_scheduler(run: Callable[[], None], stop: Callable[[], None]) -> None:
    """Run the scheduler until SIGTERM."""
    limit_waits(JOB_SECONDS)
    signal.signal(signal.SIGTERM, lambda *_: stop())
    run()


def write_line(line: str) -> None:
    """One line of the access log, to standard output; characters that could steer a terminal are escaped."""
    with contextlib.suppress(OSError):  # a log that nobody reads any more must not fail a request
        os.write(sys.stdout.fileno(), line.encode("ascii", "backslashreplace") + b"\n")
