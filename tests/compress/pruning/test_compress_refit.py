"""Weights fitted to what the unpruned layers gave, against plain least squares."""

import numpy as np
import pytest
import torch
from pruning_checks import noise_crops, random_model, shrunk, tree_model, without

from nas_face.arch.combinators import Sequence
from nas_face.arch.cost import Shape
from nas_face.arch.layers import BatchNorm, Conv, Flatten, Linear, PReLU
from nas_face.arch.zoo import network
from nas_face.compress.pruning import Target, prune, prune_in_rounds, prune_stages, refit
from nas_face.compress.pruning.channels import couple
from nas_face.errors import CompressionError
from nas_face.nn.model import FaceModel

LINEAR = Sequence(
    layers=(
        Conv(out_channels=6, kernel=(3, 3), stride=4),
        PReLU(),
        Flatten(),
        Linear(out_features=5, bias=True),
    ),
    names=("a", "act", "flat", "out"),
)
CONV = Sequence(
    layers=(
        Conv(out_channels=8),
        PReLU(),
        Conv(out_channels=4),
        BatchNorm(),
        Flatten(),
        Linear(out_features=3),
    ),
    names=("a", "act", "b", "norm", "flat", "out"),
)


def embeddings(model: FaceModel, crops: np.ndarray) -> np.ndarray:
    return model.embed(crops, flip=False)


def cut(model: FaceModel, n: int) -> tuple[FaceModel, list[int]]:
    """Without the first classes of the first family."""
    coupling = couple(model.description.network, model.description.input)
    removed = list(coupling.families[0].classes[:n])
    return without(model, removed, coupling), removed


def squared_error(model: FaceModel, wanted: np.ndarray, crops: np.ndarray) -> float:
    return float(np.square(embeddings(model, crops) - wanted).sum())


def test_a_channel_that_others_add_up_to_is_made_up_for_exactly() -> None:
    model = tree_model(CONV, Shape(3, 4, 4))
    with torch.no_grad():  # channel 0 is twice channel 1, with its slope
        weight = model.module.get_parameter("a.weight")
        weight[0] = 2 * weight[1]
        slopes = model.module.get_parameter("act.weight")
        slopes[0] = slopes[1]
    crops = noise_crops(model, n=40)
    pruned, removed = cut(model, 1)
    wanted = embeddings(model, crops)
    before = np.abs(embeddings(pruned, crops) - wanted).max()
    fitted = refit(model, pruned, removed, crops)
    assert np.abs(embeddings(fitted, crops) - wanted).max() < 1e-3 * before


def test_a_linear_layer_comes_near_the_least_squares_of_numpy() -> None:
    model = tree_model(LINEAR, Shape(3, 4, 4))
    crops = noise_crops(model, n=400)
    pruned, removed = cut(model, 2)
    wanted = embeddings(model, crops).astype(np.float64)
    x = model.description.preprocessing.apply(crops)
    with torch.no_grad():
        read = pruned.module[:3](x).numpy().astype(np.float64)  # type: ignore[index]
    with_ones = np.hstack([read, np.ones((len(read), 1))])
    best = np.square(with_ones @ np.linalg.lstsq(with_ones, wanted)[0] - wanted).sum()
    error = squared_error(refit(model, pruned, removed, crops), wanted, crops)
    assert best <= error * (1 + 1e-6)
    assert error <= 1.02 * best
    assert squared_error(pruned, wanted, crops) > 1.1 * best


@pytest.mark.parametrize(
    "name", ["mobilefacenet_128", "seesaw_shuffle", "vargfacenet", "shufflefacenet_1x"]
)
def test_other_crops_gain_by_it_in_every_family(name: str) -> None:
    model = random_model(shrunk(network(name).spec, side=32))
    crops = noise_crops(model, n=96)
    others = noise_crops(model, n=16, seed=1)
    target = Target(madds=int(0.6 * model.description.cost.madds))
    plain = prune(model, target=target)
    fitted = prune(model, target=target, refit_on=crops)
    wanted = embeddings(model, others)
    assert fitted.model.description.network == plain.model.description.network
    assert squared_error(fitted.model, wanted, others) < squared_error(plain.model, wanted, others)


def test_models_are_left_as_they_were() -> None:
    model = tree_model(CONV, Shape(3, 4, 4))
    pruned, removed = cut(model, 3)
    before = [each.clone() for each in (*model.module.parameters(), *pruned.module.parameters())]
    fitted = refit(model, pruned, removed, noise_crops(model, n=20))
    after = [*model.module.parameters(), *pruned.module.parameters()]
    assert all(torch.equal(a, b) for a, b in zip(before, after, strict=True))
    assert not any(
        each._forward_hooks for each in (*model.module.modules(), *fitted.module.modules())
    )
    assert fitted.description.lineage[-1] == "weights fitted to the unpruned layers on 20 crops"


def test_rounds_and_stages_fit_too() -> None:
    model = random_model(shrunk(network("mobilefacenet_128").spec, side=32))
    crops = noise_crops(model, n=8)
    target = Target(madds=int(0.7 * model.description.cost.madds))
    rounds = prune_in_rounds(
        model, target, rounds=2, recover=lambda each, number: each, refit_on=crops
    )
    stages = prune_stages(model, {"stages.1": 0.5}, refit_on=crops)
    for each in (*(result.model for result in rounds), stages):
        assert any(line.startswith("weights fitted") for line in each.description.lineage)


def test_one_crop_is_an_error() -> None:
    model = tree_model(CONV, Shape(3, 4, 4))
    pruned, removed = cut(model, 1)
    with pytest.raises(CompressionError, match="fitting needs at least two, got 1"):
        refit(model, pruned, removed, noise_crops(model, n=1))


def test_another_model_is_an_error() -> None:
    model = tree_model(CONV, Shape(3, 4, 4))
    pruned, removed = cut(model, 1)
    with pytest.raises(CompressionError, match="a: it has 7 channels where 6 are left"):
        refit(model, pruned, [*removed, removed[0] + 1], noise_crops(model, n=4))
