"""`manage.py scrapeconfig`: the scrape jobs of this installation for prometheus.yml."""

from argparse import ArgumentTypeError
from typing import Any
from urllib.parse import urlsplit

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError, CommandParser

from dockmesh.core import scrapeconfig
from dockmesh.core.commandline import complain_in_one_line
from metrics.groups import Group


def _url(text: str) -> str:
    parts = urlsplit(text)
    if parts.scheme not in ("http", "https") or not parts.netloc or parts.path not in ("", "/"):
        raise ArgumentTypeError(f"{text!r} is not an address such as https://dockmesh.example.com")
    return f"{parts.scheme}://{parts.netloc}"


class Command(BaseCommand):
    """Prints `scrape_configs` for dockmesh itself and for the exporters of its fleet."""

    help = "Print the scrape configuration for this installation."
    requires_system_checks = ()

    def add_arguments(self, parser: CommandParser) -> None:
        """Where dockmesh and its token are, as Prometheus sees them."""
        complain_in_one_line(parser)
        parser.add_argument(
            "--url", type=_url, help="address of dockmesh for Prometheus (default: DOCKMESH_BASE_URL)"
        )
        parser.add_argument(
            "--credentials-file",
            default=scrapeconfig.TOKEN_PATH,
            metavar="PATH",
            help="the token's file on the machine of Prometheus (default: %(default)s)",
        )
        parser.add_argument(
            "--collect",
            choices=[group.value for group in Group],
            nargs="+",
            default=[],
            metavar="GROUP",
            help=f"only these groups of metrics: {', '.join(Group)} (default: all)",
        )
        parser.add_argument(
            "--only-dockmesh", action="store_true", help="without the jobs for node-exporter and cAdvisor"
        )

    def handle(self, *args: Any, **options: Any) -> None:
        """Print the jobs and nothing else."""
        url = options["url"] or settings.DOCKMESH_BASE_URL
        if not url:
            raise CommandError("DOCKMESH_BASE_URL is not set: say --url http://dockmesh.example.com:8080")
        path = options["credentials_file"]
        groups = options["collect"]
        text = scrapeconfig.with_credentials_file(url, path, groups=groups)
        if not settings.DOCKMESH_METRICS_AUTH:
            text = scrapeconfig.without_credentials(url, groups=groups)
        if not options["only_dockmesh"]:
            text += scrapeconfig.discovery(url, path)
        self.stdout.write(text, ending="")
