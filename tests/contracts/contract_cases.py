"""Settings of every block, head and layer that the contracts go through. Something new in the
catalog gets a few lines here; a test says which kind has none."""

from nas_face.arch.blocks.attention import SqueezeExcite
from nas_face.arch.blocks.cells import Cells, genotype
from nas_face.arch.blocks.conv_unit import ConvUnit
from nas_face.arch.blocks.edge import ConvEncoder, SplitAttention
from nas_face.arch.blocks.fire import Fire
from nas_face.arch.blocks.ghost import Ghost
from nas_face.arch.blocks.improved_residual import ImprovedResidual
from nas_face.arch.blocks.inverted_residual import InvertedResidual
from nas_face.arch.blocks.max_feature import MaxFeature
from nas_face.arch.blocks.parts import AbstractBlock, conv_norm, residual
from nas_face.arch.blocks.seesaw import Seesaw
from nas_face.arch.blocks.shuffle import ShuffleUnit
from nas_face.arch.blocks.variable_group import VariableGroupDown, VariableGroupNormal
from nas_face.arch.combinators import (
    Concat,
    Gate,
    Graph,
    Layer,
    Product,
    Sequence,
    Split,
    Step,
    Sum,
)
from nas_face.arch.cost import Shape
from nas_face.arch.heads import (
    AbstractHead,
    FlattenLinearHead,
    GlobalDepthwiseHead,
    NormAwareHead,
    PooledLinearHead,
    VariableGroupHead,
)
from nas_face.arch.layers import (
    Activation,
    BatchNorm,
    ChannelConv,
    ChannelPool,
    ChannelScale,
    ChannelShuffle,
    ChannelSlice,
    Conv,
    Crop,
    CrossCovarianceAttention,
    Flatten,
    FourierFeatures,
    GatedChannelTransform,
    GlobalAverageMaxPool,
    GlobalAveragePool,
    LayerNorm,
    Linear,
    MaxFeatureMap,
    NormAwarePool,
    Pool,
    PReLU,
    Resize,
    TranslationVariantConv,
)

MAP = Shape(16, 9, 7)

