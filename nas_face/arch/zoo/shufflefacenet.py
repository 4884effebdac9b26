"""ShuffleFaceNet (Martinez-Diaz et al., 2019)."""

from nas_face.arch.blocks.conv_unit import ConvUnit
from nas_face.arch.blocks.shuffle import ShuffleUnit
from nas_face.arch.heads import GlobalDepthwiseHead
from nas_face.arch.spec import ArchSpec
from nas_face.arch.zoo.entry import PublishedNetwork

REPEATS = (4, 8, 4)

SOURCE = (
    "Martinez-Diaz et al.: ShuffleFaceNet, ICCVW 2019, on ShuffleNet V2, arXiv 1807.11164, "
    "table 5; shared slopes and the PReLU behind the global convolution as in public code"
)


def shufflefacenet(widths: tuple[int, int, int]) -> ArchSpec:
    """ShuffleFaceNet.

    Args:
        widths: of the three stages; the last convolution is 1024 wide at every width.
    """
    return ArchSpec(
        input_shape=(3, 112, 112),
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
            embedding_size=128,
            tail_channels=1024,
            act="prelu_shared",
            global_act="prelu_shared",
            embedding_bias=True,
        ),
    )


NETWORKS = (
    PublishedNetwork(
        name="shufflefacenet_1x",
        family="shuffle",
        spec=shufflefacenet((116, 232, 464)),
        source=SOURCE,
        published_params="1.4 M",
        published_compute="275.8 M FLOPs (2 x MAdds)",
        published_accuracy="none found for this width",
    ),
    PublishedNetwork(
        name="shufflefacenet_1_5x",
        family="shuffle",
        spec=shufflefacenet((176, 352, 704)),
        source=SOURCE,
        published_params="2.6 M",
        published_compute="577.5 M FLOPs (2 x MAdds)",
        published_accuracy="LFW 99.67, CFP-FP 97.26, AgeDB-30 97.32 (MS1M-RetinaFace)",
    ),
)
