"""ArchSpec: identity, JSON, messages, and the summary of where a network spends."""

import json
import os
import subprocess
import sys
from dataclasses import FrozenInstanceError, replace

import pytest

from nas_face.arch.blocks.conv_unit import ConvUnit
from nas_face.arch.blocks.inverted_residual import InvertedResidual
from nas_face.arch.blocks.seesaw import Seesaw
from nas_face.arch.codec import canonical_json
from nas_face.arch.cost import Shape
from nas_face.arch.heads import PooledLinearHead
from nas_face.arch.spec import ArchSpec
from nas_face.arch.summary import summarise
from nas_face.arch.zoo import NETWORKS, network
from nas_face.errors import ArchError, ShapeError

SMALL = ArchSpec(
    input_shape=(3, 16, 12),
    stem=(ConvUnit(out_channels=8, stride=2),),
    stages=(
        (InvertedResidual(out_channels=8, hidden_channels=16),) * 2,
        (Seesaw(out_channels=12, hidden_channels=16, mixing="share", stride=2),),
    ),
    head=PooledLinearHead(embedding_size=6, tail_channels=10),
)
HASH_IDS = (
    "from nas_face.arch.zoo import NETWORKS\n"
    "print([each.spec.arch_id for each in NETWORKS.values()])"
)


def test_equal_specs_share_hash_and_identity():
    again = ArchSpec.from_data(json.loads(json.dumps(SMALL.to_data())), where="copy")
    assert again == SMALL
    assert hash(again) == hash(SMALL)
    assert again.arch_id == SMALL.arch_id
    assert len(SMALL.arch_id) == 12
    assert int(SMALL.arch_id, 16) >= 0


@pytest.mark.parametrize(
    "change",
    [
        {"input_shape": (3, 12, 16)},
        {"stem": (ConvUnit(out_channels=8, stride=2, act=None),)},
        {"stages": SMALL.stages[:1]},
        {"stages": (SMALL.stages[0][:1], (SMALL.stages[0][1], *SMALL.stages[1]))},
        {"head": PooledLinearHead(embedding_size=7, tail_channels=10)},
    ],
)
def test_any_change_changes_the_identity(change):
    assert replace(SMALL, **change).arch_id != SMALL.arch_id


def test_defaults_spelt_out_are_the_same_architecture():
    data = SMALL.to_data()
    data["stem"][0] |= {"kernel": 3, "depthwise": False, "act": "prelu"}
    assert ArchSpec.from_data(data, where="copy").arch_id == SMALL.arch_id


def test_canonical_json_is_sorted_and_leaves_defaults_out():
    assert canonical_json(SMALL.stem[0]) == '{"kind":"conv_unit","out_channels":8,"stride":2}'


def test_identity_does_not_depend_on_the_process():
    outputs = {
        subprocess.run(
            [sys.executable, "-c", HASH_IDS],
            env={**os.environ, "PYTHONHASHSEED": seed},
            capture_output=True,
            text=True,
            check=True,
        ).stdout.strip()
        for seed in ("0", "1", "12345")
    }
    assert outputs == {str([each.spec.arch_id for each in NETWORKS.values()])}


def test_specs_are_frozen():
    with pytest.raises(FrozenInstanceError):
        SMALL.input_shape = (3, 8, 8)


@pytest.mark.parametrize("name", NETWORKS)
def test_json_round_trip_of_the_zoo(name, tmp_path):
    spec = network(name).spec
    path = tmp_path / "spec.json"
    path.write_text(json.dumps(spec.to_data()), encoding="utf-8")
    again = ArchSpec.load(path)
    assert (again, again.arch_id) == (spec, spec.arch_id)


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        ({"widths": 1}, "widths is not a known key"),
        ({"input_shape": [3, 16]}, "input_shape.2: field required"),
        ({"input_shape": [3, 16, 12.0]}, r"input_shape.2: .*integer.*got 12\.0"),
        ({"stem": [{"kind": "conv_unit"}]}, "out_channels: field required"),
        ({"stem": [{"kind": "conv_unit", "out_channels": 8, "strid": 2}]}, "strid is not a known"),
        ({"head": None}, "head: .*got None"),
    ],
)
def test_malformed_specs_are_refused_in_one_line(edit, message):
    with pytest.raises(ArchError, match=f"^spec.json: .*{message}") as caught:
        ArchSpec.from_data({**SMALL.to_data(), **edit}, where="spec.json")
    assert "\n" not in str(caught.value)


