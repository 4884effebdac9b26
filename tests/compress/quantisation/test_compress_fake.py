"""Fake quantisation: against a network computed by hand, with gradients, and without a trace."""

import copy

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from quantisation_checks import gated_model, orl_crops, small_model
from torch import Tensor, nn
from torch.nn import functional

from nas_face.arch.zoo import network
from nas_face.compress.quantisation.fake import (
    LayerGrid,
    fake_quantised,
    grids_of,
    observed_ranges,
)
from nas_face.compress.quantisation.fold import fold_norms
from nas_face.compress.quantisation.grid import ActivationRange, rounded, weight_scale
from nas_face.errors import CompressionError
from nas_face.nn.fast import fast_training
from nas_face.nn.model import FaceModel

RANGE = ActivationRange(low=-1.0, high=2.0)
GRID = LayerGrid(weight_bits=4, input=RANGE)


def by_hand(x: Tensor, range_: ActivationRange, bits: int = 8) -> Tensor:
    """Values as unsigned integers and back."""
    most = 2**bits - 1
    step = (range_.high - range_.low) / most
    zero = round(-range_.low / step)
    levels = (x / step + zero).round().clamp(0, most)
    values: Tensor = (levels - zero) * step
    return values


def all_on_grids(
    model: FaceModel, crops: NDArray[np.uint8], *, weight_bits: int = 8
) -> dict[str, LayerGrid]:
    ranges = observed_ranges(model, crops)
    return grids_of(ranges, dict.fromkeys(ranges, weight_bits))


def test_a_convolution_and_a_linear_layer_compute_on_their_grids() -> None:
    torch.manual_seed(0)
    module = nn.Sequential(
        nn.Conv2d(4, 6, 3, stride=2, padding=1, groups=2), nn.Flatten(), nn.Linear(24, 5)
    )
    x = torch.randn(3, 4, 4, 4)
    conv, linear = module[0], module[2]
    assert isinstance(conv, nn.Conv2d) and isinstance(linear, nn.Linear)
    with torch.no_grad():
        weights = [
            rounded(each.weight, weight_scale(each.weight, 4), 4) for each in (conv, linear)
        ]
        y = functional.conv2d(by_hand(x, RANGE), weights[0], conv.bias, 2, 1, groups=2)
        expected = functional.linear(by_hand(y.flatten(1), RANGE), weights[1], linear.bias)
        with fake_quantised(module, {"0": GRID, "2": GRID}):
            got = module(x)
    torch.testing.assert_close(got, expected)
    assert not torch.allclose(got, module(x), atol=1e-3)


@pytest.mark.parametrize("bits", [8, 4])
def test_outputs_are_rounded_where_they_have_a_range(bits: int) -> None:
    torch.manual_seed(0)
    linear = nn.Linear(4, 6)
    x = torch.randn(5, 4)
    narrow = ActivationRange(low=-0.3, high=0.5)
    grid = LayerGrid(weight_bits=8, activation_bits=bits, output=narrow)
    with torch.no_grad():
        weight = rounded(linear.weight, weight_scale(linear.weight, 8), 8)
        expected = by_hand(functional.linear(x, weight, linear.bias), narrow, bits)
        with fake_quantised(nn.Sequential(linear), {"0": grid}):
            got = linear(x)
    torch.testing.assert_close(got, expected)
    assert len(got.unique()) <= 2**bits
    torch.testing.assert_close(
        got.aminmax(), (torch.tensor(-0.3), torch.tensor(0.5)), atol=0.03, rtol=0
    )


def test_layers_that_are_not_named_stay_in_float() -> None:
    torch.manual_seed(0)
    module = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 3))
    x = torch.randn(5, 4)
    with torch.no_grad():
        first = module[0](x)
        with fake_quantised(module, {"1": GRID}):
            assert torch.equal(module[0](x), first)
            assert torch.equal(module(x), module[1](first))


