"""The residual networks of ArcFace (Deng et al., 2019), teachers of the small networks."""

from functools import partial

from nas_face.arch.blocks.conv_unit import ConvUnit
from nas_face.arch.blocks.improved_residual import ImprovedResidual
from nas_face.arch.cost import Shape
from nas_face.arch.heads import FlattenLinearHead
from nas_face.arch.spec import ArchSpec
from nas_face.arch.zoo.entry import PublishedNetwork

WIDTHS = (64, 128, 256, 512)


def iresnet(
    input_shape: Shape, embedding_size: int, *, depths: tuple[int, int, int, int]
) -> ArchSpec:
    """ResNet of improved residual units, whose stem keeps the resolution.

    Args:
        input_shape: of the image.
        embedding_size: length of the embedding, 512 in the source.
        depths: units of each stage.
    """
    stages = tuple(
        tuple(
            ImprovedResidual(
                out_channels=width, hidden_channels=width, stride=2 if position == 0 else 1
            )
            for position in range(depth)
        )
        for width, depth in zip(WIDTHS, depths, strict=True)
    )
    return ArchSpec(
        input_shape=input_shape,
        stem=(ConvUnit(out_channels=64),),
        stages=stages,
        head=FlattenLinearHead(embedding_size=embedding_size, fixed_embedding_scale=True),
    )


SOURCE = "Deng, Guo, Xue, Zafeiriou: ArcFace, arXiv 1801.07698, section 3.2; InsightFace, its code"

NETWORKS = tuple(
    PublishedNetwork(
        name=f"iresnet_{layers}",
        family="resnet",
        make=partial(iresnet, depths=depths),
        embedding_size=512,
        source=f"{SOURCE} (arcface_torch, r{layers})",
        published_params="not published",
        published_compute=f"{giga} G FLOPs (MAdds)",
        published_accuracy="not recorded; it serves as a teacher",
    )
    for layers, depths, giga in (
        (18, (2, 2, 2, 2), "2.6"),
        (50, (3, 4, 14, 3), "6.3"),
        (100, (3, 13, 30, 3), "12.1"),
    )
)
