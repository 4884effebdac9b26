"""The inverted residual: expand, depthwise, project. MobileFaceNet's bottleneck, and with its
knobs
most blocks since."""

from dataclasses import dataclass
from typing import ClassVar, Literal, final

from nas_face.arch.blocks.attention import Attention
from nas_face.arch.blocks.parts import (
    AbstractBlock,
    ActivationName,
    Kernels,
    Mixing,
    NormName,
    Partition,
    Ratio,
    ShortcutName,
    Stride,
    depthwise,
    maybe_activation,
    mixed,
    named,
    normed,
    pointwise,
    same_padding,
    with_shortcut,
)
from nas_face.arch.combinators import Layer
from nas_face.arch.cost import Shape
from nas_face.arch.layers import ChannelScale, TranslationVariantConv
from nas_face.errors import ShapeError


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class InvertedResidual(AbstractBlock):
    """1x1 expansion, depthwise convolution, 1x1 projection, shortcut.

    The defaults are MobileFaceNet's bottleneck; every other field is a knob that some published
    network turns.

    Attributes:
        out_channels: width of the output.
        hidden_channels: width between expansion and projection, a number of its own.
        stride: of the depthwise convolution.
        kernel: of the depthwise convolution, or a set of kernels (MixFaceNets).
        act: behind the expansion.
        depthwise_act: behind the depthwise convolution; `same` as behind the expansion.
        out_act: behind the sum (VarGNet); none elsewhere, so that the projection is linear.
        expand: whether there is an expansion; without, `hidden_channels` is the input width.
        expand_partition: parts of the expansion (SeesawFaceNets, MixFaceNets).
        project_partition: parts of the projection.
        mixing: permutation between expansion and depthwise convolution (Seesaw-shuffle).
        out_mixing: permutation behind the sum (ShuffleMixFaceNets).
        group_width: input channels in each group of the depthwise convolution (VarGNet).
        factor: output channels of the depthwise convolution for each input channel (VarGNet).
        attention: on the hidden width behind the depthwise convolution, or on the output.
        attention_on: which of both.
        shortcut: where shapes disagree; where they agree it is the identity, unless `none`.
        shortcut_act: behind a shortcut that projects (DW-SeesawFaceNet).
        norm: of all convolutions.
        rank_ratio: of both 1x1 convolutions (EdgeFace), or none.
        layer_scale: whether the working branch ends in a learned factor a channel (EdgeFace).
        pre_activation: normalisation and activation in front of each convolution (PocketNet).
        translation_variant: whether the depthwise convolution has filters of its own at every
            position (TVConv); it then has one odd kernel and one channel a group.

    Source: Chen et al., MobileFaceNets, arXiv 1804.07573, table 1; the block is Sandler et al.'s,
        arXiv 1801.04381, figure 3b, with PReLU.
    """

    RATIOS: ClassVar[dict[str, Ratio]] = {"expansion": Ratio("hidden_channels", "in_channels", 4)}
    ATTENTION_ON = "hidden_channels"

    out_channels: int
    hidden_channels: int
    stride: Stride = 1
    kernel: Kernels = 3
    act: ActivationName | None = "prelu"
    depthwise_act: ActivationName | Literal["same"] | None = "same"
    out_act: ActivationName | None = None
    expand: bool = True
    expand_partition: Partition = (1,)
    project_partition: Partition = (1,)
    mixing: Mixing = "none"
    out_mixing: Mixing = "none"
    group_width: int = 1
    factor: Literal[1, 2] = 1
    attention: Attention | None = None
    attention_on: Literal["hidden_channels", "out_channels"] = "hidden_channels"
    shortcut: ShortcutName = "identity"
    shortcut_act: ActivationName | None = None
    norm: NormName = "batch"
    rank_ratio: float | None = None
    layer_scale: bool = False
    pre_activation: bool = False
    translation_variant: bool = False
    kind: Literal["inverted_residual"] = "inverted_residual"

    def lower(self, x: Shape) -> Layer:
        hidden, out = self.hidden_channels, self.out_channels
        if not self.expand and hidden != x.channels:
            raise ShapeError(
                "inverted_residual: without expansion hidden_channels must be the input width "
                f"{x.channels}, got {hidden}"
            )
        act = self.act if self.depthwise_act == "same" else self.depthwise_act
        wide = hidden * self.factor
        expansion = self._normed(self._pointwise(x.channels, hidden), self.act)
        projection = self._pointwise(wide, out, last=True)
        body = named(
            ("expand", expansion if self.expand else None),
            ("shuffle", mixed(self.mixing)),
            ("depthwise", self._normed(self._depthwise(), act)),
            ("attention", self._attention_at("hidden_channels", x._replace(channels=wide))),
            ("project", self._normed(projection, None)),
            ("out_attention", self._attention_at("out_channels", x._replace(channels=out))),
            ("scale", ChannelScale() if self.layer_scale else None),
        )
        whole = with_shortcut(
            body, x, out, name=self.shortcut, stride=self.stride, act=self.shortcut_act
        )
        if self.out_act is None and self.out_mixing == "none":
            return whole
        return named(
            ("block", whole),
            ("act", maybe_activation(self.out_act)),
            ("shuffle", mixed(self.out_mixing)),
        )

    def _depthwise(self) -> Layer:
        if not self.translation_variant:
            return depthwise(
                self.hidden_channels,
                self.kernel,
                stride=self.stride,
                group_width=self.group_width,
                factor=self.factor,
            )
        if isinstance(self.kernel, tuple) or (self.group_width, self.factor) != (1, 1):
            raise ShapeError(
                "inverted_residual: a translation-variant convolution has one kernel, one channel "
                f"a group and factor 1, got kernel={self.kernel}, group_width={self.group_width} "
                f"and factor={self.factor}"
            )
        return TranslationVariantConv(
            kernel=(self.kernel, self.kernel),
            stride=self.stride,
            padding=same_padding(self.kernel),
        )

    def _pointwise(self, channels: int, out_channels: int, *, last: bool = False) -> Layer:
        partition = self.project_partition if last else self.expand_partition
        return pointwise(channels, out_channels, partition=partition, rank_ratio=self.rank_ratio)

    def _normed(self, conv: Layer, act: ActivationName | None) -> Layer:
        return normed(conv, act=act, norm=self.norm, pre_activation=self.pre_activation)

    def _attention_at(self, width: str, x: Shape) -> Layer | None:
        if self.attention is None or self.attention_on != width:
            return None
        return self.attention.lower(x)
