"""Features of layer trees: every one has a tree that has it and a near one that has not."""

from typing import get_args

import pytest

from nas_face.arch.catalog import kind_of
from nas_face.arch.combinators import (
    Concat,
    Gate,
    Graph,
    Primitive,
    Product,
    Sequence,
    Split,
    Step,
    Sum,
)
from nas_face.arch.cost import Shape
from nas_face.arch.features import FEATURES, UNIVERSAL, features_by_block, features_of
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
from nas_face.arch.zoo import network

X = Shape(12, 8, 6)
NOTHING = Sequence()
SAME = (1, 1)


def depthwise(kernel, channels=12, padding=(0, 0)):
    return Conv(out_channels=channels, kernel=(kernel, kernel), padding=padding, groups=channels)


def split(*sizes, branches):
    return Split(sizes=sizes, branches=branches)


CASES = {
    "prelu": (PReLU(shared=True), Activation(function="relu")),
    "relu6": (Activation(function="relu6"), Activation(function="relu")),
    "silu": (Activation(function="silu"), Activation(function="sigmoid")),
    "hard_swish": (Activation(function="hard_swish"), Activation(function="hard_sigmoid")),
    "gelu": (Activation(function="gelu"), Activation(function="silu")),
    "sigmoid": (Activation(function="sigmoid"), Activation(function="silu")),
    "hard_sigmoid": (Activation(function="hard_sigmoid"), Activation(function="hard_swish")),
    "max_feature_map": (MaxFeatureMap(), Conv(out_channels=6)),
    "squeeze_excite": (Gate(body=GlobalAveragePool()), Gate(body=Conv(out_channels=12))),
    "spatial_gate": (
        Gate(body=Sequence(layers=(ChannelPool(), Conv(out_channels=1)))),
        Gate(body=GlobalAveragePool()),
    ),
    "product": (Product(branches=(NOTHING, BatchNorm())), Sum(branches=(NOTHING, BatchNorm()))),
    "gated_channel_transform": (GatedChannelTransform(), ChannelScale()),
    "attention": (CrossCovarianceAttention(heads=2), Conv(out_channels=4)),
    "channel_conv": (
        Gate(body=Sequence(layers=(GlobalAveragePool(), ChannelConv(kernel=3)))),
        Gate(body=GlobalAveragePool()),
    ),
    "channel_shuffle": (ChannelShuffle(groups=3), NOTHING),
    "channel_slice": (ChannelSlice(start=0, stop=3), Crop(top=1, left=1)),
    "split": (split(6, 6, branches=(NOTHING, BatchNorm())), Concat(branches=(NOTHING, NOTHING))),
    "uneven_split": (
        split(3, 9, branches=(Conv(out_channels=3), NOTHING)),
        split(6, 6, branches=(Conv(out_channels=6), NOTHING)),
    ),
    "concat": (
        Graph(
            steps=(
                Step(layer=BatchNorm(), sources=(0,)),
                Step(layer=NOTHING, sources=(0, 1), join="concat"),
            )
        ),
        Graph(
            steps=(
                Step(layer=BatchNorm(), sources=(0,)),
                Step(layer=NOTHING, sources=(0, 1), join="sum"),
            )
        ),
    ),
    "grouped_conv": (Conv(out_channels=12, groups=4), depthwise(1)),
    "depthwise_conv": (depthwise(3), Conv(out_channels=12, groups=6)),
    "depthwise_kernel_over_3": (depthwise(5), depthwise(3)),
    "global_depthwise": (
        Conv(out_channels=12, kernel=(8, 6), groups=12),
        Conv(out_channels=12, kernel=(6, 6), groups=12),
    ),
    "mixed_kernels": (
        split(6, 6, branches=(depthwise(1, 6), depthwise(3, 6, (1, 1)))),
        split(6, 6, branches=(depthwise(3, 6), depthwise(3, 6))),
    ),
    "translation_variant_conv": (TranslationVariantConv(), depthwise(3)),
    "layer_norm": (LayerNorm(), BatchNorm()),
    "channel_scale": (ChannelScale(), BatchNorm()),
    "global_average_pool": (
        GlobalAverageMaxPool(),
        Pool(function="average", kernel=(8, 6), stride=1),
    ),
    "norm_aware_pool": (NormAwarePool(), GlobalAveragePool()),
    "channel_pool": (ChannelPool(), GlobalAveragePool()),
    "pool": (Pool(function="max", kernel=(2, 2), stride=2), GlobalAveragePool()),
    "resize": (Resize(height=4, width=4), Crop(top=4, left=2)),
    "crop": (Crop(top=1, left=0), Resize(height=7, width=6)),
    "fourier_features": (FourierFeatures(width=4), NOTHING),
}


def test_every_feature_has_a_case():
    assert set(CASES) == set(FEATURES)


@pytest.mark.parametrize("name", CASES)
def test_a_feature_is_seen_where_it_is_and_only_there(name):
    having, lacking = CASES[name]
    assert name in features_of(having, X)
    assert name not in features_of(lacking, X)


@pytest.mark.parametrize("name", CASES)
def test_a_feature_is_seen_at_any_depth(name):
    having, _ = CASES[name]
    for tree in (
        Sequence(layers=(BatchNorm(), Sequence(layers=(having,)))),
        Sum(branches=(having, having)),
        Product(branches=(having, having)),
        Concat(branches=(having, having)),
        Split(sizes=(12, 4), branches=(having, NOTHING)),
        Graph(
            steps=(
                Step(layer=ChannelSlice(start=0, stop=6), sources=(0,)),
                Step(layer=having, sources=(1, 1), join="concat"),
            )
        ),
    ):
        x = X._replace(channels=16) if isinstance(tree, Split) else X
        assert name in features_of(tree, x)


def test_every_primitive_has_a_feature_or_runs_everywhere():
    """A new primitive must be given a feature, or be listed as universal."""
    seen = UNIVERSAL | {"prelu"}
    for having, _ in CASES.values():
        seen = seen | {node.kind for node in nodes(having)}
    assert {kind_of(cls) for cls in get_args(Primitive)} <= seen


def nodes(layer):
    yield layer
    inner = [getattr(layer, "body", None), *getattr(layer, "layers", ())]
    inner += [*getattr(layer, "branches", ()), *(s.layer for s in getattr(layer, "steps", ()))]
    for each in inner:
        if each is not None:
            yield from nodes(each)


def test_universal_layers_have_no_feature():
    for layer in (Conv(out_channels=3), BatchNorm(), Flatten(), Activation(function="relu")):
        assert features_of(layer, X) == frozenset()
    assert features_of(Linear(out_features=3), Shape(5, 1, 1)) == frozenset()


def test_features_of_published_networks():
    features = {
        name: frozenset().union(*(found for _, found in features_by_block(network(name).spec)))
        for name in ("mobilefacenet_128", "seesaw_share", "seesaw_shuffle", "shufflefacenet_1x")
    }
    assert features["mobilefacenet_128"] == {"prelu", "depthwise_conv", "global_depthwise"}
    assert features["seesaw_shuffle"] - features["seesaw_share"] == {"channel_shuffle"}
    assert {"silu", "uneven_split", "squeeze_excite"} <= features["seesaw_share"]
    assert {"channel_shuffle", "split", "concat"} <= features["shufflefacenet_1x"]
    assert "uneven_split" not in features["shufflefacenet_1x"]
    assert "grouped_conv" in frozenset().union(
        *(found for _, found in features_by_block(network("vargfacenet").spec))
    )