BLOCK_CASES: list[tuple[AbstractBlock, Shape]] = [
    (ConvUnit(out_channels=8), Shape(3, 9, 7)),
    (ConvUnit(out_channels=24, kernel=5, stride=2, act=None, eps=2e-5), MAP),
    (ConvUnit(out_channels=16, kernel=7, depthwise=True, act="silu"), MAP),
    (ConvUnit(out_channels=12, kernel=1, act="relu6"), MAP),
    (InvertedResidual(out_channels=16, hidden_channels=32), MAP),
    (InvertedResidual(out_channels=24, hidden_channels=40, act="relu"), MAP),
    (InvertedResidual(out_channels=16, hidden_channels=8, stride=2, kernel=5), MAP),
    (
        InvertedResidual(
            out_channels=16,
            hidden_channels=32,
            act="prelu_shared",
            attention=SqueezeExcite(channels=5),
        ),
        MAP,
    ),
    (
        InvertedResidual(
            out_channels=16, hidden_channels=24, stride=2, kernel=5, translation_variant=True
        ),
        MAP,
    ),
    (InvertedResidual(out_channels=16, hidden_channels=24, translation_variant=True), MAP),
    (Cells(out_channels=16), MAP),
    (Cells(out_channels=24, repeats=2, stride=2, act="silu"), MAP),
    (Cells(out_channels=32, repeats=4, stride=4, reductions=(1, 2)), Shape(16, 10, 7)),
    (
        Cells(
            out_channels=12,
            repeats=2,
            stride=2,
            reductions=(1,),
            normal=genotype((("skip", 1), ("skip", 1)), (("average_pool_3x3", 0), ("skip", 2))),
            reduction=genotype((("skip", 0), ("depthwise_1x1", 1)), (("skip", 1), ("skip", 2))),
        ),
        Shape(6, 10, 8),
    ),
    (ConvEncoder(out_channels=16, hidden_channels=20), MAP),
    (ConvEncoder(out_channels=24, hidden_channels=20, kernel=7, rank_ratio=0.5), MAP),
    (
        ConvEncoder(
            out_channels=12,
            hidden_channels=8,
            stride=2,
            act="silu",
            norm="batch",
            layer_scale=False,
        ),
        Shape(16, 10, 8),
    ),
    (SplitAttention(out_channels=16, hidden_channels=20), MAP),
    (SplitAttention(out_channels=16, hidden_channels=20, parts=3, positions=True), MAP),
    (
        SplitAttention(
            out_channels=15, hidden_channels=20, parts=4, kernel=5, heads=3, rank_ratio=0.6
        ),
        MAP,
    ),
    (
        SplitAttention(
            out_channels=12,
            hidden_channels=8,
            stride=2,
            heads=1,
            act="prelu",
            norm="batch",
            layer_scale=False,
        ),
        Shape(16, 10, 8),
    ),
    (Seesaw(out_channels=16, hidden_channels=32, mixing="shuffle"), MAP),
    (
        Seesaw(
            out_channels=16,
            hidden_channels=32,
            mixing="share",
            attention=SqueezeExcite(channels=8),
        ),
        MAP,
    ),
    (Seesaw(out_channels=24, hidden_channels=16, mixing="share", act="hard_swish"), MAP),
    (Seesaw(out_channels=4, hidden_channels=64, mixing="shuffle", stride=2, kernel=5), MAP),
    (VariableGroupNormal(out_channels=16), MAP),
    (
        VariableGroupNormal(
            out_channels=16, group_width=4, factor=1, attention=SqueezeExcite(channels=4)
        ),
        MAP,
    ),
    (VariableGroupNormal(out_channels=24, stride=2, kernel=5, act="silu"), MAP),
    (
        VariableGroupNormal(out_channels=32, group_width=16, attention=SqueezeExcite(channels=3)),
        MAP,
    ),
    (VariableGroupDown(out_channels=24), MAP),
    (VariableGroupDown(out_channels=16, stride=1, factor=1, act="relu"), MAP),
    (ShuffleUnit(out_channels=16, hidden_channels=8), MAP),
    (ShuffleUnit(out_channels=16, hidden_channels=40, kernel=5, act="prelu_shared"), MAP),
    (ShuffleUnit(out_channels=32, hidden_channels=12, stride=2), MAP),
    (ShuffleUnit(out_channels=6, hidden_channels=3, act="hard_swish"), MAP),
    (
        InvertedResidual(
            out_channels=16,
            hidden_channels=34,
            kernel=(3, 5, 7),
            act="silu",
            expand_partition=(1, 1),
            project_partition=(1, 1),
            attention=SqueezeExcite(channels=3, act="silu"),
            out_mixing="unshuffle",
        ),
        MAP,
    ),
    (
        InvertedResidual(
            out_channels=12,
            hidden_channels=16,
            stride=2,
            kernel=(3, 5, 7, 9, 11),
            expand=False,
            project_partition=(1, 3),
        ),
        MAP,
    ),
    (Ghost(out_channels=16, hidden_channels=20, kernel=5), MAP),
    (
        Ghost(
            out_channels=24,
            hidden_channels=10,
            stride=2,
            kernel=5,
            ghost_kernel=5,
            act="silu",
            attention=SqueezeExcite(channels=3, gate="hard_sigmoid"),
            decoupled_attention=True,
        ),
        MAP,
    ),
    (Ghost(out_channels=16, hidden_channels=6, decoupled_attention=True), Shape(16, 1, 3)),
    (Ghost(out_channels=10, hidden_channels=8, kernel=7), MAP),
    (Ghost(out_channels=16, hidden_channels=8, stride=2, shortcut="none"), MAP),
    (ImprovedResidual(out_channels=16, hidden_channels=20), MAP),
    (
        ImprovedResidual(
            out_channels=24,
            hidden_channels=8,
            stride=2,
            kernel=5,
            act="relu",
            attention=SqueezeExcite(channels=4),
        ),
        MAP,
    ),
    (MaxFeature(out_channels=12), MAP),
    (MaxFeature(out_channels=6, form="conv", kernel=5, stride=2), MAP),
    (MaxFeature(out_channels=16, form="residual", stride=2, pool="max_average"), MAP),
    (Fire(out_channels=24, hidden_channels=5), MAP),
    (Fire(out_channels=10, hidden_channels=8, stride=2, kernel=5, act="prelu"), MAP),
    (Fire(out_channels=16, hidden_channels=3, attention=SqueezeExcite(channels=2)), MAP),
]

