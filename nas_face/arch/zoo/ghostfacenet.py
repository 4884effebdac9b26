"""GhostFaceNets (Alansari et al., 2023)."""

from functools import partial
from typing import Literal

from nas_face.arch.blocks.attention import SqueezeExcite
from nas_face.arch.blocks.conv_unit import ConvUnit
from nas_face.arch.blocks.ghost import Ghost
from nas_face.arch.blocks.parts import KernelSize, Stride
from nas_face.arch.cost import Shape
from nas_face.arch.heads import GlobalDepthwiseHead
from nas_face.arch.spec import ArchSpec
from nas_face.arch.zoo.entry import PublishedNetwork

Row = tuple[KernelSize, int, int, bool, Stride]
"""Of a block: kernel, hidden width, output width, squeeze-and-excitation, stride."""

# Table 1 of GhostNet, but for the last hidden width of version 1. Blocks stand together that a
# search space can describe together: one after another with equal settings, the first aside.
STAGES: tuple[tuple[Row, ...], ...] = (
    ((3, 16, 16, False, 1),),
    ((3, 48, 24, False, 2), (3, 72, 24, False, 1)),
    ((5, 72, 40, True, 2), (5, 120, 40, True, 1)),
    ((3, 240, 80, False, 2), (3, 200, 80, False, 1)),
    ((3, 184, 80, False, 1), (3, 184, 80, False, 1)),
    ((3, 480, 112, True, 1), (3, 672, 112, True, 1)),
    ((5, 672, 160, True, 2), (5, 960, 160, False, 1)),
    ((5, 960, 160, True, 1), (5, 960, 160, False, 1)),
)
LAST = {1: 512, 2: 960}
"""Hidden width of the last block, and width of the convolution behind it, by version."""

PLAIN_BLOCKS = 2
"""Blocks of version 2, from the first, that have no decoupled attention."""


def ghostfacenet(
    input_shape: Shape,
    embedding_size: int,
    *,
    version: Literal[1, 2],
    stem_stride: Stride,
    multiplier: float = 1.3,
) -> ArchSpec:
    """GhostFaceNetV1 or V2.

    Args:
        input_shape: of the image.
        embedding_size: length of the embedding, 512 in the published networks.
        version: with 2, decoupled attention in all blocks but the first two.
        stem_stride: the last digit of the name.
        multiplier: of all widths, rounded to multiples of 4.
    """
    last = LAST[version]
    stem_width = _rounded(16 * multiplier)
    made: list[tuple[Ghost, ...]] = []
    width, count = stem_width, 0
    for rows in (*STAGES, ((5, last, 160, True, 1),)):
        blocks = []
        for row in rows:
            attend = version == 2 and count >= PLAIN_BLOCKS
            block = _block(row, width, multiplier, decoupled_attention=attend)
            blocks.append(block)
            width, count = block.out_channels, count + 1
        made.append(tuple(blocks))
    return ArchSpec(
        input_shape=input_shape,
        stem=(ConvUnit(out_channels=stem_width, stride=stem_stride),),
        stages=tuple(made),
        head=GlobalDepthwiseHead(
            embedding_size=embedding_size, tail_channels=_rounded(last * multiplier)
        ),
    )


def _block(row: Row, width: int, multiplier: float, *, decoupled_attention: bool) -> Ghost:
    kernel, hidden, out, attention, stride = row
    out_channels, hidden_channels = _rounded(out * multiplier), _rounded(hidden * multiplier)
    squeeze = SqueezeExcite(channels=_rounded(hidden_channels / 4), gate="hard_sigmoid")
    unused = stride == 1 and width == out_channels  # so two specs of one network do not differ
    return Ghost(
        out_channels=out_channels,
        hidden_channels=hidden_channels,
        stride=stride,
        kernel=3 if unused else kernel,
        attention=squeeze if attention else None,
        decoupled_attention=decoupled_attention,
    )


def _rounded(width: float) -> int:
    """The nearest multiple of 4, the next one where that takes away more than a tenth."""
    nearest = max(4, int(width + 2) // 4 * 4)
    return nearest if nearest >= 0.9 * width else nearest + 4


SOURCE = (
    "Alansari, Hay, Javed, Shoufan, Zweiri, Werghi: GhostFaceNets, IEEE Access 2023; details from "
    "the authors' code"
)

NETWORKS = (
    PublishedNetwork(
        name="ghostfacenet_v1_1",
        family="ghost",
        make=partial(ghostfacenet, version=1, stem_stride=1),
        embedding_size=512,
        source=SOURCE + " (V1-1.3-1)",
        published_params="4.09 M (statistics of batch normalisation included)",
        published_compute="215.7 M FLOPs (MAdds and a little more)",
        published_accuracy="LFW 99.73, CFP-FP 96.83, AgeDB-30 98.00, IJB-C 94.94 (MS1MV3)",
    ),
    PublishedNetwork(
        name="ghostfacenet_v1_2",
        family="ghost",
        make=partial(ghostfacenet, version=1, stem_stride=2),
        embedding_size=512,
        source=SOURCE + " (V1-1.3-2)",
        published_params="4.07 M (statistics of batch normalisation included)",
        published_compute="60.3 M FLOPs (MAdds and a little more)",
        published_accuracy="LFW 99.68, CFP-FP 93.31, AgeDB-30 96.92, IJB-C 93.45 (MS1MV3)",
    ),
    PublishedNetwork(
        name="ghostfacenet_v2_1",
        family="ghost",
        make=partial(ghostfacenet, version=2, stem_stride=1),
        embedding_size=512,
        source=SOURCE + " (V2-1.3-1)",
        published_params="6.88 M (statistics of batch normalisation included)",
        published_compute="272.1 M FLOPs (MAdds and a little more)",
        published_accuracy="none that the authors' own tables support",
    ),
    PublishedNetwork(
        name="ghostfacenet_v2_2",
        family="ghost",
        make=partial(ghostfacenet, version=2, stem_stride=2),
        embedding_size=512,
        source=SOURCE + " (V2-1.3-2)",
        published_params="6.84 M (statistics of batch normalisation included)",
        published_compute="76.5 M FLOPs (MAdds and a little more)",
        published_accuracy="LFW 99.68, CFP-FP 94.29, AgeDB-30 96.83 (MS1MV3)",
    ),
)
