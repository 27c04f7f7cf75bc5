"""The way of a newcomer from an empty server to the first scrape."""

from __future__ import annotations

from dataclasses import dataclass

from django.conf import settings
from django.http import HttpRequest

from dockmesh.core import scrapeconfig
from tokens import selectors as tokens


@dataclass(frozen=True)
class Guide:
    """Which steps are done, and what the others need."""

    has_host: bool
    has_token: bool
    has_scrape: bool
    needs_token: bool
    scrape_configuration: str


def read(request: HttpRequest, *, has_host: bool) -> Guide | None:
    """The guide; None once a host reports and Prometheus has scraped."""
    needs_token = bool(settings.DOCKMESH_METRICS_AUTH)
    has_token, has_scrape = tokens.scraper_progress()
    if has_host and (has_scrape or not needs_token):
        return None
    base_url = scrapeconfig.base_url_of(request)
    return Guide(
        has_host=has_host,
        has_token=has_token or not needs_token,
        has_scrape=has_scrape,
        needs_token=needs_token,
        scrape_configuration=(
            scrapeconfig.with_credentials_file(base_url)
            if needs_token
            else scrapeconfig.without_credentials(base_url)
        ),
    )