HEAD_CASES: list[tuple[AbstractHead, Shape]] = [
    (GlobalDepthwiseHead(embedding_size=10), MAP),
    (GlobalDepthwiseHead(embedding_size=8, tail_channels=24), Shape(16, 1, 1)),
    (
        GlobalDepthwiseHead(
            embedding_size=6,
            tail_channels=20,
            act="prelu_shared",
            global_act="silu",
            embedding_bias=True,
        ),
        MAP,
    ),
    (GlobalDepthwiseHead(embedding_size=6, tail_channels=20, map_act="silu"), MAP),
    (VariableGroupHead(embedding_size=10, tail_channels=32), MAP),
    (VariableGroupHead(embedding_size=7, tail_channels=32, group_width=16, act="relu"), MAP),
    (NormAwareHead(embedding_size=10, tail_channels=24), MAP),
    (NormAwareHead(embedding_size=5, tail_channels=8, act="hard_swish"), Shape(16, 1, 2)),
    (PooledLinearHead(embedding_size=10, tail_channels=24), MAP),
    (PooledLinearHead(embedding_size=12, tail_channels=8, act="relu6"), Shape(4, 3, 3)),
    (
        PooledLinearHead(
            embedding_size=12,
            tail_channels=None,
            pool_norm="layer",
            embedding_bias=True,
            embedding_norm=False,
            rank_ratio=0.5,
        ),
        MAP,
    ),
    (
        PooledLinearHead(embedding_size=10, tail_channels=24, map_norm=True, embedding_bias=True),
        MAP,
    ),
    (
        PooledLinearHead(embedding_size=12, tail_channels=12, act="relu", linear=False),
        Shape(4, 3, 5),
    ),
    (FlattenLinearHead(embedding_size=6, fixed_embedding_scale=True), MAP),
    (
        FlattenLinearHead(
            embedding_size=5, map_norm=False, max_feature_map=True, embedding_norm=False
        ),
        MAP,
    ),
    (FlattenLinearHead(embedding_size=4, embedding_bias=False), Shape(3, 2, 2)),
]

FOURIER = Sequence(layers=(FourierFeatures(width=6), Conv(out_channels=16)))
"""The input gives only its size."""

CHAIN = Graph(
    steps=(
        Step(layer=Conv(out_channels=16), sources=(0,)),
        Step(layer=Sequence(), sources=(1,)),  # another name for the result before
        Step(layer=PReLU(), sources=(2,)),
        Step(layer=Sequence(), sources=(0, 1, 3)),
    )
)
"""Steps that share values, one of them by another name."""

CELL = Graph(
    steps=(
        Step(layer=ChannelSlice(start=0, stop=8), sources=(0,)),
        Step(layer=ChannelSlice(start=8, stop=16), sources=(0,)),
        Step(layer=conv_norm(8, kernel=3), sources=(1, 2)),
        Step(layer=BatchNorm(), sources=(2, 3, 3), join="concat"),
        Step(layer=Conv(out_channels=4), sources=(4, 1), join="concat"),
    ),
    names=("first", "second", "mix", "norm", "out"),
)
"""A graph with both joins."""

