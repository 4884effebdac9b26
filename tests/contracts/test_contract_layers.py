"""What every primitive layer and combinator promises. Torch and a simulation are the oracles."""

import json
import re
from typing import get_args

import pytest
import torch
from contract_cases import BLOCK_CASES, HEAD_CASES, LAYER_CASES, MAP, case_id
from hypothesis import given, settings
from hypothesis import strategies as st
from liveness import simulated_peak

from nas_face.arch.catalog import kind_of
from nas_face.arch.codec import canonical_json, from_data, to_data
from nas_face.arch.combinators import Concat, Gate, Layer, Sequence, Split, Sum
from nas_face.arch.cost import Shape
from nas_face.arch.layers import (
    Activation,
    ChannelShuffle,
    Conv,
    GlobalAveragePool,
    Linear,
    NormAwarePool,
)
from nas_face.arch.zoo import NETWORKS
from nas_face.errors import ArchError, ShapeError
from nas_face.nn.build import build

every_case = pytest.mark.parametrize(("layer", "x"), LAYER_CASES, ids=case_id)
LOWERED = [(part.lower(x), x) for part, x in [*BLOCK_CASES, *HEAD_CASES]]


def test_every_layer_has_cases():
    text = "".join(canonical_json(layer) for layer, _ in LAYER_CASES)
    kinds = {kind_of(cls) for cls in get_args(get_args(Layer)[0])}
    assert set(re.findall('"kind":"([a-z_]+)"', text)) == kinds


@every_case
def test_shape_and_cost_are_torchs(layer, x, torch_cost):
    shape, cost = layer.measure(x)
    torch_shape, torch_says = torch_cost(layer, x)
    assert shape == torch_shape
    assert (cost.madds, cost.params) == (torch_says.madds, torch_says.params)
    assert cost.folded_params == torch_says.folded_params


@every_case
def test_json_round_trip_and_hash(layer, x):
    again = from_data(Layer, json.loads(canonical_json(layer)), where="copy")
    assert again == layer
    assert hash(again) == hash(layer)


@every_case
def test_unknown_key_is_refused(layer, x):
    with pytest.raises(ArchError, match=r"^file: .*surprise is not a known key"):
        from_data(Layer, {**to_data(layer), "surprise": 1}, where="file")


@every_case
def test_gradients_are_finite(layer, x):
    torch.manual_seed(0)
    module = build(layer, x).train()
    image = torch.randn(4, *x, requires_grad=True)
    y = module(image)
    (y * torch.randn_like(y)).sum().backward()
    gradients = [image.grad, *(each.grad for each in module.parameters())]
    assert all(each is not None and torch.isfinite(each).all() for each in gradients)


@pytest.mark.parametrize(("layer", "x"), [*LAYER_CASES, *LOWERED], ids=case_id)
def test_peak_activations_are_those_of_the_simulation(layer, x):
    cost = layer.cost(x)
    assert cost.peak_activations == simulated_peak(layer, x, input_kept=False)
    assert cost.peak_keeping_input == simulated_peak(layer, x, input_kept=True)


@pytest.mark.parametrize("name", NETWORKS)
def test_peak_activations_of_published_networks(name):
    spec = NETWORKS[name].spec
    assert spec.cost().peak_activations == simulated_peak(
        spec.lower(), spec.input, input_kept=False
    )


WIDTHS = st.sampled_from([1, 2, 8, 30])


@st.composite
def trees(draw: st.DrawFn, x: Shape, depth: int = 3) -> Layer:
    """Any tree that takes `x`, combinators within combinators."""
    leaves = [
        st.builds(Conv, out_channels=WIDTHS),
        st.just(Activation(function="relu")),
        st.just(ChannelShuffle(groups=1)),
        st.just(Sequence()),
        st.just(NormAwarePool()),
    ]
    if depth == 0:
        return draw(st.one_of(leaves))
    kind = draw(st.sampled_from(["leaf", "sequence", "sum", "concat", "split", "gate"]))
    if kind == "leaf":
        return draw(st.one_of(leaves))
    if kind == "sequence":
        layers, shape = [], x
        for _ in range(draw(st.integers(0, 3))):
            layers.append(draw(trees(shape, depth - 1)))
            shape = layers[-1].output_shape(shape)
        return Sequence(layers=tuple(layers))
    if kind == "gate":
        return Gate(
            body=Sequence(
                layers=(
                    draw(st.sampled_from([GlobalAveragePool(), NormAwarePool()])),
                    Conv(out_channels=draw(WIDTHS)),
                    Conv(out_channels=x.channels),
                )
            )
        )
    if kind == "split":
        first = draw(st.integers(1, max(1, x.channels - 1)))
        sizes = tuple(size for size in (first, x.channels - first) if size)
        branches = [draw(_same_map(Shape(size, x.height, x.width), depth)) for size in sizes]
        return Split(sizes=sizes, branches=tuple(branches))
    if kind == "concat":
        branches = [draw(_same_map(x, depth)) for _ in range(draw(st.integers(1, 3)))]
        return Concat(branches=tuple(branches))
    body = Sequence(layers=(draw(_same_map(x, depth)), Conv(out_channels=x.channels)))
    others = [
        draw(st.sampled_from([Sequence(), Conv(out_channels=x.channels)]))
        for _ in range(draw(st.integers(0, 2)))
    ]
    return Sum(branches=tuple(draw(st.permutations([body, *others]))))


