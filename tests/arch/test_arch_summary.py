"""Listings: every multiply-add and parameter is in one line of each level."""

import pytest

from nas_face.arch.blocks.attention import SqueezeExcite
from nas_face.arch.blocks.conv_unit import ConvUnit
from nas_face.arch.blocks.inverted_residual import InvertedResidual
from nas_face.arch.combinators import Concat, Gate, Graph, Product, Sequence, Split, Step, Sum
from nas_face.arch.cost import Shape
from nas_face.arch.describe import describe_block, describe_layer
from nas_face.arch.layers import (
    Activation,
    BatchNorm,
    Conv,
    Flatten,
    GlobalAveragePool,
    LayerNorm,
    Linear,
    Pool,
    PReLU,
)
from nas_face.arch.summary import Part, outline, summarise
from nas_face.arch.zoo import NETWORKS, network


def leaves(parts: tuple[Part, ...]) -> list[tuple[Part, int]]:
    """Lines with nothing below them, and how often each stands there in all."""
    found = []
    for part in parts:
        below = leaves(part.parts) or [(part, 1)]
        found += [(leaf, times * part.repeats) for leaf, times in below]
    return found


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize("depth", [1, 2, 9])
def test_lines_of_a_listing_add_up_to_the_network(name, depth):
    spec = network(name).spec
    total = spec.cost()
    lines = leaves(outline(spec.lower(), spec.input, spec=spec, depth=depth))
    assert sum(part.row.cost.madds * times for part, times in lines) == total.madds
    assert sum(part.row.cost.params * times for part, times in lines) == total.params


@pytest.mark.parametrize("name", NETWORKS)
def test_rows_by_block_follow_on_each_other(name):
    spec = network(name).spec
    summary = summarise(spec.lower(), spec.input)
    for rows in (summary.stages, summary.blocks):
        assert rows[0].input == spec.input
        assert rows[-1].output == Shape(spec.embedding_size, 1, 1)
        for before, after in zip(rows, rows[1:], strict=False):
            assert before.output == after.input
    assert summary.total.cost == spec.cost()
    peak = summary.total.cost.peak_activations
    assert max(row.cost.peak_activations for row in summary.blocks) == peak


def test_equal_blocks_share_a_line_and_are_named_by_their_settings():
    spec = network("mobilefacenet_128").spec
    parts = outline(spec.lower(), spec.input, spec=spec)
    lines = [(part.row.name, part.words, part.repeats, part.parts) for part in parts]
    names = [name for name, *_ in lines]
    assert names == ["stem", "stages.0", "stages.1", "stages.2", "head"]
    assert [words for _, words, *_ in lines] == [
        "2 blocks",
        "5 blocks",
        "7 blocks",
        "3 blocks",
        "global_depthwise: embedding_size 128",
    ]
    middle = parts[2].parts
    assert [(part.row.name, part.repeats) for part in middle] == [("0", 1), ("1-6", 6)]
    assert middle[0].words == "inverted_residual: hidden 256, stride 2"
    assert middle[1].words == "inverted_residual: hidden 256"


def test_without_a_spec_blocks_are_named_by_their_layers():
    spec = network("mobilefacenet_128").spec
    parts = outline(spec.lower(), spec.input)
    first, rest = parts[1].parts
    body = "conv 1x1, prelu, depthwise 3x3{}, prelu, conv 1x1"
    assert first.words == body.format("/2")
    assert rest.words == f"({body.format('')}) + input"
    assert parts[-1].words == "conv 1x1, prelu, depthwise 7x7, flatten, linear"


def test_equal_layers_in_front_of_which_shapes_differ_keep_their_own_lines():
    conv = Conv(out_channels=4)
    stem = Sequence(layers=(conv, conv, conv))
    network = Sequence(
        layers=(stem, Sequence(), Sequence(layers=(Flatten(),))), names=("stem", "stages", "head")
    )
    (stem_part, *_) = outline(network, Shape(3, 2, 2))
    assert [(part.row.name, part.repeats) for part in stem_part.parts] == [("0", 1), ("1-2", 2)]


def test_depth_is_the_number_of_levels():
    spec = network("seesaw_share").spec

    def levels(parts: tuple[Part, ...]) -> int:
        return max((1 + levels(part.parts) for part in parts), default=0)

    for depth in (1, 2, 3, 4):
        assert levels(outline(spec.lower(), spec.input, spec=spec, depth=depth)) == depth


def test_names_of_lines_are_the_paths_of_weights():
    spec = network("mobilefacenet_128").spec
    parts = outline(spec.lower(), spec.input, depth=4)
    repeated = parts[1].parts[1]
    assert [part.row.name for part in repeated.parts] == [
        "branches.0.expand",
        "branches.0.depthwise",
        "branches.0.project",
    ]
    assert [part.row.name for part in repeated.parts[0].parts] == ["conv", "norm", "act"]


X = Shape(4, 8, 8)
CONV = Conv(out_channels=4)


@pytest.mark.parametrize(
    ("layer", "words"),
    [
        (Conv(out_channels=8, kernel=(3, 5), stride=2, padding=(1, 2)), "conv 3x5/2"),
        (Conv(out_channels=4, groups=4), "depthwise 1x1"),
        (Conv(out_channels=8, groups=4), "4-group conv 1x1"),
        (Conv(out_channels=4, groups=2), "2-group conv 1x1"),
        (LayerNorm(), "layer norm"),
        (Activation(function="hard_swish"), "hard swish"),
        (Pool(function="max", kernel=(3, 3), stride=2), "max pool 3x3/2"),
        (Sequence(), "input"),
        (Sequence(layers=(BatchNorm(),)), "batch norm"),
        (Sequence(layers=(CONV, BatchNorm(), PReLU())), "conv 1x1, prelu"),
        (
            Sum(branches=(Sequence(layers=(CONV, PReLU())), Sequence())),
            "(conv 1x1, prelu) + input",
        ),
        (Product(branches=(CONV, Sequence())), "conv 1x1 * input"),
        (Concat(branches=(CONV, Sequence())), "[conv 1x1 | input]"),
        (Split(sizes=(1, 3), branches=(CONV, Sequence())), "split 1:3 [conv 1x1 | input]"),
        (Gate(body=GlobalAveragePool()), "gate (global average pool)"),
        (Sequence(layers=(CONV, Gate(body=GlobalAveragePool()))), "conv 1x1, gate"),
        (
            Graph(steps=(Step(layer=CONV, sources=(0,)), Step(layer=CONV, sources=(0, 1)))),
            "graph of 2 steps",
        ),
        (Sequence(layers=(Flatten(), Linear(out_features=2))), "flatten, linear"),
    ],
)
def test_layers_in_words(layer, words):
    assert describe_layer(layer, X) == words


@pytest.mark.parametrize(
    ("block", "words"),
    [
        (ConvUnit(out_channels=8), "conv_unit"),
        (ConvUnit(out_channels=8, depthwise=True, stride=2), "conv_unit: stride 2, depthwise"),
        (ConvUnit(out_channels=8, act=None), "conv_unit: no act"),
        (
            InvertedResidual(
                out_channels=8,
                hidden_channels=16,
                kernel=(3, 5),
                attention=SqueezeExcite(channels=4),
            ),
            "inverted_residual: hidden 16, kernel 3:5, (squeeze_excite: channels 4)",
        ),
    ],
)
def test_blocks_in_words(block, words):
    assert describe_block(block) == words
