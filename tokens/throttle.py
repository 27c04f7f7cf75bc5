"""How many bad tokens an address may try: fewer than a hundred a minute.

The count is each process's own and its memory is bounded: of many addresses the one whose minute began
first is forgotten. Only bad tokens are counted and refused, so a good one from the same address still works.
"""

import ipaddress
import threading
import time
from collections import OrderedDict

from dockmesh.core.ip import parse_address

WINDOW_SECONDS = 60.0
LIMIT = 100
MAX_ADDRESSES = 10_000

_lock = threading.Lock()
_windows: OrderedDict[str, tuple[float, int]] = OrderedDict()


def count_bad(address: str) -> int:
    """Count one bad token. 0 while the address is within the limit, else the seconds until it may try again."""
    key, now = _network_of(address), time.monotonic()
    with _lock:
        began, count = _windows.get(key, (now, 0))
        if now - began >= WINDOW_SECONDS:
            began, count = now, 0
            _windows.pop(key, None)
        _windows[key] = (began, count + 1)
        while len(_windows) > MAX_ADDRESSES:
            _windows.popitem(last=False)
    return 0 if count + 1 < LIMIT else max(1, round(began + WINDOW_SECONDS - now))


def forget() -> None:
    """Start afresh; for the tests."""
    with _lock:
        _windows.clear()


def _network_of(address: str) -> str:
    """One IPv4 address; of IPv6 the /64, since whoever has one address there has them all."""
    ip = parse_address(address)
    if ip is None:
        return address[:64]
    return str(ipaddress.ip_network((int(ip), 64), strict=False) if ip.version == 6 else ip)
