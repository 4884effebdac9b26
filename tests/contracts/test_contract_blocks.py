"""What every block and head promises. Torch is the oracle of shapes and costs."""

import copy
import json
from typing import Any

import pytest
import torch
from contract_cases import BLOCK_CASES, HEAD_CASES, MAP, case_id

from nas_face.arch.blocks.attention import SqueezeExcite
from nas_face.arch.blocks.cells import Cells
from nas_face.arch.blocks.conv_unit import ConvUnit
from nas_face.arch.blocks.edge import ConvEncoder, SplitAttention
from nas_face.arch.blocks.fire import Fire
from nas_face.arch.blocks.ghost import Ghost
from nas_face.arch.blocks.improved_residual import ImprovedResidual
from nas_face.arch.blocks.inverted_residual import InvertedResidual
from nas_face.arch.blocks.max_feature import MaxFeature
from nas_face.arch.blocks.seesaw import Seesaw
from nas_face.arch.blocks.shuffle import ShuffleUnit
from nas_face.arch.blocks.variable_group import VariableGroupDown, VariableGroupNormal
from nas_face.arch.catalog import BLOCKS, HEADS, Block, Head, block_class, kind_of
from nas_face.arch.codec import canonical_json, from_data, to_data
from nas_face.arch.cost import Shape
from nas_face.arch.heads import (
    FlattenLinearHead,
    GlobalDepthwiseHead,
    NormAwareHead,
    PooledLinearHead,
    VariableGroupHead,
)
from nas_face.errors import ArchError, ShapeError
from nas_face.nn.build import build

UNION = {**dict.fromkeys(BLOCKS, Block), **dict.fromkeys(HEADS, Head)}
every_case = pytest.mark.parametrize(("part", "x"), [*BLOCK_CASES, *HEAD_CASES], ids=case_id)


def test_every_block_and_head_of_the_catalog_has_cases():
    assert {part.kind for part, _ in BLOCK_CASES} == set(BLOCKS)
    assert {part.kind for part, _ in HEAD_CASES} == set(HEADS)


@every_case
def test_shape_and_cost_are_torchs(part, x, torch_cost):
    layer = part.lower(x)
    shape, cost = layer.measure(x)
    torch_shape, torch_says = torch_cost(layer, x)
    assert shape == torch_shape
    assert (cost.madds, cost.params) == (torch_says.madds, torch_says.params)
    assert cost.folded_params == torch_says.folded_params


@every_case
def test_json_round_trip(part, x):
    data = json.loads(canonical_json(part))
    again = from_data(UNION[part.kind], data, where="copy")
    assert again == part
    assert type(again) is type(part)


@every_case
def test_equal_parts_hash_alike(part, x):
    assert (
        len({part, copy.copy(part), from_data(UNION[part.kind], to_data(part), where="copy")}) == 1
    )


@every_case
def test_unknown_key_is_refused(part, x):
    data = {**to_data(part), "surprise": 1}
    with pytest.raises(ArchError, match=r"^file: .*surprise is not a known key"):
        from_data(UNION[part.kind], data, where="file")


@every_case
def test_every_learned_parameter_gets_a_finite_gradient(part, x):
    torch.manual_seed(0)
    module = build(part.lower(x), x).train()
    y = module(torch.randn(4, *x))
    (y * torch.randn_like(y)).sum().backward()
    learned = [(name, each) for name, each in module.named_parameters() if each.requires_grad]
    gradients = {name: each.grad for name, each in learned}
    assert [name for name, each in gradients.items() if each is None] == []
    assert [name for name, each in gradients.items() if not torch.isfinite(each).all()] == []
    assert [name for name, each in gradients.items() if each.ndim > 1 and not each.any()] == []


@pytest.mark.parametrize(("head", "x"), HEAD_CASES, ids=case_id)
def test_heads_give_a_flat_embedding(head, x):
    assert head.lower(x).output_shape(x) == Shape(head.embedding_size, 1, 1)


