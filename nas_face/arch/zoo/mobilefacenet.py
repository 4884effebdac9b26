"""MobileFaceNet (Chen et al., 2018)."""

from nas_face.arch.blocks.conv_unit import ConvUnit
from nas_face.arch.blocks.inverted_residual import InvertedResidual
from nas_face.arch.heads import GlobalDepthwiseHead
from nas_face.arch.spec import ArchSpec
from nas_face.arch.zoo.entry import PublishedNetwork

# Table 1 of the paper, regrouped so that each stage starts with its stride-2 block: width, hidden
# width of the first block and of the others, number of blocks.
STAGES = ((64, 128, 128, 5), (128, 256, 256, 7), (128, 512, 256, 3))

SOURCE = "Chen, Liu, Gao, Han: MobileFaceNets, arXiv 1804.07573, table 1"


def mobilefacenet(*, embedding_size: int = 128, input_size: int = 112) -> ArchSpec:
    """MobileFaceNet.

    Args:
        embedding_size: 128 in the paper; 512 in later work.
        input_size: height and width of the image, 112 in the paper.
    """
    return ArchSpec(
        input_shape=(3, input_size, input_size),
        stem=(
            ConvUnit(out_channels=64, stride=2),
            ConvUnit(out_channels=64, depthwise=True),
        ),
        stages=tuple(
            tuple(
                InvertedResidual(
                    out_channels=width,
                    hidden_channels=first if position == 0 else rest,
                    stride=2 if position == 0 else 1,
                )
                for position in range(repeats)
            )
            for width, first, rest, repeats in STAGES
        ),
        head=GlobalDepthwiseHead(embedding_size=embedding_size),
    )


NETWORKS = (
    PublishedNetwork(
        name="mobilefacenet_128",
        family="mobile",
        spec=mobilefacenet(embedding_size=128),
        source=SOURCE,
        published_params="0.99 M (batch normalisation folded)",
        published_compute="221 M MAdds",
        published_accuracy="LFW 99.28, AgeDB-30 93.05 (CASIA); LFW 99.55, AgeDB-30 96.07 (MS1M)",
    ),
    PublishedNetwork(
        name="mobilefacenet_512",
        family="mobile",
        spec=mobilefacenet(embedding_size=512),
        source=SOURCE + "; 512-d as compared in SeesawFaceNets, arXiv 1908.09124",
        published_params="1.2 M",
        published_compute="221 M MAdds",
        published_accuracy="LFW 99.57, CFP-FP 91.81, AgeDB-30 96.32 (MS1MV2)",
    ),
)
