"""Budgets: walls that no candidate may cross. All but latency are known before training."""

import functools
import math
import re
from dataclasses import dataclass, fields
from typing import ClassVar, Final, NamedTuple, final

from nas_face.arch.cost import Cost
from nas_face.errors import ConfigError

MAX_LENGTH = 30  # characters of a figure; longer ones are beyond any computer
SUFFIXES: Final = {"": 1, "k": 10**3, "m": 10**6, "g": 10**9}
BYTES: Final = {
    "": 1, "b": 1,
    "k": 10**3, "kb": 10**3, "m": 10**6, "mb": 10**6, "g": 10**9, "gb": 10**9,
    "kib": 2**10, "mib": 2**20, "gib": 2**30,
}  # fmt: skip
MILLISECONDS: Final = {"": 1.0, "ms": 1.0, "us": 1e-3, "µs": 1e-3, "s": 1e3}

LATENCY = "latency_ms"
SMALLEST_MISS = 2.0**-52
"""Share by which a wall is missed at least, so that only what fits has an excess of 0."""

_FIGURE: Final = re.compile(r"\s*((?:[0-9]{1,3}(?:[,_][0-9]{3})+|[0-9]+)(?:\.[0-9]+)?)\s*(\w*)\s*")


@final
@dataclass(frozen=True, slots=True)
class Wall:
    """One limit.

    Attributes:
        name: as in study files, such as `max_madds`.
        quantity: what is limited: `madds`, `params`, `size_bytes`, `peak_activations` or
            `latency_ms`.
        limit: the limit, inclusive.
        is_upper: whether values above it are refused; below it, otherwise.
    """

    name: str
    quantity: str
    limit: float
    is_upper: bool

    def value(self, cost: Cost) -> int:
        """The limited quantity of a network; not of latency, which has to be measured."""
        if self.quantity == "size_bytes":
            return cost.size_bytes("fp32")
        value: int = getattr(cost, self.quantity)
        return value

    def excess(self, value: float) -> float:
        """Share by which a value misses the wall, 0 where it does not.

        That is `value / limit - 1` above an upper wall and `limit / value - 1` below a lower one,
        so that half of what is asked for misses as far as twice of what is allowed.
        """
        low, high = (self.limit, value) if self.is_upper else (value, self.limit)
        if high <= low:
            return 0.0
        if low <= 0:
            return math.inf
        return max((high - low) / low, SMALLEST_MISS)

    def __str__(self) -> str:
        return f"{self.name} {figure(self.limit)}"


class Miss(NamedTuple):
    """A wall that a network misses.

    Attributes:
        wall: the wall.
        value: what the network has.
    """

    wall: Wall
    value: float

    @property
    def excess(self) -> float:
        """Share by which it misses."""
        return self.wall.excess(self.value)

    @property
    def times(self) -> float:
        """Value as a multiple of the limit."""
        return self.value / self.wall.limit


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Budget:
    """Limits, any number at once, each inclusive; none means no limit.

    Attributes:
        max_madds: multiply-accumulates of one image; FLOPs are twice that.
        max_params: trainable parameters.
        max_size_bytes: bytes of the weights in fp32, batch normalisation folded.
        max_peak_activations: activation values alive at once.
        max_latency_ms: of one image, as the objective `latency_ms` is measured.
        min_madds: lower limit of the same, as all that follow.
        min_params: lower limit.
        min_size_bytes: lower limit.
        min_peak_activations: lower limit.
        min_latency_ms: lower limit.
    """

    __pydantic_config__: ClassVar = {"extra": "forbid"}

    max_madds: int | None = None
    max_params: int | None = None
    max_size_bytes: int | None = None
    max_peak_activations: int | None = None
    max_latency_ms: float | None = None
    min_madds: int | None = None
    min_params: int | None = None
    min_size_bytes: int | None = None
    min_peak_activations: int | None = None
    min_latency_ms: float | None = None

    def __post_init__(self) -> None:
        for wall in self.walls:
            if not math.isfinite(wall.limit):
                raise ConfigError(f"budget.{wall.name} must be a finite number, got {wall.limit}")
            if wall.quantity == LATENCY and wall.limit <= 0:
                raise ConfigError(f"budget.{wall.name} must be above 0, got {wall.limit:g}")
            if wall.quantity != LATENCY and wall.limit < 1:
                raise ConfigError(f"budget.{wall.name} must be at least 1, got {wall.limit}")
        upper = {wall.quantity: wall for wall in self.walls if wall.is_upper}
        for wall in self.walls:
            other = upper.get(wall.quantity, wall)
            if wall.limit > other.limit:
                raise ConfigError(
                    f"budget.{wall.name} must not be above budget.{other.name}, which is "
                    f"{figure(other.limit)}, got {figure(wall.limit)}"
                )

    @property
    def walls(self) -> tuple[Wall, ...]:
        """Every limit that is set."""
        return _walls(self)

    @property
    def analytic_walls(self) -> tuple[Wall, ...]:
        """Those that are known before anything is built."""
        return _analytic_walls(self)

    @property
    def latency_limited(self) -> bool:
        """Whether a network has to be timed to know if it fits."""
        return self.max_latency_ms is not None or self.min_latency_ms is not None

    def fits(self, cost: Cost) -> bool:
        """Whether a cost is within every limit but those of latency."""
        return not any(wall.excess(wall.value(cost)) for wall in _analytic_walls(self))

    def excess(self, cost: Cost) -> float:
        """Share by which a cost misses the wall that it misses most (`Wall.excess`), 0 where it
        fits; latency is not looked at."""
        return max([wall.excess(wall.value(cost)) for wall in _analytic_walls(self)], default=0.0)

    def checks(self, cost: Cost) -> list[Miss]:
        """Every wall that a cost misses; latency is not looked at."""
        values = [Miss(wall, wall.value(cost)) for wall in _analytic_walls(self)]
        return [miss for miss in values if miss.excess]

    def fits_latency(self, latency_ms: float) -> bool:
        """Whether a measured latency is within its limits; true where there are none."""
        return self.latency_excess(latency_ms) == 0.0

    def latency_excess(self, latency_ms: float) -> float:
        """Share by which a measured latency misses its limits (`Wall.excess`), 0 where it fits."""
        walls = [wall for wall in self.walls if wall.quantity == LATENCY]
        return max([wall.excess(latency_ms) for wall in walls], default=0.0)

    def __str__(self) -> str:
        limits: dict[str, dict[bool, Wall]] = {}
        for wall in self.walls:
            limits.setdefault(wall.quantity, {})[wall.is_upper] = wall
        return (
            ", ".join(
                _text(name, each.get(False), each.get(True)) for name, each in limits.items()
            )
            or "no limit"
        )


