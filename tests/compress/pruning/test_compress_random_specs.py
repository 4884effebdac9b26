"""Small random architectures: pruned equals masked, whatever the blocks and whatever goes."""

import dataclasses

import numpy as np
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pruning_checks import (
    assert_equals_masked,
    counted_madds,
    random_choice,
    random_model,
    without,
)

from nas_face.arch.blocks.attention import (
    BlockAttention,
    EfficientChannelAttention,
    GatedChannelAttention,
    SqueezeExcite,
)
from nas_face.arch.blocks.conv_unit import ConvUnit
from nas_face.arch.blocks.inverted_residual import InvertedResidual
from nas_face.arch.blocks.parts import AbstractBlock
from nas_face.arch.blocks.seesaw import Seesaw
from nas_face.arch.blocks.shuffle import ShuffleUnit
from nas_face.arch.blocks.variable_group import VariableGroupDown, VariableGroupNormal
from nas_face.arch.heads import (
    GlobalDepthwiseHead,
    NormAwareHead,
    PooledLinearHead,
    VariableGroupHead,
)
from nas_face.arch.spec import ArchSpec
from nas_face.compress.pruning import prune
from nas_face.compress.pruning.channels import couple
from nas_face.compress.pruning.importance import Importance
from nas_face.compress.pruning.selection import Selection
from nas_face.compress.pruning.surgery import narrowed
from nas_face.nn.model import FaceModel

SETTINGS = settings(
    max_examples=30, deadline=None, suppress_health_check=list(HealthCheck), derandomize=True
)
widths = st.sampled_from([4, 8, 12, 20, 24])
strides = st.sampled_from([1, 1, 2])
acts = st.sampled_from(["prelu", "prelu_shared", "relu", "relu6", "silu", "hard_swish"])
attentions = st.one_of(
    st.none(),
    st.builds(SqueezeExcite, channels=st.sampled_from([1, 3, 4])),
    st.builds(EfficientChannelAttention),
    st.builds(BlockAttention, channels=st.sampled_from([1, 3, 4])),
    st.builds(GatedChannelAttention),
)
blocks: st.SearchStrategy[AbstractBlock] = st.one_of(
    st.builds(ConvUnit, out_channels=widths, stride=strides, act=acts),
    st.builds(
        InvertedResidual,
        out_channels=widths,
        hidden_channels=st.integers(1, 20),
        stride=strides,
        act=acts,
        attention=attentions,
    ),
    st.builds(
        Seesaw,
        out_channels=widths,
        hidden_channels=widths,
        mixing=st.sampled_from(["shuffle", "share"]),
        stride=strides,
        act=acts,
        attention=attentions,
    ),
    st.builds(
        ShuffleUnit,
        out_channels=widths,
        hidden_channels=st.integers(1, 20),
        stride=strides,
        act=acts,
        attention=attentions,
    ),
    st.builds(
        VariableGroupNormal,
        out_channels=widths,
        stride=strides,
        factor=st.sampled_from([1, 2]),
        group_width=st.just(4),
        act=acts,
        attention=attentions,
    ),
    st.builds(
        VariableGroupDown, out_channels=widths, stride=strides, group_width=st.just(4), act=acts
    ),
)
heads = st.one_of(
    st.builds(
        GlobalDepthwiseHead,
        embedding_size=st.just(6),
        tail_channels=widths,
        global_act=st.sampled_from([None, "prelu"]),
        embedding_bias=st.booleans(),
    ),
    st.builds(
        VariableGroupHead,
        embedding_size=st.just(6),
        tail_channels=widths,
        group_width=st.just(4),
    ),
    st.builds(NormAwareHead, embedding_size=st.just(6), tail_channels=widths),
    st.builds(PooledLinearHead, embedding_size=st.just(6), tail_channels=widths),
)


@st.composite
def specs(draw: st.DrawFn) -> ArchSpec:
    """A stem, one to five blocks in a row (repeats included, so that streams form), and a head."""
    stem = ConvUnit(out_channels=draw(widths), stride=2, act=draw(acts))
    chosen = draw(st.lists(blocks, min_size=1, max_size=3))
    stage = [
        each
        for block in chosen
        for each in [block, *[dataclasses.replace(block, stride=1)] * draw(st.integers(0, 2))]
    ]
    return ArchSpec(
        input_shape=(3, 16, 16), stem=(stem,), stages=(tuple(stage),), head=draw(heads)
    )


@SETTINGS
@given(
    spec=specs(),
    share=st.floats(0.0, 1.0),
    round_to=st.sampled_from([1, 2, 3, 8]),
    importance=st.sampled_from(["l2", "bn_scale", "fpgm"]),
)
def test_any_reachable_budget(
    spec: ArchSpec, share: float, round_to: int, importance: Importance
) -> None:
    model = random_model(spec)
    full, smallest = model.description.cost.madds, _smallest(model, round_to)
    target = smallest + int((full - smallest) * share)

    result = prune(
        model, target_madds=target, round_to=round_to, min_keep=0.0, importance=importance
    )

    assert result.madds_after == counted_madds(result.model) <= target
    assert result.model.description.embedding_size == 6
    assert_equals_masked(model, result.model, result.removed, n_images=2)


@SETTINGS
@given(spec=specs(), seed=st.integers(0, 2**16))
def test_any_choice_of_classes(spec: ArchSpec, seed: int) -> None:
    model = random_model(spec)
    before = model.description
    removed = random_choice(couple(before.network, before.input), seed=seed)

    pruned = without(model, removed)

    assert pruned.description.cost.madds <= before.cost.madds
    assert pruned.description.embedding_size == 6
    assert_equals_masked(model, pruned, removed, n_images=2)


def _smallest(model: FaceModel, round_to: int) -> int:
    """MAdds with every family at its floor."""
    network, x = model.description.network, model.description.input
    coupling = couple(network, x)
    selection = Selection(coupling, np.ones(coupling.n_classes), round_to=round_to, min_keep=0.0)
    alive = selection.alive(selection.floors)
    return narrowed(network, coupling, alive).cost(x).madds