def test_gradients_pass_as_though_nothing_were_rounded() -> None:
    torch.manual_seed(0)
    linear = nn.Linear(3, 2)
    module = nn.Sequential(linear)
    x = torch.tensor([[0.303, -0.701, 1.901], [2.5, 0.102, -1.4]], requires_grad=True)
    g = torch.randn(2, 2)
    with fake_quantised(module, {"0": GRID}):
        module(x).backward(g)
    inside = (x >= -1) & (x <= 2)
    weight = rounded(linear.weight.detach(), weight_scale(linear.weight, 4), 4)
    assert x.grad is not None and linear.weight.grad is not None
    torch.testing.assert_close(x.grad, (g @ weight) * inside)
    torch.testing.assert_close(linear.weight.grad, g.T @ by_hand(x.detach(), RANGE))
    assert not inside.all()


def test_weights_follow_their_scale_while_they_change() -> None:
    linear = nn.Linear(4, 1, bias=False)
    with torch.no_grad():
        linear.weight.copy_(torch.tensor([[7.0, 1.2, -2.6, 0.4]]))
    module, x = nn.Sequential(linear), torch.eye(4)
    grid = LayerGrid(weight_bits=4, activation_bits=8, input=ActivationRange(low=0, high=1))
    with fake_quantised(module, {"0": grid}), torch.no_grad():
        torch.testing.assert_close(module(x)[:, 0], torch.tensor([7.0, 1.0, -3.0, 0.0]))
        linear.weight[0, 0] = 3.5
        torch.testing.assert_close(module(x)[:, 0], torch.tensor([3.5, 1.0, -2.5, 0.5]))


def test_no_trace_is_left() -> None:
    model = small_model()
    before = {name: type(each) for name, each in model.module.named_modules()}
    keys = {name: set(vars(each)) for name, each in model.module.named_modules()}
    digest, weights = model.digest, [id(each) for each in model.module.parameters()]
    grids = all_on_grids(model, orl_crops(4))
    with pytest.raises(ZeroDivisionError), fake_quantised(model.module, grids):
        assert list(model.module.state_dict()) == list(copy.deepcopy(model.module).state_dict())
        assert model.digest == digest
        raise ZeroDivisionError
    assert {name: type(each) for name, each in model.module.named_modules()} == before
    assert {name: set(vars(each)) for name, each in model.module.named_modules()} == keys
    assert [id(each) for each in model.module.parameters()] == weights


def test_a_part_can_be_quantised_inside_another() -> None:
    module = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 3))
    with fake_quantised(module, {"0": GRID}):
        with fake_quantised(module, {"1": GRID}):
            assert type(module[1]) is not nn.Linear
        assert type(module[1]) is nn.Linear
        assert type(module[0]) is not nn.Linear
        with (
            pytest.raises(CompressionError, match="0: .*in float is needed here, got Fake"),
            fake_quantised(module, {"1": GRID, "0": GRID}),
        ):
            pass
        assert type(module[1]) is nn.Linear


@pytest.mark.parametrize(("path", "found"), [("1", "ReLU"), ("9", "nothing"), ("", "Sequential")])
def test_other_layers_are_refused(path: str, found: str) -> None:
    module = nn.Sequential(nn.Linear(4, 4), nn.ReLU())
    with (
        pytest.raises(CompressionError, match=f"got {found}"),
        fake_quantised(module, {path: GRID}),
    ):
        pass


