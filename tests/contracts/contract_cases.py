"""Settings of every block, head and layer that the contracts go through. Something new in the
catalog gets a few lines here; a test says which kind has none."""

from nas_face.arch.blocks.conv_unit import ConvUnit
from nas_face.arch.blocks.inverted_residual import InvertedResidual
from nas_face.arch.blocks.parts import AbstractBlock, conv_norm, residual, squeeze_excite
from nas_face.arch.blocks.seesaw import Seesaw
from nas_face.arch.blocks.shuffle import ShuffleUnit
from nas_face.arch.blocks.variable_group import VariableGroupDown, VariableGroupNormal
from nas_face.arch.combinators import Concat, Gate, Layer, Sequence, Split, Sum
from nas_face.arch.cost import Shape
from nas_face.arch.heads import (
    AbstractHead,
    GlobalDepthwiseHead,
    NormAwareHead,
    PooledLinearHead,
    VariableGroupHead,
)
from nas_face.arch.layers import (
    Activation,
    BatchNorm,
    ChannelShuffle,
    Conv,
    Flatten,
    GlobalAveragePool,
    Linear,
    NormAwarePool,
    PReLU,
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
            out_channels=16, hidden_channels=32, act="prelu_shared", squeeze_channels=5
        ),
        MAP,
    ),
    (Seesaw(out_channels=16, hidden_channels=32, mixing="shuffle"), MAP),
    (Seesaw(out_channels=16, hidden_channels=32, mixing="share", squeeze_channels=8), MAP),
    (Seesaw(out_channels=24, hidden_channels=16, mixing="share", act="hard_swish"), MAP),
    (Seesaw(out_channels=4, hidden_channels=64, mixing="shuffle", stride=2, kernel=5), MAP),
    (VariableGroupNormal(out_channels=16), MAP),
    (VariableGroupNormal(out_channels=16, group_width=4, factor=1, squeeze_channels=4), MAP),
    (VariableGroupNormal(out_channels=24, stride=2, kernel=5, act="silu"), MAP),
    (VariableGroupNormal(out_channels=32, group_width=16, squeeze_channels=3), MAP),
    (VariableGroupDown(out_channels=24), MAP),
    (VariableGroupDown(out_channels=16, stride=1, factor=1, act="relu"), MAP),
    (ShuffleUnit(out_channels=16, hidden_channels=8), MAP),
    (ShuffleUnit(out_channels=16, hidden_channels=40, kernel=5, act="prelu_shared"), MAP),
    (ShuffleUnit(out_channels=32, hidden_channels=12, stride=2), MAP),
    (ShuffleUnit(out_channels=6, hidden_channels=3, act="hard_swish"), MAP),
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
    (VariableGroupHead(embedding_size=10, tail_channels=32), MAP),
    (VariableGroupHead(embedding_size=7, tail_channels=32, group_width=16, act="relu"), MAP),
    (NormAwareHead(embedding_size=10, tail_channels=24), MAP),
    (NormAwareHead(embedding_size=5, tail_channels=8, act="hard_swish"), Shape(16, 1, 2)),
    (PooledLinearHead(embedding_size=10, tail_channels=24), MAP),
    (PooledLinearHead(embedding_size=12, tail_channels=8, act="relu6"), Shape(4, 3, 3)),
]

LAYER_CASES: list[tuple[Layer, Shape]] = [
    (Conv(out_channels=5), MAP),
    (Conv(out_channels=8, kernel=(3, 5), padding=(1, 2), groups=4, bias=True), MAP),
    (Conv(out_channels=32, kernel=(3, 3), stride=3, groups=16), MAP),
    (Conv(out_channels=16, kernel=(9, 7), groups=16), MAP),
    (BatchNorm(), MAP),
    (BatchNorm(eps=2e-5, momentum=0.3), Shape(6, 1, 1)),
    (PReLU(), MAP),
    (PReLU(shared=True), MAP),
    (Activation(function="relu"), MAP),
    (Activation(function="relu6"), MAP),
    (Activation(function="silu"), MAP),
    (Activation(function="hard_swish"), MAP),
    (Activation(function="sigmoid"), MAP),
    (Activation(function="hard_sigmoid"), MAP),
    (ChannelShuffle(groups=4), MAP),
    (GlobalAveragePool(), MAP),
    (NormAwarePool(eps=1e-6), MAP),
    (Flatten(), MAP),
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
    (squeeze_excite(16, 4), MAP),
    (Gate(body=GlobalAveragePool()), MAP),
]


def case_id(value: object) -> str:
    """Readable test ids: the kind of a block or layer, or a shape."""
    return str(getattr(value, "kind", value))
