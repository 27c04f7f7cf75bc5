"""Taking and giving back the lease; noting how the jobs fare."""

import datetime

from django.db import transaction
from django.db.models import F, Q
from django.db.models.functions import Now

from dockmesh.scheduler.models import Lease, LiveMark, PeriodicTask


def acquire(*, name: str, holder: str, seconds: float) -> bool:
    """Take or prolong the lease for `seconds`; False while another holder has it.

    The database's clock decides, so replicas whose clocks differ agree. One conditional UPDATE: of
    several that try at the same moment, its row count tells exactly one that it won.
    """
    duration = datetime.timedelta(seconds=seconds)
    free = Q(holder__in=[holder, ""]) | Q(expires_at__lt=Now())
    if Lease.objects.filter(free, name=name).update(holder=holder, expires_at=Now() + duration):
        return True
    if Lease.objects.filter(name=name).exists():
        return False
    Lease.objects.bulk_create([Lease(name=name, holder="", expires_at=Now())], ignore_conflicts=True)
    return bool(Lease.objects.filter(free, name=name).update(holder=holder, expires_at=Now() + duration))


def release(*, name: str, holder: str) -> None:
    """Give the lease back, so that another replica need not wait for its end."""
    Lease.objects.filter(name=name, holder=holder).update(holder="", expires_at=Now())


@transaction.atomic
def note_run(*, task: str, is_whole: bool, failures: int) -> None:
    """Add to what is known of a job: that it ran whole just now, and how many faults there were since the last note."""
    changes: dict[str, object] = {"failures": F("failures") + failures}
    if is_whole:
        changes["last_success_at"] = Now()
    if not PeriodicTask.objects.filter(name=task).update(**changes):
        PeriodicTask.objects.bulk_create([PeriodicTask(name=task)], ignore_conflicts=True)
        PeriodicTask.objects.filter(name=task).update(**changes)


def is_restored() -> bool:
    """Whether this database is a copy that was put in place, and nobody has taken note of it yet."""
    return not LiveMark.objects.exists()


def mark_live() -> None:
    """From here on it is a database in use like any other."""
    LiveMark.objects.get_or_create(pk=1)
