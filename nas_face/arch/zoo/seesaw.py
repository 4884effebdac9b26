"""SeesawFaceNets (Zhang, 2019)."""

from typing import Literal

from nas_face.arch.blocks.conv_unit import ConvUnit
from nas_face.arch.blocks.seesaw import Seesaw
from nas_face.arch.heads import GlobalDepthwiseHead
from nas_face.arch.spec import ArchSpec
from nas_face.arch.zoo.entry import PublishedNetwork
from nas_face.arch.zoo.mobilefacenet import STAGES

SOURCE = "Zhang: SeesawFaceNets, arXiv 1908.09124 v3, section 3; details from the author's code"


def seesaw(mixing: Literal["shuffle", "share"]) -> ArchSpec:
    """Seesaw-shuffleFaceNet or Seesaw-shareFaceNet: MobileFaceNet's table in seesaw blocks.

    Args:
        mixing: which of the two.
    """
    return ArchSpec(
        input_shape=(3, 112, 112),
        stem=(
            ConvUnit(out_channels=64, stride=2, act="silu"),
            ConvUnit(out_channels=64, depthwise=True, act="silu"),
        ),
        stages=tuple(
            tuple(
                Seesaw(
                    out_channels=width,
                    hidden_channels=first if position == 0 else rest,
                    mixing=mixing,
                    stride=2 if position == 0 else 1,
                    squeeze_channels=(first if position == 0 else rest) // 4,
                )
                for position in range(repeats)
            )
            for width, first, rest, repeats in STAGES
        ),
        head=GlobalDepthwiseHead(embedding_size=512, act="silu"),
    )


NETWORKS = (
    PublishedNetwork(
        name="seesaw_share",
        family="seesaw",
        spec=seesaw("share"),
        source=SOURCE,
        published_params="1.3 M (1.37 M cut to one decimal)",
        published_compute="146 M MAdds",
        published_accuracy="LFW 99.55, CFP-FP 93.09, AgeDB-30 96.42 (MS1MV2)",
    ),
    PublishedNetwork(
        name="seesaw_shuffle",
        family="seesaw",
        spec=seesaw("shuffle"),
        source=SOURCE,
        published_params="1.3 M (1.37 M cut to one decimal)",
        published_compute="146 M MAdds",
        published_accuracy="LFW 99.70, CFP-FP 92.03, AgeDB-30 96.30 (MS1MV2)",
    ),
)
