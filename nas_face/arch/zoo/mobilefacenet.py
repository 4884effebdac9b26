"""MobileFaceNet (Chen et al., 2018) and the networks of InsightFace that grew from it."""

from functools import partial

from nas_face.arch.blocks.conv_unit import ConvUnit
from nas_face.arch.blocks.inverted_residual import InvertedResidual
from nas_face.arch.blocks.parts import ActivationName
from nas_face.arch.catalog import Block
from nas_face.arch.cost import Shape
from nas_face.arch.heads import GlobalDepthwiseHead
from nas_face.arch.spec import ArchSpec
from nas_face.arch.zoo.entry import PublishedNetwork

Stages = tuple[tuple[int, int, int, int], ...]
"""Of each stage, which starts with its stride-2 block: width, hidden width of the first block and
of the others, number of blocks."""

# Table 1 of the paper, regrouped so.
STAGES: Stages = ((64, 128, 128, 5), (128, 256, 256, 7), (128, 512, 256, 3))
Y2_STAGES: Stages = ((64, 128, 128, 9), (128, 256, 256, 17), (128, 512, 256, 5))
MBF_STAGES: Stages = ((128, 128, 128, 5), (256, 256, 256, 7), (256, 512, 256, 3))
MBF_LARGE_STAGES: Stages = ((256, 128, 128, 9), (512, 256, 256, 13), (512, 512, 256, 5))


def stages_of(
    stages: Stages, act: ActivationName = "prelu"
) -> tuple[tuple[InvertedResidual, ...], ...]:
    """Stages of bottlenecks, each beginning with stride 2."""
    return tuple(
        tuple(
            InvertedResidual(
                out_channels=width,
                hidden_channels=first if position == 0 else rest,
                stride=2 if position == 0 else 1,
                act=act,
            )
            for position in range(repeats)
        )
        for width, first, rest, repeats in stages
    )


def mobilefacenet(
    input_shape: Shape, embedding_size: int, *, act: ActivationName = "prelu"
) -> ArchSpec:
    """MobileFaceNet.

    Args:
        input_shape: of the image; 112x112, 112x96 and 96x96 in the paper.
        embedding_size: 128 in the paper; 512 in later work.
        act: the paper's PReLU, or its ReLU variant.
    """
    return ArchSpec(
        input_shape=input_shape,
        stem=(
            ConvUnit(out_channels=64, stride=2, act=act),
            ConvUnit(out_channels=64, depthwise=True, act=act),
        ),
        stages=stages_of(STAGES, act),
        head=GlobalDepthwiseHead(embedding_size=embedding_size, act=act),
    )


def mobilefacenet_m(input_shape: Shape, embedding_size: int) -> ArchSpec:
    """MobileFaceNet-M, without the last linear layer: the 512 means of the map are the
    embedding."""
    head = GlobalDepthwiseHead(embedding_size=embedding_size, linear=False)
    return _with_head(mobilefacenet(input_shape, embedding_size), head)


def mobilefacenet_s(input_shape: Shape, embedding_size: int) -> ArchSpec:
    """MobileFaceNet-S, without the 1x1 convolution in front of the global one as well."""
    head = GlobalDepthwiseHead(embedding_size=embedding_size, tail_channels=None, linear=False)
    return _with_head(mobilefacenet(input_shape, embedding_size), head)


def y2(input_shape: Shape, embedding_size: int) -> ArchSpec:
    """InsightFace's deeper network: two residual bottlenecks in place of the depthwise layer, and
    8, 16 and 4 repeats behind the stride-2 blocks."""
    bottleneck = InvertedResidual(out_channels=64, hidden_channels=64)
    stem: tuple[Block, ...] = (ConvUnit(out_channels=64, stride=2), bottleneck, bottleneck)
    return ArchSpec(
        input_shape=input_shape,
        stem=stem,
        stages=stages_of(Y2_STAGES),
        head=GlobalDepthwiseHead(embedding_size=embedding_size),
    )


def mbf(input_shape: Shape, embedding_size: int) -> ArchSpec:
    """InsightFace's `mbf`: widths doubled, hidden widths not, a group convolution in the stem."""
    return ArchSpec(
        input_shape=input_shape,
        stem=(ConvUnit(out_channels=128, stride=2), ConvUnit(out_channels=128, groups=64)),
        stages=stages_of(MBF_STAGES),
        head=GlobalDepthwiseHead(embedding_size=embedding_size),
    )


def mbf_large(input_shape: Shape, embedding_size: int) -> ArchSpec:
    """InsightFace's `mbf_large`: widths times four, hidden widths as they were."""
    bottleneck = InvertedResidual(out_channels=256, hidden_channels=128)
    return ArchSpec(
        input_shape=input_shape,
        stem=(ConvUnit(out_channels=256, stride=2), bottleneck, bottleneck),
        stages=stages_of(MBF_LARGE_STAGES),
        head=GlobalDepthwiseHead(embedding_size=embedding_size),
    )


