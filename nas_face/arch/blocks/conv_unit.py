"""A single convolution with normalisation and activation: stems and the layers right behind
them."""

from dataclasses import dataclass
from typing import Literal, final

from nas_face.arch.blocks.parts import (
    AbstractBlock,
    ActivationName,
    KernelSize,
    Stride,
    conv_norm,
)
from nas_face.arch.combinators import Layer
from nas_face.arch.cost import Shape
from nas_face.errors import ShapeError


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class ConvUnit(AbstractBlock):
    """Convolution, batch normalisation, activation.

    Attributes:
        out_channels: width of the output.
        kernel: window size.
        stride: 1 or 2.
        depthwise: one filter for each channel; `out_channels` must then equal the input width.
        act: activation, or none.
        eps: of the batch normalisation.
    """

    out_channels: int
    kernel: KernelSize = 3
    stride: Stride = 1
    depthwise: bool = False
    act: ActivationName | None = "prelu"
    eps: float = 1e-5
    kind: Literal["conv_unit"] = "conv_unit"

    def lower(self, x: Shape) -> Layer:
        if self.depthwise and self.out_channels != x.channels:
            raise ShapeError(
                f"conv_unit: a depthwise unit keeps its width {x.channels}, got "
                f"out_channels={self.out_channels}"
            )
        return conv_norm(
            self.out_channels,
            kernel=self.kernel,
            stride=self.stride,
            groups=x.channels if self.depthwise else 1,
            act=self.act,
            eps=self.eps,
        )
