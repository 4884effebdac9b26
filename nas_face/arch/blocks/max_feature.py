"""LightCNN's units, in which the maximum of two halves takes the place of an activation."""

from dataclasses import dataclass
from typing import Literal, final

from nas_face.arch.blocks.parts import AbstractBlock, KernelSize, Stride, named, same_padding
from nas_face.arch.combinators import Layer, Sequence, Sum
from nas_face.arch.cost import Shape
from nas_face.arch.layers import Conv, MaxFeatureMap, Pool
from nas_face.errors import ShapeError


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class MaxFeature(AbstractBlock):
    """Convolutions of twice the width, each followed by the larger of both halves.

    Attributes:
        out_channels: width of the output.
        form: `conv` is one convolution; `group` has a 1x1 convolution of the input width in front
            of it; `residual` is two of them and the identity.
        kernel: of all but the 1x1 convolution.
        stride: 2 puts a 2x2 pool behind the block.
        pool: the larger value of a window, or that and its mean, added.

    Source: Wu et al., LightCNN, arXiv 1511.02683, tables 1 and 2; the added mean is that of
        "LightCNN-29 v2" in the authors' code.
    """

    out_channels: int
    form: Literal["conv", "group", "residual"] = "group"
    kernel: KernelSize = 3
    stride: Stride = 1
    pool: Literal["max", "max_average"] = "max"
    kind: Literal["max_feature"] = "max_feature"

    def lower(self, x: Shape) -> Layer:
        if self.form == "residual" and x.channels != self.out_channels:
            raise ShapeError(
                f"max_feature: a residual block keeps its width {x.channels}, got "
                f"out_channels={self.out_channels}"
            )
        last = _conv(self.out_channels, self.kernel)
        body: Layer
        match self.form:
            case "conv":
                body = last
            case "group":
                body = named(("reduce", _conv(x.channels, 1)), ("conv", last))
            case "residual":
                working = named(("first", last), ("second", last))
                body = Sum(branches=(working, Sequence()))
        return named(("block", body), ("pool", self._pool() if self.stride == 2 else None))

    def _pool(self) -> Layer:
        largest = Pool(function="max", kernel=(2, 2), stride=2, ceil=True)
        if self.pool == "max":
            return largest
        mean = Pool(function="average", kernel=(2, 2), stride=2, ceil=True)
        return Sum(branches=(largest, mean))


def _conv(out_channels: int, kernel: int) -> Sequence:
    conv = Conv(
        out_channels=2 * out_channels,
        kernel=(kernel, kernel),
        padding=same_padding(kernel),
        bias=True,
    )
    return named(("conv", conv), ("max", MaxFeatureMap()))
