"""MixFaceNets (Boutros et al., 2021)."""

from dataclasses import dataclass
from functools import partial
from typing import Literal, final

from nas_face.arch.blocks.attention import SqueezeExcite
from nas_face.arch.blocks.conv_unit import ConvUnit
from nas_face.arch.blocks.inverted_residual import InvertedResidual
from nas_face.arch.blocks.parts import ActivationName, Kernels, Mixing, Partition
from nas_face.arch.catalog import Block
from nas_face.arch.cost import Shape
from nas_face.arch.heads import GlobalDepthwiseHead
from nas_face.arch.spec import ArchSpec
from nas_face.arch.zoo.entry import PublishedNetwork

Unit = tuple[int, int, int, int]
"""Of a unit: kernels in its depthwise convolution (3, 5, 7, ...), groups of its expansion, groups
of its projection, expansion."""


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Stage:
    """Units of one width: the first takes the stride, the others are alike.

    Attributes:
        width: of the output.
        repeats: number of units.
        first: of the first unit.
        rest: of the others.
        stride: of the first unit.
        reduction: input width of a unit over the inner width of its squeeze-and-excitation; none
            without attention.
    """

    width: int
    repeats: int
    first: Unit
    rest: Unit
    stride: Literal[1, 2]
    reduction: int | None


# The source has four stages; its last changes width and resolution half-way and is two here.
S_STAGES = (
    Stage(width=24, repeats=2, first=(1, 2, 2, 6), rest=(1, 2, 2, 3), stride=1, reduction=None),
    Stage(width=40, repeats=4, first=(3, 1, 1, 6), rest=(2, 2, 2, 6), stride=2, reduction=2),
    Stage(width=80, repeats=3, first=(3, 1, 2, 6), rest=(2, 1, 2, 6), stride=2, reduction=4),
    Stage(width=120, repeats=3, first=(3, 2, 2, 6), rest=(4, 2, 2, 3), stride=1, reduction=2),
    Stage(width=200, repeats=3, first=(5, 1, 1, 6), rest=(4, 1, 2, 6), stride=2, reduction=2),
)
M_STAGES = (
    Stage(width=32, repeats=2, first=(3, 2, 2, 6), rest=(1, 2, 2, 3), stride=1, reduction=None),
    Stage(width=40, repeats=4, first=(4, 1, 1, 6), rest=(2, 2, 2, 6), stride=2, reduction=2),
    Stage(width=80, repeats=4, first=(3, 1, 1, 6), rest=(4, 2, 2, 6), stride=2, reduction=4),
    Stage(width=120, repeats=4, first=(1, 1, 1, 6), rest=(4, 2, 2, 3), stride=1, reduction=2),
    Stage(width=200, repeats=4, first=(4, 1, 1, 6), rest=(4, 1, 2, 6), stride=2, reduction=2),
)


def mixfacenet(
    input_shape: Shape,
    embedding_size: int,
    *,
    stem_width: int,
    stages: tuple[Stage, ...],
    multiplier: float = 1.0,
    tail_channels: int,
    shuffle: bool,
) -> ArchSpec:
    """MixFaceNet or ShuffleMixFaceNet.

    Args:
        input_shape: of the image.
        embedding_size: length of the embedding, 512 in the paper.
        stem_width: of the stem, before the multiplier.
        stages: widths and units, before the multiplier.
        multiplier: of all widths but the tail's, rounded to multiples of 8.
        tail_channels: width of the 1x1 convolution in front of the global one.
        shuffle: whether a channel permutation follows every unit; the stem's unit has it always.
    """
    stem = _rounded(stem_width * multiplier)
    width = stem
    made = []
    for position, stage in enumerate(stages):
        act: ActivationName = "prelu" if position == 0 else "silu"
        out_mixing: Mixing = "unshuffle" if shuffle else "none"
        units = []
        for turn in range(stage.repeats):
            unit = _unit(stage, turn, width, _rounded(stage.width * multiplier), act, out_mixing)
            units.append(unit)
            width = unit.out_channels
        made.append(tuple(units))
    return ArchSpec(
        input_shape=input_shape,
        stem=_stem(stem),
        stages=tuple(made),
        head=GlobalDepthwiseHead(
            embedding_size=embedding_size,
            tail_channels=tail_channels,
            fixed_embedding_scale=True,
        ),
    )


