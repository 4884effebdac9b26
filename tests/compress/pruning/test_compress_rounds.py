"""Pruning in rounds."""

import pytest
import torch
from pruning_checks import assert_equals_masked, noise_crops, random_model, shrunk

from nas_face.arch.zoo import network
from nas_face.compress.pruning import (
    Gradients,
    Target,
    angular_gradients,
    prune,
    prune_in_rounds,
)
from nas_face.errors import CompressionError
from nas_face.nn.model import FaceModel

SPEC = shrunk(network("mobilefacenet_128").spec, side=32)


@pytest.fixture(scope="module")
def model() -> FaceModel:
    return random_model(SPEC)


def unchanged(model: FaceModel, number: int) -> FaceModel:
    return model


@pytest.mark.parametrize("quantity", ["madds", "params"])
def test_every_round_takes_the_same_factor(model: FaceModel, quantity: str) -> None:
    before = getattr(model.description.cost, quantity)
    results = prune_in_rounds(
        model, Target(**{quantity: before // 8 * 4}), rounds=3, recover=unchanged, round_to=1
    )
    reached = [getattr(each.model.description.cost, quantity) / before for each in results]
    assert reached == pytest.approx([0.5 ** (1 / 3), 0.5 ** (2 / 3), 0.5], rel=0.01)


def test_measured_cost_in_rounds(model: FaceModel) -> None:
    def latency(each: FaceModel) -> float:
        return 0.5 + each.description.cost.madds / 2e7

    value = 0.8 * latency(model)
    results = prune_in_rounds(
        model, Target(cost=latency, value=value), rounds=2, recover=unchanged, round_to=4
    )
    assert latency(results[-1].model) == pytest.approx(value, rel=0.01)


def test_recovery_comes_between_rounds_and_decides_what_goes(model: FaceModel) -> None:
    seen: list[tuple[int, int]] = []

    def shaken(pruned: FaceModel, number: int) -> FaceModel:
        seen.append((number, pruned.description.cost.madds))
        generator = torch.Generator().manual_seed(0)
        with torch.no_grad():
            for each in pruned.module.parameters():
                each.mul_(torch.rand(each.shape, generator=generator) * 2)
        return pruned.noting("shaken")

    target = Target(madds=model.description.cost.madds // 2)
    first, last = prune_in_rounds(model, target, rounds=2, recover=shaken)
    _, calm = prune_in_rounds(model, target, rounds=2, recover=unchanged)

    assert seen == [(1, first.madds_after)]
    assert last.madds_before == first.madds_after
    assert last.removed != calm.removed
    assert [line.split()[0] for line in last.model.description.lineage] == [
        "pruned",
        "shaken",
        "pruned",
    ]
    assert_equals_masked(first.model, last.model, last.removed)  # `shaken` works in place


def test_one_round_is_plain_pruning(model: FaceModel) -> None:
    target = model.description.cost.madds // 2
    (result,) = prune_in_rounds(model, Target(madds=target), rounds=1, recover=unchanged)
    assert result.removed == prune(model, target_madds=target).removed


def test_floors_are_of_the_first_network(model: FaceModel) -> None:
    target = Target(madds=model.description.cost.madds // 3)
    results = prune_in_rounds(model, target, rounds=3, recover=unchanged, min_keep=0.5, round_to=1)
    before = {each.name: each.channels_before for each in results[0].families}
    kept = [each.channels_after / before[each.name] for each in results[-1].families]
    assert min(kept) == pytest.approx(0.5, abs=0.01)
    with pytest.raises(CompressionError, match="cannot be reached"):
        prune_in_rounds(model, target, rounds=3, recover=unchanged, min_keep=0.7, round_to=1)


def test_gradients_are_those_of_the_rounds_network(model: FaceModel) -> None:
    widths: list[int] = []

    def gradients(each: FaceModel) -> Gradients:
        widths.append(each.description.cost.madds)
        return angular_gradients(each, noise_crops(each))

    results = prune_in_rounds(
        model,
        Target(madds=model.description.cost.madds // 2),
        rounds=2,
        recover=unchanged,
        importance="hessian",
        gradients=gradients,
    )
    assert widths == [result.madds_before for result in results]


def test_recovery_must_keep_the_network(model: FaceModel) -> None:
    with pytest.raises(CompressionError, match="recover: round 1 came back as another network"):
        prune_in_rounds(
            model,
            Target(madds=model.description.cost.madds // 2),
            rounds=2,
            recover=lambda pruned, number: model,
        )


def test_rounds_must_be_positive(model: FaceModel) -> None:
    with pytest.raises(CompressionError, match="rounds must be 1 or more, got 0"):
        prune_in_rounds(model, Target(madds=10), rounds=0, recover=unchanged)
