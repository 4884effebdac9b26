"""Adaptive rounding: near the best choice there is, on a grid that any quantiser finds."""

import itertools
import logging

import pytest
import torch
from quantisation_checks import gated_model, mean_loss, orl_crops, small_model
from torch import nn

from nas_face.compress.quantisation import rounded_layers
from nas_face.compress.quantisation.adaptive_rounding import _windows, adaptive_rounding
from nas_face.compress.quantisation.grid import rounded, weight_scale
from nas_face.compress.quantisation.rounding import Moments, rounded_best
from nas_face.errors import CompressionError
from nas_face.nn.model import FaceModel


def problem(groups, n_out, n_in, *, n=200, seed=0):
    """Inputs that hang together, wanted outputs that the weights miss a little, and weights."""
    generator = torch.Generator().manual_seed(seed)
    mix = torch.randn(groups, n_in, n_in, generator=generator)
    x = torch.randn(groups, n, n_in, generator=generator) @ mix + 0.5
    weight = torch.randn(groups, n_out, n_in, generator=generator)
    noise = 0.05 * torch.randn(groups, n, n_out, generator=generator)
    return x, x @ weight.transpose(1, 2) + noise, weight


def errors(x, wanted, weight):
    """`(groups, out)`, mean squared error of the outputs."""
    return (x @ weight.transpose(1, 2) - wanted).square().mean(1)


def test_error_from_moments_is_that_of_the_outputs():
    x, wanted, weight = problem(2, 3, 5)
    change = 0.1 * torch.randn(2, 3, 5, generator=torch.Generator().manual_seed(1))
    got = Moments.of(x, wanted, weight).error(change).squeeze(2)
    expected = errors(x, wanted, weight + change) - errors(x, wanted, weight)
    torch.testing.assert_close(got, expected, rtol=1e-3, atol=1e-4)


def test_choices_are_near_the_best_of_all():
    x, wanted, weight = problem(10, 4, 8)
    scale = weight_scale(weight.flatten(0, 1), 3).view(10, 4, 1)
    best = rounded_best(weight, scale, 3, Moments.of(x, wanted, weight), n_iterations=300)
    position = weight / scale
    stays = position.abs() > 2.999  # the largest of a row, which shows the grid
    tried = []
    for up in itertools.product((0.0, 1.0), repeat=8):
        levels = torch.where(stays, position.round(), position.floor() + torch.tensor(up))
        tried.append(errors(x, wanted, levels * scale))
    least = torch.stack(tried).amin(0)
    nearest = errors(x, wanted, position.round() * scale)
    got = errors(x, wanted, best)
    assert (got <= nearest * (1 + 1e-4)).all()
    assert (got < least * (1 + 1e-4)).float().mean() > 0.5
    assert (got - least).sum() < 0.2 * (nearest - least).sum()


def test_every_weight_goes_to_a_neighbour_and_the_largest_stays():
    x, wanted, weight = problem(3, 5, 9)
    scale = weight_scale(weight.flatten(0, 1), 4).view(3, 5, 1)
    best = rounded_best(weight, scale, 7, Moments.of(x, wanted, weight), n_iterations=100)
    assert ((best - weight).abs() < scale * 1.0001).all()
    torch.testing.assert_close(best.abs().amax(2), weight.abs().amax(2))


@pytest.mark.parametrize("nothing", [0.0, 3e-45])
def test_rows_of_nothing_become_zeros(nothing):
    x, wanted, weight = problem(1, 3, 4)
    weight[0, 1] = nothing
    scale = weight_scale(weight[0], 4).view(1, 3, 1)
    best = rounded_best(weight, scale, 7, Moments.of(x, wanted, weight), n_iterations=50)
    assert torch.isfinite(best).all()
    assert not best[0, 1].any()
    assert best[0, 0].any()


@pytest.mark.parametrize(
    "layer",
    [
        nn.Conv2d(4, 6, (3, 1), stride=2, padding=(1, 0), groups=2),
        nn.Conv2d(4, 4, 3, padding=1, groups=4),
        nn.Conv2d(4, 3, 1),
        nn.Conv2d(4, 2, (7, 6)),
    ],
)
def test_windows_are_what_the_outputs_are_made_of(layer):
    x = torch.randn(3, 4, 7, 6, generator=torch.Generator().manual_seed(0))
    y = layer(x).detach()
    n = min(5, y[0, 0].numel())
    places = torch.stack([torch.randperm(y[0, 0].numel())[:n] for _ in x])
    windows = _windows(layer, x, places)
    weight = layer.weight.flatten(1).unflatten(0, (layer.groups, -1))
    got = (windows @ weight.transpose(1, 2)).transpose(0, 1).flatten(1) + layer.bias
    for number, (crop, position) in enumerate(itertools.product(range(3), range(n))):
        torch.testing.assert_close(got[number], y[crop].flatten(1)[:, places[crop, position]])


