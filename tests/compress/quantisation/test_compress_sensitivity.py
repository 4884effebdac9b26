"""Sensitivity of each layer, against a network quantised by hand, and the choice made by it."""

import copy

import numpy as np
import pytest
import torch
from quantisation_checks import gated_model, mean_loss, orl_crops, small_model
from torch import nn

from nas_face.compress.quantisation.fake import observed_ranges
from nas_face.compress.quantisation.grid import rounded, weight_scale
from nas_face.compress.quantisation.sensitivity import Sensitivity, keep_float_by, sensitivities
from nas_face.errors import CompressionError
from nas_face.nn.model import FaceModel


def by_hand(model: FaceModel, crops, paths, ranges, *, bits: int) -> float:
    """Loss of a copy of the model whose weights and inputs at some paths are rounded."""
    changed = copy.deepcopy(model)
    for path in paths:
        layer, range_ = changed.module.get_submodule(path), ranges[path].input
        assert isinstance(layer, nn.Conv2d | nn.Linear)
        step = (range_.high - range_.low) / 255
        zero = round(-range_.low / step)
        with torch.no_grad():
            layer.weight.copy_(rounded(layer.weight, weight_scale(layer.weight, bits), bits))

        def quantise(module, inputs, step=step, zero=zero):
            return (((inputs[0] / step).round() + zero).clamp(0, 255) - zero) * step

        layer.register_forward_pre_hook(quantise)
    return mean_loss(model.embed(crops, flip=False), changed.embed(crops, flip=False))


@pytest.mark.parametrize("by", ["layer", "block"])
@pytest.mark.parametrize(("make", "side"), [(small_model, 32), (gated_model, 12)])
def test_losses_are_those_of_each_part_quantised_alone(make, side, by) -> None:
    model, crops = make(), orl_crops(7, side=side)
    digest = model.digest
    ranges = observed_ranges(model, crops)
    rows = sensitivities(model, crops, weight_bits=5, narrow_bits=5, by=by, batch_size=3)
    for row in rows:
        expected = by_hand(model, crops, row.layers, ranges, bits=5)
        assert row.mean_loss == pytest.approx(expected, rel=0.05, abs=1e-6)
    assert {path for row in rows for path in row.layers} == set(ranges)
    assert [row.mean_loss for row in rows] == sorted((row.mean_loss for row in rows), reverse=True)
    assert sorted(row.position for row in rows) == list(range(len(rows)))
    assert model.digest == digest


def test_blocks_are_those_of_the_spec() -> None:
    rows = sensitivities(small_model(), orl_crops(2), by="block")
    in_order = sorted(rows, key=lambda row: row.position)
    assert [row.path for row in in_order] == [
        "stem.0",
        "stages.0.0",
        "stages.0.1",
        "stages.1.0",
        "head",
    ]
    assert {row.kind for row in rows} == {"block"}
    per_layer = sensitivities(small_model(), orl_crops(2))
    assert sum(row.madds for row in rows) == sum(row.madds for row in per_layer)


def test_fewer_bits_lose_more() -> None:
    model, crops = small_model(), orl_crops(8)
    losses = [
        sum(row.mean_loss for row in sensitivities(model, crops, weight_bits=bits))
        for bits in (8, 6, 4, 3)
    ]
    assert losses == sorted(losses)
    assert losses[-1] > 10 * losses[0]


def test_rounded_outputs_lose_more_and_weights_alone_less() -> None:
    model, crops = small_model(), orl_crops(8)
    found = (
        sensitivities(model, crops, activation_bits=None),
        sensitivities(model, crops),
        sensitivities(model, crops, outputs=True),
    )
    losses = [sum(row.mean_loss for row in rows) for rows in found]
    assert losses[0] < 0.8 * losses[1] < 0.8 * 0.9 * losses[2]


def test_progress_is_told() -> None:
    seen: list[tuple[int, int]] = []
    rows = sensitivities(
        gated_model(), orl_crops(5, side=12), batch_size=2, on_row=lambda *each: seen.append(each)
    )
    assert seen == [(n, 3 * len(rows)) for n in range(1, 3 * len(rows) + 1)]


def test_without_crops_nothing_can_be_said() -> None:
    with pytest.raises(CompressionError, match="at least one is needed"):
        sensitivities(gated_model(), np.zeros((0, 12, 12, 3), np.uint8))


def row(
    path: str, position: int, mean_loss: float, *, madds: int = 10, gates: bool = False
) -> Sensitivity:
    return Sensitivity(
        path=path,
        kind="conv",
        layers=(path, f"{path}+"),
        position=position,
        gates=gates,
        madds=madds,
        weights=1,
        mean_loss=mean_loss,
    )


ROWS = (
    row("c", 2, 0.5, madds=60),
    row("a", 0, 0.4),
    row("d", 3, 0.3, madds=10),
    row("b", 1, 0.2, madds=10, gates=True),
    row("e", 4, 0.1),
)


@pytest.mark.parametrize(
    ("rules", "kept"),
    [
        ({}, ""),
        ({"first": True}, "a"),
        ({"last": True}, "e"),
        ({"gates": True}, "b"),
        ({"first": True, "last": True, "gates": True}, "aeb"),
        ({"count": 2}, "ca"),
        ({"count": 2, "first": True}, "acd"),
        ({"count": 5}, "abcde"),
        ({"madds_share": 0.1}, "a"),
        ({"madds_share": 0.35}, "adb"),
        ({"madds_share": 0.6}, "adbe"),
        ({"madds_share": 1.0}, "abcde"),
        ({"madds_share": 0.1, "first": True}, "ad"),
        ({"madds_share": 0.1, "count": 1}, "ca"),
    ],
)
def test_layers_are_kept_by_rule(rules, kept) -> None:
    expected = frozenset(path for each in kept for path in (each, f"{each}+"))
    assert keep_float_by(ROWS, **rules) == expected
    assert keep_float_by(reversed(ROWS), **rules) == expected


@pytest.mark.parametrize(
    ("rules", "message"),
    [
        ({"count": 6}, "count must be 0 to the 5 rows there are, got 6"),
        ({"count": -1}, "got -1"),
        ({"madds_share": 1.1}, "madds_share must be 0 to 1, got 1.1"),
    ],
)
def test_rules_out_of_range_are_refused(rules, message) -> None:
    with pytest.raises(CompressionError, match=message):
        keep_float_by(ROWS, **rules)
