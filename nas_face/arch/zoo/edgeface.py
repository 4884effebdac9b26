"""EdgeFace (George et al., 2023)."""

from functools import partial
from typing import Literal

from nas_face.arch.blocks.conv_unit import ConvUnit
from nas_face.arch.blocks.edge import ConvEncoder, SplitAttention
from nas_face.arch.blocks.parts import KernelSize
from nas_face.arch.catalog import Block
from nas_face.arch.cost import Shape
from nas_face.arch.heads import PooledLinearHead
from nas_face.arch.spec import ArchSpec
from nas_face.arch.zoo.entry import PublishedNetwork

# Of each stage; the first has no attention.
KERNELS: tuple[KernelSize, ...] = (3, 5, 7, 9)
PARTS: tuple[Literal[2, 3, 4], ...] = (2, 2, 3, 4)
Four = tuple[int, int, int, int]


def edgeface(
    input_shape: Shape,
    embedding_size: int,
    *,
    widths: Four,
    depths: Four,
    heads: int,
    rank_ratio: float | None = None,
) -> ArchSpec:
    """EdgeFace: an EdgeNeXt whose linear layers, the embedding's included, may be of low rank.

    Args:
        input_shape: of the image.
        embedding_size: length of the embedding, 512 in the paper.
        widths: of the four stages.
        depths: blocks of the four stages; the last one is attention, but for the first stage.
        heads: of every attention.
        rank_ratio: of all linear layers, or none.
    """
    stages: list[tuple[Block, ...]] = []
    for position, (width, depth) in enumerate(zip(widths, depths, strict=True)):
        stages += _stages(position, width, depth, heads, rank_ratio)
    return ArchSpec(
        input_shape=input_shape,
        stem=(
            ConvUnit(
                out_channels=widths[0],
                kernel=4,
                stride=4,
                padding=0,
                norm="layer",
                act=None,
                bias=True,
            ),
        ),
        stages=tuple(stages),
        head=PooledLinearHead(
            embedding_size=embedding_size,
            tail_channels=None,
            pool_norm="layer",
            embedding_bias=True,
            embedding_norm=False,
            rank_ratio=rank_ratio,
        ),
    )


def _stages(
    position: int, width: int, depth: int, heads: int, rank_ratio: float | None
) -> list[tuple[Block, ...]]:
    """Convolutions, and behind them, as a stage of its own, the attention if there is one."""
    encoders = tuple(
        ConvEncoder(
            out_channels=width,
            hidden_channels=4 * width,
            stride=2 if position and turn == 0 else 1,
            kernel=KERNELS[position],
            rank_ratio=rank_ratio,
        )
        for turn in range(depth)
    )
    if position == 0:
        return [encoders]
    attention = SplitAttention(
        out_channels=width,
        hidden_channels=4 * width,
        parts=PARTS[position],
        heads=heads,
        positions=position == 1,
        rank_ratio=rank_ratio,
    )
    return [encoders[:-1], (attention,)]


XXS = partial(edgeface, widths=(24, 48, 88, 168), depths=(2, 2, 6, 2), heads=4)
XS = partial(edgeface, widths=(32, 64, 100, 192), depths=(3, 3, 9, 3), heads=4)
S = partial(edgeface, widths=(48, 96, 160, 304), depths=(3, 3, 9, 3), heads=8)
BASE = partial(edgeface, widths=(80, 160, 288, 584), depths=(3, 3, 9, 3), heads=8)

SOURCE = (
    "George et al.: EdgeFace, arXiv 2307.01838, and the authors' code; blocks as in Maaz et al.: "
    "EdgeNeXt, arXiv 2206.10589"
)

NETWORKS = (
    PublishedNetwork(
        name="edgeface_xxs",
        family="edge",
        make=XXS,
        embedding_size=512,
        source=SOURCE,
        published_params="1.24 M",
        published_compute="94.72 M FLOPs (2 x MAdds)",
        published_accuracy="LFW 99.57, CFP-FP 93.63, AgeDB-30 94.92 (WebFace260M subset)",
    ),
    PublishedNetwork(
        name="edgeface_xs",
        family="edge",
        make=XS,
        embedding_size=512,
        source=SOURCE + "; without low rank",
        published_params="not published",
        published_compute="not published",
        published_accuracy="not published",
    ),
    PublishedNetwork(
        name="edgeface_xs_06",
        family="edge",
        make=partial(XS, rank_ratio=0.6),
        embedding_size=512,
        source=SOURCE,
        published_params="1.77 M",
        published_compute="154.00 M FLOPs (2 x MAdds)",
        published_accuracy="LFW 99.73, CFP-FP 94.71, AgeDB-30 96.08 (WebFace260M subset)",
    ),
    PublishedNetwork(
        name="edgeface_s",
        family="edge",
        make=S,
        embedding_size=512,
        source=SOURCE + "; without low rank",
        published_params="not published",
        published_compute="not published",
        published_accuracy="not published",
    ),
    PublishedNetwork(
        name="edgeface_s_05",
        family="edge",
        make=partial(S, rank_ratio=0.5),
        embedding_size=512,
        source=SOURCE,
        published_params="3.65 M",
        published_compute="306.12 M FLOPs (2 x MAdds)",
        published_accuracy="LFW 99.78, CFP-FP 95.74, AgeDB-30 97.03 (WebFace260M subset)",
    ),
    PublishedNetwork(
        name="edgeface_base",
        family="edge",
        make=BASE,
        embedding_size=512,
        source=SOURCE,
        published_params="18.23 M",
        published_compute="1398.83 M FLOPs (2 x MAdds)",
        published_accuracy="LFW 99.83, CFP-FP 97.01, AgeDB-30 97.60 (WebFace260M subset)",
    ),
)
