"""The metrics room."""

from django.apps import AppConfig
from prometheus_client import disable_created_metrics

from dockmesh.core import answered, lifecycle, shortways


class MetricsConfig(AppConfig):
    """The exposition at /metrics."""

    name = "metrics"

    def ready(self) -> None:
        """Register what runs beside the requests; leave out what no scraper needs."""
        from dockmesh.fleet.ingest import usage
        from metrics import background, elsewhere, requests, shortway
        from metrics.collectors import usage_text

        # Times of birth double the number of series.
        disable_created_metrics()  # type: ignore[no-untyped-call]
        lifecycle.register_start(background.start)
        lifecycle.register_stop(background.flush)
        usage.register_render(usage_text.render)
        answered.register(elsewhere.count)
        answered.register_refused(elsewhere.count_refused)
        shortways.register(requests.METRICS_PATH, shortway.application)
