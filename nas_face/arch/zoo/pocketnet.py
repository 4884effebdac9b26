"""PocketNet (Boutros et al., 2021)."""

from functools import partial

from nas_face.arch.blocks.cells import Cells
from nas_face.arch.blocks.conv_unit import ConvUnit
from nas_face.arch.cost import Shape
from nas_face.arch.heads import GlobalDepthwiseHead
from nas_face.arch.spec import ArchSpec
from nas_face.arch.zoo.entry import PublishedNetwork


def pocketnet(input_shape: Shape, embedding_size: int, *, width: int, cells: int) -> ArchSpec:
    """PocketNet: one run of the cells that were found on faces.

    Args:
        input_shape: of the image.
        embedding_size: length of the embedding, 128 or 256 in the paper; the authors' code widens
            the tail for 512.
        width: of a node in the first cell.
        cells: their number.
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
                ),
            ),
        ),
        head=GlobalDepthwiseHead(
            embedding_size=embedding_size,
            map_act="prelu",
            tail_channels=1024 if embedding_size == 512 else 512,
        ),
    )


SOURCE = "Boutros et al.: PocketNet, arXiv 2108.10710, table 2; details from the authors' code"
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
)
