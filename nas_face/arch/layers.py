"""Primitive layers: the only things that know shapes and costs, and the only things that become
torch modules.

Each is a frozen dataclass with one rule, `measure`: input shape to output shape and cost. Layers
say what they produce; what they receive follows from the shape in front of them, so changing a
width is a change in one place.
"""

import abc
from dataclasses import dataclass
from typing import ClassVar, Literal, final

from nas_face.arch.cost import Cost, Shape, free
from nas_face.errors import ShapeError

Function = Literal["relu", "relu6", "silu", "hard_swish", "sigmoid", "hard_sigmoid"]


class AbstractLayer(abc.ABC):
    """A node of a layer tree."""

    __slots__ = ()
    # Read by pydantic when a layer comes from a file: a misspelt field is an error, not a silent
    # default.
    __pydantic_config__: ClassVar = {"extra": "forbid"}

    @abc.abstractmethod
    def measure(self, x: Shape) -> tuple[Shape, Cost]:
        """Output shape and cost for an input of shape `x`.

        Raises:
            ShapeError: the layer cannot take `x`.
        """

    def output_shape(self, x: Shape) -> Shape:
        """Output shape for an input of shape `x`."""
        return self.measure(x)[0]

    def cost(self, x: Shape) -> Cost:
        """Cost for an input of shape `x`."""
        return self.measure(x)[1]


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Conv(AbstractLayer):
    """Two-dimensional convolution with equal groups.

    Attributes:
        out_channels: width of the output, a multiple of `groups`.
        kernel: height and width of the window.
        stride: step in both directions.
        padding: zeros on each side, vertically and horizontally.
        groups: number of independent groups; equal to the input width for a depthwise convolution.
        bias: whether a bias is added (no where batch normalisation follows).
    """

    out_channels: int
    kernel: tuple[int, int] = (1, 1)
    stride: int = 1
    padding: tuple[int, int] = (0, 0)
    groups: int = 1
    bias: bool = False
    kind: Literal["conv"] = "conv"

    def measure(self, x: Shape) -> tuple[Shape, Cost]:
        if self.groups < 1 or x.channels % self.groups or self.out_channels % self.groups:
            raise ShapeError(
                f"conv: input width {x.channels} and out_channels={self.out_channels} must both "
                "be multiples of "
                f"groups={self.groups}"
            )
        if min(self.stride, *self.kernel) < 1 or min(self.padding) < 0:
            raise ShapeError(
                f"conv: kernel {self.kernel} and stride {self.stride} must be at least 1, and "
                f"padding {self.padding} at least 0"
            )
        height = (x.height + 2 * self.padding[0] - self.kernel[0]) // self.stride + 1
        width = (x.width + 2 * self.padding[1] - self.kernel[1]) // self.stride + 1
        if self.out_channels < 1 or height < 1 or width < 1:
            raise ShapeError(
                f"conv: kernel {self.kernel[0]}x{self.kernel[1]}, stride {self.stride} to "
                f"{self.out_channels} channels leaves "
                f"nothing of a {x} input; use a larger input, a smaller kernel or fewer strides"
            )
        y = Shape(self.out_channels, height, width)
        weights = self.out_channels * (x.channels // self.groups) * self.kernel[0] * self.kernel[1]
        params = weights + (self.out_channels if self.bias else 0)
        alive = x.elements + y.elements
        return y, Cost(
            madds=weights * height * width,
            params=params,
            folded_params=params,
            peak_activations=alive,
            peak_keeping_input=alive,
        )


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class BatchNorm(AbstractLayer):
    """Batch normalisation over channels, of a feature map or of a flat vector.

    Attributes:
        eps: added to the variance.
        momentum: weight of the newest batch in the running statistics (torch's sense).
    """

    eps: float = 1e-5
    momentum: float = 0.1
    kind: Literal["batch_norm"] = "batch_norm"

    def measure(self, x: Shape) -> tuple[Shape, Cost]:
        alive = x.elements
        return x, Cost(
            params=2 * x.channels,
            folded_params=x.channels,
            peak_activations=alive,
            peak_keeping_input=2 * alive,
        )


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
    piecewise form."""

    function: Function
    kind: Literal["activation"] = "activation"

    def measure(self, x: Shape) -> tuple[Shape, Cost]:
        return x, free(x.elements)


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class ChannelShuffle(AbstractLayer):
    """Fixed permutation that deals the channels of `groups` equal groups out in turn: (g, n) is
    read as (n, g).

    Source: Zhang et al., ShuffleNet, arXiv 1707.01083, figure 1.
    """

    groups: int
    kind: Literal["channel_shuffle"] = "channel_shuffle"

    def measure(self, x: Shape) -> tuple[Shape, Cost]:
        if self.groups < 1 or x.channels % self.groups:
            raise ShapeError(
                f"channel_shuffle: input width {x.channels} must be a multiple of "
                f"groups={self.groups}"
            )
        alive = 2 * x.elements
        return x, Cost(peak_activations=alive, peak_keeping_input=alive)


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class GlobalAveragePool(AbstractLayer):
    """Mean over all positions; the result keeps a 1x1 map."""

    kind: Literal["global_average_pool"] = "global_average_pool"

    def measure(self, x: Shape) -> tuple[Shape, Cost]:
        alive = x.elements + x.channels
        return Shape(x.channels, 1, 1), Cost(peak_activations=alive, peak_keeping_input=alive)


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class NormAwarePool(AbstractLayer):
    """Mean over positions after every position's feature vector is brought to the mean vector
    length of the map.

    With v(p) the feature vector at position p, the result is the mean over p of v(p) * mean_q
    |v(q)| / |v(p)|, so a position counts for its direction and not for its length.

    Attributes:
        eps: added to the squared length under the root (assumed; it matters only for all-zero
            vectors).

    Source: the "GNAP" head of InsightFace's MobileFaceNet variants (no paper defines it).
    """

    eps: float = 1e-12
    kind: Literal["norm_aware_pool"] = "norm_aware_pool"

    def measure(self, x: Shape) -> tuple[Shape, Cost]:
        alive = 2 * x.elements + x.channels
        return Shape(x.channels, 1, 1), Cost(peak_activations=alive, peak_keeping_input=alive)


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Flatten(AbstractLayer):
    """Feature map to flat vector, channel by channel."""

    kind: Literal["flatten"] = "flatten"

    def measure(self, x: Shape) -> tuple[Shape, Cost]:
        return Shape(x.elements, 1, 1), free(x.elements)


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Linear(AbstractLayer):
    """Fully connected layer on a flat vector."""

    out_features: int
    bias: bool = False
    kind: Literal["linear"] = "linear"

    def measure(self, x: Shape) -> tuple[Shape, Cost]:
        if x.height != 1 or x.width != 1:
            raise ShapeError(
                f"linear: the input must be a flat vector, got {x}; put flatten before it"
            )
        if self.out_features < 1:
            raise ShapeError(f"linear: out_features must be at least 1, got {self.out_features}")
        weights = x.channels * self.out_features
        params = weights + (self.out_features if self.bias else 0)
        alive = x.channels + self.out_features
        return Shape(self.out_features, 1, 1), Cost(
            madds=weights,
            params=params,
            folded_params=params,
            peak_activations=alive,
            peak_keeping_input=alive,
        )