@functools.lru_cache(maxsize=64)
def _walls(budget: Budget) -> tuple[Wall, ...]:
    return tuple(
        Wall(
            name=field.name,
            quantity=field.name.split("_", 1)[1],
            limit=limit,
            is_upper=field.name.startswith("max_"),
        )
        for field in fields(budget)
        if (limit := getattr(budget, field.name)) is not None
    )


@functools.lru_cache(maxsize=64)
def _analytic_walls(budget: Budget) -> tuple[Wall, ...]:
    return tuple(wall for wall in _walls(budget) if wall.quantity != LATENCY)


UNITS: Final = {
    "madds": "MAdds",
    "params": "parameters",
    "size_bytes": "bytes",
    "peak_activations": "activations",
    "latency_ms": "ms",
}
"""Of each quantity, for people."""


def figure(value: float) -> str:
    """A value of a limited quantity as people read it."""
    return f"{value:,}" if isinstance(value, int) else f"{value:,.6g}"


def _text(quantity: str, lower: Wall | None, upper: Wall | None) -> str:
    """Limits of one quantity; an upper one alone, as most are, has no word in front."""
    words = UNITS[quantity]
    if upper is None:
        assert lower is not None
        text = f"at least {figure(lower.limit)} {words}"
    elif lower is None:
        text = f"{figure(upper.limit)} {words}"
    else:
        text = f"{figure(lower.limit)} to {figure(upper.limit)} {words}"
    if quantity != "madds":
        return text
    flops = " to ".join(figure(2 * wall.limit) for wall in (lower, upper) if wall is not None)
    return f"{text} ({flops} FLOPs)"


def parse_wall(name: str, text: str, *, where: str) -> float:
    """Limit of a wall from a human figure, in the unit of the wall.

    Args:
        name: of the wall, such as `max_size_bytes`; of an unknown one, a plain quantity is read.
        text: the figure.
        where: option or key that it was given for; starts the message.

    Raises:
        ConfigError: see `parse_quantity`, `parse_bytes` and `parse_milliseconds`.
    """
    if name.endswith(LATENCY):
        return parse_milliseconds(text, where=where)
    parse = parse_bytes if name.endswith("size_bytes") else parse_quantity
    return parse(text, where=where)


def parse_quantity(text: str, *, where: str) -> int:
    """Whole number of a human figure: ``150M``, ``1.2G``, ``300k`` or plain digits.

    Args:
        text: the figure.
        where: option or key that it was given for; starts the message.

    Raises:
        ConfigError: it is not a positive figure of that form.
    """
    return _whole(_parsed(text, SUFFIXES, "150M, 1.2G or 150000000", where), text, where)


def parse_bytes(text: str, *, where: str) -> int:
    """Bytes of a human figure: ``2MB`` (or ``2M``, millions), ``2MiB`` (2 x 2^20) or plain digits.

    Args:
        text: the figure.
        where: option or key that it was given for; starts the message.

    Raises:
        ConfigError: it is not a positive figure of that form.
    """
    return _whole(_parsed(text, BYTES, "2MB, 2MiB or 2000000", where), text, where)


def parse_milliseconds(text: str, *, where: str) -> float:
    """Milliseconds of a human figure: ``10ms``, ``800us``, ``1.5s``; plain digits are ms.

    Args:
        text: the figure.
        where: option or key that it was given for; starts the message.

    Raises:
        ConfigError: it is not a positive figure of that form.
    """
    value = _parsed(text, MILLISECONDS, "10ms, 800us or 10", where)
    if value <= 0:
        raise ConfigError(f"{where}: must be above 0, got {text!r}")
    return value


def _parsed(text: str, units: "dict[str, int] | dict[str, float]", such: str, where: str) -> float:
    match = _FIGURE.fullmatch(text)
    if match is None or match[2].lower() not in units:
        raise ConfigError(f"{where}: expected a figure such as {such}, got {text!r}")
    if len(text) > MAX_LENGTH:
        raise ConfigError(f"{where}: too large, got a figure of {len(text)} characters")
    return float(match[1].replace("_", "").replace(",", "")) * units[match[2].lower()]


def _whole(value: float, text: str, where: str) -> int:
    if round(value) < 1:
        raise ConfigError(f"{where}: must be at least 1, got {text!r}")
    return round(value)
