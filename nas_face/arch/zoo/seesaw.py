"""SeesawFaceNets (Zhang, 2019)."""

from functools import partial
from typing import Literal

from nas_face.arch.blocks.attention import SqueezeExcite
from nas_face.arch.blocks.conv_unit import ConvUnit
from nas_face.arch.blocks.parts import ActivationName, ShortcutName
from nas_face.arch.blocks.seesaw import Seesaw
from nas_face.arch.catalog import Block
from nas_face.arch.cost import Shape
from nas_face.arch.heads import GlobalDepthwiseHead
from nas_face.arch.spec import ArchSpec
from nas_face.arch.zoo.entry import PublishedNetwork
from nas_face.arch.zoo.mobilefacenet import STAGES, Stages

DW_STAGES: Stages = ((96, 192, 192, 9), (192, 384, 384, 13), (192, 768, 384, 5))

SOURCE = "Zhang: SeesawFaceNets, arXiv 1908.09124 v3, section 3; details from the author's code"


def seesaw(
    input_shape: Shape, embedding_size: int, *, mixing: Literal["shuffle", "share"]
) -> ArchSpec:
    """Seesaw-shuffleFaceNet or Seesaw-shareFaceNet: MobileFaceNet's table in seesaw blocks.

    Args:
        input_shape: of the image.
        embedding_size: length of the embedding, 512 in the paper.
        mixing: which of the two.
    """
    return ArchSpec(
        input_shape=input_shape,
        stem=_stem(64),
        stages=_stages(STAGES, mixing=mixing, shortcut="identity", shortcut_act=None),
        head=GlobalDepthwiseHead(embedding_size=embedding_size, act="silu"),
    )


def dw_seesaw(
    input_shape: Shape, embedding_size: int, *, shortcut: Literal["conv", "max_pool"]
) -> ArchSpec:
    """DW-SeesawFaceNet: deeper and wider, and its stride-2 blocks have a shortcut that projects.

    Args:
        input_shape: of the image.
        embedding_size: length of the embedding, 512 in the paper.
        shortcut: 1x1 convolution of stride 2 (v1), or 2x2 maximum and 1x1 convolution (v2).
    """
    return ArchSpec(
        input_shape=input_shape,
        stem=_stem(96),
        stages=_stages(DW_STAGES, mixing="shuffle", shortcut=shortcut, shortcut_act="silu"),
        head=GlobalDepthwiseHead(embedding_size=embedding_size, act="silu"),
    )


def _stem(width: int) -> tuple[Block, ...]:
    return (
        ConvUnit(out_channels=width, stride=2, act="silu"),
        ConvUnit(out_channels=width, depthwise=True, act="silu"),
    )


def _stages(
    stages: Stages,
    *,
    mixing: Literal["shuffle", "share"],
    shortcut: ShortcutName,
    shortcut_act: ActivationName | None,
) -> tuple[tuple[Seesaw, ...], ...]:
    made = []
    for width, first, rest, repeats in stages:
        down = Seesaw(
            out_channels=width,
            hidden_channels=first,
            mixing=mixing,
            stride=2,
            attention=SqueezeExcite(channels=first // 4),
            shortcut=shortcut,
            shortcut_act=shortcut_act,
        )
        block = Seesaw(
            out_channels=width,
            hidden_channels=rest,
            mixing=mixing,
            attention=SqueezeExcite(channels=rest // 4),
        )
        made.append((down, *(block,) * (repeats - 1)))
    return tuple(made)


NETWORKS = (
    PublishedNetwork(
        name="seesaw_share",
        family="seesaw",
        make=partial(seesaw, mixing="share"),
        embedding_size=512,
        source=SOURCE,
        published_params="1.3 M (1.37 M cut to one decimal)",
        published_compute="146 M MAdds",
        published_accuracy="LFW 99.55, CFP-FP 93.09, AgeDB-30 96.42 (MS1MV2)",
    ),
    PublishedNetwork(
        name="seesaw_shuffle",
        family="seesaw",
        make=partial(seesaw, mixing="shuffle"),
        embedding_size=512,
        source=SOURCE,
        published_params="1.3 M (1.37 M cut to one decimal)",
        published_compute="146 M MAdds",
        published_accuracy="LFW 99.70, CFP-FP 92.03, AgeDB-30 96.30 (MS1MV2)",
    ),
    PublishedNetwork(
        name="dw_seesaw_v1",
        family="seesaw",
        make=partial(dw_seesaw, shortcut="conv"),
        embedding_size=512,
        source=SOURCE + "; without the layers that the posted code builds and never uses",
        published_params="4.2 M",
        published_compute="526 M MAdds",
        published_accuracy="LFW 99.80, CFP-FP 97.07, AgeDB-30 97.38 (MS1MV2)",
    ),
    PublishedNetwork(
        name="dw_seesaw_v2",
        family="seesaw",
        make=partial(dw_seesaw, shortcut="max_pool"),
        embedding_size=512,
        source=SOURCE + "; without the layers that the posted code builds and never uses",
        published_params="4.2 M",
        published_compute="526 M MAdds",
        published_accuracy="LFW 99.80, CFP-FP 97.24, AgeDB-30 97.55 (MS1MV2)",
    ),
)