@pytest.mark.parametrize(("block", "x"), BLOCK_CASES, ids=case_id)
def test_blocks_give_the_width_they_state(block, x):
    height, width = (-(-side // block.stride) for side in (x.height, x.width))
    assert block.lower(x).output_shape(x) == Shape(block.out_channels, height, width)


@pytest.mark.parametrize("kind", [kind for kind, cls in BLOCKS.items() if cls.RATIOS], ids=case_id)
def test_ratios_name_fields_of_their_block(kind):
    cls = BLOCKS[kind]
    fields = set(cls.__dataclass_fields__)
    assert {ratio.field for ratio in cls.RATIOS.values()} <= fields
    assert {ratio.base for ratio in cls.RATIOS.values()} <= fields | {"in_channels"}
    assert not set(cls.RATIOS) & fields


WRONG: list[tuple[Any, Shape, str]] = [
    (ConvUnit(out_channels=0), MAP, "to 0 channels"),
    (ConvUnit(out_channels=-8), MAP, "to -8 channels"),
    (ConvUnit(out_channels=8, depthwise=True), MAP, "keeps its width 16, got out_channels=8"),
    (InvertedResidual(out_channels=0, hidden_channels=8), MAP, "to 0 channels"),
    (InvertedResidual(out_channels=8, hidden_channels=0), MAP, "a part of 0 does not work"),
    (
        InvertedResidual(out_channels=8, hidden_channels=8, attention=SqueezeExcite(channels=0)),
        MAP,
        "to 0 channels",
    ),
    (
        InvertedResidual(
            out_channels=8, hidden_channels=8, translation_variant=True, kernel=(3, 5)
        ),
        MAP,
        r"one kernel, .* got kernel=\(3, 5\)",
    ),
    (Cells(out_channels=10), MAP, "a multiple of nodes x stride = 4, got 10"),
    (Cells(out_channels=12, stride=2), MAP, "a multiple of nodes x stride = 8, got 12"),
    (Cells(out_channels=0), MAP, "to 0 channels"),
    (ConvEncoder(out_channels=0, hidden_channels=8), MAP, "to 0 channels"),
    (ConvEncoder(out_channels=16, hidden_channels=0), MAP, "to 0 channels"),
    (SplitAttention(out_channels=18, hidden_channels=8), MAP, "multiple of heads=4, got 18"),
    (SplitAttention(out_channels=16, hidden_channels=8, heads=0), MAP, "heads=0, got 16"),
    (
        SplitAttention(out_channels=9, hidden_channels=8, heads=1, parts=4),
        MAP,
        "9 to 9 is no part of 9 channels",
    ),
    (
        Seesaw(out_channels=8, hidden_channels=8, mixing="share"),
        Shape(10, 8, 8),
        "the input width must be a multiple of 4, got 10",
    ),
    (Seesaw(out_channels=8, hidden_channels=6, mixing="share"), MAP, "hidden width .* got 6"),
    (Seesaw(out_channels=9, hidden_channels=8, mixing="share"), MAP, "output width .* got 9"),
    (Seesaw(out_channels=0, hidden_channels=8, mixing="share"), MAP, "to 0 channels"),
    (VariableGroupNormal(out_channels=16), Shape(12, 8, 8), "group_width=8, got 12"),
    (VariableGroupNormal(out_channels=20), MAP, "group_width=8, got 20"),
    (VariableGroupDown(out_channels=16), Shape(12, 8, 8), "group_width=8, got 12"),
    (VariableGroupDown(out_channels=20), MAP, "group_width=8, got 20"),
    (Ghost(out_channels=16, hidden_channels=9), MAP, "the hidden width must be even, got 9"),
    (Ghost(out_channels=7, hidden_channels=8), MAP, "the output width must be even, got 7"),
    (Ghost(out_channels=0, hidden_channels=8), MAP, "to 0 channels"),
    (ImprovedResidual(out_channels=0, hidden_channels=8), MAP, "to 0 channels"),
    (ImprovedResidual(out_channels=8, hidden_channels=-8), MAP, "to -8 channels"),
    (MaxFeature(out_channels=0), MAP, "to 0 channels"),
    (MaxFeature(out_channels=8, form="residual"), MAP, "keeps its width 16, got out_channels=8"),
    (Fire(out_channels=9, hidden_channels=4), MAP, "out_channels must be even, got 9"),
    (Fire(out_channels=8, hidden_channels=0), MAP, "to 0 channels"),
    (ShuffleUnit(out_channels=15, hidden_channels=8), MAP, "must be even, got 15"),
    (ShuffleUnit(out_channels=16, hidden_channels=0), MAP, "to 0 channels"),
    (GlobalDepthwiseHead(embedding_size=8, tail_channels=0), MAP, "to 0 channels"),
    (GlobalDepthwiseHead(embedding_size=0), MAP, "out_features must be at least 1, got 0"),
    (VariableGroupHead(embedding_size=8, tail_channels=20), MAP, "group_width=8, got 20"),
    (VariableGroupHead(embedding_size=0), MAP, "to 0 channels"),
    (NormAwareHead(embedding_size=-1), MAP, "out_features must be at least 1, got -1"),
    (PooledLinearHead(embedding_size=8, tail_channels=-4), MAP, "to -4 channels"),
    (
        PooledLinearHead(embedding_size=8, tail_channels=12, linear=False),
        MAP,
        "pooled_linear head: without its linear layer .* 12, got embedding_size=8",
    ),
    (FlattenLinearHead(embedding_size=0), MAP, "out_features must be at least 1, got 0"),
]


@pytest.mark.parametrize(("part", "x", "message"), WRONG, ids=case_id)
def test_wrong_width_is_named(part, x, message):
    with pytest.raises(ShapeError, match=message):
        part.lower(x).measure(x)


def test_wrong_widths_cover_the_catalog():
    assert {part.kind for part, _, _ in WRONG} == set(BLOCKS) | set(HEADS)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ({"kind": "conv_unit"}, "out_channels: field required"),
        ({"kind": "conv_unit", "out_channels": 8.0}, r"out_channels: .*integer.*got 8\.0"),
        ({"kind": "conv_unit", "out_channels": "8"}, "out_channels: .*got '8'"),
        ({"kind": "conv_unit", "out_channels": 8, "stride": 3}, "stride: .*1, 2 or 4.*got 3"),
        ({"kind": "conv_unit", "out_channels": 8, "kernel": 6}, "kernel: .*got 6"),
        ({"kind": "conv_unit", "out_channels": 8, "act": "tanh"}, "act: .*got 'tanh'"),
        ({"kind": "convunit", "out_channels": 8}, "convunit"),
        ({"out_channels": 8}, "kind"),
    ],
)
def test_malformed_data_is_refused_in_one_line(data, message):
    with pytest.raises(ArchError, match=f"^spec.json: .*{message}") as caught:
        from_data(Block, data, where="spec.json")
    assert "\n" not in str(caught.value)


def test_block_class_finds_by_kind_and_lists_near_names():
    assert block_class("seesaw") is Seesaw
    with pytest.raises(ArchError, match=r"unknown block kind 'sesaw'; did you mean 'seesaw'\?"):
        block_class("sesaw")


@pytest.mark.parametrize("cls", [*BLOCKS.values(), *HEADS.values()])
def test_catalog_keys_are_the_kinds(cls):
    assert {**BLOCKS, **HEADS}[kind_of(cls)] is cls
