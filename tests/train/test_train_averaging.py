"""The running mean of weights: against its recurrence, swapped in and out, resumed."""

import numpy as np
import pytest
import torch
from torch import nn

from nas_face.train.averaging import WeightAverage


def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(2, 3, 1), nn.BatchNorm2d(3), nn.PReLU(3))


def train_a_step(module: nn.Module, seed: int) -> None:
    """Moves weights, running statistics and the count of batches."""
    random = torch.Generator().manual_seed(seed)
    module.train()(torch.randn(4, 2, 3, 3, generator=random))
    with torch.no_grad():
        for parameter in module.parameters():
            parameter += torch.randn(parameter.shape, generator=random)


def copied(module: nn.Module) -> dict[str, torch.Tensor]:
    return {name: tensor.clone() for name, tensor in module.state_dict().items()}


def assert_same(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> None:
    assert list(a) == list(b)
    assert all(torch.equal(a[name], b[name]) for name in a)


@pytest.mark.parametrize("decay", [0.3, 0.999])
def test_mean_by_its_recurrence(decay: float) -> None:
    module = network()
    average = WeightAverage(module, decay=decay)
    expected = {name: t.double().numpy().copy() for name, t in module.state_dict().items()}
    for n in range(1, 8):
        train_a_step(module, n)
        average.update()
        keep = min(decay, (1 + n) / (10 + n))
        for name, tensor in module.state_dict().items():
            expected[name] = keep * expected[name] + (1 - keep) * tensor.double().numpy()
    with average.applied():
        for name, tensor in module.state_dict().items():
            if name == "1.num_batches_tracked":
                assert tensor == 7
            else:
                np.testing.assert_allclose(tensor, expected[name], rtol=1e-5, atol=1e-6)


def test_after_a_block_the_module_and_the_mean_are_as_before_it_bit_for_bit() -> None:
    module = network()
    average = WeightAverage(module, decay=0.9)
    parameters = list(module.parameters())
    train_a_step(module, 1)
    average.update()
    before = copied(module)
    with average.applied():
        first = copied(module)
    assert_same(copied(module), before)
    assert [id(p) for p in module.parameters()] == [id(p) for p in parameters]
    with pytest.raises(ZeroDivisionError), average.applied():
        assert_same(copied(module), first)
        raise ZeroDivisionError
    assert_same(copied(module), before)
    assert not torch.equal(first["0.weight"], before["0.weight"])


def test_applied_for_good_it_is_what_was_verified() -> None:
    module = network()
    average = WeightAverage(module, decay=0.9)
    train_a_step(module, 1)
    average.update()
    with average.applied():
        verified = copied(module)
    average.apply_()
    assert_same(copied(module), verified)


def test_a_resumed_mean_goes_on_bit_for_bit() -> None:
    module = network()
    average = WeightAverage(module, decay=0.99)
    for n in range(3):
        train_a_step(module, n)
        average.update()
    weights, state = copied(module), average.state_dict()
    state = {
        "n_updates": state["n_updates"],
        "mean": {k: v.clone() for k, v in state["mean"].items()},
    }
    train_a_step(module, 9)
    average.update()
    average.apply_()

    other = network()
    resumed = WeightAverage(other, decay=0.99)
    other.load_state_dict(weights)
    resumed.load_state_dict(state)
    train_a_step(other, 9)
    resumed.update()
    resumed.apply_()
    assert_same(copied(other), copied(module))


def test_weights_in_another_memory_format_are_averaged_alike() -> None:
    means = []
    for memory_format in (torch.contiguous_format, torch.channels_last):
        module = network()
        for parameter in module.parameters():
            if parameter.ndim == 4:
                parameter.data = parameter.data.contiguous(memory_format=memory_format)
        average = WeightAverage(module, decay=0.9)
        for n in range(3):
            train_a_step(module, n)
            average.update()
        average.apply_()
        means.append(copied(module))
    for name in means[0]:
        torch.testing.assert_close(means[0][name], means[1][name])


@pytest.mark.parametrize("decay", [0.0, 1.0, float("nan")])
def test_impossible_decays_are_refused(decay: float) -> None:
    with pytest.raises(ValueError, match="decay must lie between 0 and 1"):
        WeightAverage(network(), decay=decay)