@pytest.mark.parametrize(
    "name", ["mobilefacenet_128", "seesaw_shuffle", "vargfacenet", "ghostfacenet_v1_2"]
)
def test_fast_training_computes_on_the_same_grids(name: str) -> None:
    """Layers that are computed together are not computed around a grid."""
    spec = network(name).make(network(name).input_shape._replace(height=56, width=56), 64)
    model = fold_norms(FaceModel.fresh(spec, seed=0))
    grids = all_on_grids(model, orl_crops(4, side=56), weight_bits=4)
    x = model.description.preprocessing.apply(orl_crops(4, side=56, first=3))
    module = model.module.train()
    results = {}
    for fuse in (False, True):
        with fake_quantised(module, grids), fast_training(module, fuse=fuse):
            module.zero_grad()
            y = module(x)
            y.square().sum().backward()
        gradients = [each.grad.clone() for each in module.parameters() if each.grad is not None]
        results[fuse] = (y.detach(), gradients)
    with torch.no_grad():
        in_float = module(x)
    (plain, plain_gradients), (fast, fast_gradients) = results[False], results[True]
    rounding = float((plain - in_float).norm() / in_float.norm())
    # Rounding errors of float32 move single values to a neighbouring level.
    assert float((fast - plain).norm() / plain.norm()) < 0.1 * rounding
    assert rounding > 0.05
    assert len(plain_gradients) == len(list(module.parameters()))
    for ours, theirs in zip(fast_gradients, plain_gradients, strict=True):
        assert float((ours - theirs).norm()) <= 0.2 * float(theirs.norm()) + 1e-6


def test_ranges_are_those_that_layers_read() -> None:
    model = gated_model()
    crops = orl_crops(6, side=12)
    seen: dict[str, list[tuple[Tensor, Tensor]]] = {}
    for path, each in model.module.named_modules():
        if isinstance(each, nn.Conv2d | nn.Linear):
            each.register_forward_hook(
                lambda module, inputs, output, path=path: seen.setdefault(path, []).append(
                    (inputs[0].clone(), output.clone())
                )
            )
    found = observed_ranges(model, crops, batch_size=4)
    assert list(found) == list(seen) == ["0", "3.body.1", "3.body.3", "4", "7"]
    for path, each in found.items():
        for number, range_ in enumerate((each.input, each.output)):
            values = torch.cat([batch[number].flatten() for batch in seen[path]])
            assert range_.low == min(0.0, float(values.min()))
            assert range_.high == max(0.0, float(values.max()))
    assert not model.module.training


def test_grids_have_what_the_runtime_rounds() -> None:
    ranges = observed_ranges(gated_model(), orl_crops(2, side=12))
    bits = {"3.body.1": 6, "4": 8}
    grids = grids_of(ranges, bits, activation_bits=7)
    assert grids == {
        path: LayerGrid(weight_bits=each, activation_bits=7, input=ranges[path].input)
        for path, each in bits.items()
    }
    both = grids_of(ranges, bits, outputs=True)
    assert [each.output for each in both.values()] == [ranges[path].output for path in bits]
    alone = grids_of(ranges, bits, activation_bits=None, outputs=True)
    assert alone == {path: LayerGrid(weight_bits=each) for path, each in bits.items()}


@pytest.mark.parametrize(("weights", "activations"), [(1, 8), (9, 8), (8, 1), (8, 9)])
def test_bits_out_of_range_are_refused(weights: int, activations: int) -> None:
    with pytest.raises(CompressionError, match="_bits must be 2 to 8, got"):
        LayerGrid(weight_bits=weights, activation_bits=activations, input=RANGE)


@pytest.mark.parametrize(
    ("crops", "message"),
    [
        (np.zeros((2, 12, 10, 3), np.uint8), r"shape \(N, 12, 12, 3\), got uint8 of shape"),
        (np.zeros((2, 12, 12, 3), np.float32), "got float32"),
        (np.zeros((0, 12, 12, 3), np.uint8), "at least one is needed"),
    ],
)
def test_crops_that_do_not_fit_are_refused(crops, message) -> None:
    with pytest.raises(CompressionError, match=message):
        observed_ranges(gated_model(), crops)


def test_a_network_that_overflows_has_no_ranges() -> None:
    model = gated_model()
    with torch.no_grad():
        model.module.get_parameter("0.weight").fill_(torch.inf)
    with pytest.raises(CompressionError, match="^0: on 2 crops, values must be finite"):
        observed_ranges(model, orl_crops(2, side=12))
