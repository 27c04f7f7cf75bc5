"""`manage.py serve`: everything for one machine."""

from __future__ import annotations

import fcntl
import os
import sys
import time
from argparse import ArgumentParser, ArgumentTypeError
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from django.conf import settings
from django.core.management import call_command
from django.core.management.base import BaseCommand, CommandError
from django.core.wsgi import get_wsgi_application
from django.db import OperationalError, connection, connections
from django.urls import get_resolver

from dockmesh import __version__
from dockmesh.core import health
from dockmesh.scheduler.runner import Scheduler
from dockmesh.server import listener, processes, run

DATABASE_WAIT_SECONDS = 60
MIGRATION_LOCK = 0x646F636B6D657368  # any number that every replica agrees on
BACKLOG = 2048


class Command(BaseCommand):
    """Prepares the data folder and the database, then runs the web process and the scheduler."""

    help = "Runs dockmesh: web server, API, /metrics and scheduler. Stops cleanly on SIGTERM and SIGINT."

    def add_arguments(self, parser: ArgumentParser) -> None:
        """`--bind` and `--threads`."""
        parser.add_argument("--bind", default="127.0.0.1:8080", help="HOST:PORT to listen on")
        parser.add_argument("--threads", type=_threads, default=8, help="worker threads (1 to 256)")

    def handle(self, *args: Any, **options: Any) -> None:
        """Returns never: exits with 0 after a clean stop."""
        if not sys.platform.startswith("linux"):
            raise CommandError("serve needs Linux (epoll)")
        try:
            sock = listener.bind(*listener.parse_bind(options["bind"]))
        except listener.BindError as error:
            raise CommandError(str(error), returncode=2) from None
        self._wait_for_database()
        with only_one_replica():
            call_command("migrate", interactive=False, verbosity=0)
        address = _address(*sock.getsockname()[:2])
        self._greet(settings.DOCKMESH_BASE_URL or address, address)
        application = get_wsgi_application()
        _ = get_resolver().url_patterns  # import every view before forking
        connections.close_all()
        sock.listen(BACKLOG)

        def web() -> None:
            run.run_web(
                sock,
                application,
                threads=options["threads"],
                max_body_bytes=settings.DOCKMESH_MAX_BODY_BYTES,
            )

        def scheduler() -> None:
            sock.close()
            scheduler = Scheduler()
            run.run_scheduler(scheduler.run, scheduler.stop)

        def stop() -> None:
            health.begin_draining()
            sock.close()

        sys.exit(processes.Supervisor({"web": web, "scheduler": scheduler}, on_stop=stop).run())

    def _wait_for_database(self) -> None:
        deadline = time.monotonic() + DATABASE_WAIT_SECONDS
        said = 0.0
        while True:
            try:
                connection.ensure_connection()
                return
            except OperationalError as error:
                reason = " ".join(str(error).split())[:300]
                if time.monotonic() > deadline:
                    raise CommandError(f"the database can't be reached: {reason}") from None
                if time.monotonic() - said > 10:
                    said = time.monotonic()
                    self.stderr.write(f"dockmesh: waiting for the database: {reason}")
                time.sleep(1)

    def _greet(self, base_url: str, address: str) -> None:
        del base_url
        self.stdout.write(f"dockmesh {__version__} listens on {address}/")
        self.stdout.flush()


@contextmanager
def only_one_replica() -> Iterator[None]:
    """Of several servers that start together, one prepares the database and the others wait for it."""
    if connection.vendor == "postgresql":
        with connection.cursor() as cursor:
            cursor.execute("SELECT pg_advisory_lock(%s)", [MIGRATION_LOCK])
        try:
            yield
        finally:
            with connection.cursor() as cursor:
                cursor.execute("SELECT pg_advisory_unlock(%s)", [MIGRATION_LOCK])
        return
    handle = os.open(settings.DOCKMESH_DATA_DIR / "start.lock", os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)


def _threads(value: str) -> int:
    if value.isascii() and value.isdigit() and len(value) <= 3 and 1 <= int(value) <= 256:
        return int(value)
    raise ArgumentTypeError(f"{value[:100]!r}: expected a whole number from 1 to 256")


def _address(host: str, port: int) -> str:
    if host in ("0.0.0.0", "::"):  # noqa: S104  (compared, not bound)
        host = "127.0.0.1" if host == "0.0.0.0" else "::1"  # noqa: S104
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
