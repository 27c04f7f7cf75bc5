"""What the exposition keeps itself: durable counts of API requests, and who scraped."""

from django.db import models


class ApiRequestCount(models.Model):
    """How many API requests had this method, route template and status."""

    method = models.CharField(max_length=16)
    path = models.CharField(max_length=200)
    status = models.PositiveSmallIntegerField()
    count = models.BigIntegerField(default=0)

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["method", "path", "status"], name="request_count_is_one_series")
        ]

    def __str__(self) -> str:
        return f"{self.method} {self.path} {self.status}"


class EventCount(models.Model):
    """How often something that happens often (heartbeats, scrapes) ended so."""

    event = models.CharField(max_length=32)
    result = models.CharField(max_length=32)
    count = models.BigIntegerField(default=0)

    class Meta:
        constraints = [models.UniqueConstraint(fields=["event", "result"], name="event_count_is_one_series")]

    def __str__(self) -> str:
        return f"{self.event} {self.result}"


class ScrapeRecord(models.Model):
    """A scraper and how its requests ended: `refusal` is the reason, empty for scrapes that were answered."""

    refusal = models.CharField(max_length=100, blank=True)
    address = models.CharField(max_length=64)
    # A copy, not a reference: the record outlives the token, and an unknown token has no row.
    token_name = models.CharField(max_length=200, blank=True)
    count = models.BigIntegerField(default=0)
    first_at = models.DateTimeField()
    last_at = models.DateTimeField()
    user_agent = models.CharField(max_length=200, blank=True)
    last_seconds = models.FloatField(default=0.0)
    last_bytes = models.BigIntegerField(default=0)

    class Meta:
        ordering = ("-last_at",)
        constraints = [
            models.UniqueConstraint(
                fields=["refusal", "address", "token_name"], name="scrape_record_is_once_for_a_scraper"
            )
        ]

    def __str__(self) -> str:
        return f"{self.token_name or 'nobody'} from {self.address}: {self.refusal or 'answered'}"
