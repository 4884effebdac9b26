"""A single convolution with normalisation and activation: stems and the layers right behind
them."""

from dataclasses import dataclass
from typing import Literal, final

from nas_face.arch.blocks.parts import (
    AbstractBlock,
    ActivationName,
    NormName,
    maybe_activation,
    named,
    normalisation,
    same_padding,
)
from nas_face.arch.combinators import Layer
from nas_face.arch.cost import Shape
from nas_face.arch.layers import Conv
from nas_face.errors import ShapeError


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class ConvUnit(AbstractBlock):
    """Convolution, normalisation, activation.

    Attributes:
        out_channels: width of the output.
        kernel: window size.
        stride: step in both directions.
        padding: zeros on each side; none for half of the kernel, which keeps the size at stride 1.
        depthwise: one filter for each channel; `out_channels` must then equal the input width.
        groups: equal groups of a convolution that is not depthwise.
        norm: normalisation, or none.
        act: activation, or none.
        eps: of batch normalisation.
        bias: whether the convolution has one.
    """

    out_channels: int
    kernel: Literal[1, 2, 3, 4, 5, 7, 9, 11] = 3
    stride: Literal[1, 2, 4] = 1
    padding: int | None = None
    depthwise: bool = False
    groups: int = 1
    norm: NormName | None = "batch"
    act: ActivationName | None = "prelu"
    eps: float = 1e-5
    bias: bool = False
    kind: Literal["conv_unit"] = "conv_unit"

    def lower(self, x: Shape) -> Layer:
        if self.depthwise and self.out_channels != x.channels:
            raise ShapeError(
                f"conv_unit: a depthwise unit keeps its width {x.channels}, got "
                f"out_channels={self.out_channels}"
            )
        padding = same_padding(self.kernel)
        conv = Conv(
            out_channels=self.out_channels,
            kernel=(self.kernel, self.kernel),
            stride=self.stride,
            padding=padding if self.padding is None else (self.padding, self.padding),
            groups=x.channels if self.depthwise else self.groups,
            bias=self.bias,
        )
        return named(
            ("conv", conv),
            ("norm", normalisation(self.norm, self.eps) if self.norm else None),
            ("act", maybe_activation(self.act)),
        )
