"""What every primitive layer and combinator promises. Torch and a simulation are the oracles."""

import json
import re
from typing import Any, Literal, get_args

import pytest
import torch
from contract_cases import BLOCK_CASES, HEAD_CASES, LAYER_CASES, MAP, case_id
from hypothesis import given, settings
from hypothesis import strategies as st
from liveness import simulated_peak

from nas_face.arch.catalog import kind_of
from nas_face.arch.codec import canonical_json, from_data, to_data
from nas_face.arch.combinators import (
    Concat,
    Gate,
    Graph,
    Layer,
    Product,
    Sequence,
    Split,
    Step,
    Sum,
)
from nas_face.arch.cost import Shape
from nas_face.arch.layers import (
    Activation,
    ChannelConv,
    ChannelPool,
    ChannelShuffle,
    ChannelSlice,
    Conv,
    Crop,
    CrossCovarianceAttention,
    FourierFeatures,
    GatedChannelTransform,
    GlobalAverageMaxPool,
    GlobalAveragePool,
    LayerNorm,
    Linear,
    MaxFeatureMap,
    NormAwarePool,
    Pool,
    Resize,
    TranslationVariantConv,
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
    learned = [each for each in module.parameters() if each.requires_grad]
    gradients = [image.grad, *(each.grad for each in learned)]
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


@pytest.mark.parametrize(
    ("layer", "x"),
    [case for case in LAYER_CASES if isinstance(case[0], TranslationVariantConv)],
)
def test_each_filter_of_a_position_is_counted_tap_by_tap(layer, x):
    """Torch's counter cannot: no operator of its own computes this layer."""
    taps = 0
    rows = range(
        -layer.padding[0], x.height + layer.padding[0] - layer.kernel[0] + 1, layer.stride
    )
    columns = range(
        -layer.padding[1], x.width + layer.padding[1] - layer.kernel[1] + 1, layer.stride
    )
    for _ in range(x.channels):
        for _ in rows:
            for _ in columns:
                taps += layer.kernel[0] * layer.kernel[1]
    shape, cost = layer.measure(x)
    assert shape == (x.channels, len(rows), len(columns))
    assert (cost.madds, cost.params, cost.folded_params) == (taps, taps, taps)


WIDTHS = st.sampled_from([1, 2, 8, 30])
POOLS: list[Layer] = [
    Pool(function="max", kernel=(3, 3), stride=1, padding=(1, 1)),
    Pool(function="average", kernel=(2, 2), stride=2, ceil=True),
    GlobalAverageMaxPool(),
    ChannelPool(),
]


@st.composite
def trees(draw: st.DrawFn, x: Shape, depth: int = 3) -> Layer:
    """Any tree that takes `x`, combinators within combinators."""
    leaves = [
        st.builds(Conv, out_channels=WIDTHS),
        st.just(Activation(function="relu")),
        st.just(ChannelShuffle(groups=1)),
        st.just(Sequence()),
        st.just(NormAwarePool()),
        st.just(LayerNorm()),
        st.just(GatedChannelTransform()),
        st.just(TranslationVariantConv()),
        st.just(ChannelSlice(start=0, stop=x.channels)),
        st.just(FourierFeatures(width=2)),
        st.sampled_from(POOLS),
    ]
    if x.channels % 2 == 0:
        leaves.append(st.just(MaxFeatureMap()))
    if x.channels % 6 == 0:
        leaves.append(st.just(CrossCovarianceAttention(heads=2)))
    if depth == 0:
        return draw(st.one_of(leaves))
    kind = draw(
        st.sampled_from(["leaf", "sequence", "sum", "product", "concat", "split", "gate", "graph"])
    )
    if kind == "leaf":
        return draw(st.one_of(leaves))
    if kind == "sequence":
        layers, shape = [], x
        for _ in range(draw(st.integers(0, 3))):
            layers.append(draw(trees(shape, depth - 1)))
            shape = layers[-1].output_shape(shape)
        return Sequence(layers=tuple(layers))
    if kind == "gate":
        return Gate(body=draw(_factors(x, depth)))
    if kind == "graph":
        return draw(_graphs(x, depth))
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
    branches = tuple(draw(st.permutations([body, *others])))
    return Sum(branches=branches) if kind == "sum" else Product(branches=branches)


@st.composite
def _factors(draw: st.DrawFn, x: Shape, depth: int) -> Layer:
    """A body of a gate: a factor for each channel, for each position, for each value or one."""
    kind = draw(st.sampled_from(["channel", "position", "value", "one"]))
    if kind == "position":
        return Sequence(layers=(draw(_same_map(x, depth)), ChannelPool(), Conv(out_channels=1)))
    if kind == "value":
        same = draw(_same_map(x, depth))
        wide = same.output_shape(x).channels
        return same if wide == x.channels else Sequence()
    pool = draw(st.sampled_from([GlobalAveragePool(), NormAwarePool()]))
    width = x.channels if kind == "channel" else 1
    return Sequence(
        layers=(
            pool,
            Conv(out_channels=draw(WIDTHS)),
            ChannelConv(kernel=3),
            Conv(out_channels=width),
        )
    )


@st.composite
def _graphs(draw: st.DrawFn, x: Shape, depth: int) -> Graph:
    """Steps that read any values before them; the last one reads what nobody has read."""
    shapes, steps = [x], []
    for number in range(1, draw(st.integers(1, 5))):
        sources = draw(st.lists(st.integers(0, number - 1), min_size=1, max_size=3))
        steps.append(draw(_steps(shapes, tuple(sources), depth)))
    read = {source for step in steps for source in step.sources}
    unread = [number for number in range(len(shapes)) if number not in read]
    again = draw(st.lists(st.integers(0, len(shapes) - 1), max_size=1))
    steps.append(draw(_steps(shapes, (*unread, *again), depth)))
    return Graph(steps=tuple(steps))


@st.composite
def _steps(draw: st.DrawFn, shapes: list[Shape], sources: tuple[int, ...], depth: int) -> Step:
    """A step on those values, summed where their shapes allow it; its result joins `shapes`."""
    read = [shapes[source] for source in sources]
    joins = ["sum", "concat"] if len(set(read)) == 1 else ["concat"]
    join = draw(st.sampled_from(joins))
    width = sum(shape.channels for shape in read) if join == "concat" else read[0].channels
    joined = read[0]._replace(channels=width)
    layer = draw(_same_map(joined, depth))
    shapes.append(layer.output_shape(joined))
    return Step(layer=layer, sources=sources, join=join)


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


def _pool(**settings: Any) -> Pool:
    return Pool(**{"function": "max", "kernel": (3, 3), "stride": 2, **settings})


def _graph(*reads: tuple[int, ...], join: Literal["sum", "concat"] = "sum") -> Graph:
    """The first step narrows, the second one, if it is not the last, makes the map smaller."""
    layers = (Conv(out_channels=4), Conv(out_channels=4, stride=2, kernel=(2, 2)), Sequence())
    return Graph(
        steps=tuple(
            Step(layer=layer, sources=sources, join=join)
            for layer, sources in zip(layers, reads, strict=False)
        )
    )


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
        (Gate(body=Conv(out_channels=8)), MAP, "must give 16x9x7, or 1 .* got 8x9x7"),
        (Gate(body=Crop(top=1, left=0)), MAP, "must give 16x9x7, or 1 .* got 16x8x7"),
        (Product(branches=()), MAP, "product: .* got no branch"),
        (Product(branches=(Sequence(), Conv(out_channels=8))), MAP, "got 8x9x7, 16x9x7"),
        (_graph((0,), (0, 1)), MAP, "graph: a sum needs values of one shape, got 4x9x7, 16x9x7"),
        (_graph((0,), (0,), (1, 2), join="concat"), MAP, "graph: .* got 4x9x7, 4x4x3"),
        (TranslationVariantConv(stride=0), MAP, "translation_variant_conv: .* stride 0"),
        (TranslationVariantConv(kernel=(3, 9), padding=(1, 0)), MAP, "leaves nothing"),
        (ChannelConv(kernel=3), MAP, "must be a 1x1 map, got 16x9x7; put a pool before it"),
        (ChannelConv(kernel=4), Shape(8, 1, 1), "must be odd and positive, got 4"),
        (ChannelConv(kernel=-1), Shape(8, 1, 1), "must be odd and positive, got -1"),
        (MaxFeatureMap(), Shape(7, 2, 2), "input width must be even, got 7"),
        (ChannelSlice(start=2, stop=2), MAP, "2 to 2 is no part of 16 channels"),
        (ChannelSlice(start=-1, stop=2), MAP, "-1 to 2 is no part"),
        (ChannelSlice(start=8, stop=17), MAP, "8 to 17 is no part of 16 channels"),
        (_pool(stride=0), MAP, "pool: .* stride 0 must be at least 1"),
        (_pool(padding=(2, 1)), MAP, r"padding \(2, 1\) must be at most half of the kernel"),
        (_pool(), Shape(4, 2, 3), "kernel 3x3, stride 2 .* leaves nothing of a 4x2x3 input"),
        (_pool(ceil=True), Shape(4, 1, 3), "leaves nothing of a 4x1x3 input"),
        (CrossCovarianceAttention(heads=2), MAP, "width 16 must be a multiple of 3 x heads = 6"),
        (CrossCovarianceAttention(heads=0), MAP, "3 x heads = 0"),
        (Crop(top=9, left=0), MAP, "9 rows and 0 columns of a 16x9x7 input"),
        (Crop(top=0, left=-1), MAP, "0 rows and -1 columns"),
        (Resize(height=0, width=4), MAP, "at least 1, got 0x4"),
        (FourierFeatures(width=3), MAP, "must be even, got 3"),
        (FourierFeatures(width=0), MAP, "must be even, got 0"),
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
    with pytest.raises(ArchError, match="one for each of 2 layers"):
        Sequence(layers=(Sequence(), Sequence()), names=("a", "a", "b"))


@pytest.mark.parametrize(
    ("sources", "names", "message"),
    [
        ([], (), "at least one step is needed"),
        ([(0,), ()], (), r"step 2 can read values 0 to 1, got \(\)"),
        ([(1,)], (), r"step 1 can read values 0 to 0, got \(1,\)"),
        ([(0,), (-1,)], (), r"step 2 can read values 0 to 1, got \(-1,\)"),
        ([(0,), (0,)], (), "nothing reads the result of step 1"),
        ([(0,), (1,)], ("a",), r"one for each of 2 steps, got \('a',\)"),
        ([(0,), (1,)], ("a", "a"), "names must be distinct"),
        ([(0,), (1,)], ("a", "a", "b"), "names must be distinct"),
    ],
)
def test_steps_of_a_graph_must_fit(sources, names, message):
    steps = tuple(Step(layer=Sequence(), sources=each) for each in sources)
    with pytest.raises(ArchError, match=f"^graph: .*{message}"):
        Graph(steps=steps, names=names)


def test_an_unknown_key_of_a_step_is_refused():
    data = to_data(Graph(steps=(Step(layer=Sequence(), sources=(0,)),)))
    data["steps"][0]["surprise"] = 1
    with pytest.raises(ArchError, match=r"^file: .*surprise is not a known key"):
        from_data(Layer, data, where="file")


def test_split_needs_a_branch_for_each_part():
    with pytest.raises(ArchError, match="split: 2 sizes for 1 branches"):
        Split(sizes=(1, 1), branches=(Sequence(),))


def test_a_rule_of_a_layer_is_reported_with_the_file():
    data = {"kind": "sequence", "layers": [{"kind": "flatten"}], "names": ["a", "b"]}
    with pytest.raises(ArchError, match=r"^model.json: sequence: names must be distinct"):
        from_data(Layer, data, where="model.json")
