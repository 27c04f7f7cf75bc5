"""`manage.py serve`: everything for one machine."""

from __future__ import annotations

import signal
import sys
from argparse import ArgumentParser, ArgumentTypeError
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError
from django.core.wsgi import get_wsgi_application
from django.db import DatabaseError, connection, connections
from django.urls import get_resolver

from dockmesh import __version__
from dockmesh.audit.services import SYSTEM, accept_restored, begin_with_new_database
from dockmesh.backups.reports import settle_restored
from dockmesh.core import clock, health, starting
from dockmesh.core.errors import InvalidInput
from dockmesh.core.shortways import with_short_ways
from dockmesh.core.text import in_one_line
from dockmesh.env import digits
from dockmesh.fleet import listening, waiting
from dockmesh.fleet.ingest import batch
from dockmesh.scheduler.runner import Scheduler
from dockmesh.server import listener, processes, run
from dockmesh.server.batch import BatchEndpoint
from dockmesh.server.http import BACKLOG
from dockmesh.server.parking import Parking
from dockmesh.web.middleware import HEADERS
from dockmesh.web.services import setup_link, take_secret_key
from tokens.services import create_first_administrator, has_administrator

DEFAULT_BIND = "127.0.0.1:8080"


class Command(BaseCommand):
    """Prepares the data folder and the database, then runs the web process and the scheduler."""

    help = "Runs dockmesh: web server, API, /metrics and scheduler. Stops cleanly on SIGTERM and SIGINT."

    def add_arguments(self, parser: ArgumentParser) -> None:
        """`--bind` and `--threads`."""
        parser.add_argument(
            "--bind",
            action="append",
            metavar="HOST:PORT",
            help=f"where to listen; may be given several times (default {DEFAULT_BIND})",
        )
        parser.add_argument("--threads", type=_threads, default=8, help="worker threads (1 to 256)")

    def handle(self, *args: Any, **options: Any) -> None:
        """Returns never: exits with 0 after a clean stop."""
        if not sys.platform.startswith("linux"):
            raise CommandError("serve needs Linux")
        for number in processes.stop_signals():  # until the supervisor takes over
            signal.signal(number, lambda *_: sys.exit(0))
        try:
            sockets = listener.bind_all(options["bind"] or [DEFAULT_BIND])
        except listener.BindError as error:
            raise CommandError(str(error), returncode=2) from None
        urls = listener.urls(sockets)
        try:
            starting.wait_for_database(self._say)
            with starting.prepared_database(self._say):
                clock.agree()
                if settings.SECRET_KEY_FALLBACKS:
                    self._say(take_secret_key())
                accept_restored(last_alive=listening.last_noted())
                settle_restored()
                path = self._first_administrator()
        except starting.CannotStart as error:
            raise CommandError(str(error)) from None
        except DatabaseError as error:
            raise CommandError(
                f"the database can't be used: {in_one_line(error, most=starting.MOST_WORDS)}"
            ) from None
        for url in urls:
            self.stdout.write(f"dockmesh {__version__} listens on {url}/")
        if path:
            for url in [settings.DOCKMESH_BASE_URL] if settings.DOCKMESH_BASE_URL else urls:
                self.stdout.write(
                    f"Make the first administrator (this link works once, and for an hour): {url}{path}"
                )
        self.stdout.flush()
        application = with_short_ways(get_wsgi_application())
        _ = get_resolver().url_patterns  # import every view before forking
        connections.close_all()
        for sock in sockets:
            sock.listen(BACKLOG)

        def web() -> None:
            run.run_web(
                sockets,
                application,
                threads=options["threads"],
                max_body_bytes=settings.DOCKMESH_MAX_BODY_BYTES,
                batch_endpoint=_heartbeats(),
                parking=Parking(waiting.PATH, waiting.APPLICATION, _headers(), nothing=waiting.NOTHING),
            )

        def close() -> None:
            for sock in sockets:
                sock.close()

        def scheduler() -> None:
            close()
            scheduler = Scheduler()
            run.run_scheduler(scheduler.run, scheduler.stop)

        def stop() -> None:
            health.begin_draining()
            close()

        sys.exit(processes.Supervisor({"web": web, "scheduler": scheduler}, on_stop=stop).run())

    def _say(self, what: str) -> None:
        self.stderr.write(f"dockmesh: {what}")
        self.stderr.flush()

    def _first_administrator(self) -> str | None:
        """Make the administrator that the environment names, or the path at which to make one in the browser."""
        environment = settings.ENVIRONMENT
        if not has_administrator():
            begin_with_new_database()
        if environment.admin_user and not has_administrator():
            try:
                create_first_administrator(
                    username=environment.admin_user, password=environment.admin_password, actor=SYSTEM
                )
            except InvalidInput as error:
                raise CommandError(_named_by_variable(error), returncode=2) from None
        return setup_link("")


def _heartbeats() -> BatchEndpoint:
    """On PostgreSQL one thread reads heartbeats while another waits for the database; on SQLite one writes at a time."""
    threads = 2 if connection.vendor == "postgresql" else 1
    return BatchEndpoint(batch.PATH, batch.application, _headers(), threads=threads)


def _headers() -> dict[str, str]:
    """What is on every answer that is given without Django's middleware."""
    return {**HEADERS, "Cache-Control": "no-store"}


def _named_by_variable(error: InvalidInput) -> str:
    """What is wrong with the administrator, by the names that the operator knows."""
    names = {"username": "DOCKMESH_ADMIN_USER", "password": "DOCKMESH_ADMIN_PASSWORD"}
    return "; ".join(
        f"{names.get(field, field)}: {' '.join(messages)}" for field, messages in error.errors.items()
    )


def _threads(value: str) -> int:
    number = digits(value, least=1, most=256)
    if number is None:
        raise ArgumentTypeError(f"{value[:100]!r}: expected a whole number from 1 to 256")
    return number
