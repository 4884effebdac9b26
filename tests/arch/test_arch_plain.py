"""Specs of trees that no blocks describe."""

import dataclasses
import json
from pathlib import Path

import pytest

from nas_face.arch.catalog import BLOCKS, HEADS
from nas_face.arch.combinators import Sequence
from nas_face.arch.cost import Shape
from nas_face.arch.diff import compare_networks, compare_specs
from nas_face.arch.layers import Conv, Flatten, GlobalAveragePool, Linear
from nas_face.arch.plain import PlainBlock, PlainHead
from nas_face.arch.spec import ArchSpec
from nas_face.arch.summary import outline
from nas_face.arch.zoo import NETWORKS, network
from nas_face.errors import ArchError, ShapeError

INPUT = Shape(3, 8, 8)
HEAD = Sequence(layers=(GlobalAveragePool(), Flatten(), Linear(out_features=4)))


def tree(*, width: int = 5) -> Sequence:
    """One block in the stem, a stage of two, an empty stage, a head."""
    stem = Sequence(layers=(Conv(out_channels=width),))
    stage = Sequence(layers=(Conv(out_channels=7), Conv(out_channels=6)))
    stages = Sequence(layers=(stage, Sequence()))
    return Sequence(layers=(stem, stages, HEAD), names=("stem", "stages", "head"))


@pytest.mark.parametrize("name", NETWORKS)
def test_published_trees_come_back(name: str) -> None:
    spec = network(name).spec
    lowered = spec.lower()
    plain = ArchSpec.of_tree(lowered, spec.input)
    assert plain.lower() == lowered
    assert plain.cost() == spec.cost()
    assert plain.embedding_size == spec.embedding_size
    assert [path for path, _ in plain.named_blocks()] == [path for path, _ in spec.named_blocks()]
    assert plain.arch_id != spec.arch_id


def test_a_file_holds_it(tmp_path: Path) -> None:
    spec = ArchSpec.of_tree(tree(), INPUT)
    path = tmp_path / "spec.json"
    path.write_text(json.dumps(spec.to_data()))
    loaded = ArchSpec.load(path)
    assert loaded == spec
    assert loaded.arch_id == spec.arch_id
    assert loaded.lower() == tree()


def test_equal_trees_have_one_id_and_others_another() -> None:
    assert ArchSpec.of_tree(tree(), INPUT).arch_id == ArchSpec.of_tree(tree(), INPUT).arch_id
    assert (
        ArchSpec.of_tree(tree(width=4), INPUT).arch_id != ArchSpec.of_tree(tree(), INPUT).arch_id
    )


def test_a_difference_is_that_of_the_trees() -> None:
    spec = network("mobilefacenet_128").spec
    plain = ArchSpec.of_tree(spec.lower(), spec.input)
    assert compare_specs(spec, plain).same
    other = ArchSpec.of_tree(tree(width=4), INPUT)
    found = compare_specs(ArchSpec.of_tree(tree(), INPUT), other)
    assert found == compare_networks(tree(), INPUT, tree(width=4), INPUT)
    assert [pair.a for pair in found.pairs if not pair.same] == ["stem.0"]


def test_a_listing_names_the_layers() -> None:
    spec = ArchSpec.of_tree(tree(), INPUT)
    assert outline(tree(), INPUT, spec=spec, depth=3) == outline(tree(), INPUT, depth=3)


def test_search_spaces_cannot_name_them() -> None:
    assert not {PlainBlock, PlainHead} & {*BLOCKS.values(), *HEADS.values()}


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (Sequence(layers=(Conv(out_channels=3),)), "children stem, stages, head; got 0"),
        (
            dataclasses.replace(tree(), names=("stages", "stem", "head")),
            "got stages, stem, head",
        ),
        (
            dataclasses.replace(tree(), layers=(Conv(out_channels=3), *tree().layers[1:])),
            "stem of a tree must be a sequence without names, got conv",
        ),
        (
            dataclasses.replace(
                tree(), layers=(tree().layers[0], Sequence(layers=(Conv(out_channels=3),)), HEAD)
            ),
            "stages.0 of a tree must be a sequence without names, got conv",
        ),
    ],
)
def test_other_trees_are_refused(wrong: Sequence, message: str) -> None:
    with pytest.raises(ArchError, match=message):
        ArchSpec.of_tree(wrong, INPUT)


def test_the_head_must_give_its_length() -> None:
    wrong = PlainHead(embedding_size=5, layer=HEAD)
    with pytest.raises(ShapeError, match="must give 5x1x1, got 4x1x1"):
        wrong.lower(INPUT)
    flat = dataclasses.replace(tree(), layers=(*tree().layers[:2], Sequence()))
    with pytest.raises(ShapeError, match="head: embedding_layers head: the layers must give"):
        ArchSpec.of_tree(flat, INPUT)


def test_a_block_that_cannot_take_its_input_is_named() -> None:
    spec = ArchSpec.of_tree(tree(), INPUT)
    broken = dataclasses.replace(
        spec, stem=(PlainBlock(layer=Conv(out_channels=4, groups=2)),), stages=()
    )
    with pytest.raises(ShapeError, match=r"stem\.0: "):
        broken.cost()
