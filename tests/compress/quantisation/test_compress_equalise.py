"""Equalising: the same function always, and ranges that are alike where they should be."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from quantisation_checks import mean_loss, orl_crops, settled_, small_model

from nas_face.arch.combinators import Gate, Product, Sequence, Sum
from nas_face.arch.cost import Shape
from nas_face.arch.layers import (
    Activation,
    BatchNorm,
    ChannelScale,
    ChannelShuffle,
    Conv,
    Flatten,
    GlobalAveragePool,
    LayerNorm,
    Linear,
    MaxFeatureMap,
    PReLU,
)
from nas_face.arch.zoo import network
from nas_face.compress.quantisation.equalise import equalise, scaled
from nas_face.compress.quantisation.fold import fold_norms
from nas_face.compress.quantisation.grid import rounded, weight_scale
from nas_face.compress.quantisation.scale_classes import FIXED, scale_classes
from nas_face.errors import CompressionError
from nas_face.nn.build import build
from nas_face.nn.model import Description, FaceModel

SIDE = 32
EACH_FAMILY = (
    "mobilefacenet_128",
    "insightface_y2",
    "seesaw_share",
    "seesaw_shuffle",
    "vargfacenet",
    "shufflefacenet_1x",
    "mixfacenet_xs",
    "shufflemixfacenet_xs",
    "ghostfacenet_v1_2",
    "ghostfacenet_v2_2",
    "lightcnn_9",
    "lightcnn_29v2",
    "iresnet_18",
    "pocketnet_s_128",
    "edgeface_xs",
    "edgeface_xs_06",
    "mobilenetv2_tvconv_0_5",
)
LARGER = ("squeezefacenet",)


def tree_model(*layers, side=8, channels=3):
    """A folded model of bare layers with drawn weights."""
    tree = Sequence(layers=layers)
    description = Description(network=tree, input_shape=(channels, side, side), arch_id="0" * 12)
    torch.manual_seed(3)
    model = FaceModel(description=description, module=build(tree, description.input))
    for each in model.module.modules():
        if isinstance(each, torch.nn.PReLU):
            torch.nn.init.uniform_(each.weight, -0.5, 1.5)
    return fold_norms(settled_(model, orl_crops(20, side=side)))


def zoo_model(name):
    side = 64 if name in LARGER else SIDE
    spec = replace(network(name).spec, input_shape=(3, side, side))
    return fold_norms(settled_(FaceModel.fresh(spec, seed=1), orl_crops(8, side=side)))


def largest_difference(first, second, crops):
    """Relative to the largest value."""
    expected, got = (each.embed(crops, flip=False) for each in (first, second))
    return np.abs(expected - got).max() / np.abs(expected).max()


@pytest.mark.parametrize("name", [*EACH_FAMILY, *LARGER])
def test_every_class_can_be_scaled_by_any_factor(name):
    model = zoo_model(name)
    crops = orl_crops(3, side=model.height, first=5)
    classes = scale_classes(model.description.network, model.description.input)
    # Powers of two, so that float32 loses nothing on the way.
    factors = 2.0 ** np.random.default_rng(0).integers(-2, 3, classes.n_classes)
    factors[FIXED] = 1.0
    weights = scaled(model.module.state_dict(), classes, factors)
    changed = FaceModel.of(model.description, weights)
    n_changed = sum(not torch.equal(weights[k], v) for k, v in model.module.state_dict().items())
    assert n_changed >= 10
    assert largest_difference(model, changed, crops) < 1e-6


@pytest.mark.parametrize("name", ["mobilefacenet_128", "edgeface_xs"])
@pytest.mark.parametrize("looks", [False, True])
def test_equalised_networks_compute_the_same(name, looks):
    model = zoo_model(name)
    crops = orl_crops(3, side=model.height, first=5)
    equalised = equalise(model, crops if looks else None)
    assert largest_difference(model, equalised, crops) < 1e-5
    assert equalised.description.lineage[-1].startswith("equalised ")
    assert equalised.description.network == model.description.network


def test_weights_on_both_sides_of_a_channel_come_to_one_size():
    model = tree_model(
        Conv(out_channels=6, kernel=(3, 3), bias=True),
        PReLU(),
        Conv(out_channels=5),
        GlobalAveragePool(),
        Flatten(),
    )
    weights = equalise(model).module.state_dict()
    written = weights["0.weight"].abs().amax((1, 2, 3))
    read = weights["2.weight"].abs().amax((0, 2, 3))
    torch.testing.assert_close(written, read)
    before = model.module.state_dict()
    geometric = (
        before["0.weight"].abs().amax((1, 2, 3)) * before["2.weight"].abs().amax((0, 2, 3))
    ).sqrt()  # equation 10: both ranges become the root of their product
    torch.testing.assert_close(written, geometric)


def test_values_that_depthwise_filters_read_come_to_one_size():
    model = small_model()
    crops = orl_crops(10)
    equalised = equalise(model, crops)
    path = "stages.0.0.depthwise.conv"
    seen = []
    layer = equalised.module.get_submodule(path)
    layer.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0].abs()))
    equalised.embed(crops, flip=False)
    torch.testing.assert_close(torch.cat(seen).amax((0, 2, 3)), torch.ones(32))


def test_a_residual_stream_has_one_class_a_channel():
    tree = Sequence(
        layers=(
            Conv(out_channels=4),
            Sum(branches=(Sequence(), Sequence(layers=(Conv(out_channels=4), PReLU())))),
            Sum(branches=(Sequence(), Conv(out_channels=4))),
            Conv(out_channels=2),
        )
    )
    first, second, third, last = scale_classes(tree, Shape(3, 4, 4)).layers
    for each in (second.in_classes, second.out_classes, third.out_classes, last.in_classes):
        assert each.tolist() == first.out_classes.tolist()
    assert len(set(first.out_classes.tolist())) == 4
    assert set(last.out_classes.tolist()) == {FIXED}  # the embedding


@pytest.mark.parametrize(
    "between",
    [
        Activation(function="hard_swish"),
        Activation(function="relu6"),
        Activation(function="sigmoid"),
        BatchNorm(fixed_scale=True),
        Gate(body=Sequence(layers=(LayerNorm(), Conv(out_channels=4)))),
    ],
)
def test_nothing_is_scaled_through_what_is_not_homogeneous(between):
    tree = Sequence(layers=(Conv(out_channels=4), between, Conv(out_channels=2)))
    first = scale_classes(tree, Shape(3, 4, 4)).layers[0]
    assert set(first.out_classes.tolist()) == {FIXED}


@pytest.mark.parametrize(
    ("between", "classes_read"),
    [
        ((PReLU(),), (0, 1, 2, 3)),
        ((ChannelShuffle(groups=2),), (0, 2, 1, 3)),
        ((MaxFeatureMap(),), (0, 1)),
        ((Product(branches=(Sequence(), Activation(function="sigmoid"))),), None),
        ((BatchNorm(), ChannelScale()), "new"),
    ],
)
def test_classes_follow_their_channels(between, classes_read):
    tree = Sequence(layers=(Conv(out_channels=4), *between, Conv(out_channels=2)))
    layers = scale_classes(tree, Shape(3, 4, 4)).layers
    written, read = layers[0].out_classes.tolist(), layers[-1].in_classes.tolist()
    match classes_read:
        case None:
            assert set(read) == {FIXED}
        case "new":
            assert FIXED not in read and not set(read) & set(written)
        case _:
            assert read == [written[position] for position in classes_read]


def on_grids(model):
    """All layers in 8 bits: weights a scale for each output channel, inputs one for all."""
    copied = FaceModel.of(model.description, model.module.state_dict())

    def round_inputs(layer, inputs):
        low, high = (float(end) for end in inputs[0].aminmax())
        step = (max(high, 0.0) - min(low, 0.0)) / 255
        return ((inputs[0] / step).round() * step,)

    with torch.no_grad():
        for layer in copied.module.modules():
            if isinstance(layer, torch.nn.Conv2d | torch.nn.Linear):
                layer.weight.copy_(rounded(layer.weight, weight_scale(layer.weight, 8), 8))
                layer.register_forward_pre_hook(round_inputs)
    return copied


def test_unlike_channels_quantise_better_afterwards():
    model = small_model()
    weights = model.module.state_dict()
    classes = scale_classes(model.description.network, model.description.input)
    factors = np.exp(np.random.default_rng(2).uniform(-3, 3, classes.n_classes))
    factors[FIXED] = 1.0
    spoilt = FaceModel.of(model.description, scaled(weights, classes, factors))
    crops, expected = orl_crops(20), model.embed(orl_crops(20), flip=False)

    def loss(tried):
        return mean_loss(expected, on_grids(tried).embed(crops, flip=False))

    assert loss(equalise(spoilt, crops)) < 0.1 * loss(spoilt)
    assert loss(equalise(spoilt)) < 0.5 * loss(spoilt)


def test_channels_of_zeros_stay():
    model = tree_model(
        Conv(out_channels=4, bias=True),
        PReLU(),
        Conv(out_channels=3),
        GlobalAveragePool(),
        Flatten(),
    )
    weights = model.module.state_dict()
    with torch.no_grad():
        weights["0.weight"][1] = 0
        weights["2.weight"][:, 2] = 0
    crops = orl_crops(4, side=8)
    for equalised in (equalise(model), equalise(model, crops)):
        changed = equalised.module.state_dict()
        assert all(torch.isfinite(value).all() for value in changed.values())
        assert torch.equal(changed["0.weight"][2], weights["0.weight"][2])
        assert largest_difference(model, equalised, crops) < 1e-5


def test_original_is_left_alone():
    model = small_model()
    before = {key: value.clone() for key, value in model.module.state_dict().items()}
    equalise(model, orl_crops(4))
    assert all(torch.equal(before[key], v) for key, v in model.module.state_dict().items())
    assert model.description.lineage == small_model().description.lineage


def test_what_cannot_be_is_refused():
    model = tree_model(Flatten(), Linear(out_features=2))
    with pytest.raises(CompressionError, match="share must be 0 to 1, got 1.5"):
        equalise(model, share=1.5)
    with pytest.raises(CompressionError, match="at least one"):
        equalise(model, orl_crops(4, side=8)[:0])
