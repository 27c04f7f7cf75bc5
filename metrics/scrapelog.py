"""Who scraped and who was refused, and why: what Settings → Metrics shows.

One row for each token, address and outcome, counted up; so Prometheus scraping every few seconds is one
row, and so is a scraper whose token was revoked. Collected in memory and written once a second, off the
way of a scrape; shared by all replicas.
"""

import datetime
from dataclasses import dataclass
from threading import Lock

from django.db import transaction
from django.db.models import F

from dockmesh.core import clock
from metrics.models import ScrapeRecord

KEPT_RECORDS = 200
_MOST_PENDING = 500

Key = tuple[str, str, str]


@dataclass(slots=True)
class _Pending:
    count: int
    last_at: datetime.datetime
    user_agent: str
    seconds: float
    size: int


class ScrapeLog:
    """What is not in the database yet."""

    def __init__(self) -> None:
        self._pending: dict[Key, _Pending] = {}
        self._lock = Lock()

    def add(
        self,
        *,
        token_name: str,
        address: str,
        refusal: str = "",
        user_agent: str = "",
        seconds: float = 0.0,
        size: int = 0,
    ) -> None:
        """A scrape (`refusal` empty) or a refusal with its reason."""
        key = (refusal[:100], address[:64], token_name[:200])
        with self._lock:
            known = self._pending.get(key)
            if known is None and len(self._pending) >= _MOST_PENDING:
                return  # somebody tries from thousands of addresses: the rows that there are tell enough
            count = known.count + 1 if known else 1
            self._pending[key] = _Pending(count, clock.now(), _printable(user_agent)[:200], seconds, size)

    def flush(self) -> None:
        """Write what came since the last time; what can't be written is dropped: it is only for looking at."""
        with self._lock:
            pending, self._pending = self._pending, {}
        if not pending:
            return
        with transaction.atomic():
            for (refusal, address, token_name), new in sorted(pending.items(), key=lambda item: item[0]):
                _upsert(refusal, address, token_name, new)
            _prune()


log = ScrapeLog()


def _upsert(refusal: str, address: str, token_name: str, new: _Pending) -> None:
    record, _ = ScrapeRecord.objects.get_or_create(
        refusal=refusal,
        address=address,
        token_name=token_name,
        defaults={"first_at": new.last_at, "last_at": new.last_at},
    )
    ScrapeRecord.objects.filter(pk=record.pk).update(
        count=F("count") + new.count,
        last_at=new.last_at,
        user_agent=new.user_agent,
        last_seconds=new.seconds,
        last_bytes=new.size,
    )


def _prune() -> None:
    surplus = ScrapeRecord.objects.order_by("-last_at").values_list("pk", flat=True)[KEPT_RECORDS:]
    ScrapeRecord.objects.filter(pk__in=list(surplus)).delete()


def _printable(text: str) -> str:
    return "".join(character if character.isprintable() else "?" for character in text)
