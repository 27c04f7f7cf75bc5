"""The rendering core of ``/metrics``: text is kept, and made again only when its row changed.

**The problem.** A thousand hosts with their stacks are 120,000 lines, ten megabytes, every fifteen
seconds, for each Prometheus server. Formatting and compressing them all takes a second in plain
Python. But between two scrapes only few hosts and stacks change; what changes for every host is its
age and its round trips.

**The idea.** The page is a list of *sections*, one a family; a section is a list of *fragments*; a fragment
is some bytes of text that know how they look when compressed. Whoever renders a fragment that did not
change hands over the very same object, and nothing is done for it.

================  =====================================================================================
``family.py``     what a family is: name, type, help; its HELP and TYPE lines in both formats
``text.py``       escaping, numbers, single lines, and templates for the lines of one object
``fragments.py``     ``Fragment``, and how fragments become one gzip stream
``store.py``      ``TextStore``: text of many objects, made again when an object's version changes;
                  ``VersionTexts`` reads the versions out of the database's text, if that changed
``filled.py``     ``FilledLines``: families whose every value is new at every scrape
``stored.py``     fragments of several families as bytes, to be kept elsewhere and put on a page later
``kept.py``       ``KeptLines``: small families, whose text is kept while their samples are the same
``page.py``       ``Page``: sections to body, in text 0.0.4 or OpenMetrics, gzip or not, filtered or not
``chunks.py``   ``ChunkFile``: a body as a file, so that the server sends it without a copy
================  =====================================================================================

**One gzip stream out of kept fragments.** Each fragment is compressed by itself as raw deflate and ended
by a *full flush*: the fragment then ends on a byte boundary and refers to nothing before it, so
fragments can be put together in any order (RFC 1951, 3.2.4: an empty stored block; zlib's
``Z_FULL_FLUSH``). A body is the ten bytes of a gzip header, the fragments, an empty final block, the
CRC-32 and the length (RFC 1952, 2.2, 2.3). The CRC of the whole comes from the CRCs of the fragments by
``crc32_combine``, so the text itself is not touched. Putting whole gzip *members* one after the other
would be simpler and is legal, but some clients read the first member only.

**Two formats, one set of lines.** Text 0.0.4 and OpenMetrics 1.0.0 differ here only in the HELP and
TYPE lines (a counter's family is called without ``_total`` in OpenMetrics) and in ``# EOF``. Sample
lines are the same bytes: label values are escaped alike, ``le`` is written as ``60.0``, whole numbers
stay whole. So heads are fragments of their own, and everything else is shared.

**Stored fragments.** What containers use is all new at every scrape, and much. Its lines are made when the heartbeat
comes, and lie compressed in the database, a fragment for each host and family (``dockmesh/fleet/ingest/usage.py`` says
why); a scrape only puts them into its stream.

**Columns.** What every scrape needs of every object comes from the database as one text for each column
(``selectors.heartbeat_columns``): a text that is equal to the last one is not even split. Values that are new are
split in one go and put into a group's lines by one ``%``; floats are written by the column (``numbers``).

**Groups.** Objects are grouped by ``id >> bits``. A larger group compresses better, a smaller one
costs less when one of its objects changes. Grouping by id and not by position means that a removed
object disturbs its own group only.

**Who locks.** Rendering is done by one thread at a time (``metrics.singleflight``); what it hands over is
never changed afterwards, so any number of threads may read a page. The compressor is shared and has
its own lock.

The slow, obvious twin of all this is ``tests/metrics/twin.py``; the tests hold both together.
"""

from metrics.exposition.chunks import ChunkFile
from metrics.exposition.family import Family, Kind
from metrics.exposition.filled import FilledLines
from metrics.exposition.fragments import Fragment
from metrics.exposition.kept import KeptLines
from metrics.exposition.page import Body, Page, Section
from metrics.exposition.store import TextStore, VersionTexts
from metrics.exposition.stored import FragmentFormat
from metrics.exposition.text import (
    LineTemplate,
    escape,
    histogram_template,
    label_text,
    number,
    numbers,
    sample_lines,
    state_template,
    thousandths,
)

__all__ = [
    "Body",
    "ChunkFile",
    "Family",
    "FilledLines",
    "Fragment",
    "FragmentFormat",
    "KeptLines",
    "Kind",
    "LineTemplate",
    "Page",
    "Section",
    "TextStore",
    "VersionTexts",
    "escape",
    "histogram_template",
    "label_text",
    "number",
    "numbers",
    "sample_lines",
    "state_template",
    "thousandths",
]
