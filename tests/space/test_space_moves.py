"""Enumerating, neighbours and vectors, against brute force on small spaces and on shipped ones."""

import functools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from space_checks import SHIPPED, TINY, every_design, space_of

from nas_face.errors import ArchError, SpaceError
from nas_face.space import load_space

STAGE = TINY["stages"][0]
CONV = {"kind": "conv_unit", "out_channels": 8}
SMALL = {
    "plain": TINY,
    "conditional": {
        **TINY,
        "shared": {"act": {"choice": ["relu", "silu"]}, "width": {"choice": [4, 8, 12]}},
        "stem": {
            "choice": {
                "one": [{**CONV, "out_channels": {"shared": "width"}}],
                "two": [
                    {**CONV, "out_channels": {"shared": "width"}},
                    {**CONV, "out_channels": {"shared": "width"}, "kernel": {"choice": [1, 3]}},
                ],
                "fixed": [CONV],
            }
        },
    },
    "ruled": {**TINY, "constraints": ["stages.0.block.expansion == 1 if shared.act == silu"]},
    "unbuildable": {
        **TINY,
        "stem": [*TINY["stem"], {"kind": "conv_unit", "out_channels": 8, "depthwise": True}],
    },
    "without effect": {
        **TINY,
        "stages": [
            {**STAGE, "repeats": 1, "block": {**STAGE["block"], "first": {"expansion": 4}}}
        ],
    },
    "sizes": {
        **TINY,
        "input_shape": {"choice": {"small": [3, 16, 16], "flat": [3, 16, 8], "grey": [1, 16, 16]}},
    },
}
every_small = pytest.mark.parametrize("name", SMALL)
every_shipped = pytest.mark.parametrize("name", SHIPPED)


@pytest.fixture
def small(name, tmp_path):
    return space_of(tmp_path, SMALL[name])


@functools.cache
def shipped(name):
    return load_space(SHIPPED[name])


def key(design):
    return tuple(sorted(design.choices.items(), key=str))


@every_small
def test_enumerate_gives_every_architecture_once(name, small):
    specs = {design.spec for design in every_design(small)}
    found = [design.spec for design in small.enumerate(small.size)]
    assert len(found) == len(specs)
    assert set(found) == specs


def test_enumerate_leaves_out_choices_without_effect(tmp_path):
    space = space_of(tmp_path, SMALL["without effect"])
    assert len(list(space.enumerate(100))) * 2 == space.size


@every_small
def test_ways_are_all_ways(name, small):
    ways = [tuple(sorted(choices.items(), key=str)) for choices in small.ways()]
    assert len(ways) == len(set(ways)) == small.size


def test_a_large_space_is_not_enumerated(tmp_path):
    space = space_of(tmp_path, TINY)
    assert len(list(space.enumerate(48))) == 48
    with pytest.raises(SpaceError, match="tiny: has 48 ways to choose, more than the 47 that"):
        space.enumerate(47)


