"""Writing the fleet."""

from django.db import transaction

from dockmesh.fleet.histograms import DEPLOY_BUCKETS, observe
from dockmesh.fleet.models import StackSeries


@transaction.atomic
def observe_deploy(*, stack_name: str, is_success: bool, seconds: float) -> None:
    """Add one deploy's duration to the stack name's histogram."""
    series = StackSeries.objects.select_for_update().get(name=stack_name)
    if is_success:
        series.success_counts = observe(series.success_counts, DEPLOY_BUCKETS, [seconds])
        series.success_sum += seconds
    else:
        series.failure_counts = observe(series.failure_counts, DEPLOY_BUCKETS, [seconds])
        series.failure_sum += seconds
    series.version += 1
    series.save()
