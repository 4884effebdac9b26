"""VarGFaceNet (Yan et al., 2019)."""

from nas_face.arch.blocks.attention import SqueezeExcite
from nas_face.arch.blocks.conv_unit import ConvUnit
from nas_face.arch.blocks.variable_group import VariableGroupDown, VariableGroupNormal
from nas_face.arch.catalog import Block
from nas_face.arch.cost import Shape
from nas_face.arch.heads import VariableGroupHead
from nas_face.arch.spec import ArchSpec
from nas_face.arch.zoo.entry import PublishedNetwork

# Width and number of blocks, the down block included.
STAGES = ((80, 3), (160, 7), (320, 4))


def vargfacenet(input_shape: Shape, embedding_size: int) -> ArchSpec:
    """VarGFaceNet, width multiplier 1.25.

    Args:
        input_shape: of the image.
        embedding_size: length of the embedding, 512 in the paper.
    """
    stages: list[tuple[Block, ...]] = []
    for width, repeats in STAGES:
        normal = VariableGroupNormal(
            out_channels=width, attention=SqueezeExcite(channels=width // 4)
        )
        stages.append((VariableGroupDown(out_channels=width), *(normal,) * (repeats - 1)))
    return ArchSpec(
        input_shape=input_shape,
        stem=(
            ConvUnit(out_channels=40, stride=1, eps=2e-5),
            VariableGroupNormal(
                out_channels=40, stride=2, factor=1, attention=SqueezeExcite(channels=10)
            ),
        ),
        stages=tuple(stages),
        head=VariableGroupHead(embedding_size=embedding_size),
    )


NETWORKS = (
    PublishedNetwork(
        name="vargfacenet",
        family="variable_group",
        make=vargfacenet,
        embedding_size=512,
        source="Yan et al.: VarGFaceNet, arXiv 1910.04985, table 1; details from their code",
        published_params="5.0 M (20 MB)",
        published_compute="1022 M FLOPs (2 x MAdds, less one addition an output)",
        published_accuracy="LFW 99.683, CFP-FP 98.086, AgeDB-30 98.100 (MS1MV3, from scratch)",
    ),
)
