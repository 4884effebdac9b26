"""EdgeFace's blocks: convolutions with layer normalisation, and attention between channels."""

from dataclasses import dataclass
from typing import ClassVar, Literal, final

from nas_face.arch.blocks.parts import (
    AbstractBlock,
    ActivationName,
    KernelSize,
    NormName,
    Ratio,
    Stride,
    activation,
    named,
    normalisation,
    pointwise,
    residual,
    same_padding,
)
from nas_face.arch.combinators import Graph, Layer, Sequence, Step
from nas_face.arch.cost import Shape
from nas_face.arch.layers import (
    ChannelScale,
    ChannelSlice,
    Conv,
    CrossCovarianceAttention,
    FourierFeatures,
)
from nas_face.errors import ShapeError


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class ConvEncoder(AbstractBlock):
    """Depthwise convolution, normalisation, two 1x1 convolutions with an activation between them,
    learned factors, identity shortcut.

    Attributes:
        out_channels: width of the output.
        hidden_channels: width between both 1x1 convolutions.
        stride: where it is 2, or the width changes, a normalisation and a convolution of as many
            pixels as the stride come first; a row or column that is left over is dropped.
        kernel: of the depthwise convolution.
        act: between both 1x1 convolutions.
        norm: of everything; the source has layer normalisation.
        rank_ratio: of both 1x1 convolutions, or none.
        layer_scale: whether the working branch ends in a learned factor a channel.

    Source: Maaz et al., EdgeNeXt, arXiv 2206.10589; low rank from George
        et al., EdgeFace, arXiv 2307.01838, section 3.
    Differs: the downsampling in front of a stage belongs to the stage's first block.
    """

    RATIOS: ClassVar[dict[str, Ratio]] = {"expansion": Ratio("hidden_channels", "out_channels", 4)}

    out_channels: int
    hidden_channels: int
    stride: Stride = 1
    kernel: KernelSize = 3
    act: ActivationName = "gelu"
    norm: NormName = "layer"
    rank_ratio: float | None = None
    layer_scale: bool = True
    kind: Literal["conv_encoder"] = "conv_encoder"

    def lower(self, x: Shape) -> Layer:
        window = Conv(
            out_channels=self.out_channels,
            kernel=(self.kernel, self.kernel),
            padding=same_padding(self.kernel),
            groups=self.out_channels,
            bias=True,
        )
        body = named(("depthwise", window), ("mix", _mix(self)))
        return named(("down", _down(self, x)), ("encoder", residual(body)))


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class SplitAttention(AbstractBlock):
    """Split depthwise transpose attention: depthwise convolutions in a chain over parts of the
    channels, attention between channels, two 1x1 convolutions, identity shortcut around all.

    Every part but the last is convolved after the result of the part before it is added.

    Attributes:
        out_channels: width of the output.
        hidden_channels: width between the last two 1x1 convolutions.
        stride: as of `ConvEncoder`.
        parts: that the channels are cut into; equal, but the last one has what is left.
        kernel: of the depthwise convolutions.
        heads: of the attention; they divide the width.
        positions: whether an encoding of the position is added in front of the attention.
        act: between the last two 1x1 convolutions.
        norm: of everything; the source has layer normalisation.
        rank_ratio: of all 1x1 convolutions except the encoding's, or none.
        layer_scale: whether both working branches end in a learned factor a channel.

    Source: Maaz et al., EdgeNeXt, arXiv 2206.10589; low rank from George
        et al., EdgeFace, arXiv 2307.01838, section 3.
    Differs: as `ConvEncoder`.
    """

    RATIOS: ClassVar[dict[str, Ratio]] = {"expansion": Ratio("hidden_channels", "out_channels", 4)}

    out_channels: int
    hidden_channels: int
    stride: Stride = 1
    parts: Literal[2, 3, 4] = 2
    kernel: KernelSize = 3
    heads: int = 4
    positions: bool = False
    act: ActivationName = "gelu"
    norm: NormName = "layer"
    rank_ratio: float | None = None
    layer_scale: bool = True
    kind: Literal["split_attention"] = "split_attention"

    def lower(self, x: Shape) -> Layer:
        if self.heads < 1 or self.out_channels % self.heads:
            raise ShapeError(
                f"split_attention: out_channels must be a multiple of heads={self.heads}, got "
                f"{self.out_channels}"
            )
        project = Conv(out_channels=self.out_channels, bias=True)
        positions = named(("features", FourierFeatures()), ("project", project))
        body = named(
            ("split", self._chain()),
            ("positions", residual(positions) if self.positions else None),
            ("attention", residual(self._attention())),
            ("mix", _mix(self)),
        )
        return named(("down", _down(self, x)), ("encoder", residual(body)))

    def _chain(self) -> Graph:
        width = -(-self.out_channels // self.parts)
        steps: dict[str, Step] = {}
        numbers: dict[str, int] = {}

        def put(name: str, step: Step) -> None:
            steps[name] = step
            numbers[name] = len(steps)

        for part in range(self.parts):
            stop = min((part + 1) * width, self.out_channels)
            piece = ChannelSlice(start=part * width, stop=stop)
            put(f"part{part}", Step(layer=piece, sources=(0,)))
        for part in range(self.parts - 1):
            window = Conv(
                out_channels=width,
                kernel=(self.kernel, self.kernel),
                padding=same_padding(self.kernel),
                groups=width,
                bias=True,
            )
            added = (numbers[f"conv{part - 1}"],) if part else ()
            sources = (*added, numbers[f"part{part}"])
            put(f"conv{part}", Step(layer=window, sources=sources))
        convolved = (numbers[f"conv{part}"] for part in range(self.parts - 1))
        joined = (*convolved, numbers[f"part{self.parts - 1}"])
        put("join", Step(layer=Sequence(), sources=joined, join="concat"))
        return Graph(steps=tuple(steps.values()), names=tuple(steps))

    def _attention(self) -> Sequence:
        width, rank = self.out_channels, self.rank_ratio
        return named(
            ("norm", normalisation(self.norm)),
            ("qkv", pointwise(width, 3 * width, rank_ratio=rank, bias=True)),
            ("attend", CrossCovarianceAttention(heads=self.heads)),
            ("project", pointwise(width, width, rank_ratio=rank, bias=True)),
            ("scale", ChannelScale() if self.layer_scale else None),
        )


def _mix(block: ConvEncoder | SplitAttention) -> Sequence:
    """Normalisation, wide 1x1 convolution, activation, narrow 1x1 convolution, factors."""
    width, hidden, rank = block.out_channels, block.hidden_channels, block.rank_ratio
    return named(
        ("norm", normalisation(block.norm)),
        ("expand", pointwise(width, hidden, rank_ratio=rank, bias=True)),
        ("act", activation(block.act)),
        ("project", pointwise(hidden, width, rank_ratio=rank, bias=True)),
        ("scale", ChannelScale() if block.layer_scale else None),
    )


def _down(block: ConvEncoder | SplitAttention, x: Shape) -> Sequence | None:
    if block.stride == 1 and x.channels == block.out_channels:
        return None
    conv = Conv(
        out_channels=block.out_channels,
        kernel=(block.stride, block.stride),
        stride=block.stride,
        bias=True,
    )
    return named(("norm", normalisation(block.norm)), ("conv", conv))