LAYER_CASES: list[tuple[Layer, Shape]] = [
    (Conv(out_channels=5), MAP),
    (Conv(out_channels=8, kernel=(3, 5), padding=(1, 2), groups=4, bias=True), MAP),
    (Conv(out_channels=32, kernel=(3, 3), stride=3, groups=16), MAP),
    (Conv(out_channels=16, kernel=(9, 7), groups=16), MAP),
    (BatchNorm(), MAP),
    (BatchNorm(eps=2e-5, momentum=0.3), Shape(6, 1, 1)),
    (BatchNorm(fixed_scale=True), MAP),
    (Sequence(layers=(Flatten(), BatchNorm(fixed_scale=True))), MAP),
    (TranslationVariantConv(), MAP),
    (TranslationVariantConv(stride=2), MAP),
    (TranslationVariantConv(kernel=(2, 5), stride=3, padding=(0, 1)), MAP),
    (TranslationVariantConv(kernel=(9, 7), padding=(0, 0)), MAP),
    (Sequence(layers=(GlobalAveragePool(), ChannelConv(kernel=3))), MAP),
    (ChannelConv(kernel=1), Shape(6, 1, 1)),
    (ChannelConv(kernel=7), Shape(2, 1, 1)),
    (LayerNorm(), MAP),
    (LayerNorm(eps=1e-5), Shape(6, 1, 1)),
    (Sequence(layers=(Flatten(), LayerNorm())), MAP),
    (ChannelScale(), MAP),
    (Sequence(layers=(Flatten(), ChannelScale(start=1.0))), MAP),
    (PReLU(), MAP),
    (PReLU(shared=True), MAP),
    (Activation(function="relu"), MAP),
    (Activation(function="relu6"), MAP),
    (Activation(function="silu"), MAP),
    (Activation(function="hard_swish"), MAP),
    (Activation(function="gelu"), MAP),
    (Activation(function="sigmoid"), MAP),
    (Activation(function="hard_sigmoid"), MAP),
    (MaxFeatureMap(), MAP),
    (Sequence(layers=(Flatten(), Linear(out_features=6), MaxFeatureMap())), Shape(3, 2, 2)),
    (ChannelShuffle(groups=4), MAP),
    (ChannelShuffle(groups=2, inverse=True), Shape(6, 3, 2)),
    (ChannelSlice(start=0, stop=1), MAP),
    (ChannelSlice(start=5, stop=16), MAP),
    (Pool(function="max", kernel=(2, 2), stride=2), MAP),
    (Pool(function="max", kernel=(3, 3), stride=2, padding=(1, 1), ceil=True), MAP),
    (Pool(function="average", kernel=(3, 2), stride=1, padding=(1, 1)), MAP),
    (Pool(function="average", kernel=(2, 2), stride=2, ceil=True), MAP),
    (Pool(function="average", kernel=(5, 3), stride=4, padding=(2, 0), ceil=True), MAP),
    (Pool(function="max", kernel=(3, 3), stride=2, ceil=True), Shape(4, 2, 2)),
    (GlobalAveragePool(), MAP),
    (GlobalAverageMaxPool(), MAP),
    (NormAwarePool(eps=1e-6), MAP),
    (ChannelPool(), MAP),
    (CrossCovarianceAttention(heads=1), Shape(6, 5, 3)),
    (CrossCovarianceAttention(heads=4), Shape(24, 3, 2)),
    (CrossCovarianceAttention(heads=2), Shape(12, 1, 1)),
    (GatedChannelTransform(), MAP),
    (Flatten(), MAP),
    (Crop(top=1, left=0), MAP),
    (Crop(top=8, left=6), MAP),
    (Resize(height=18, width=5), MAP),
    (Resize(height=3, width=3), MAP),
    # By themselves the features do not depend on the input, and have no gradient.
    (Sum(branches=(FOURIER, Sequence())), MAP),
    (Concat(branches=(Sequence(), FourierFeatures(width=4))), MAP),
    (Sequence(layers=(Flatten(), Linear(out_features=7))), Shape(3, 2, 2)),
    (Sequence(layers=(Flatten(), Linear(out_features=7, bias=True))), Shape(3, 2, 2)),
    (Sequence(), MAP),
    (Sequence(layers=(Conv(out_channels=4), PReLU()), names=("conv", "act")), MAP),
    (Sequence(layers=(GlobalAveragePool(), Flatten(), Linear(out_features=3))), MAP),
    (Sum(branches=(Conv(out_channels=8), conv_norm(8, kernel=3))), MAP),
    (residual(conv_norm(16, kernel=5, act="prelu")), MAP),
    (Sum(branches=(Sequence(), Conv(out_channels=16), Activation(function="relu"))), MAP),
    (Concat(branches=(Conv(out_channels=3), Conv(out_channels=5), Sequence())), MAP),
    (Split(sizes=(4, 12), branches=(Sequence(), Conv(out_channels=2))), MAP),
    (
        Split(sizes=(5, 10, 1), branches=(PReLU(), Conv(out_channels=30), Conv(out_channels=9))),
        MAP,
    ),
    (Sum(branches=(Sequence(), Sequence())), MAP),
    (Sum(branches=(Sequence(),)), MAP),
    (Concat(branches=(Sequence(),)), MAP),
    (Product(branches=(Conv(out_channels=8), conv_norm(8, kernel=3))), MAP),
    (Product(branches=(Sequence(), Activation(function="sigmoid"))), MAP),
    (Product(branches=(Sequence(), Sequence(), Sequence())), MAP),
    (SqueezeExcite(channels=4).lower(MAP), MAP),
    (Gate(body=GlobalAveragePool()), MAP),
    (Gate(body=Sequence(layers=(ChannelPool(), Conv(out_channels=1)))), MAP),
    (Gate(body=conv_norm(16, kernel=3)), MAP),
    (Gate(body=Sequence()), MAP),
    (Gate(body=Sequence(layers=(GlobalAveragePool(), Conv(out_channels=1)))), MAP),
    (CHAIN, MAP),
    (CELL, MAP),
    (Graph(steps=(Step(layer=Sequence(), sources=(0,)),)), MAP),
    (Graph(steps=(Step(layer=Sequence(), sources=(0, 0)),)), MAP),
    (Sequence(layers=(CELL, Conv(out_channels=16))), MAP),
    (Sum(branches=(CHAIN, Sequence())), MAP),
]


def case_id(value: object) -> str:
    """Readable test ids: the kind of a block or layer, or a shape."""
    return str(getattr(value, "kind", value))
