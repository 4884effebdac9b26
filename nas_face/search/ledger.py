"""What a trial cost: seconds by phase, and counts."""

import contextlib
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any, Final, final

PHASES: Final = ("propose", "time", "build", "train", "verify", "save")
"""Phases of a trial, in order: the sampler chooses a design; its untrained network is timed; the
network is built; trained; verified, at rungs and at the end; and written to disk."""


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Seconds:
    """Time spent, or the reading of a clock.

    Attributes:
        wall_s: by the clock on the wall.
        cpu_s: of all processors together, by all threads of this process.
        gpu_s: for which a CUDA device was held; 0 without one.
    """

    wall_s: float = 0.0
    cpu_s: float = 0.0
    gpu_s: float = 0.0

    def __add__(self, other: "Seconds") -> "Seconds":
        return Seconds(
            wall_s=self.wall_s + other.wall_s,
            cpu_s=self.cpu_s + other.cpu_s,
            gpu_s=self.gpu_s + other.gpu_s,
        )

    def __sub__(self, other: "Seconds") -> "Seconds":
        return Seconds(
            wall_s=self.wall_s - other.wall_s,
            cpu_s=self.cpu_s - other.cpu_s,
            gpu_s=self.gpu_s - other.gpu_s,
        )


def process_clock() -> Seconds:
    """Wall time and the processor time of this process; no GPU."""
    return Seconds(wall_s=time.monotonic(), cpu_s=time.process_time())


@final
class Ledger:
    """Seconds by phase, and counts by name, of a trial or of many.

    Phases may be nested: what passes inside the inner one is the inner one's alone, so that the
    phases add up to the time spent. A phase that ends in an exception is written down like any
    other. For one thread of one process; ledgers of several are added up.

    Args:
        clock: reading of the time; differences count.
    """

    def __init__(self, clock: Callable[[], Seconds] = process_clock) -> None:
        self._clock = clock
        self._seconds: dict[str, Seconds] = {}
        self._counts: Counter[str] = Counter()
        self._open: list[str] = []
        self._last = Seconds()

    @property
    def seconds(self) -> dict[str, Seconds]:
        """Seconds by phase; of an open phase, those up to now."""
        self._charge()
        return dict(self._seconds)

    @property
    def counts(self) -> dict[str, int]:
        """How often by name."""
        return dict(self._counts)

    @contextlib.contextmanager
    def phase(self, name: str) -> Iterator[None]:
        """Charge what passes inside to a phase, whatever comes of it."""
        self._charge()
        self._open.append(name)
        try:
            yield
        finally:
            self._charge()
            self._open.pop()

    def spend(self, phase: str, seconds: Seconds) -> None:
        """Add seconds that were measured elsewhere, such as those of a GPU."""
        self._seconds[phase] = self._seconds.get(phase, Seconds()) + seconds

    def count(self, name: str, n: int = 1) -> None:
        """Count something `n` times."""
        self._counts[name] += n

    def add(self, other: "Ledger") -> None:
        """Take over what another one holds."""
        for phase, seconds in other.seconds.items():
            self.spend(phase, seconds)
        self._counts.update(other.counts)

    def __add__(self, other: "Ledger") -> "Ledger":
        """Both, as a ledger of its own."""
        total = Ledger()
        total.add(self)
        total.add(other)
        return total

    def to_data(self) -> dict[str, Any]:
        """The ledger as JSON data."""
        seconds = {phase: asdict(spent) for phase, spent in self.seconds.items()}
        return {"seconds": seconds, "counts": self.counts}

    @staticmethod
    def of(data: Mapping[str, Any], clock: Callable[[], Seconds] = process_clock) -> "Ledger":
        """The ledger of `to_data`, to be read or gone on with; of no data, an empty one."""
        ledger = Ledger(clock)
        for phase, spent in data.get("seconds", {}).items():
            ledger.spend(phase, Seconds(**spent))
        ledger._counts.update(data.get("counts", {}))
        return ledger

    def _charge(self) -> None:
        """Give what has passed since the last reading to the innermost open phase."""
        now = self._clock()
        if self._open:
            self.spend(self._open[-1], now - self._last)
        self._last = now
