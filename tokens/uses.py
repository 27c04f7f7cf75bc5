"""Who came with which secret of a token while two of them work, so that its page can say who still has the old one.

A use is written at most once a minute for each secret, address and user agent by a process. A token keeps `MOST` of them.
"""

import datetime
import logging
import threading

from django.db import DatabaseError, transaction

from dockmesh.core.text import in_one_line
from tokens.models import SecretUse

logger = logging.getLogger(__name__)

MOST = 50
MOST_REMEMBERED = 1000
WRITTEN_EVERY = datetime.timedelta(minutes=1)

Key = tuple[int, datetime.datetime, bool, str, str]

_lock = threading.Lock()
_written: dict[Key, datetime.datetime] = {}


def note(
    token_id: int,
    *,
    overlap_ends_at: datetime.datetime,
    is_previous: bool,
    address: str,
    user_agent: str,
    now: datetime.datetime,
) -> None:
    """Note a use of the new or the previous secret. Never raises: a read goes on when this can't be written."""
    address, user_agent = address[:64], user_agent[:200]
    if not _is_due((token_id, overlap_ends_at, is_previous, address, user_agent), now):
        return
    try:
        with transaction.atomic():
            _, is_new = SecretUse.objects.update_or_create(
                token_id=token_id,
                is_previous=is_previous,
                address=address,
                user_agent=user_agent,
                defaults={"last_used_at": now},
            )
            if is_new:
                uses = SecretUse.objects.filter(token_id=token_id).order_by("-last_used_at", "-pk")
                SecretUse.objects.filter(
                    pk__in=list(uses.values_list("pk", flat=True)[MOST : 2 * MOST])
                ).delete()
    except DatabaseError as error:
        logger.warning("a use of token %s could not be written: %s", token_id, in_one_line(error, most=200))


def _is_due(key: Key, now: datetime.datetime) -> bool:
    with _lock:
        before = _written.get(key)
        if before is not None and datetime.timedelta(0) <= now - before < WRITTEN_EVERY:
            return False
        if len(_written) >= MOST_REMEMBERED:
            _written.clear()
        _written[key] = now
        return True
