"""LightCNN (Wu et al., 2018): networks for grey images of 128x128."""

from functools import partial
from typing import Literal

from nas_face.arch.blocks.max_feature import MaxFeature
from nas_face.arch.cost import Shape
from nas_face.arch.heads import FlattenLinearHead
from nas_face.arch.spec import ArchSpec
from nas_face.arch.zoo.entry import PublishedNetwork

GREY = Shape(1, 128, 128)


def lightcnn_9(input_shape: Shape, embedding_size: int) -> ArchSpec:
    """LightCNN-9, without residual blocks.

    Args:
        input_shape: of the image.
        embedding_size: length of the embedding, 256 in the paper.
    """
    return ArchSpec(
        input_shape=input_shape,
        stem=(MaxFeature(out_channels=48, form="conv", kernel=5, stride=2),),
        stages=(
            (MaxFeature(out_channels=96, stride=2),),
            (MaxFeature(out_channels=192, stride=2),),
            (MaxFeature(out_channels=128), MaxFeature(out_channels=128, stride=2)),
        ),
        head=_head(embedding_size, max_feature_map=True),
    )


def lightcnn_29(
    input_shape: Shape,
    embedding_size: int,
    *,
    pool: Literal["max", "max_average"] = "max",
    max_feature_map: bool = True,
) -> ArchSpec:
    """LightCNN-29 or 29v2, with residual blocks in front of each group.

    Args:
        input_shape: of the image.
        embedding_size: length of the embedding, 256 in the paper.
        pool: behind the stem and the groups; with the mean in v2.
        max_feature_map: whether the embedding is a maximum of two halves; not so in v2.
    """

    def stage(repeats: int, width: int, out: int, *, stride: Literal[1, 2] = 2) -> _Stage:
        residual = MaxFeature(out_channels=width, form="residual")
        group = MaxFeature(out_channels=out, stride=stride, pool=pool)
        return (*[residual] * repeats, group)

    return ArchSpec(
        input_shape=input_shape,
        stem=(MaxFeature(out_channels=48, form="conv", kernel=5, stride=2, pool=pool),),
        stages=(
            stage(1, 48, 96),
            stage(2, 96, 192),
            (*stage(3, 192, 128, stride=1), *stage(4, 128, 128)),
        ),
        head=_head(embedding_size, max_feature_map=max_feature_map),
    )


_Stage = tuple[MaxFeature, ...]


def _head(embedding_size: int, *, max_feature_map: bool) -> FlattenLinearHead:
    return FlattenLinearHead(
        embedding_size=embedding_size,
        map_norm=False,
        max_feature_map=max_feature_map,
        embedding_norm=False,
    )


SOURCE = "Wu, He, Sun, Tan: LightCNN, arXiv 1511.02683"

NETWORKS = (
    PublishedNetwork(
        name="lightcnn_9",
        family="lightcnn",
        make=lightcnn_9,
        input_shape=GREY,
        embedding_size=256,
        source=SOURCE + ", table 1",
        published_params="5.56 M (with a classifier, by recollection)",
        published_compute="not recorded",
        published_accuracy="LFW 98.70 (100 - EER)",
    ),
    PublishedNetwork(
        name="lightcnn_29",
        family="lightcnn",
        make=lightcnn_29,
        input_shape=GREY,
        embedding_size=256,
        source=SOURCE + ", table 2",
        published_params="12.6 M",
        published_compute="not recorded",
        published_accuracy="LFW 99.40 (100 - EER)",
    ),
    PublishedNetwork(
        name="lightcnn_29v2",
        family="lightcnn",
        make=partial(lightcnn_29, pool="max_average", max_feature_map=False),
        input_shape=GREY,
        embedding_size=256,
        source=SOURCE + "; the authors' code (29 layers, v2)",
        published_params="not recorded",
        published_compute="not recorded",
        published_accuracy="LFW 99.43 (100 - EER)",
    ),
)
