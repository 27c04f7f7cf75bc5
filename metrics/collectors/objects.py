"""Each host, stack and container by its name."""

import time
from collections.abc import Collection, Iterable, Mapping
from itertools import islice

from dockmesh.fleet import listening
from dockmesh.fleet.selectors import objects
from dockmesh.server import memory
from metrics.collectors.base import Collector, Found, Scrape
from metrics.collectors.objects_text import FAMILIES, HostRow, ObjectTexts
from metrics.exposition import VersionTexts

HOSTS_AHEAD = 50
UNWANTED_SECONDS = 600.0


class ObjectsCollector(Collector):
    """One query for the hosts of which anything changed, if any did, beside that for the heartbeats of all."""

    name = "objects"
    families = FAMILIES
    queries = (listening.NEWEST_SPANS,)

    def __init__(self) -> None:
        self.texts = ObjectTexts()
        self._versions = VersionTexts()
        self._wanted_at = time.monotonic()

    def collect(self, scrape: Scrape) -> Found:
        """A host's version rises with every change of what it runs, and when it goes offline or comes back."""
        self._wanted_at = time.monotonic()
        return self._refresh(self._read(scrape))

    def forget_unwanted(self) -> None:
        """Let go of texts that nobody has asked for in a while: at a thousand hosts they are 140 MB."""
        if time.monotonic() - self._wanted_at > UNWANTED_SECONDS and self.texts.store.versions:
            self.texts = ObjectTexts()
            memory.give_back()

    def make_ahead(self, scrape: Scrape, *, hosts: int) -> None:
        """Make the text of so many hosts that have none yet."""
        versions, made = self._read(scrape), self.texts.store.versions
        ahead = set(islice((key for key in versions if key not in made), hosts))
        self._refresh({key: versions[key] for key in versions if key in made or key in ahead})

    def _read(self, scrape: Scrape) -> Mapping[int, str]:
        return self._versions.read(scrape.heartbeats.host_ids, scrape.heartbeats.versions)

    def _refresh(self, versions: Mapping[int, str]) -> Found:
        return self.texts.refresh(
            versions=versions, rows=lambda ids: _rows(ids, {key for key in ids if int(versions[key]) % 2})
        )


class ObjectsAhead(Collector):
    """No family: after the start it makes the text of some hosts at a time, so that no scrape has to wait for that of all."""

    name = "objects_ahead"
    families = ()
    queries = (listening.NEWEST_SPANS,)

    def __init__(self, collector: ObjectsCollector) -> None:
        self._collector = collector

    @property
    def hosts_made(self) -> int:
        """How many hosts have a text."""
        return len(self._collector.texts.store.versions)

    def collect(self, scrape: Scrape) -> Found:
        """Nothing for the page."""
        self._collector.make_ahead(scrape, hosts=HOSTS_AHEAD)
        return {}


def _rows(host_ids: Collection[int], offline: Collection[int]) -> Iterable[HostRow]:
    return (HostRow(host, is_offline=host.id in offline) for host in objects.host_objects(host_ids))