@st.composite
def _same_map(draw: st.DrawFn, x: Shape, depth: int) -> Layer:
    """A tree that changes no more than the width."""
    tree = draw(trees(x, depth - 1))
    same = tree.output_shape(x)[1:] == x[1:]
    return tree if same else Sequence()


@settings(max_examples=300, deadline=None)
@given(tree=trees(Shape(8, 2, 2)))
def test_peak_activations_of_any_tree(tree):
    x = Shape(8, 2, 2)
    cost = tree.cost(x)
    assert cost.peak_activations == simulated_peak(tree, x, input_kept=False)
    assert cost.peak_keeping_input == simulated_peak(tree, x, input_kept=True)


@settings(max_examples=40, deadline=None)
@given(tree=trees(Shape(8, 2, 2)))
def test_cost_of_any_tree_is_torchs(tree, torch_cost):
    x = Shape(8, 2, 2)
    shape, cost = tree.measure(x)
    torch_shape, torch_says = torch_cost(tree, x)
    assert (shape, cost.madds, cost.params) == (torch_shape, torch_says.madds, torch_says.params)


@settings(max_examples=60, deadline=None)
@given(tree=trees(Shape(8, 2, 2)))
def test_json_round_trip_of_any_tree(tree):
    assert from_data(Layer, json.loads(canonical_json(tree)), where="copy") == tree


@pytest.mark.parametrize(
    ("layer", "x", "message"),
    [
        (Conv(out_channels=8, groups=3), MAP, "input width 16 and out_channels=8 .* groups=3"),
        (Conv(out_channels=9, groups=4), MAP, "out_channels=9 .* groups=4"),
        (Conv(out_channels=8, groups=0), MAP, "groups=0"),
        (Conv(out_channels=0), MAP, "to 0 channels"),
        (Conv(out_channels=8, stride=0), MAP, "stride 0 must be at least 1"),
        (Conv(out_channels=8, kernel=(0, 1)), MAP, r"kernel \(0, 1\)"),
        (Conv(out_channels=8, padding=(-1, 0)), MAP, r"padding \(-1, 0\)"),
        (Conv(out_channels=8, kernel=(10, 1)), MAP, "leaves nothing of a 16x9x7 input"),
        (ChannelShuffle(groups=3), MAP, "input width 16 must be a multiple of groups=3"),
        (ChannelShuffle(groups=0), MAP, "groups=0"),
        (Linear(out_features=4), MAP, "flat vector, got 16x9x7; put flatten before it"),
        (Linear(out_features=0), Shape(4, 1, 1), "out_features must be at least 1, got 0"),
        (Sum(branches=()), MAP, "sum: .* got no branch"),
        (Concat(branches=()), MAP, "concat: .* got no branch"),
        (Sum(branches=(Sequence(), Conv(out_channels=8))), MAP, "got 8x9x7, 16x9x7"),
        (Concat(branches=(Sequence(), GlobalAveragePool())), MAP, "got 16x9x7, 16x1x1"),
        (Split(sizes=(8, 9), branches=(Sequence(), Sequence())), MAP, "input width 16"),
        (Split(sizes=(0, 16), branches=(Sequence(), Sequence())), MAP, "must be positive"),
        (Split(sizes=(), branches=()), MAP, "must be positive"),
        (Gate(body=Sequence()), MAP, "the body must give 16x1x1, got 16x9x7"),
    ],
    ids=case_id,
)
def test_impossible_shapes_are_refused(layer, x, message):
    with pytest.raises(ShapeError, match=message):
        layer.measure(x)


def test_names_of_a_sequence_must_fit():
    with pytest.raises(ArchError, match="one for each of 1 layers, got \\('a', 'b'\\)"):
        Sequence(layers=(Sequence(),), names=("a", "b"))
    with pytest.raises(ArchError, match="must be distinct"):
        Sequence(layers=(Sequence(), Sequence()), names=("a", "a"))


def test_split_needs_a_branch_for_each_part():
    with pytest.raises(ArchError, match="split: 2 sizes for 1 branches"):
        Split(sizes=(1, 1), branches=(Sequence(),))


def test_a_rule_of_a_layer_is_reported_with_the_file():
    data = {"kind": "sequence", "layers": [{"kind": "flatten"}], "names": ["a", "b"]}
    with pytest.raises(ArchError, match=r"^model.json: sequence: names must be distinct"):
        from_data(Layer, data, where="model.json")
