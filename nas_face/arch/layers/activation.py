"""Element-wise functions."""

from dataclasses import dataclass
from typing import Literal, final

from nas_face.arch.cost import Cost, Shape, free
from nas_face.arch.layers.base import AbstractLayer
from nas_face.errors import ShapeError

Function = Literal["relu", "relu6", "silu", "hard_swish", "gelu", "sigmoid", "hard_sigmoid"]


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class PReLU(AbstractLayer):
    """Parametric ReLU: negative values are multiplied by a learned slope.

    Attributes:
        shared: one slope for all channels instead of one for each.
    """

    shared: bool = False
    kind: Literal["prelu"] = "prelu"

    def measure(self, x: Shape) -> tuple[Shape, Cost]:
        slopes = 1 if self.shared else x.channels
        return x, Cost(
            params=slopes,
            folded_params=slopes,
            peak_activations=x.elements,
            peak_keeping_input=2 * x.elements,
        )


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Activation(AbstractLayer):
    """Element-wise function without parameters; `silu` is x * sigmoid(x), `hard_swish` its
    piecewise form, `gelu` the exact x * Phi(x)."""

    function: Function
    kind: Literal["activation"] = "activation"

    def measure(self, x: Shape) -> tuple[Shape, Cost]:
        return x, free(x.elements)


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class MaxFeatureMap(AbstractLayer):
    """Element-wise maximum of the first and the second half of the channels.

    Source: Wu et al., LightCNN, arXiv 1511.02683, equation 2.
    """

    kind: Literal["max_feature_map"] = "max_feature_map"

    def measure(self, x: Shape) -> tuple[Shape, Cost]:
        if x.channels % 2:
            raise ShapeError(f"max_feature_map: input width must be even, got {x.channels}")
        y = x._replace(channels=x.channels // 2)
        alive = x.elements + y.elements
        return y, Cost(peak_activations=alive, peak_keeping_input=alive)
