"""The seesaw block: uneven 1:3 groups in both pointwise convolutions."""

from dataclasses import dataclass
from typing import ClassVar, Literal, final

from nas_face.arch.blocks.attention import Attention
from nas_face.arch.blocks.parts import (
    AbstractBlock,
    ActivationName,
    KernelSize,
    Ratio,
    ShortcutName,
    Stride,
    conv_norm,
    named,
    with_shortcut,
)
from nas_face.arch.combinators import Layer, Split
from nas_face.arch.cost import Shape
from nas_face.arch.layers import ChannelShuffle
from nas_face.errors import ShapeError


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Seesaw(AbstractBlock):
    """Inverted residual whose 1x1 convolutions are cut 1:3, so that they cost 10/16 of dense ones.

    The expansion maps the first quarter of the input to the first quarter of the hidden width and
    the rest to the rest. With ``mixing="shuffle"`` a two-group shuffle follows and the projection
    is cut the same way; with ``mixing="share"`` nothing is permuted and the projection is cut 3:1
    instead, so that the two cuts overlap.

    Attributes:
        out_channels: width of the output, a multiple of 4.
        hidden_channels: width between expansion and projection, a multiple of 4.
        mixing: how channels of the two parts meet.
        stride: of the depthwise convolution.
        kernel: of the depthwise convolution.
        act: after expansion and depthwise convolution; the projection is linear.
        attention: on the hidden width, or none.
        shortcut: where shapes disagree (DW-SeesawFaceNet); where they agree it is the identity.
        shortcut_act: behind a shortcut that projects.

    Source: Zhang, SeesawFaceNets, arXiv 1908.09124, section 3 and figure 2; squeeze-and-excitation
        of ratio 4, and x * sigmoid(x) as "swish", as in the author's code.
    """

    RATIOS: ClassVar[dict[str, Ratio]] = {"expansion": Ratio("hidden_channels", "in_channels", 4)}
    ATTENTION_ON = "hidden_channels"

    out_channels: int
    hidden_channels: int
    mixing: Literal["shuffle", "share"]
    stride: Stride = 1
    kernel: KernelSize = 3
    act: ActivationName = "silu"
    attention: Attention | None = None
    shortcut: ShortcutName = "identity"
    shortcut_act: ActivationName | None = None
    kind: Literal["seesaw"] = "seesaw"

    def lower(self, x: Shape) -> Layer:
        hidden, out = self.hidden_channels, self.out_channels
        for name, width in (("input", x.channels), ("hidden", hidden), ("output", out)):
            if width % 4:
                raise ShapeError(f"seesaw: the {name} width must be a multiple of 4, got {width}")
        small_first = self.mixing == "shuffle"
        body = named(
            ("expand", _uneven(x.channels, hidden, small_first=True, act=self.act)),
            ("shuffle", ChannelShuffle(groups=2) if self.mixing == "shuffle" else None),
            (
                "depthwise",
                conv_norm(
                    hidden, kernel=self.kernel, stride=self.stride, groups=hidden, act=self.act
                ),
            ),
            ("attention", self.attention and self.attention.lower(x._replace(channels=hidden))),
            ("project", _uneven(hidden, out, small_first=small_first, act=None)),
        )
        return with_shortcut(
            body, x, out, name=self.shortcut, stride=self.stride, act=self.shortcut_act
        )


def _uneven(
    channels: int, out_channels: int, *, small_first: bool, act: ActivationName | None
) -> Split:
    quarters = (1, 3) if small_first else (3, 1)
    return Split(
        sizes=tuple(channels // 4 * quarter for quarter in quarters),
        branches=tuple(conv_norm(out_channels // 4 * quarter, act=act) for quarter in quarters),
    )