def _stem(width: int) -> tuple[Block, ...]:
    unit = InvertedResidual(
        out_channels=width, hidden_channels=width, expand=False, out_mixing="unshuffle"
    )
    return ConvUnit(out_channels=width, stride=2), unit


def _unit(
    stage: Stage, turn: int, width: int, out: int, act: ActivationName, out_mixing: Mixing
) -> InvertedResidual:
    kernels, expand_groups, project_groups, expansion = stage.first if turn == 0 else stage.rest
    attention = None
    if stage.reduction is not None:
        attention = SqueezeExcite(channels=width // stage.reduction, act=act)
    return InvertedResidual(
        out_channels=out,
        hidden_channels=expansion * width,
        stride=stage.stride if turn == 0 else 1,
        kernel=_KERNELS[kernels],
        act=act,
        expand_partition=_groups(expand_groups),
        project_partition=_groups(project_groups),
        attention=attention,
        out_mixing=out_mixing,
    )


_KERNELS: dict[int, Kernels] = {
    1: 3,
    2: (3, 5),
    3: (3, 5, 7),
    4: (3, 5, 7, 9),
    5: (3, 5, 7, 9, 11),
}


def _groups(number: int) -> Partition:
    return (1,) * number


def _rounded(width: float) -> int:
    """The nearest multiple of 8, the next one where that takes away more than a tenth."""
    nearest = max(8, int(width + 4) // 8 * 8)
    return nearest if nearest >= 0.9 * width else nearest + 8


_XS = partial(mixfacenet, stem_width=16, stages=S_STAGES, multiplier=0.5, tail_channels=512)
_S = partial(mixfacenet, stem_width=16, stages=S_STAGES, tail_channels=1024)
_M = partial(mixfacenet, stem_width=24, stages=M_STAGES, tail_channels=1024)

SOURCE = (
    "Boutros, Damer, Fang, Kirchbuchner, Kuijper: MixFaceNets, arXiv 2107.13046, table 1; details "
    "from the authors' code, but the 1024-wide tail of S from its published size"
)
COUNTED = "FLOPs (2 x MAdds, biases, normalisation, activations, pools)"

NETWORKS = tuple(
    PublishedNetwork(
        name=("shuffle" if shuffle else "") + f"mixfacenet_{size}",
        family="mix",
        make=partial(make, shuffle=shuffle),
        embedding_size=512,
        source=SOURCE,
        published_params=params,
        published_compute=f"{compute} {COUNTED}",
        published_accuracy=f"LFW {lfw}, AgeDB-30 {agedb}, IJB-B {ijb_b}, IJB-C {ijb_c} (MS1MV2)",
    )
    for size, make, params, compute, shuffle, lfw, agedb, ijb_b, ijb_c in (
        ("xs", _XS, "1.04 M", "161.9 M", False, "99.60", "95.85", "88.48", "90.73"),
        ("s", _S, "3.07 M", "451.7 M", False, "99.60", "96.63", "90.17", "92.30"),
        ("m", _M, "3.95 M", "626.1 M", False, "99.68", "97.05", "91.55", "93.42"),
        ("xs", _XS, "1.04 M", "161.9 M", True, "99.53", "95.62", "87.86", "90.43"),
        ("s", _S, "3.07 M", "451.7 M", True, "99.58", "97.05", "90.94", "93.08"),
        ("m", _M, "3.95 M", "626.1 M", True, "99.60", "96.98", "91.47", "93.5"),
    )
)
