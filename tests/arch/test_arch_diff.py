"""Where two networks differ."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nas_face.arch.blocks.conv_unit import ConvUnit
from nas_face.arch.blocks.inverted_residual import InvertedResidual
from nas_face.arch.catalog import Block
from nas_face.arch.diff import Change, compare_networks, compare_specs
from nas_face.arch.heads import GlobalDepthwiseHead
from nas_face.arch.spec import ArchSpec
from nas_face.arch.zoo import NETWORKS, network

BLOCKS: tuple[Block, ...] = (
    ConvUnit(out_channels=8),
    ConvUnit(out_channels=8, act="relu"),
    InvertedResidual(out_channels=8, hidden_channels=16),
    InvertedResidual(out_channels=8, hidden_channels=24, kernel=5),
)


def spec_of(*stages: tuple[Block, ...]) -> ArchSpec:
    return ArchSpec(
        input_shape=(3, 16, 16),
        stem=(ConvUnit(out_channels=8, stride=2),),
        stages=stages,
        head=GlobalDepthwiseHead(embedding_size=16, tail_channels=16),
    )


stages = st.lists(st.lists(st.sampled_from(BLOCKS), min_size=1, max_size=5), max_size=3)
specs = stages.map(lambda drawn: spec_of(*map(tuple, drawn)))


@pytest.mark.parametrize("name", NETWORKS)
def test_a_network_does_not_differ_from_itself(name):
    spec = network(name).spec
    again = ArchSpec.from_data(spec.to_data(), where="copy")
    assert compare_specs(spec, again).same
    assert compare_networks(spec.lower(), spec.input, again.lower(), again.input).same


@given(specs, specs)
def test_same_means_equal(a, b):
    assert compare_specs(a, b).same == (a == b)


@given(specs, specs)
def test_every_block_of_both_stands_in_one_pair_in_order(a, b):
    pairs = compare_specs(a, b).pairs
    assert [pair.a for pair in pairs if pair.a] == [path for path, _ in a.named_blocks()]
    assert [pair.b for pair in pairs if pair.b] == [path for path, _ in b.named_blocks()]
    for pair in pairs:
        if pair.a and pair.b:
            left, right = dict(a.named_blocks())[pair.a], dict(b.named_blocks())[pair.b]
            assert pair.same == (left == right)
            assert (pair.kind_a, pair.kind_b) == (left.kind, right.kind)


@given(specs, specs)
def test_the_other_way_round_tells_the_same_settings(a, b):
    there, back = compare_specs(a, b), compare_specs(b, a)
    assert there.same == back.same
    assert (there.cost_a, there.cost_b) == (back.cost_b, back.cost_a)


@given(stages.filter(bool), st.data())
def test_one_block_more_leaves_all_others_equal(drawn, data):
    stage = data.draw(st.integers(0, len(drawn) - 1))
    at = data.draw(st.integers(0, len(drawn[stage])))
    longer = [list(each) for each in drawn]
    longer[stage].insert(at, data.draw(st.sampled_from(BLOCKS)))
    a, b = (spec_of(*map(tuple, each)) for each in (drawn, longer))
    different = [pair for pair in compare_specs(a, b).pairs if not pair.same]
    assert [(pair.a, pair.changes) for pair in different] == [(None, ())]


def test_one_setting_is_named_with_both_values():
    a = spec_of(BLOCKS, BLOCKS)
    other = InvertedResidual(out_channels=8, hidden_channels=32)
    b = spec_of(BLOCKS, (*BLOCKS[:2], other, BLOCKS[3]))
    (pair,) = [pair for pair in compare_specs(a, b).pairs if not pair.same]
    assert (pair.a, pair.b) == ("stages.1.2", "stages.1.2")
    assert pair.changes == (Change(setting="hidden_channels", a=16, b=32),)


def test_a_stage_more_leaves_the_others_equal():
    inner = (BLOCKS[3],) * 3
    a, b = spec_of(BLOCKS[:2], BLOCKS[:3]), spec_of(BLOCKS[:2], inner, BLOCKS[:3])
    different = [pair for pair in compare_specs(a, b).pairs if not pair.same]
    assert [pair.b for pair in different] == ["stages.1.0", "stages.1.1", "stages.1.2"]


def test_blocks_of_two_kinds_in_one_place_are_one_replaced():
    a, b = spec_of(BLOCKS), spec_of((BLOCKS[2], *BLOCKS[1:]))
    (pair,) = [pair for pair in compare_specs(a, b).pairs if not pair.same]
    assert pair.changes == (
        Change(setting="kind", a="conv_unit", b="inverted_residual"),
        Change(setting="hidden_channels", a=None, b=16),
    )


def test_another_image_is_a_difference():
    a = spec_of(BLOCKS)
    b = replace(a, input_shape=(3, 16, 24))
    found = compare_specs(a, b)
    assert not found.same
    assert all(pair.same for pair in found.pairs)


def test_layer_trees_differ_by_the_paths_of_their_weights():
    a = spec_of(BLOCKS)
    block = InvertedResidual(out_channels=8, hidden_channels=20)
    b = spec_of((*BLOCKS[:2], block, BLOCKS[3]))
    found = compare_networks(a.lower(), a.input, b.lower(), b.input)
    (pair,) = [pair for pair in found.pairs if not pair.same]
    assert pair.a == "stages.0.2"
    body = "branches.0"
    assert {change.setting: (change.a, change.b) for change in pair.changes} == {
        f"{body}.expand.conv.out_channels": (16, 20),
        f"{body}.depthwise.conv.out_channels": (16, 20),
        f"{body}.depthwise.conv.groups": (16, 20),
    }
