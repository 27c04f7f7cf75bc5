"""What the connections hold, in all and by client address, and who has to give when that is too much.

All of it belongs to the thread of the server's loop.
"""

from collections import Counter
from collections.abc import Callable
from typing import Any

from dockmesh.server.parser import BUSY

# Of requests that are not whole yet or wait for a thread: in memory, with nothing in files.
MOST_REQUEST_BYTES = 24 * 1024 * 1024
MOST_REQUEST_BYTES_OF_AN_ADDRESS = 16 * 1024 * 1024
SMALL_REQUEST_BYTES = 64 * 1024  # is always taken: a heartbeat must not suffer from a stranger's bodies
# Of answers that clients have not taken.
MOST_ANSWER_BYTES = 24 * 1024 * 1024
PATIENCE_SECONDS = 0.5  # with one that takes nothing while there is too much


class Ledger:
    """Kept by the connections themselves. An address may have `most_connections`.

    `is_proxy` tells addresses that many clients come by: for them the limits of all together are the only ones.
    """

    def __init__(
        self, most_connections: int, is_proxy: Callable[[str], bool] = lambda address: False
    ) -> None:
        self._most_connections = most_connections
        self._is_proxy = is_proxy
        self._connections: Counter[str] = Counter()
        self._total = 0
        self._by_address: Counter[str] = Counter()
        self._unfinished: dict[Any, None] = {}  # the oldest first

    def may_open(self, address: str) -> bool:
        """Whether the address may have one more connection."""
        return self._connections[address] < self._most_connections or self._is_proxy(address)

    def open(self, channel: Any) -> None:
        """There is a new connection."""
        self._connections[channel.addr[0]] += 1

    def close(self, channel: Any) -> None:
        """It is gone."""
        address = channel.addr[0]
        self._change(channel, 0)
        self._unfinished.pop(channel, None)
        self._connections[address] -= 1
        if not self._connections[address]:
            del self._connections[address]
            del self._by_address[address]

    def book(self, channel: Any, held: int, *, is_unfinished: bool) -> None:
        """The channel's requests take `held` bytes now. Where that is too much, the oldest unfinished ones are refused."""
        before = channel.held_bytes
        self._change(channel, held)
        if is_unfinished:
            self._unfinished.setdefault(channel)
        else:
            self._unfinished.pop(channel, None)
        if held > before:
            self._relieve(channel.addr[0])

    def has_room_for(self, channel: Any) -> bool:
        """Whether its request, which is whole now, may wait for a thread."""
        return channel.held_bytes <= SMALL_REQUEST_BYTES or not (
            self._is_over() or self._is_over(channel.addr[0])
        )

    def _is_over(self, address: str | None = None) -> bool:
        if address is None:
            return self._total > MOST_REQUEST_BYTES
        return self._by_address[address] > MOST_REQUEST_BYTES_OF_AN_ADDRESS and not self._is_proxy(address)

    def _change(self, channel: Any, held: int) -> None:
        self._total += held - channel.held_bytes
        self._by_address[channel.addr[0]] += held - channel.held_bytes
        channel.held_bytes = held

    def _relieve(self, address: str) -> None:
        if not (self._is_over() or self._is_over(address)):
            return
        for channel in list(self._unfinished):
            if self._is_over() or (self._is_over(address) and channel.addr[0] == address):
                channel.refuse(BUSY)
            elif not self._is_over(address):
                return


def stalled(channels: list[Any], now: float) -> list[Any]:
    """Of connections with an answer that is not sent, those to close so that all answers together take less memory.

    They are the ones that have taken nothing for the longest time; nobody who reads, however slowly, is among them.
    """
    texts: dict[int, int] = {}
    total = 0
    for channel in channels:
        for buffer in list(channel.outbufs):
            text = getattr(buffer, "text", None)
            if text is not None:
                texts[id(text)] = len(text)  # one text may be the answer to many
            elif not hasattr(buffer, "file"):
                total += len(buffer)
    excess = total + sum(texts.values()) - MOST_ANSWER_BYTES
    found = []
    for channel in sorted(channels, key=lambda each: each.stalled_seconds(now), reverse=True):
        if excess <= 0 or channel.stalled_seconds(now) < PATIENCE_SECONDS:
            break
        excess -= channel.total_outbufs_len
        found.append(channel)
    return found
