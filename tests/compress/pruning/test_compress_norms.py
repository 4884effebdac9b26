"""Statistics of batch normalisations, measured anew."""

import numpy as np
import pytest
import torch
from pruning_checks import noise_crops, random_model, shrunk, tree_model
from torch import nn

from nas_face.arch.combinators import Sequence
from nas_face.arch.cost import Shape
from nas_face.arch.layers import BatchNorm, Conv, Flatten, Linear
from nas_face.arch.zoo import network
from nas_face.compress.pruning import prune, recalibrate_norms, restore_norms
from nas_face.errors import CompressionError
from nas_face.nn.model import FaceModel

TREE = Sequence(
    layers=(Conv(out_channels=3), BatchNorm(), Flatten(), Linear(out_features=2), BatchNorm())
)


@pytest.fixture
def model() -> FaceModel:
    return tree_model(TREE, Shape(3, 4, 4))


def folded_model() -> FaceModel:
    """A network whose normalisations do nothing, and whose channels differ widely."""
    model = random_model(shrunk(network("mobilefacenet_128").spec, side=32))
    for each in model.module.modules():
        if isinstance(each, nn.modules.batchnorm._BatchNorm):
            nn.init.ones_(each.weight)
            nn.init.zeros_(each.bias)
            each.running_mean.zero_()
            each.running_var.fill_(1 - each.eps)
    return model


def test_restored_norms_hold_statistics_and_change_nothing() -> None:
    model = folded_model()
    crops = noise_crops(model, n=12)
    restored = restore_norms(model, crops, batch_size=4)

    expected, found = (each.embed(crops, flip=False) for each in (model, restored))
    assert np.abs(found - expected).max() < 1e-5 * np.abs(expected).max()
    first = restored.module.get_submodule("stem.0.norm")
    with torch.no_grad():
        x = model.module.get_submodule("stem.0.conv")(model.description.preprocessing.apply(crops))
    torch.testing.assert_close(first.running_mean, x.mean(dim=(0, 2, 3)), atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(first.running_var, x.var(dim=(0, 2, 3)), atol=1e-5, rtol=1e-4)
    assert restored.description == model.description


def test_restored_networks_can_be_measured_anew_and_folded_ones_cannot() -> None:
    model = folded_model()
    crops = noise_crops(model, n=32)
    with pytest.raises(CompressionError, match="norms hold no statistics.*restore_norms"):
        recalibrate_norms(model, crops)
    anew = recalibrate_norms(restore_norms(model, crops), crops)
    expected, found = (each.embed(crops, flip=False) for each in (model, anew))
    # a batch is normalised by its plain variance, n - 1 less
    assert np.abs(found - expected).max() < 0.05 * np.abs(expected).max()


def test_restoring_twice_is_restoring_once(model: FaceModel) -> None:
    crops = noise_crops(model, n=8)
    once = restore_norms(model, crops)
    twice = restore_norms(once, crops)
    for key, value in once.module.state_dict().items():
        torch.testing.assert_close(twice.module.state_dict()[key], value, atol=1e-5, rtol=1e-4)


def test_norms_without_a_scale_are_left_alone() -> None:
    tree = Sequence(layers=(Conv(out_channels=3), BatchNorm(fixed_scale=True)))
    model = tree_model(tree, Shape(3, 4, 4))
    restored = restore_norms(model, noise_crops(model, n=4))
    for key, value in model.module.state_dict().items():
        assert torch.equal(restored.module.state_dict()[key], value)


def test_statistics_are_those_of_the_crops(model: FaceModel) -> None:
    crops = noise_crops(model, n=6)
    found = recalibrate_norms(model, crops).module.state_dict()
    x = model.description.preprocessing.apply(crops)
    with torch.no_grad():
        y = model.module.get_submodule("0")(x)
    torch.testing.assert_close(found["1.running_mean"], y.mean(dim=(0, 2, 3)))
    torch.testing.assert_close(found["1.running_var"], y.var(dim=(0, 2, 3)))


def test_batches_weigh_alike_and_none_is_left_out(model: FaceModel) -> None:
    crops = noise_crops(model, n=6)
    found = recalibrate_norms(model, crops, batch_size=2).module.state_dict()
    x = model.description.preprocessing.apply(crops)
    with torch.no_grad():
        y = model.module.get_submodule("0")(x)
    variances = [part.var(dim=(0, 2, 3)) for part in y.split(2)]
    torch.testing.assert_close(found["1.running_mean"], y.mean(dim=(0, 2, 3)))
    torch.testing.assert_close(found["1.running_var"], torch.stack(variances).mean(dim=0))


def test_embeddings_have_the_scale_and_shift_of_the_last_norm(model: FaceModel) -> None:
    crops = noise_crops(model, n=32)
    found = recalibrate_norms(model, crops)
    y = found.embed(crops, flip=False)
    scale, shift = (found.module.get_parameter(f"4.{key}") for key in ("weight", "bias"))
    assert y.mean(axis=0) == pytest.approx(shift.detach().numpy(), abs=1e-3)
    assert y.std(axis=0, ddof=1) == pytest.approx(scale.detach().numpy(), rel=1e-2)


def test_nothing_else_changes(model: FaceModel) -> None:
    before = {key: value.clone() for key, value in model.module.state_dict().items()}
    model.module.train()
    found = recalibrate_norms(model, noise_crops(model, n=4))
    assert found.module.training
    for key, value in before.items():
        assert torch.equal(model.module.state_dict()[key], value)
        if "running" not in key and "num_batches" not in key:
            assert torch.equal(found.module.state_dict()[key], value)
    assert found.module.get_submodule("1").momentum == model.module.get_submodule("1").momentum
    assert found.description.network == model.description.network
    assert found.description.lineage == (
        "statistics of batch normalisations measured anew on 4 crops",
    )


def test_a_pruned_network_has_its_scale_back() -> None:
    model = random_model(shrunk(network("mobilefacenet_128").spec, side=32))
    crops = noise_crops(model, n=64)
    model = recalibrate_norms(model, crops)
    pruned = prune(model, target_madds=model.description.cost.madds // 3).model

    def off(each: FaceModel) -> float:
        spread = each.embed(crops, flip=False).std(axis=0) / model.embed(crops, flip=False).std(
            axis=0
        )
        return float(np.abs(np.log(spread)).mean())

    assert off(recalibrate_norms(pruned, crops)) < 0.05 < off(pruned)


@pytest.mark.parametrize(("n", "batch_size"), [(0, 64), (1, 64), (4, 1)])
def test_one_crop_has_no_variance(model: FaceModel, n: int, batch_size: int) -> None:
    with pytest.raises(CompressionError, match=f"at least two at once, got {n} in batches of"):
        recalibrate_norms(model, noise_crops(model, n=n), batch_size=batch_size)
