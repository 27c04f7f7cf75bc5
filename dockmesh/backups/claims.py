"""Of several replicas, one copies the database for a run: the one that has claimed it.

A claim is short and prolonged for as long as the copy takes. So a replica that holds the scheduler's lease meanwhile
leaves the run alone, and takes it over soon after the one that had claimed it has died.
"""

import datetime
import logging
import secrets
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from django.db import DatabaseError, InterfaceError, connection
from django.db.models import Q
from django.db.models.functions import Now

from dockmesh.backups.models import BackupRun

logger = logging.getLogger(__name__)

CLAIM = datetime.timedelta(seconds=60)
PROLONG_SECONDS = 15.0


@contextmanager
def held(run_id: int) -> Iterator[str | None]:
    """The claim on the queued run, prolonged until the end of the block; None while another one holds it."""
    claim = secrets.token_hex(16)
    free = Q(dump_claimed_until=None) | Q(dump_claimed_until__lt=Now())
    queued = BackupRun.objects.filter(free, pk=run_id, status=BackupRun.Status.QUEUED, command_id=None)
    if not queued.update(dump_claim=claim, dump_claimed_until=Now() + CLAIM):
        yield None
        return
    ended = threading.Event()
    thread = threading.Thread(target=_prolong, args=(run_id, claim, ended), name="dump-claim", daemon=True)
    thread.start()
    try:
        yield claim
    finally:
        ended.set()
        thread.join()


def _prolong(run_id: int, claim: str, ended: threading.Event) -> None:
    while not ended.wait(PROLONG_SECONDS):
        try:
            BackupRun.objects.filter(pk=run_id, dump_claim=claim).update(dump_claimed_until=Now() + CLAIM)
        except (DatabaseError, InterfaceError) as error:
            logger.warning("A copy of the database under way can't be prolonged: %s", error)
            connection.close()
    connection.close()
