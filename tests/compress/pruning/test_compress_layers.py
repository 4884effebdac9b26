"""Small trees around each layer and combinator: what may go, and that pruned equals masked."""

from typing import NamedTuple

import pytest
import torch
from pruning_checks import (
    assert_equals_masked,
    counted_madds,
    counted_params,
    noise_crops,
    random_choice,
    tree_model,
    without,
)

from nas_face.arch.codec import from_data, to_data
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
    Pool,
    PReLU,
    Resize,
    TranslationVariantConv,
)
from nas_face.compress.pruning import angular_gradients, mask_, prune
from nas_face.compress.pruning.channels import couple
from nas_face.compress.pruning.importance import CRITERIA, Importance
from nas_face.nn.model import FaceModel

INPUT = Shape(3, 6, 5)
SIGMOID = Activation(function="sigmoid")


def seq(**layers: Layer) -> Sequence:
    return Sequence(layers=tuple(layers.values()), names=tuple(layers))


def dense(width: int = 12, *, kernel: int = 1) -> Conv:
    return Conv(
        out_channels=width, kernel=(kernel, kernel), padding=(kernel // 2, kernel // 2), bias=True
    )


def depthwise(width: int = 12) -> Conv:
    return Conv(out_channels=width, kernel=(3, 3), padding=(1, 1), groups=width, bias=True)


def shortcut(**layers: Layer) -> Sum:
    return Sum(branches=(seq(**layers), Sequence()))


class Case(NamedTuple):
    """Layers between a dense layer of 12 channels called `entry` and one of 8 called `last`, and
    the families of the whole, besides that of `last`."""

    layers: Sequence
    families: frozenset[str]


def case(*families: str, **layers: Layer) -> Case:
    return Case(seq(**layers), frozenset(families))


CASES = {
    "translation_variant": case("entry", norm=BatchNorm(), conv=TranslationVariantConv(stride=2)),
    "channel_neighbours": case(
        gate=Gate(body=seq(pool=GlobalAveragePool(), conv=ChannelConv(kernel=3), act=SIGMOID))
    ),
    "channel_by_itself": case(
        "entry",
        gate=Gate(body=seq(pool=GlobalAveragePool(), conv=ChannelConv(kernel=1), act=SIGMOID)),
    ),
    "two_wide_groups": case(
        "entry",
        "groups",
        "again",
        groups=Conv(out_channels=16, kernel=(3, 3), groups=2, bias=True),
        norm=BatchNorm(),
        again=Conv(out_channels=8, groups=2),
    ),
    "halves_of_two_widths": case(
        "entry",
        "groups",
        "groups/2",
        "project",
        groups=Conv(out_channels=16, groups=2),
        cut=Split(sizes=(5, 11), branches=(depthwise(5), TranslationVariantConv())),
        project=Conv(out_channels=12, groups=2),
    ),
    "layer_norm": case(
        "encoder.branches.0.expand",
        encoder=shortcut(
            depthwise=depthwise(),
            norm=LayerNorm(),
            expand=dense(48),
            act=Activation(function="gelu"),
            project=dense(),
            scale=ChannelScale(),
        ),
    ),
    "layer_norm_behind_a_projection": case("entry", project=dense(), norm=LayerNorm()),
    "scale": case("entry", act=SIGMOID, scale=ChannelScale()),
    "gelu": case("entry", act=Activation(function="gelu")),
    "max_feature_map": case("entry", max=MaxFeatureMap(), norm=BatchNorm(), again=MaxFeatureMap()),
    "shuffle_there_and_back": case(
        "entry",
        there=ChannelShuffle(groups=3),
        grouped=Conv(out_channels=12, groups=4, kernel=(3, 3), padding=(1, 1)),
        back=ChannelShuffle(groups=3, inverse=True),
    ),
    "inverse_shuffle": case("entry", shuffle=ChannelShuffle(groups=4, inverse=True), act=PReLU()),
    "slices": case(
        "entry",
        "entry/2",
        "entry/3",
        slices=Concat(
            branches=(
                ChannelSlice(start=0, stop=5),
                seq(cut=ChannelSlice(start=3, stop=12), norm=BatchNorm()),
            )
        ),
    ),
    "slice_that_drops": case("entry", "entry/2", slice=ChannelSlice(start=4, stop=9)),
    "pools": case(
        "entry",
        pools=Sum(
            branches=(
                Pool(function="max", kernel=(3, 3), stride=2, padding=(1, 1), ceil=True),
                Pool(function="average", kernel=(3, 3), stride=2, padding=(1, 1), ceil=True),
            )
        ),
    ),
    "mean_and_maximum": case(
        "entry",
        "gate.body.squeeze",
        gate=Gate(
            body=seq(
                pool=GlobalAverageMaxPool(),
                squeeze=dense(6),
                act=Activation(function="relu"),
                excite=dense(),
                mean=GlobalAveragePool(),
                gate=SIGMOID,
            )
        ),
    ),
    "mean_and_maximum_side_by_side": case(
        "entry", "both", pools=GlobalAverageMaxPool(), both=Conv(out_channels=7, kernel=(1, 2))
    ),
    "position_attention": case(
        gate=Gate(body=seq(pool=ChannelPool(), conv=dense(1, kernel=3), gate=SIGMOID))
    ),
    "position_attention_behind_a_hidden_width": case(
        "entry", project=dense(10), gate=Gate(body=seq(pool=ChannelPool(), conv=dense(1)))
    ),
    "position_factor": case(
        "entry",
        "gate.body.squeeze",
        gate=Gate(body=seq(squeeze=dense(5), conv=dense(1), gate=SIGMOID)),
    ),
    "value_factor": case(
        "entry",
        "gate.body.squeeze",
        gate=Gate(body=seq(squeeze=dense(5), conv=dense(), gate=SIGMOID)),
    ),
    "attention_of_channels": case(
        "qkv", norm=LayerNorm(), qkv=dense(36), attend=CrossCovarianceAttention(heads=4)
    ),
    "attention_of_channels_on_a_stream": case(
        "entry",
        "attention.branches.0.qkv",
        attention=shortcut(
            norm=BatchNorm(),
            qkv=dense(36),
            attend=CrossCovarianceAttention(heads=3),
            project=dense(),
            scale=ChannelScale(),
        ),
    ),
    "gated_channels": case(transform=GatedChannelTransform()),
    "crop_and_resize": case("entry", crop=Crop(top=1, left=2), resize=Resize(height=7, width=4)),
    "positions_added": case(
        "entry", sum=shortcut(features=FourierFeatures(width=4), project=dense())
    ),
    "positions_beside": case("entry", sum=Concat(branches=(Sequence(), FourierFeatures(width=4)))),
    "fixed_scale": case("entry", norm=BatchNorm(fixed_scale=True)),
    "fixed_scale_of_what_is_never_zero": case(act=SIGMOID, norm=BatchNorm(fixed_scale=True)),
    "never_zero_beside_others": case(
        "entry", beside=Concat(branches=(Sequence(), seq(conv=dense(5), act=SIGMOID)))
    ),
    "product": case(
        "entry",
        "product.branches.0",
        product=Product(
            branches=(
                dense(9),
                seq(conv=dense(9, kernel=3), gate=SIGMOID),
                seq(conv=dense(9), act=PReLU()),
            )
        ),
    ),
    "normalisation_in_front": case(
        "entry",
        "block.branches.0.first",
        block=shortcut(
            norm=BatchNorm(),
            first=dense(16, kernel=3),
            mid=BatchNorm(),
            act=PReLU(),
            second=dense(kernel=3),
            out=BatchNorm(),
        ),
    ),
    "graph": case(
        "entry",
        "entry/2",
        "cell.steps.wide",
        "cell.steps.deep.conv",
        cell=Graph(
            steps=(
                Step(layer=ChannelSlice(start=0, stop=7), sources=(0,)),
                Step(layer=dense(7, kernel=3), sources=(1,)),
                Step(layer=Sequence(), sources=(1, 2)),
                Step(layer=dense(5), sources=(0,)),
                Step(layer=PReLU(), sources=(3, 4, 0), join="concat"),
                Step(layer=seq(conv=dense(6), norm=BatchNorm()), sources=(5, 4), join="concat"),
            ),
            names=("slice", "conv", "sum", "wide", "joined", "deep"),
        ),
    ),
}


def tree_of(case: Case) -> Sequence:
    return seq(
        entry=dense(kernel=3),
        layers=case.layers,
        last=dense(8),
        pool=GlobalAveragePool(),
        flat=Flatten(),
        embedding=Linear(out_features=4, bias=True),
    )


@pytest.fixture(params=CASES)
def model(request: pytest.FixtureRequest) -> FaceModel:
    return tree_model(tree_of(CASES[request.param]), INPUT)


@pytest.mark.parametrize("name", CASES)
def test_what_may_go(name: str) -> None:
    tree = couple(tree_of(CASES[name]), INPUT)
    expected = {
        each if each.startswith("entry") else f"layers.{each}" for each in CASES[name].families
    }
    assert {family.name for family in tree.families} == {"last", *expected}


@pytest.mark.parametrize("seed", range(3))
def test_pruned_equals_masked(model: FaceModel, seed: int) -> None:
    before = model.description
    removed = random_choice(couple(before.network, before.input), seed=seed)
    assert removed

    pruned = without(model, removed)

    after = pruned.description
    assert assert_equals_masked(model, pruned, removed, n_images=2) > 1e-4
    assert after.cost.madds == counted_madds(pruned) < before.cost.madds
    assert after.cost.params == counted_params(pruned)
    assert set(pruned.module.state_dict()) == set(model.module.state_dict())
    assert from_data(Sequence, to_data(after.network), where="copy") == after.network


@pytest.mark.parametrize("importance", CRITERIA)
def test_every_criterion_can_prune_it(model: FaceModel, importance: Importance) -> None:
    full = model.description.cost.madds

    result = prune(
        model,
        target_madds=full * 9 // 10,
        importance=importance,
        round_to=1,
        min_keep=0.0,
        gradients=angular_gradients(model, noise_crops(model)),
    )

    assert_equals_masked(model, result.model, result.removed)


def test_heads_go_whole() -> None:
    model = tree_model(tree_of(CASES["attention_of_channels"]), INPUT)
    coupling = couple(model.description.network, INPUT)
    (heads,) = (each for each in coupling.families if each.name == "layers.qkv")
    assert (len(heads.classes), heads.class_width) == (4, 3)
    pruned = without(model, heads.classes[1:3])
    assert pruned.description.network.layers[1] == seq(
        norm=LayerNorm(), qkv=dense(18), attend=CrossCovarianceAttention(heads=2)
    )
    kept = pruned.module.state_dict()["layers.attend.temperature"]
    assert torch.equal(kept, model.module.state_dict()["layers.attend.temperature"][[0, 3]])


def test_a_fixed_scale_stays_one_when_masked() -> None:
    model = tree_model(tree_of(CASES["fixed_scale"]), INPUT)
    coupling = couple(model.description.network, INPUT)
    entry = next(each for each in coupling.families if each.name == "entry")
    mask_(model, entry.classes[:5])
    weights = model.module.state_dict()
    assert torch.equal(weights["layers.norm.weight"], torch.ones(12))
    assert (weights["layers.norm.bias"] == 0).tolist() == [True] * 5 + [False] * 7
    assert (weights["layers.norm.running_mean"] == 0).tolist() == [True] * 5 + [False] * 7


def test_slices_move_with_what_is_in_front_of_them() -> None:
    model = tree_model(tree_of(CASES["slices"]), INPUT)
    coupling = couple(model.description.network, INPUT)
    site = next(each for each in coupling.sites if each.path == "entry")
    pruned = without(model, site.out_classes[[0, 2, 4, 7, 11]].tolist())
    branches = Concat(
        branches=(
            ChannelSlice(start=0, stop=2),
            seq(cut=ChannelSlice(start=1, stop=7), norm=BatchNorm()),
        )
    )
    # Channels 1 3 5 6 8 9 10 are left; the first slice had 0 to 4, the second 3 to 11.
    assert pruned.description.network.layers[1] == seq(slices=branches)
