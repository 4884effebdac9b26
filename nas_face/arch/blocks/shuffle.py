"""ShuffleNetV2's units, as ShuffleFaceNet uses them."""

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
from nas_face.arch.combinators import Concat, Layer, Sequence, Split
from nas_face.arch.cost import Shape
from nas_face.arch.layers import ChannelShuffle
from nas_face.errors import ShapeError


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class ShuffleUnit(AbstractBlock):
    """Half of the channels pass, half are worked on, then both are shuffled; or both branches
    work.

    At stride 1 and equal widths the input is cut in halves and one of them passes untouched (basic
    unit); otherwise both branches read the whole input (down unit). In both, the working branch is
    1x1, depthwise, 1x1, and a two-group shuffle follows the concatenation.

    Attributes:
        out_channels: width of the output, even.
        hidden_channels: width inside the working branch.
        stride: of the depthwise convolutions.
        kernel: of the depthwise convolutions.
        act: after each 1x1 convolution.
        attention: on the output of the working branch, or none (not in the source).

    Source: Ma et al., ShuffleNet V2, arXiv 1807.11164, figure 3c and 3d, with PReLU as
        ShuffleFaceNet (Martinez-Diaz et al., ICCVW 2019) has it.
    Differs: `hidden_channels` is a number of its own (half of `out_channels` in the source), and a
        change of width at stride 1 takes the two-branch form, which the source does not define.
    """

    RATIOS: ClassVar[dict[str, Ratio]] = {"expansion": Ratio("hidden_channels", "out_channels", 2)}

    out_channels: int
    hidden_channels: int
    stride: Stride = 1
    kernel: KernelSize = 3
    act: ActivationName = "prelu"
    attention: Attention | None = None
    kind: Literal["shuffle"] = "shuffle"

    def lower(self, x: Shape) -> Layer:
        if self.out_channels % 2:
            raise ShapeError(f"shuffle: out_channels must be even, got {self.out_channels}")
        half = self.out_channels // 2
        working = named(
            ("expand", conv_norm(self.hidden_channels, act=self.act)),
            ("depthwise", self._depthwise(self.hidden_channels)),
            ("project", conv_norm(half, act=self.act)),
            ("attention", self.attention and self.attention.lower(x._replace(channels=half))),
        )
        joined: Layer
        if self.stride == 1 and x.channels == self.out_channels:
            joined = Split(sizes=(half, half), branches=(Sequence(), working))
        else:
            passing = Sequence(
                layers=(self._depthwise(x.channels), conv_norm(half, act=self.act)),
                names=("depthwise", "project"),
            )
            joined = Concat(branches=(passing, working))
        return Sequence(layers=(joined, ChannelShuffle(groups=2)), names=("units", "shuffle"))

    def _depthwise(self, channels: int) -> Sequence:
        return conv_norm(channels, kernel=self.kernel, stride=self.stride, groups=channels)
