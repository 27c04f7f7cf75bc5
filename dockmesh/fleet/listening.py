"""When anybody listened: silence counts only over time in which a server could have heard something.

Every web process writes down every few seconds that it serves and reaches the database. A process that was stopped,
killed or frozen, a machine that slept and a database that was away leave a gap; over a gap nobody is called silent,
and as soon as one replica listens there is none. Before the record begins everything counts.
"""

import datetime
import logging
import threading
from dataclasses import dataclass

from django.conf import settings
from django.db import Error, connection

from dockmesh.core import clock
from dockmesh.core.compiled import CompiledQuery
from dockmesh.fleet.models import ListeningSpan

logger = logging.getLogger(__name__)

# The longest pause that an agent makes between two attempts to reach a server that is away.
LONGEST_RETRY_SECONDS = 30.0
# Enough of the past for every silence that is measured.
KEPT_SECONDS = 7 * 86_400.0
MOST_SPANS = 200

Span = tuple[datetime.datetime, datetime.datetime]


def tolerance_seconds() -> float:
    """A pause up to this length between two notes is none."""
    return min(10.0, settings.DOCKMESH_HOST_OFFLINE_AFTER / 2)


@dataclass(frozen=True)
class Record:
    """The spans in which somebody listened, as seen at `now`: the newest first, none touching another."""

    now: datetime.datetime
    spans: tuple[Span, ...]

    def before(self, seconds: float) -> datetime.datetime:
        """What was last heard before this moment has been silent for more than `seconds` of listening."""
        left, begin = seconds, self.now
        for index, (since, until) in enumerate(self.spans):
            length = (until - since).total_seconds() - self._settling(index, seconds)
            if length >= left:
                return until - datetime.timedelta(seconds=left)
            left, begin = left - max(0.0, length), since
        return begin - datetime.timedelta(seconds=left)

    def returned_at(self, moment: datetime.datetime) -> datetime.datetime | None:
        """The end of the gap that `moment` lies in; None if somebody listened then."""
        end = None
        for since, until in self.spans:
            if moment > until:
                return end
            if moment >= since:
                return None
            end = since
        return None

    def _settling(self, index: int, seconds: float) -> float:
        """What of a span goes by until the agents notice that somebody listens again: after a gap they come back
        within the pause that they make by then, and what they were silent for before is an interval at most."""
        if index + 1 == len(self.spans):
            return 0.0
        gap = (self.spans[index][0] - self.spans[index + 1][1]).total_seconds()
        pause = min(LONGEST_RETRY_SECONDS, gap) + settings.DOCKMESH_HEARTBEAT_INTERVAL
        return max(0.0, pause - seconds)


NEWEST_SPANS = CompiledQuery(
    lambda: ListeningSpan.objects.order_by("-until").values_list("since", "until")[:MOST_SPANS]
)


def record(now: datetime.datetime) -> Record:
    """The record as it is at `now`; one query."""
    tolerance = datetime.timedelta(seconds=tolerance_seconds())
    spans: list[Span] = []
    for begun, ended in sorted(NEWEST_SPANS.rows()):
        since = min(begun, now)
        until = now if now - ended <= tolerance else ended
        if spans and since <= spans[-1][1] + tolerance:
            spans[-1] = (spans[-1][0], max(until, spans[-1][1]))
        else:
            spans.append((since, until))
    return Record(now, tuple(reversed(spans)))


def last_noted() -> datetime.datetime | None:
    """The newest moment at which somebody listened, as the database has it."""
    rows = NEWEST_SPANS.rows()
    return rows[0][1] if rows else None


def offline_before(now: datetime.datetime) -> datetime.datetime:
    """A host that was last heard before this moment is offline at `now`; one query."""
    return record(now).before(settings.DOCKMESH_HOST_OFFLINE_AFTER)


class Listener:
    """One process that listens."""

    def __init__(self) -> None:
        self._span_id: int | None = None

    def note(self) -> None:
        """Write down that this process listens now; after a gap a new span begins."""
        now = clock.now()
        oldest = now - datetime.timedelta(seconds=tolerance_seconds())
        if self._span_id is not None:
            own = ListeningSpan.objects.filter(pk=self._span_id, since__lte=now, until__gte=oldest)
            if own.update(until=now):
                return
        self._span_id = ListeningSpan.objects.create(since=now, until=now).pk


def forget_old_spans() -> None:
    """The scheduler's job: what no silence that anybody measures reaches back to."""
    ListeningSpan.objects.filter(until__lt=record(clock.now()).before(KEPT_SECONDS)).delete()


_listener = Listener()
_stopping = threading.Event()


def start() -> None:
    """Begin in this process."""
    global _listener
    _listener = Listener()
    threading.Thread(target=_run, name="listening", daemon=True).start()


def stop() -> None:
    """The last note, after the last request."""
    _stopping.set()
    _note()


def _run() -> None:
    while not _stopping.is_set():
        _note()
        _stopping.wait(tolerance_seconds() / 3)


def _note() -> None:
    try:
        clock.agree()
        _listener.note()
    except Error as error:
        # Who can't write can't take a heartbeat either: that time doesn't count.
        logger.warning("It could not be written down that this server listens: %s", error)
        connection.close()
    except Exception:
        logger.exception("It could not be written down that this server listens")