def test_missing_key_is_named():
    data = SMALL.to_data()
    del data["head"]
    with pytest.raises(ArchError, match="^spec.json: head: field required$"):
        ArchSpec.from_data(data, where="spec.json")


def test_a_spec_that_cannot_be_built_names_block_and_file():
    bad = replace(SMALL, stages=(SMALL.stages[0], (replace(SMALL.stages[1][0], out_channels=9),)))
    with pytest.raises(ShapeError, match=r"^stages\.1\.0: seesaw: the output width .* got 9"):
        bad.cost()
    with pytest.raises(ShapeError, match=r"^stages\.1\.0: seesaw: the output width .* got 9"):
        bad.lower()
    with pytest.raises(ShapeError, match=r"^spec.json: stages\.1\.0: seesaw"):
        ArchSpec.from_data(bad.to_data(), where="spec.json")


@pytest.mark.parametrize(
    ("change", "where"),
    [
        ({"stem": (ConvUnit(out_channels=8, depthwise=True),)}, "stem.0"),
        ({"head": PooledLinearHead(embedding_size=6, tail_channels=0)}, "head"),
        ({"input_shape": (3, 0, 12)}, "stem.0"),
    ],
)
def test_shape_errors_name_the_place(change, where):
    with pytest.raises(ShapeError, match=f"^{where}: "):
        replace(SMALL, **change).cost()


@pytest.mark.parametrize("text", ["{", "", "[1, 2"])
def test_broken_json_is_refused(text, tmp_path):
    path = tmp_path / "spec.json"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(ArchError, match="spec.json: not a readable JSON file"):
        ArchSpec.load(path)


def test_missing_and_binary_files_are_refused(tmp_path):
    with pytest.raises(ArchError, match="none.json: not a readable JSON file"):
        ArchSpec.load(tmp_path / "none.json")
    (tmp_path / "b.json").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ArchError, match="b.json: not a readable JSON file"):
        ArchSpec.load(tmp_path / "b.json")


def test_tree_has_the_named_children():
    tree = SMALL.lower()
    assert tree.names == ("stem", "stages", "head")
    assert tree.output_shape(SMALL.input) == Shape(6, 1, 1)
    assert tree.cost(SMALL.input) == SMALL.cost()


@pytest.mark.parametrize("name", NETWORKS)
def test_summary_adds_up(name):
    spec = network(name).spec
    summary = summarise(spec.lower(), spec.input)
    total = spec.cost()
    assert summary.total.cost == total
    for rows in (summary.stages, summary.blocks):
        assert sum(row.cost.madds for row in rows) == total.madds
        assert sum(row.cost.params for row in rows) == total.params
        assert max(row.cost.peak_activations for row in rows) == total.peak_activations
        assert [row.input for row in rows[1:]] == [row.output for row in rows[:-1]]
        assert (rows[0].input, rows[-1].output) == (spec.input, Shape(spec.embedding_size, 1, 1))
    assert [row.name for row in summary.stages] == [
        "stem",
        *(f"stages.{at}" for at in range(len(spec.stages))),
        "head",
    ]


def test_summary_rows_are_the_blocks_own_costs():
    summary = summarise(SMALL.lower(), SMALL.input)
    rows = {row.name: row for row in summary.blocks}
    block = SMALL.stages[0][1]
    shape = Shape(8, 8, 6)
    assert rows["stages.0.1"].cost == block.lower(shape).cost(shape)