def test_windows_of_a_linear_layer_are_its_inputs():
    x = torch.randn(5, 4)
    assert torch.equal(_windows(nn.Linear(4, 2), x, torch.zeros(5, 1, dtype=torch.int64))[0], x)


def nearest(model, bits, narrow_bits):
    """Everything rounded to the nearest."""
    state = dict(model.module.state_dict())
    for path, layer in model.module.named_modules():
        if isinstance(layer, nn.Conv2d | nn.Linear):
            own = bits if layer.weight[0].numel() >= rounded_layers.NARROW else narrow_bits
            state[f"{path}.weight"] = rounded(layer.weight, weight_scale(layer.weight, own), own)
    return FaceModel.of(model.description, state)


@pytest.mark.parametrize("make", [small_model, gated_model])
def test_other_crops_keep_their_embeddings_better(make):
    model = make()
    fit, judge = (orl_crops(40, side=model.height, first=first) for first in (0, 3))
    got = adaptive_rounding(model, fit, weight_bits=4, narrow_bits=4, n_iterations=150)
    expected = model.embed(judge, flip=False)
    losses = [
        mean_loss(expected, each.embed(judge, flip=False)) for each in (got, nearest(model, 4, 4))
    ]
    assert losses[0] < 0.6 * losses[1]


def test_weights_end_on_the_grid_that_their_own_scale_gives():
    model = small_model()
    got = adaptive_rounding(model, orl_crops(10), weight_bits=4, n_iterations=30)
    wide = narrow = 0
    for path, layer in got.module.named_modules():
        if isinstance(layer, nn.Conv2d | nn.Linear):
            bits = 4 if layer.weight[0].numel() >= 64 else 8
            wide, narrow = wide + (bits == 4), narrow + (bits == 8)
            again = rounded(layer.weight, weight_scale(layer.weight, bits), bits)
            torch.testing.assert_close(again, layer.weight, rtol=1e-6, atol=0)
            before = model.module.get_submodule(path).weight
            torch.testing.assert_close(
                layer.weight.abs().flatten(1).amax(1), before.abs().flatten(1).amax(1)
            )
    assert wide and narrow


@pytest.mark.parametrize(("bits", "levels"), [(6, 127), (7, 63)])
def test_narrow_layers_have_eight_bits_in_files_of_few(bits, levels):
    model = small_model()
    got = adaptive_rounding(model, orl_crops(4), weight_bits=bits, n_iterations=2)
    weight = got.module.get_submodule("stages.0.0.depthwise.conv").weight
    steps = weight.abs().flatten(1).amax(1) / levels
    on_grid = (weight / steps.view(-1, 1, 1, 1)).sub_((weight / steps.view(-1, 1, 1, 1)).round())
    assert on_grid.abs().max() < 1e-3


def test_layers_kept_in_float_and_the_original_stay(caplog):
    model = small_model()
    before = {key: value.clone() for key, value in model.module.state_dict().items()}
    caplog.set_level(logging.INFO, logger="nas_face")
    path = "stages.0.1.branches.0.expand.conv"
    got = adaptive_rounding(
        model, orl_crops(6), weight_bits=4, keep_float=frozenset({path}), n_iterations=2
    )
    assert all(torch.equal(before[key], v) for key, v in model.module.state_dict().items())
    changed = got.module.state_dict()
    assert torch.equal(changed[f"{path}.weight"], before[f"{path}.weight"])
    assert got.description.lineage[-1].endswith("adaptively to 4 bits on 6 crops")
    assert any("head.embedding: rounded to" in record.message for record in caplog.records)
    assert not any(path in record.message for record in caplog.records)


def test_equal_seeds_give_equal_weights():
    first, second = (
        adaptive_rounding(
            small_model(), orl_crops(6), weight_bits=4, n_iterations=5, n_positions=30
        )
        for _ in range(2)
    )
    assert first.digest == second.digest


def test_crops_that_memory_does_not_hold_are_left_out(monkeypatch):
    model = small_model()
    crop_bytes = 8 * model.description.cost.peak_keeping_input
    monkeypatch.setattr(rounded_layers, "_MEMORY_BYTES", 5 * crop_bytes)
    got = adaptive_rounding(model, orl_crops(20), weight_bits=4, n_iterations=1)
    assert got.description.lineage[-1].endswith("on 5 crops")


def test_what_cannot_be_is_refused():
    model, crops = small_model(), orl_crops(4)
    with pytest.raises(CompressionError, match="weight_bits must be 2 to 8, got 1"):
        adaptive_rounding(model, crops, weight_bits=1)
    with pytest.raises(CompressionError, match="no convolution or linear layer is called 'stem'"):
        adaptive_rounding(model, crops, weight_bits=4, keep_float=frozenset({"stem"}))
    with pytest.raises(CompressionError, match="at least one"):
        adaptive_rounding(model, crops[:0], weight_bits=4)
    with pytest.raises(CompressionError, match=r"crops must be uint8 of shape \(N, 32, 32, 3\)"):
        adaptive_rounding(model, crops[:, :8], weight_bits=4)
