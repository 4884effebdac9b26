"""PocketNet (Boutros et al., 2021)."""

from functools import partial

from nas_face.arch.blocks.cells import (
    POCKET_NORMAL,
    POCKET_REDUCTION,
    Cells,
    Genotype,
    genotype,
)
from nas_face.arch.blocks.conv_unit import ConvUnit
from nas_face.arch.cost import Shape
from nas_face.arch.heads import GlobalDepthwiseHead
from nas_face.arch.spec import ArchSpec
from nas_face.arch.zoo.entry import PublishedNetwork

CIFAR_NORMAL = genotype(
    (("depthwise_7x7", 0), ("depthwise_3x3", 1)),
    (("depthwise_1x1", 1), ("depthwise_1x1", 2)),
    (("max_pool_3x3", 2), ("depthwise_7x7", 3)),
    (("max_pool_3x3", 0), ("depthwise_5x5", 4)),
)
CIFAR_REDUCTION = genotype(
    (("max_pool_3x3", 0), ("depthwise_7x7", 1)),
    (("max_pool_3x3", 0), ("max_pool_3x3", 1)),
    (("max_pool_3x3", 0), ("max_pool_3x3", 2)),
    (("max_pool_3x3", 0), ("max_pool_3x3", 1)),
)


def pocketnet(
    input_shape: Shape,
    embedding_size: int,
    *,
    width: int,
    cells: int,
    normal: Genotype = POCKET_NORMAL,
    reduction: Genotype = POCKET_REDUCTION,
) -> ArchSpec:
    """PocketNet: one run of cells that were found by search.

    Args:
        input_shape: of the image.
        embedding_size: length of the embedding, 128 or 256 in the paper; the authors' code widens
            the tail for 512.
        width: of a node in the first cell.
        cells: their number.
        normal: nodes of the cells that keep the size of the map.
        reduction: nodes of the three that halve it.
    """
    return ArchSpec(
        input_shape=input_shape,
        stem=(ConvUnit(out_channels=4 * width, stride=2, act=None),),
        stages=(
            (
                Cells(
                    out_channels=32 * width,
                    repeats=cells,
                    stride=8,
                    reductions=(cells // 3, 2 * cells // 3, cells - 1),
                    normal=normal,
                    reduction=reduction,
                ),
            ),
        ),
        head=GlobalDepthwiseHead(
            embedding_size=embedding_size,
            map_act="prelu",
            tail_channels=1024 if embedding_size == 512 else 512,
        ),
    )


SOURCE = "Boutros et al.: PocketNet, arXiv 2108.10710; details from the authors' code"
MEANING = "FLOPs (2 x MAdds, and element-wise operations)"

NETWORKS = (
    PublishedNetwork(
        name="pocketnet_s_128",
        family="cell",
        make=partial(pocketnet, width=16, cells=18),
        embedding_size=128,
        source=SOURCE,
        published_params="0.92 M",
        published_compute="587.11 M " + MEANING,
        published_accuracy="LFW 99.58, CFP-FP 94.21, AgeDB-30 96.10 (MS1MV2, distilled)",
    ),
    PublishedNetwork(
        name="pocketnet_s_256",
        family="cell",
        make=partial(pocketnet, width=16, cells=18),
        embedding_size=256,
        source=SOURCE,
        published_params="0.99 M",
        published_compute="587.24 M " + MEANING,
        published_accuracy="LFW 99.66, CFP-FP 93.34, AgeDB-30 96.35 (MS1MV2, distilled)",
    ),
    PublishedNetwork(
        name="pocketnet_m_128",
        family="cell",
        make=partial(pocketnet, width=32, cells=9),
        embedding_size=128,
        source=SOURCE,
        published_params="1.68 M",
        published_compute="1099.02 M " + MEANING,
        published_accuracy="LFW 99.65, CFP-FP 95.07, AgeDB-30 96.78 (MS1MV2, distilled)",
    ),
    PublishedNetwork(
        name="pocketnet_m_256",
        family="cell",
        make=partial(pocketnet, width=32, cells=9),
        embedding_size=256,
        source=SOURCE,
        published_params="1.75 M",
        published_compute="1099.15 M " + MEANING,
        published_accuracy="LFW 99.58, CFP-FP 95.56, AgeDB-30 97.17 (MS1MV2, distilled)",
    ),
    PublishedNetwork(
        name="pocketnet_cifar_128",
        family="cell",
        make=partial(
            pocketnet, width=16, cells=18, normal=CIFAR_NORMAL, reduction=CIFAR_REDUCTION
        ),
        embedding_size=128,
        source="Boutros et al., the code of PocketNet: cells found on CIFAR-10, and not on faces",
        published_params="not published",
        published_compute="not published",
        published_accuracy="not published",
    ),
)
