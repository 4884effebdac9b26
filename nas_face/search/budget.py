"""Budgets: walls that are known before training, and which no candidate may cross."""

import re
from dataclasses import dataclass, fields
from typing import ClassVar, final

from nas_face.arch.cost import Cost
from nas_face.errors import ConfigError

MAX_LENGTH = 30  # characters of a figure; longer ones are beyond any computer
SUFFIXES = {"": 1, "k": 10**3, "m": 10**6, "g": 10**9}


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Budget:
    """Upper limits, each inclusive; none means no limit.

    Attributes:
        max_madds: multiply-accumulates of one image.
        max_params: trainable parameters.
        max_size_bytes: bytes of the weights in fp32, batch normalisation folded.
        max_peak_activations: activation values alive at once.
    """

    __pydantic_config__: ClassVar = {"extra": "forbid"}

    max_madds: int | None = None
    max_params: int | None = None
    max_size_bytes: int | None = None
    max_peak_activations: int | None = None

    def __post_init__(self) -> None:
        for field in fields(self):
            limit = getattr(self, field.name)
            if limit is not None and limit < 1:
                raise ConfigError(f"budget.{field.name} must be at least 1, got {limit}")

    def fits(self, cost: Cost) -> bool:
        """Whether a cost is within every limit."""
        return self.excess(cost) == 0.0

    def excess(self, cost: Cost) -> float:
        """How far a cost is over the limit that it misses most, as a share; 0 where it fits."""
        return max((value / limit - 1 for _, value, limit in self.checks(cost)), default=0.0)

    def checks(self, cost: Cost) -> list[tuple[str, int, int]]:
        """Name, value and limit of each limit that a cost breaks."""
        values = (
            ("madds", cost.madds, self.max_madds),
            ("params", cost.params, self.max_params),
            ("size_bytes", cost.size_bytes("fp32"), self.max_size_bytes),
            ("peak_activations", cost.peak_activations, self.max_peak_activations),
        )
        return [
            (name, value, limit)
            for name, value, limit in values
            if limit is not None and value > limit
        ]

    def __str__(self) -> str:
        parts = []
        if self.max_madds is not None:
            parts.append(f"{self.max_madds:,} MAdds ({2 * self.max_madds:,} FLOPs)")
        if self.max_params is not None:
            parts.append(f"{self.max_params:,} parameters")
        if self.max_size_bytes is not None:
            parts.append(f"{self.max_size_bytes:,} bytes")
        if self.max_peak_activations is not None:
            parts.append(f"{self.max_peak_activations:,} activations")
        return ", ".join(parts) or "no limit"


def parse_quantity(text: str, *, where: str) -> int:
    """Whole number of a human figure: ``150M``, ``1.2G``, ``300k`` or plain digits.

    Args:
        text: the figure.
        where: option or key that it was given for; starts the message.

    Raises:
        ConfigError: it is not a positive figure of that form.
    """
    match = re.fullmatch(
        r"\s*((?:[0-9]{1,3}(?:[,_][0-9]{3})+|[0-9]+)(?:\.[0-9]+)?)\s*([kKmMgG]?)\s*", text
    )
    if match is None:
        raise ConfigError(
            f"{where}: expected a figure such as 150M, 1.2G or 150000000, got {text!r}"
        )
    if len(text) > MAX_LENGTH:
        raise ConfigError(f"{where}: too large, got a figure of {len(text)} characters")
    number = float(match[1].replace("_", "").replace(",", ""))
    value = round(number * SUFFIXES[match[2].lower()])
    if value < 1:
        raise ConfigError(f"{where}: must be at least 1, got {text!r}")
    return value
