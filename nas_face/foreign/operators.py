"""What every foreign file becomes: operators with weights, in an order."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, final

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float32]

Kind = Literal["affine", "batch_norm", "pair", "vector", "other"]


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Window:
    """How a convolution moves, where the file says so.

    Attributes:
        strides: vertical and horizontal step.
        pads: zeros above, on the left, below, on the right.
        groups: independent groups.
    """

    strides: tuple[int, ...]
    pads: tuple[int, ...]
    groups: int


@final
@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Operator:
    """Weights of a file that belong together.

    Attributes:
        name: what the file calls them, without the weight's own name.
        kind: `affine` for a convolution or a linear layer (`weight`, perhaps `bias`), `batch_norm`
            (`running_mean`, `running_var`, perhaps `weight` and `bias`), `pair` for a `weight` and
            a `bias` a channel, `vector` for one array of one dimension (`value`), `other` for what
            is none of these.
        arrays: float32.
        use: what a vector is for, where the file says so.
        window: of a convolution, where the file says so.
        eps: of a normalisation, where the file says so.
        before: positions of the operators whose results this one reads, with nothing but
            operators without weights in between; none where the file does not say.
    """

    name: str
    kind: Kind
    arrays: Mapping[str, Array]
    use: Literal["slope", "scale", "shift"] | None = None
    window: Window | None = None
    eps: float | None = None
    before: frozenset[int] | None = None

    @property
    def signature(self) -> tuple[object, ...]:
        """Equal for operators that could stand for one another."""
        shapes = tuple(sorted((key, value.shape) for key, value in self.arrays.items()))
        return self.kind, shapes, self.use, self.window

    @property
    def shapes(self) -> str:
        """Shapes for people."""
        return ", ".join(f"{key} {value.shape}" for key, value in self.arrays.items())


@final
@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Source:
    """All operators of a file, or of one part of it.

    Attributes:
        part: where in the file they lie, such as `state_dict`; empty for the file itself.
        operators: in the order of the file, or in the order of their names where that is none.
        ordered: whether the file has an order of its own; safetensors sorts by name.
        ignored: what was left aside while reading, such as counters of batches.
    """

    part: str
    operators: tuple[Operator, ...]
    ordered: bool
    ignored: tuple[str, ...] = ()
