"""What is running, and whether /metrics is public."""

import platform

import django
from django.conf import settings

from dockmesh import __version__
from metrics import families as f
from metrics.collectors.base import Collector, Found, Scrape
from metrics.exposition import Fragment, sample_lines


class BuildCollector(Collector):
    """No query, and the same while the process runs."""

    name = "build"
    families = (f.BUILD_INFO, f.AUTH_ENABLED)
    is_of_queries_alone = True
    reads_database = False

    def collect(self, scrape: Scrape) -> Found:
        """The version, and the setting that makes the page public."""
        info = [((__version__, platform.python_version(), django.get_version()), 1)]
        return {
            f.BUILD_INFO: [Fragment.of(sample_lines(f.BUILD_INFO, info))],
            f.AUTH_ENABLED: [
                Fragment.of(sample_lines(f.AUTH_ENABLED, [((), settings.DOCKMESH_METRICS_AUTH)]))
            ],
        }
