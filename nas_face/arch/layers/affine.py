"""Weights times inputs: convolutions and the fully connected layer."""

from dataclasses import dataclass
from typing import Literal, final

from nas_face.arch.cost import Cost, Shape
from nas_face.arch.layers.base import AbstractLayer
from nas_face.arch.layers.window import window_output
from nas_face.errors import ShapeError


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
        y = window_output(self, x, self.out_channels)
        weights = (
            self.out_channels * (x.channels // self.groups) * (self.kernel[0] * self.kernel[1])
        )
        params = weights + (self.out_channels if self.bias else 0)
        alive = x.elements + y.elements
        return y, Cost(
            madds=weights * (y.height * y.width),
            params=params,
            folded_params=params,
            peak_activations=alive,
            peak_keeping_input=alive,
        )


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class TranslationVariantConv(AbstractLayer):
    """Depthwise convolution whose filter differs at every position of the output.

    Its compute is that of a depthwise convolution, its storage grows with the map.

    Attributes:
        kernel: height and width of the window.
        stride: step in both directions.
        padding: zeros on each side, vertically and horizontally.

    Source: Chen et al., TVConv, arXiv 2203.10489, equation 2.
    Differs: the filters are parameters themselves, as they are once a TVConv network is deployed;
        the source generates them by a small network from a learned map while it trains.
    """

    kernel: tuple[int, int] = (3, 3)
    stride: int = 1
    padding: tuple[int, int] = (1, 1)
    kind: Literal["translation_variant_conv"] = "translation_variant_conv"

    def measure(self, x: Shape) -> tuple[Shape, Cost]:
        y = window_output(self, x, x.channels)
        weights = y.elements * self.kernel[0] * self.kernel[1]
        alive = x.elements + y.elements
        return y, Cost(
            madds=weights,
            params=weights,
            folded_params=weights,
            peak_activations=alive,
            peak_keeping_input=alive,
        )


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class ChannelConv(AbstractLayer):
    """One-dimensional convolution along the channels of a 1x1 map, zeros beyond both ends.

    Attributes:
        kernel: odd number of neighbouring channels that each output reads.

    Source: Wang et al., ECA-Net, arXiv 1910.03151, equation 5.
    """

    kernel: int
    kind: Literal["channel_conv"] = "channel_conv"

    def measure(self, x: Shape) -> tuple[Shape, Cost]:
        if (x.height, x.width) != (1, 1):
            raise ShapeError(
                f"channel_conv: the input must be a 1x1 map, got {x}; put a pool before it"
            )
        if self.kernel < 1 or self.kernel % 2 == 0:
            raise ShapeError(f"channel_conv: kernel must be odd and positive, got {self.kernel}")
        alive = 2 * x.channels
        return x, Cost(
            madds=x.channels * self.kernel,
            params=self.kernel,
            folded_params=self.kernel,
            peak_activations=alive,
            peak_keeping_input=alive,
        )


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
