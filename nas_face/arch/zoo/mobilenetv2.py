"""MobileNetV2 for faces, with and without translation-variant convolutions (Chen et al., 2022)."""

from functools import partial

from nas_face.arch.blocks.conv_unit import ConvUnit
from nas_face.arch.blocks.inverted_residual import InvertedResidual
from nas_face.arch.cost import Shape
from nas_face.arch.heads import PooledLinearHead
from nas_face.arch.spec import ArchSpec
from nas_face.arch.zoo.entry import PublishedNetwork

# Of each stage: expansion, width at multiplier 1, number of blocks, stride of the first one.
# Table 2 of MobileNetV2; the stem has stride 1 here.
STAGES = (
    (1, 16, 1, 1),
    (6, 24, 2, 2),
    (6, 32, 3, 2),
    (6, 64, 4, 2),
    (6, 96, 3, 1),
    (6, 160, 3, 2),
    (6, 320, 1, 1),
)
STEM = 32


def mobilenetv2(
    input_shape: Shape, embedding_size: int, *, multiplier: float, translation_variant: bool
) -> ArchSpec:
    """MobileNetV2 whose stem keeps the size of the image, with a last convolution 512 wide.

    Args:
        input_shape: of the image, 96x96 in the paper.
        embedding_size: length of the embedding, 512 in the paper.
        multiplier: of all other widths, which are multiples of 8 and no less than nine tenths of
            what the multiplier asks for.
        translation_variant: whether every depthwise convolution has filters of its own at every
            position.
    """
    width = _scaled(STEM, multiplier)
    stem = ConvUnit(out_channels=width, act="relu6")
    stages = []
    for expansion, base, repeats, stride in STAGES:
        blocks = []
        for turn in range(repeats):
            hidden, width = width * expansion, _scaled(base, multiplier)
            blocks.append(
                InvertedResidual(
                    out_channels=width,
                    hidden_channels=hidden,
                    stride=2 if stride == 2 and turn == 0 else 1,
                    act="relu6",
                    expand=expansion > 1,
                    translation_variant=translation_variant,
                )
            )
        stages.append(tuple(blocks))
    head = PooledLinearHead(
        embedding_size=embedding_size,
        tail_channels=512,
        act="relu6",
        map_norm=True,
        embedding_bias=True,
    )
    return ArchSpec(input_shape=input_shape, stem=(stem,), stages=tuple(stages), head=head)


def _scaled(width: int, multiplier: float) -> int:
    wanted = width * multiplier
    multiple = max(8, int(wanted + 4) // 8 * 8)
    return multiple if multiple >= 0.9 * wanted else multiple + 8


SOURCE = (
    "Sandler et al.: MobileNetV2, arXiv 1801.04381, table 2, as the code of TVConv (Chen et al., "
    "arXiv 2203.10489) has it for faces"
)


def _published(name: str, multiplier: float, *, translation_variant: bool) -> PublishedNetwork:
    return PublishedNetwork(
        name=f"mobilenetv2_{name}",
        family="mobilenetv2",
        make=partial(mobilenetv2, multiplier=multiplier, translation_variant=translation_variant),
        input_shape=Shape(3, 96, 96),
        embedding_size=512,
        source=SOURCE,
        published_params="not found",
        published_compute="not found",
        published_accuracy="not found",
    )


NETWORKS = (
    _published("0_1", 0.1, translation_variant=False),
    _published("0_2", 0.2, translation_variant=False),
    _published("0_5", 0.5, translation_variant=False),
    _published("1_0", 1.0, translation_variant=False),
    _published("tvconv_0_1", 0.1, translation_variant=True),
    _published("tvconv_0_2", 0.2, translation_variant=True),
    _published("tvconv_0_5", 0.5, translation_variant=True),
    _published("tvconv_1_0", 1.0, translation_variant=True),
)
