"""What simulated containers use: some are busy and some are not, more by day than by night, each in its own way."""

import math
from dataclasses import dataclass, field

_WAVE_SECONDS = 3600.0
_GIB = 1 << 30


@dataclass(slots=True)
class Meter:
    """The counters of one container since it was started. `seed` makes it unlike others, and itself again after a restart."""

    seed: int
    seconds: float = 0.0
    user_seconds: float = 0.0
    system_seconds: float = 0.0
    throttled_seconds: float = 0.0
    received: float = 0.0
    transmitted: float = 0.0
    read: float = 0.0
    written: float = 0.0

    def advance(self, seconds: float) -> None:
        """Use what so many seconds take."""
        self.seconds += seconds
        busy = self.load * seconds
        self.user_seconds += 0.8 * busy
        self.system_seconds += 0.2 * busy
        # Only the busiest reach their limit.
        self.throttled_seconds += max(0.0, self.load - 0.6) * seconds
        self.received += busy * 400_000
        self.transmitted += busy * 900_000
        self.read += busy * 20_000
        self.written += busy * 150_000

    @property
    def load(self) -> float:
        """How many processors it keeps busy now."""
        share = (self.seed % 97 + 1) / 97
        wave = 1 + 0.6 * math.sin(2 * math.pi * (self.seconds / _WAVE_SECONDS + share))
        return 0.5 * share**3 * wave

    @property
    def memory_bytes(self) -> int:
        """Grows in the first minutes, then stays about where it is."""
        whole = 32 * 2**20 * (1 + self.seed % 23)
        return int(whole * (1 - 0.6 * math.exp(-self.seconds / 300)) * (1 + 0.1 * self.load))

    @property
    def limit_bytes(self) -> int | None:
        """Two of three have one."""
        return None if self.seed % 3 == 0 else 64 * 2**20 * (1 + self.seed % 23)

    @property
    def pids(self) -> int:
        return 1 + self.seed % 41

    def entry(self, container_id: str) -> list[str | float | int | None]:
        """As the heartbeat has it."""
        return [
            container_id,
            round(self.user_seconds, 6),
            round(self.system_seconds, 6),
            round(self.throttled_seconds, 6),
            self.memory_bytes,
            self.limit_bytes,
            int(self.received),
            int(self.transmitted),
            0,
            0,
            int(self.read),
            int(self.written),
            self.pids,
        ]


@dataclass(slots=True)
class Machine:
    """The counters of one host."""

    root_bytes: int = 500 * 10**9
    memory_bytes: int = 32 * _GIB
    cpu_seconds: float = 0.0
    load: float = 0.0
    used_memory: int = 0
    written: float = 0.0
    meters: dict[tuple[str, str], Meter] = field(default_factory=dict)
    """Of each container that runs, by its id and when it was started."""

    def advance(self, seconds: float, running: list[tuple[str, str]]) -> None:
        """Let the containers that run use what they use; one that was started anew begins anew."""
        self.meters = {key: self.meters.get(key) or Meter(int(key[0][:8], 16)) for key in running}
        for meter in self.meters.values():
            meter.advance(seconds)
        self.load = 0.05 + sum(meter.load for meter in self.meters.values())
        self.cpu_seconds += self.load * seconds
        self.used_memory = 2 * _GIB + sum(meter.memory_bytes for meter in self.meters.values())
        self.written += self.load * seconds * 2000

    def document(self) -> dict[str, object]:
        """The usage but for the disk."""
        containers = [meter.entry(container_id) for (container_id, _), meter in self.meters.items()]
        return {"host": self._host(), "containers": containers}

    def _host(self) -> dict[str, float | int]:
        return {
            "cpu_seconds": round(self.cpu_seconds, 6),
            "memory_available_bytes": max(0, self.memory_bytes - self.used_memory),
            "load1": round(self.load, 2),
            "docker_root_bytes": self.root_bytes,
            "docker_root_free_bytes": max(0, int(0.6 * self.root_bytes - self.written)),
        }

    def disk(self, stacks: list[str]) -> dict[str, object]:
        """`disk` of the usage: a volume for each stack."""
        volumes = {f"{stack}_data": int(10**9 * (1 + len(stack)) + self.written) for stack in stacks}
        total = sum(volumes.values())
        return {
            "images": [9_000_000_000, 2_500_000_000],
            "containers": [40_000_000 * len(self.meters), 0],
            "volumes": [total, total // 10],
            "build_cache": [1_200_000_000, 1_200_000_000],
            "each_volume": volumes,
        }
