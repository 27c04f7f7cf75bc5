"""The fleet at a glance."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from urllib.parse import urlencode

from dockmesh.core import clock
from dockmesh.core.pages import DetailPage
from dockmesh.web import guide
from dockmesh.web import overview as overviews
from tokens.permissions import Permission


class Overview(DetailPage):
    """How the fleet is, what is wrong, what happened."""

    required_permission = Permission.FLEET_READ
    template = "web/overview.html"
    part = "web/parts/overview.html"

    def context(self) -> Mapping[str, Any]:
        now = clock.now()
        may_manage, may_see_audit = self.may(Permission.FLEET_MANAGE), self.may(Permission.AUDIT_READ)
        read = overviews.read(
            now,
            may_see_audit=may_see_audit,
            may_read_output=self.may(Permission.STACKS_READ),
            by=self.request.GET.get("by", ""),
        )
        return {
            "now": now,
            "overview": read,
            "live_query": urlencode(
                {"part": "live", "by": read.grouped_by} if read.grouped_by else {"part": "live"}
            ),
            "may_manage": may_manage,
            "may_see_audit": may_see_audit,
            "may_silence": self.may(Permission.ALERTS_MANAGE),
            "may_operate": self.may(Permission.CONTAINERS_OPERATE),
            "may_read_logs": self.may(Permission.CONTAINERS_LOGS),
            "guide": guide.read(self.request, has_host=bool(read.hosts)) if may_manage else None,
        }
