"""What a network is pruned to."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, final

from nas_face.errors import CompressionError
from nas_face.nn.model import FaceModel

Quantity = Literal["madds", "params", "cost"]


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """One number that the pruned network is to reach: exactly one of `madds`, `params` and `cost`.

    Attributes:
        madds: multiply-accumulates, at most; or
        params: parameters, at most; or
        cost: measures a model, for instance its latency as a median of runs. It may be noisy, and
            should rise with the multiply-accumulates on the whole.
        value: what `cost` is to give, above or below by little.
        unit: of `value`, for messages.
    """

    madds: int | None = None
    params: int | None = None
    cost: Callable[[FaceModel], float] | None = None
    value: float | None = None
    unit: str = "ms"

    def __post_init__(self) -> None:
        n_given = sum(each is not None for each in (self.madds, self.params, self.cost))
        if n_given != 1 or (self.cost is None) != (self.value is None):
            raise CompressionError(
                "target: give one of madds, params, and cost with its value; nothing besides"
            )
        if not self.amount > 0:
            raise CompressionError(f"target: {self.quantity} must be above 0, got {self.amount}")

    @property
    def quantity(self) -> Quantity:
        """What is aimed at."""
        if self.cost is not None:
            return "cost"
        return "madds" if self.madds is not None else "params"

    @property
    def amount(self) -> float:
        """The number to reach."""
        given = next(each for each in (self.madds, self.params, self.value) if each is not None)
        return float(given)

    def said(self, amount: float) -> str:
        """An amount in words, such as `110,000,000 MAdds`."""
        if self.cost is not None:
            return f"{amount:.4g} {self.unit}"
        words = "MAdds" if self.madds is not None else "parameters"
        return f"{round(amount):,} {words}"
