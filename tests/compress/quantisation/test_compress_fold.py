"""Folding: same embeddings, and which normalisations remain."""

import copy
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from nas_face.arch.combinators import Concat, Gate, Graph, Layer, Sequence, Split, Step, Sum
from nas_face.arch.layers import (
    Activation,
    BatchNorm,
    Conv,
    Flatten,
    GlobalAveragePool,
    Linear,
    TranslationVariantConv,
)
from nas_face.arch.zoo import NETWORKS, network
from nas_face.compress.quantisation.fold import fold_norms
from nas_face.nn.build import build
from nas_face.nn.model import Description, FaceModel

SIDE = 32

REMAINING = {
    "iresnet_18": ("branches.0.norm", "head.map_norm"),
    "iresnet_50": ("branches.0.norm", "head.map_norm"),
    "iresnet_100": ("branches.0.norm", "head.map_norm"),
    **{
        name: ("head.map_norm", "depthwise.norm") if "tvconv" in name else ("head.map_norm",)
        for name in NETWORKS
        if name.startswith("mobilenetv2")
    },
    **{name: ("_edge0.norm", "_edge1.norm") for name in NETWORKS if name.startswith("pocketnet")},
}
"""Ends of the paths of what stays: behind sums, pools, activations and position-dependent
convolutions."""

LARGE = frozenset({"iresnet_50", "iresnet_100"})


def randomise_(module: nn.Module) -> nn.Module:
    """Statistics, scales, shifts and biases that would show a mistake, values of ordinary size."""
    generator = torch.Generator().manual_seed(7)
    with torch.no_grad():
        for each in module.modules():
            if isinstance(each, nn.modules.batchnorm._BatchNorm):
                assert each.running_mean is not None and each.running_var is not None
                if each.weight.requires_grad:
                    each.weight.uniform_(0.6, 1.4, generator=generator)
                each.bias.uniform_(-0.3, 0.3, generator=generator)
                each.momentum = None  # the plain mean over batches
            elif isinstance(each, nn.Conv2d | nn.Linear) and each.bias is not None:
                each.bias.uniform_(-0.3, 0.3, generator=generator)
    return module


def settled(model: FaceModel) -> FaceModel:
    """The model with the statistics of noise, in evaluation."""
    randomise_(model.module).train()
    generator = torch.Generator().manual_seed(8)
    with torch.no_grad():
        model.module(torch.rand((8, *model.description.input_shape), generator=generator) * 2 - 1)
    model.module.eval()
    return model


def tree_model(*layers: Layer) -> FaceModel:
    tree = Sequence(layers=layers)
    description = Description(network=tree, input_shape=(3, 8, 8), arch_id="0" * 12)
    torch.manual_seed(0)
    return settled(FaceModel(description=description, module=build(tree, description.input)))


def norms_of(model: FaceModel) -> list[str]:
    return [
        name
        for name, each in model.module.named_modules()
        if isinstance(each, nn.modules.batchnorm._BatchNorm)
    ]


def assert_same_function(first: FaceModel, second: FaceModel) -> None:
    """In float64, where the rounding of the weights to float32 is all that differs, to 1e-5 of the
    largest value; in float32 as well, on top of the rounding that the first network has itself
    (2e-5 in the deepest)."""
    generator = torch.Generator().manual_seed(9)
    x = torch.rand((2, *first.description.input_shape), generator=generator) * 2 - 1
    with torch.no_grad():
        exact = copy.deepcopy(first.module).double()(x.double())

        def distance(y: torch.Tensor) -> float:
            return float((y - exact).abs().max() / exact.abs().max())

        assert distance(copy.deepcopy(second.module).double()(x.double())) < 1e-5
        assert distance(second.module(x)) < distance(first.module(x)) + 1e-5


@pytest.mark.parametrize(
    "name",
    [pytest.param(name, marks=pytest.mark.slow if name in LARGE else ()) for name in NETWORKS],
)
def test_zoo_network_computes_the_same_without_its_norms(name: str) -> None:
    spec = network(name).spec
    small = replace(spec, input_shape=(spec.input_shape[0], SIDE, SIDE))
    model = settled(FaceModel.fresh(small, seed=1))
    before = model.digest

    folded = fold_norms(model)

    assert_same_function(model, folded)
    assert model.digest == before
    left = norms_of(folded)
    assert all(path.endswith(REMAINING.get(name, ())) for path in left), left
    assert set(left) <= set(norms_of(model))
    layers = {key.rpartition(".")[0] for key in model.module.state_dict()}
    assert {key.rpartition(".")[0] for key in folded.module.state_dict()} <= layers
    assert folded.description.cost.madds == model.description.cost.madds