def _with_head(spec: ArchSpec, head: GlobalDepthwiseHead) -> ArchSpec:
    return ArchSpec(input_shape=spec.input_shape, stem=spec.stem, stages=spec.stages, head=head)


PAPER = "Chen, Liu, Gao, Han: MobileFaceNets, arXiv 1804.07573"
INSIGHTFACE = "InsightFace, its code"

NETWORKS = (
    PublishedNetwork(
        name="mobilefacenet_128",
        family="mobile",
        make=mobilefacenet,
        embedding_size=128,
        source=PAPER + ", table 1",
        published_params="0.99 M (batch normalisation folded)",
        published_compute="221 M MAdds",
        published_accuracy="LFW 99.28, AgeDB-30 93.05 (CASIA); LFW 99.55, AgeDB-30 96.07 (MS1M)",
    ),
    PublishedNetwork(
        name="mobilefacenet_512",
        family="mobile",
        make=mobilefacenet,
        embedding_size=512,
        source=PAPER + ", table 1; 512-d as compared in SeesawFaceNets, arXiv 1908.09124",
        published_params="1.2 M",
        published_compute="221 M MAdds",
        published_accuracy="LFW 99.57, CFP-FP 91.81, AgeDB-30 96.32 (MS1MV2)",
    ),
    PublishedNetwork(
        name="mobilefacenet_m",
        family="mobile",
        make=mobilefacenet_m,
        embedding_size=512,
        embedding_sizes=False,
        source=PAPER + ", table 2 (-M)",
        published_params="0.92 M (batch normalisation folded)",
        published_compute="not published",
        published_accuracy="LFW 99.18, AgeDB-30 92.67 (CASIA)",
    ),
    PublishedNetwork(
        name="mobilefacenet_s",
        family="mobile",
        make=mobilefacenet_s,
        embedding_size=128,
        embedding_sizes=False,
        source=PAPER + ", table 2 (-S)",
        published_params="0.84 M (batch normalisation folded)",
        published_compute="not published",
        published_accuracy="LFW 99.00, AgeDB-30 92.48 (CASIA)",
    ),
    PublishedNetwork(
        name="mobilefacenet_relu",
        family="mobile",
        make=partial(mobilefacenet, act="relu"),
        embedding_size=128,
        source=PAPER + ", table 2 (ReLU)",
        published_params="0.98 M (batch normalisation folded)",
        published_compute="not published",
        published_accuracy="LFW 99.15, AgeDB-30 92.83 (CASIA)",
    ),
    PublishedNetwork(
        name="mobilefacenet_112x96",
        family="mobile",
        make=mobilefacenet,
        input_shape=Shape(3, 112, 96),
        embedding_size=128,
        source=PAPER + ", table 2 (112x96)",
        published_params="0.99 M (batch normalisation folded)",
        published_compute="not published",
        published_accuracy="LFW 99.18, AgeDB-30 92.96 (CASIA); LFW 99.53 (MS1M)",
    ),
    PublishedNetwork(
        name="mobilefacenet_96x96",
        family="mobile",
        make=mobilefacenet,
        input_shape=Shape(3, 96, 96),
        embedding_size=128,
        source=PAPER + ", table 2 (96x96)",
        published_params="0.99 M (batch normalisation folded)",
        published_compute="not published",
        published_accuracy="LFW 99.08, AgeDB-30 92.63 (CASIA); LFW 99.52 (MS1M)",
    ),
    PublishedNetwork(
        name="insightface_y2",
        family="mobile",
        make=y2,
        embedding_size=256,
        source=INSIGHTFACE + " (fmobilefacenet, blocks 2-8-16-4)",
        published_params="2.0 M",
        published_compute="933 M FLOPs (2 x MAdds, less one addition an output)",
        published_accuracy="LFW 99.70, CFP-FP 96.90, AgeDB-30 97.60 (as compared by others)",
    ),
    PublishedNetwork(
        name="insightface_mbf",
        family="mobile",
        make=mbf,
        embedding_size=512,
        source=INSIGHTFACE + " (arcface_torch, mbf)",
        published_params="13 MB file",
        published_compute="0.45 G FLOPs (MAdds)",
        published_accuracy="LFW 99.70, CFP-FP 98.00, AgeDB-30 96.58 (WebFace600K)",
    ),
    PublishedNetwork(
        name="insightface_mbf_large",
        family="mobile",
        make=mbf_large,
        embedding_size=512,
        source=INSIGHTFACE + " (arcface_torch, mbf_large)",
        published_params="not published",
        published_compute="not published",
        published_accuracy="not published",
    ),
)