@every_small
def test_neighbours_differ_in_one_choice_and_none_is_missing(name, small):
    designs = list(every_design(small))
    for design in designs[:: max(1, len(designs) // 6)]:
        neighbours = list(small.neighbours(design))
        changes = set()
        for other in neighbours:
            assert small.decode(other.choices) == other.spec
            common = design.choices.keys() & other.choices.keys()
            changed = [path for path in common if design.choices[path] != other.choices[path]]
            assert len(changed) == 1
            changes.add((changed[0], other.choices[changed[0]]))
        assert len(changes) == len(neighbours)
        possible = set()
        for other in designs:
            common = design.choices.keys() & other.choices.keys()
            changed = [path for path in common if design.choices[path] != other.choices[path]]
            possible |= {(changed[0], other.choices[changed[0]])} if len(changed) == 1 else set()
        assert changes == possible


@every_small
def test_vectors_are_equal_only_for_equal_choices(name, small):
    designs = list(every_design(small))
    names = small.encoding_names()
    assert len(set(names)) == len(names)
    vectors = {small.encode(design).tobytes() for design in designs}
    assert len(vectors) == len(designs)
    for design in designs:
        vector = small.encode(design)
        assert vector.dtype == np.float32
        assert vector.shape == (len(names),)
        assert vector.min() >= 0
        assert vector.max() <= 1


def test_columns_of_a_vector(tmp_path):
    """Read off by hand: numbers by logarithm, words as indicators, what is inactive as zeros."""
    space = space_of(tmp_path, SMALL["conditional"])
    designs = {key(each): each for each in every_design(space)}
    two = next(
        each
        for each in designs.values()
        if each.choices["stem"] == "two"
        and each.choices["shared.width"] == 8
        and each.choices["stem.two.1.kernel"] == 3
        and each.choices["stages.0.repeats"] == 2
    )
    columns = dict(zip(space.encoding_names(), map(float, space.encode(two)), strict=True))
    assert [columns[f"stem={label}"] for label in ("one", "two", "fixed")] == [0, 1, 0]
    assert columns["shared.width:active"] == 1
    assert columns["shared.width"] == pytest.approx(math.log(8 / 4) / math.log(12 / 4))
    assert columns["stem.two.1.kernel"] == 1
    assert columns["stages.0.repeats"] == pytest.approx(math.log(2) / math.log(3))
    fixed = next(each for each in designs.values() if each.choices["stem"] == "fixed")
    columns = dict(zip(space.encoding_names(), map(float, space.encode(fixed)), strict=True))
    assert columns["shared.width:active"] == columns["shared.width"] == 0
    assert columns["stem.two.1.kernel:active"] == columns["stem.two.1.kernel"] == 0


def test_numbers_that_are_not_positive_are_placed_by_rank(tmp_path):
    stem = [{**CONV, "eps": {"choice": [0, 0.1, 100]}}]
    space = space_of(tmp_path, {**TINY, "stem": stem})
    column = space.encoding_names().index("stem.0.eps")
    places = {
        design.choices["stem.0.eps"]: float(space.encode(design)[column])
        for design in every_design(space)
    }
    assert places == {0: 0, 0.1: 0.5, 100: 1}


def test_the_image_can_be_chosen(tmp_path):
    space = space_of(tmp_path, SMALL["sizes"])
    shapes = {design.spec.input_shape for design in every_design(space)}
    assert shapes == {(3, 16, 16), (3, 16, 8), (1, 16, 16)}
    assert space.input_shape == (3, 16, 16)
    square = space.with_input_size(32)
    assert {each.spec.input_shape for each in every_design(square)} == {(3, 32, 32)}
    assert square.size * 3 == space.size


@pytest.mark.parametrize(
    "shape",
    [{"choice": {"a": [3, 16]}}, {"choice": {}}, {"choice": [3, 16, 16]}, {"range": [1, 2]}],
)
def test_choices_of_the_image_are_shapes(shape, tmp_path):
    with pytest.raises(SpaceError, match=r"space\.yaml: input_shape must be"):
        space_of(tmp_path, {**TINY, "input_shape": shape})


@every_shipped
@settings(max_examples=10, deadline=None)
@given(seed=st.integers(0, 2**32 - 1))
def test_moves_of_shipped_spaces_stay_inside(name, seed):
    space = shipped(name)
    rng = np.random.default_rng(seed)
    design = space.sample(rng)
    for other in (space.mutate(design, rng), space.crossover(design, space.sample(rng), rng)):
        assert space.decode(other.choices) == other.spec
        same_choices = other.choices == design.choices
        assert (space.encode(other).tobytes() == space.encode(design).tobytes()) == same_choices


@every_shipped
def test_neighbours_in_shipped_spaces_are_legal_and_one_step_away(name):
    space = shipped(name)
    rng = np.random.default_rng(5)
    design = space.sample(rng)
    neighbours = list(space.neighbours(design))
    choices = space.choices()
    one_step = sum(len(choices[path].labels) - 1 for path in design.choices)
    assert 0.7 * one_step <= len(neighbours) <= one_step
    for other in neighbours[::7]:
        assert space.decode(other.choices) == other.spec
        common = design.choices.keys() & other.choices.keys()
        assert sum(design.choices[path] != other.choices[path] for path in common) == 1


def test_brute_force_of_the_tests_agrees_with_a_plain_product(tmp_path):
    """The tests' own way through a space, once more by a plain product over all choices."""
    space = space_of(tmp_path, SMALL["conditional"])
    seen = set()
    knobs = space.choices()
    for numbers in np.ndindex(*(len(choice.labels) for choice in knobs.values())):
        labels = {
            path: choice.labels[at]
            for (path, choice), at in zip(knobs.items(), numbers, strict=True)
        }
        try:
            seen.add(key(space.propose(lambda path, choice, labels=labels: labels[path])))
        except ArchError:
            continue
    assert seen == {key(design) for design in every_design(space)}
