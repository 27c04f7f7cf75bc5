"""Settings → Metrics: is authentication on, what to paste into Prometheus, who scrapes and who is refused."""

from collections.abc import Mapping
from typing import Any

from django.conf import settings
from django.utils.functional import SimpleLazyObject

from dockmesh.core import scrapeconfig
from dockmesh.core.pages import DetailPage
from metrics import costs
from metrics.groups import Group
from metrics.models import ScrapeRecord
from metrics.rendering import DatabaseAway
from metrics.singleflight import TimedOut
from tokens.permissions import Permission

_SHOWN = 20


class MetricsSettings(DetailPage):
    """The page."""

    required_permission = Permission.METRICS_READ
    template = "metrics/settings.html"
    part = "metrics/parts/scrapes.html"

    def context(self) -> Mapping[str, Any]:
        base_url = scrapeconfig.base_url_of(self.request)
        wanted = self.request.GET.getlist("collect")
        collected = [group for group in Group if group in wanted] or list(Group)
        groups = () if len(collected) == len(Group) else tuple(collected)
        records = ScrapeRecord.objects.order_by("-last_at")
        return {
            "is_auth_on": settings.DOCKMESH_METRICS_AUTH,
            "config_with_file": scrapeconfig.with_credentials_file(base_url, groups=groups),
            "config_with_credentials": scrapeconfig.with_credentials(base_url, groups=groups),
            "config_without": scrapeconfig.without_credentials(base_url, groups=groups),
            "costs": SimpleLazyObject(_costs),  # the part that refreshes itself shows none
            "collected": collected,
            "scrapes": records.filter(refusal="")[:_SHOWN],
            "refusals": records.exclude(refusal="")[:_SHOWN],
        }


def _costs() -> list[costs.GroupCost]:
    """What each group costs; nothing while that can't be known."""
    try:
        return costs.of_groups()
    except (DatabaseAway, TimedOut):
        return []
