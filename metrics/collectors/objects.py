"""Each host, stack and container by its name."""

from collections.abc import Collection, Iterable

from dockmesh.fleet import listening
from dockmesh.fleet.selectors import objects
from metrics.collectors.base import Collector, Found, Scrape
from metrics.collectors.objects_text import FAMILIES, HostRow, ObjectTexts
from metrics.exposition import VersionTexts


class ObjectsCollector(Collector):
    """One query for the hosts of which anything changed, if any did, beside that for the heartbeats of all."""

    name = "objects"
    families = FAMILIES
    queries = (listening.NEWEST_SPANS,)

    def __init__(self) -> None:
        self.texts = ObjectTexts()
        self._versions = VersionTexts()

    def collect(self, scrape: Scrape) -> Found:
        """A host's version rises with every change of what it runs, and when it goes offline or comes back."""
        versions = self._versions.read(scrape.heartbeats.host_ids, scrape.heartbeats.versions)
        return self.texts.refresh(
            versions=versions, rows=lambda ids: _rows(ids, {key for key in ids if int(versions[key]) % 2})
        )


def _rows(host_ids: Collection[int], offline: Collection[int]) -> Iterable[HostRow]:
    return (HostRow(host, is_offline=host.id in offline) for host in objects.host_objects(host_ids))
