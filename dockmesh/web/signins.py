"""How often a sign-in may fail: a limit for each address, and for each name from one network; shared by all replicas.

An attempt counts before its password is looked at, so that many at once can't slip past the limit; a good
one takes its count back. An address that is refused counts against no name, and guesses at a name's password lock that
name for the guessers' own network alone.
"""

from __future__ import annotations

import datetime
import hashlib
import ipaddress

from django.db import models, transaction
from django.db.models.functions import Greatest

from dockmesh.core import clock
from dockmesh.web.models import SignInThrottle

MOST_FAILURES = 20
# More than one address may try, so that nobody's neighbour locks them out alone.
MOST_FOR_A_NAME = 3 * MOST_FAILURES
WINDOW_SECONDS = 15 * 60


def _address_key(address: str) -> str:
    try:
        parsed = ipaddress.ip_address(address)
    except ValueError:
        return "address:"
    if isinstance(parsed, ipaddress.IPv6Address):
        # One visitor has a whole /64 to choose addresses from.
        return f"address:{ipaddress.ip_network((parsed, 64), strict=False)}"
    return f"address:{parsed}"


def _network_of(address: str) -> str:
    """The network that an address shares with its neighbours: /24 of IPv4, /48 of IPv6."""
    try:
        parsed = ipaddress.ip_address(address)
    except ValueError:
        return ""
    return str(ipaddress.ip_network((parsed, 24 if parsed.version == 4 else 48), strict=False))


def _name_key(name: str, address: str) -> str:
    # A digest, since what is typed here by mistake may be a password.
    text = f"{_network_of(address)} {name.casefold()}"
    return "name:" + hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


def begin_attempt(*, name: str, address: str) -> int:
    """Counts an attempt. Returns 0, or the seconds to wait where the address or the name has had too many.

    At most `MOST_FAILURES` rows a window come of one address, whatever names it tries.
    """
    now = clock.now()
    with transaction.atomic():
        return _count(_address_key(address), MOST_FAILURES, now) or _count(
            _name_key(name, address), MOST_FOR_A_NAME, now
        )


def _count(key: str, most: int, now: datetime.datetime) -> int:
    window_end = now + datetime.timedelta(seconds=WINDOW_SECONDS)
    row, is_new = SignInThrottle.objects.select_for_update().get_or_create(
        key=key, defaults={"failures": 1, "window_ends_at": window_end}
    )
    if is_new:
        return 0
    if row.window_ends_at <= now:
        row.failures, row.window_ends_at = 1, window_end
    elif row.failures >= most:
        return max(1, int((row.window_ends_at - now).total_seconds()) + 1)
    else:
        row.failures += 1
    row.save(update_fields=["failures", "window_ends_at"])
    return 0


@transaction.atomic
def forgive(*, name: str, address: str) -> None:
    """A good sign-in: the name starts anew, and the address takes back this one attempt."""
    SignInThrottle.objects.filter(key=_name_key(name, address)).delete()
    SignInThrottle.objects.filter(key=_address_key(address)).update(
        failures=Greatest(models.F("failures") - 1, 0)
    )


def sweep() -> None:
    """Removes the windows that have ended."""
    SignInThrottle.objects.filter(window_ends_at__lt=clock.now()).delete()
