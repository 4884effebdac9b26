"""SqueezeNet's fire module."""

from dataclasses import dataclass
from typing import ClassVar, Literal, final

from nas_face.arch.blocks.attention import Attention
from nas_face.arch.blocks.parts import (
    AbstractBlock,
    ActivationName,
    KernelSize,
    Ratio,
    Stride,
    conv_norm,
    named,
)
from nas_face.arch.combinators import Concat, Layer
from nas_face.arch.cost import Shape
from nas_face.arch.layers import Pool
from nas_face.errors import ShapeError


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Fire(AbstractBlock):
    """1x1 convolution to a narrow width; from there half of the output by 1x1, half by larger
    windows.

    Attributes:
        out_channels: width of the output, even.
        hidden_channels: the narrow width.
        stride: 2 puts a 3x3 maximum of stride 2 in front of the block.
        kernel: of the larger windows.
        act: after each convolution.
        attention: on the output, or none (not in the source).

    Source: Iandola et al., SqueezeNet, arXiv 1602.07360, figure 1; with batch normalisation as
        SqueezerFaceNet (Alonso-Fernandez et al., arXiv 2307.10697) adds it.
    Differs: convolutions have no biases, which the normalisation behind them takes up; the pool
        is padded, so that it halves every map and rounds up.
    """

    RATIOS: ClassVar[dict[str, Ratio]] = {"expansion": Ratio("hidden_channels", "out_channels", 4)}

    out_channels: int
    hidden_channels: int
    stride: Stride = 1
    kernel: KernelSize = 3
    act: ActivationName = "relu"
    attention: Attention | None = None
    kind: Literal["fire"] = "fire"

    def lower(self, x: Shape) -> Layer:
        if self.out_channels % 2:
            raise ShapeError(f"fire: out_channels must be even, got {self.out_channels}")
        half = self.out_channels // 2
        pool = Pool(function="max", kernel=(3, 3), stride=2, padding=(1, 1))
        small, large = (conv_norm(half, kernel=size, act=self.act) for size in (1, self.kernel))
        out = x._replace(channels=self.out_channels)
        return named(
            ("pool", pool if self.stride == 2 else None),
            ("squeeze", conv_norm(self.hidden_channels, act=self.act)),
            ("expand", Concat(branches=(small, large))),
            ("attention", self.attention and self.attention.lower(out)),
        )
