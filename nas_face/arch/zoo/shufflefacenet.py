"""ShuffleFaceNet (Martinez-Diaz et al., 2019)."""

from functools import partial

from nas_face.arch.blocks.conv_unit import ConvUnit
from nas_face.arch.blocks.shuffle import ShuffleUnit
from nas_face.arch.cost import Shape
from nas_face.arch.heads import GlobalDepthwiseHead
from nas_face.arch.spec import ArchSpec
from nas_face.arch.zoo.entry import PublishedNetwork

REPEATS = (4, 8, 4)

SOURCE = (
    "Martinez-Diaz et al.: ShuffleFaceNet, ICCVW 2019, on ShuffleNet V2, arXiv 1807.11164, "
    "table 5; shared slopes and the PReLU behind the global convolution as in public code"
)


def shufflefacenet(
    input_shape: Shape, embedding_size: int, *, widths: tuple[int, int, int]
) -> ArchSpec:
    """ShuffleFaceNet.

    Args:
        input_shape: of the image.
        embedding_size: length of the embedding, 128 in the published networks.
        widths: of the three stages; the last convolution is 1024 wide at every width.
    """
    return ArchSpec(
        input_shape=input_shape,
        stem=(ConvUnit(out_channels=24, stride=2, act="prelu_shared"),),
        stages=tuple(
            tuple(
                ShuffleUnit(
                    out_channels=width,
                    hidden_channels=width // 2,
                    stride=2 if position == 0 else 1,
                    act="prelu_shared",
                )
                for position in range(repeats)
            )
            for width, repeats in zip(widths, REPEATS, strict=True)
        ),
        head=GlobalDepthwiseHead(
            embedding_size=embedding_size,
            tail_channels=1024,
            act="prelu_shared",
            global_act="prelu_shared",
            embedding_bias=True,
        ),
    )


NETWORKS = (
    PublishedNetwork(
        name="shufflefacenet_0_5x",
        family="shuffle",
        make=partial(shufflefacenet, widths=(48, 96, 192)),
        embedding_size=128,
        source=SOURCE,
        published_params="0.5 M",
        published_compute="66.9 M FLOPs (2 x MAdds)",
        published_accuracy="LFW 99.23, CFP-FP 92.59, AgeDB-30 93.22 (as compared by others)",
    ),
    PublishedNetwork(
        name="shufflefacenet_1x",
        family="shuffle",
        make=partial(shufflefacenet, widths=(116, 232, 464)),
        embedding_size=128,
        source=SOURCE,
        published_params="1.4 M",
        published_compute="275.8 M FLOPs (2 x MAdds)",
        published_accuracy="none found for this width",
    ),
    PublishedNetwork(
        name="shufflefacenet_1_5x",
        family="shuffle",
        make=partial(shufflefacenet, widths=(176, 352, 704)),
        embedding_size=128,
        source=SOURCE,
        published_params="2.6 M",
        published_compute="577.5 M FLOPs (2 x MAdds)",
        published_accuracy="LFW 99.67, CFP-FP 97.26, AgeDB-30 97.32 (MS1M-RetinaFace)",
    ),
    PublishedNetwork(
        name="shufflefacenet_2x",
        family="shuffle",
        make=partial(shufflefacenet, widths=(244, 488, 976)),
        embedding_size=128,
        source=SOURCE,
        published_params="4.5 M",
        published_compute="1.05 G FLOPs (2 x MAdds)",
        published_accuracy="LFW 99.62, CFP-FP 97.56, AgeDB-30 97.28 (as compared by others)",
    ),
)