@pytest.mark.parametrize(
    ("name", "n_before", "n_after"),
    [
        ("mobilefacenet_128", 50, 0),
        ("seesaw_shuffle", 80, 0),
        ("mixfacenet_xs", 51, 0),
        ("iresnet_18", 31, 9),
        ("pocketnet_m_128", 82, 9),
        ("mobilenetv2_tvconv_0_5", 54, 18),
        ("edgeface_xs", 0, 0),
    ],
)
def test_number_of_norms_that_remain(name: str, n_before: int, n_after: int) -> None:
    spec = network(name).spec
    model = FaceModel.fresh(replace(spec, input_shape=(3, SIDE, SIDE)), seed=1)
    folded = fold_norms(model)
    assert (len(norms_of(model)), len(norms_of(folded))) == (n_before, n_after)
    if not n_after and n_before:
        assert folded.description.cost.params == model.description.cost.folded_params
        assert folded.description.lineage == (f"folded {n_before} batch normalisations",)


CONV = Conv(out_channels=8, kernel=(3, 3), padding=(1, 1))
TAIL = (GlobalAveragePool(), Flatten(), Linear(out_features=4), BatchNorm(fixed_scale=True))


@pytest.mark.parametrize(
    ("layers", "left"),
    [
        ((CONV, BatchNorm(), Conv(out_channels=8, groups=8), BatchNorm()), []),
        ((CONV, BatchNorm(), Conv(out_channels=6, groups=2), BatchNorm(eps=1e-2)), []),
        ((replace(CONV, bias=True), BatchNorm(), BatchNorm(fixed_scale=True)), []),
        ((Sequence(layers=(CONV,)), Sequence(), Sequence(layers=(BatchNorm(), CONV))), []),
        ((BatchNorm(), CONV), ["0"]),
        ((CONV, Activation(function="relu"), BatchNorm()), ["2"]),
        ((CONV, TranslationVariantConv(), BatchNorm()), ["2"]),
        ((CONV, Sum(branches=(CONV, CONV)), BatchNorm()), ["2"]),
        ((Concat(branches=(CONV, Sequence(layers=(CONV, BatchNorm())))), BatchNorm()), []),
        ((Concat(branches=(CONV, Sequence())), BatchNorm()), ["1"]),
        ((CONV, Split(sizes=(3, 5), branches=(CONV, replace(CONV, groups=1))), BatchNorm()), []),
        ((CONV, Split(sizes=(3, 5), branches=(BatchNorm(), CONV))), ["1.branches.0"]),
        ((CONV, Gate(body=Sequence(layers=(BatchNorm(), CONV, BatchNorm())))), ["1.body.0"]),
    ],
)
def test_only_norms_right_behind_weights_go(layers: tuple[Layer, ...], left: list[str]) -> None:
    model = tree_model(*layers, *TAIL)
    folded = fold_norms(model)
    assert norms_of(folded) == left
    assert_same_function(model, folded)


def test_a_step_of_a_graph_is_folded_by_itself() -> None:
    graph = Graph(
        steps=(
            Step(layer=CONV, sources=(0,)),
            Step(layer=BatchNorm(), sources=(1,)),
            Step(layer=Sequence(layers=(CONV, BatchNorm())), sources=(1, 2)),
        )
    )
    model = tree_model(graph, *TAIL)
    folded = fold_norms(model)
    assert norms_of(folded) == ["0.steps.1"]
    assert_same_function(model, folded)


def test_layers_keep_their_paths_where_a_norm_went_between_them() -> None:
    folded = fold_norms(tree_model(CONV, BatchNorm(), Activation(function="relu"), CONV, *TAIL))
    left = ["0.weight", "0.bias", "3.weight", "6.weight", "6.bias"]
    assert list(folded.module.state_dict()) == left


def test_folding_twice_is_folding_once() -> None:
    once = fold_norms(tree_model(CONV, BatchNorm(), *TAIL))
    twice = fold_norms(once)
    assert twice.digest == once.digest
    next(twice.module.parameters()).data.zero_()
    assert once.digest != twice.digest  # memory of its own


def test_mode_is_kept() -> None:
    model = tree_model(CONV, BatchNorm(), *TAIL)
    assert not fold_norms(model).module.training
    model.module.train()
    assert fold_norms(model).module.training


def test_a_folded_model_is_saved_and_read_again(tmp_path) -> None:
    folded = fold_norms(tree_model(CONV, BatchNorm(), Activation(function="relu"), CONV, *TAIL))
    folded.save(tmp_path)
    again = FaceModel.load(tmp_path)
    assert again.digest == folded.digest
    images = np.random.default_rng(0).integers(0, 256, (2, 8, 8, 3), np.uint8)
    folded.module.eval()
    np.testing.assert_array_equal(again.embed(images), folded.embed(images))
