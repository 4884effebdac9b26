"""Gradients of single samples against loops and against the whole Jacobian."""

import numpy as np
import pytest
import torch
from pruning_checks import noise_crops, tree_model
from torch.nn import functional

from nas_face.arch.combinators import Sequence
from nas_face.arch.cost import Shape
from nas_face.arch.layers import BatchNorm, Conv, Flatten, Linear
from nas_face.compress.pruning import angular_gradients, per_sample_gradients
from nas_face.errors import CompressionError
from nas_face.nn.model import FaceModel

TREE = Sequence(
    layers=(Conv(out_channels=3, bias=True), BatchNorm(), Flatten(), Linear(out_features=2))
)


@pytest.fixture
def model() -> FaceModel:
    return tree_model(TREE, Shape(3, 2, 2))


def test_means_over_samples(model: FaceModel) -> None:
    crops = noise_crops(model, n=3)
    found = per_sample_gradients(model, crops, lambda y, number: (number + 1) * y.sum())

    samples = []
    for number in range(3):
        model.module.zero_grad()
        x = model.description.preprocessing.apply(crops[number : number + 1])
        ((number + 1) * model.module(x).sum()).backward()
        samples.append({key: each.grad.clone() for key, each in model.module.named_parameters()})
    assert found.n_samples == 3
    assert set(found.squares) == set(found.magnitudes) == set(samples[0])
    for key in samples[0]:
        stacked = torch.stack([sample[key] for sample in samples])
        torch.testing.assert_close(found.magnitudes[key], stacked.abs().mean(dim=0))
        torch.testing.assert_close(found.squares[key], stacked.square().mean(dim=0))


def test_several_losses_of_a_crop_are_samples_of_their_own(model: FaceModel) -> None:
    crops = noise_crops(model, n=1)
    both = per_sample_gradients(model, crops, lambda y, number: y)
    first, second = (
        per_sample_gradients(model, crops, lambda y, number, at=at: y[at]) for at in (0, 1)
    )
    assert both.n_samples == 2
    for key, value in both.squares.items():
        torch.testing.assert_close(value, (first.squares[key] + second.squares[key]) / 2)


def test_the_model_is_left_as_it_was(model: FaceModel) -> None:
    model.module.train()
    before = {key: value.clone() for key, value in model.module.state_dict().items()}
    per_sample_gradients(model, noise_crops(model), lambda y, number: y.sum())
    assert model.module.training
    assert all(each.grad is None for each in model.module.parameters())
    after = model.module.state_dict()
    assert all(torch.equal(after[key], value) for key, value in before.items())


def test_angular_squares_estimate_the_second_derivative_of_the_angular_distance(
    model: FaceModel,
) -> None:
    crops = noise_crops(model, n=1)
    x = model.description.preprocessing.apply(crops)
    weights = {key: each.detach() for key, each in model.module.named_parameters()}
    with torch.no_grad():
        start = functional.normalize(model.module(x))[0]

    def distance(weight: torch.Tensor) -> torch.Tensor:
        changed = {**weights, "0.weight": weight}
        y = torch.func.functional_call(model.module, changed, (x,))
        return 1 - functional.normalize(y)[0] @ start

    hessian = torch.autograd.functional.hessian(distance, weights["0.weight"])
    n = weights["0.weight"].numel()
    diagonal = hessian.reshape(n, n).diagonal().numpy()

    found = angular_gradients(model, crops, n_projections=200).squares["0.weight"]

    assert np.allclose(found.numpy().reshape(-1), diagonal, rtol=0.25, atol=1e-9)
    torch.testing.assert_close(
        torch.autograd.functional.jacobian(distance, weights["0.weight"]),
        torch.zeros_like(weights["0.weight"]),
        atol=1e-6,
        rtol=0,
    )


def test_same_seed_same_gradients(model: FaceModel) -> None:
    crops = noise_crops(model, n=8)
    first, second, other = (angular_gradients(model, crops, seed=seed) for seed in (0, 0, 1))
    assert torch.equal(first.squares["0.weight"], second.squares["0.weight"])
    assert not torch.equal(first.squares["0.weight"], other.squares["0.weight"])


def test_no_crops_are_an_error(model: FaceModel) -> None:
    with pytest.raises(CompressionError, match="crops: gradients need at least one, got none"):
        angular_gradients(model, noise_crops(model, n=0))


def test_a_loss_of_something_else_is_an_error(model: FaceModel) -> None:
    with pytest.raises(CompressionError, match="it must depend on the embedding"):
        per_sample_gradients(model, noise_crops(model), lambda y, number: torch.ones(()))
