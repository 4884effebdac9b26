"""SqueezerFaceNet before its pruning (Alonso-Fernandez et al., 2023): SqueezeNet for faces."""

from nas_face.arch.blocks.conv_unit import ConvUnit
from nas_face.arch.blocks.fire import Fire
from nas_face.arch.cost import Shape
from nas_face.arch.heads import PooledLinearHead
from nas_face.arch.spec import ArchSpec
from nas_face.arch.zoo.entry import PublishedNetwork

# Of each stage, which starts with a pool: output width and narrow width of each fire module.
STAGES = (
    ((128, 16), (128, 16)),
    ((256, 32), (256, 32)),
    ((384, 48), (384, 48), (512, 64), (512, 64)),
)


def squeezefacenet(input_shape: Shape, embedding_size: int) -> ArchSpec:
    """SqueezeNet 1.1 with batch normalisation and a first convolution that keeps the resolution.

    Args:
        input_shape: of the image, 113x113 in the paper.
        embedding_size: width of the last convolution, whose mean is the embedding; 1000 in the
            paper.
    """
    return ArchSpec(
        input_shape=input_shape,
        stem=(ConvUnit(out_channels=64, padding=0, act="relu"),),
        stages=tuple(
            tuple(
                Fire(out_channels=width, hidden_channels=narrow, stride=2 if position == 0 else 1)
                for position, (width, narrow) in enumerate(stage)
            )
            for stage in STAGES
        ),
        head=PooledLinearHead(
            embedding_size=embedding_size, tail_channels=embedding_size, act="relu", linear=False
        ),
    )


NETWORKS = (
    PublishedNetwork(
        name="squeezefacenet",
        family="squeeze",
        make=squeezefacenet,
        input_shape=Shape(3, 113, 113),
        embedding_size=1000,
        source=(
            "Alonso-Fernandez, Hernandez-Diaz, Buades Rubio, Bigun: SqueezerFaceNet, arXiv "
            "2307.10697, section 3 (unpruned); widths from SqueezeNet 1.1, arXiv 1602.07360"
        ),
        published_params="1.24 M",
        published_compute="not published",
        published_accuracy="not recorded",
    ),
)
