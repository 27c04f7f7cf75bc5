"""What the pages show of usage: the numbers of a host's last heartbeat that told of it, and how busy they say it was.

They are kept as JSON in the host's one row, so that a heartbeat writes no row for each container; who sorts all
containers by them has the database unfold it.
"""

import datetime

import msgspec
from msgspec import Struct

from dockmesh.fleet.ingest.documents import ContainerUsage

# Between two samples that are further apart nobody would call the mean "now".
LONGEST_SPAN_SECONDS = 300.0


class Figures(Struct, frozen=True, array_like=True, gc=False):
    """What one container uses; None is for what is not known. `selectors.usage` sorts by the first three."""

    key: int
    """Of the container's row."""
    cpu: float | None
    """How many processors it kept busy between the last two samples."""
    memory_bytes: int | None
    cpu_seconds: float | None
    memory_limit_bytes: int | None
    network_receive_bytes: int | None
    network_transmit_bytes: int | None
    block_read_bytes: int | None
    block_written_bytes: int | None
    pids: int | None


read_figures = msgspec.json.Decoder(list[Figures]).decode
write_figures = msgspec.json.Encoder().encode


def seconds_between(before: datetime.datetime | None, now: datetime.datetime | None) -> float | None:
    """Of two samples, by their host's clock; None where that was set, or where they are too far apart."""
    if before is None or now is None:
        return None
    seconds = (now - before).total_seconds()
    return seconds if 0.0 < seconds <= LONGEST_SPAN_SECONDS else None


def busy(now: float | None, before: float | None, seconds: float | None) -> float | None:
    """How many processors were busy, by two values of a counter of seconds. One that went back began anew: not known."""
    if now is None or before is None or seconds is None or now < before:
        return None
    return round((now - before) / seconds, 6)


def figures_of(key: int, used: ContainerUsage, before: Figures | None, seconds: float | None) -> Figures:
    """Of the container of this row; `before` are those of the last sample, so many seconds ago."""
    user, system = used.cpu_user_seconds, used.cpu_system_seconds
    cpu_seconds = None if user is None or system is None else user + system
    return Figures(
        key,
        busy(cpu_seconds, before.cpu_seconds if before else None, seconds),
        used.memory_working_set_bytes,
        cpu_seconds,
        used.memory_limit_bytes,
        used.network_receive_bytes,
        used.network_transmit_bytes,
        used.block_read_bytes,
        used.block_written_bytes,
        used.pids,
    )
