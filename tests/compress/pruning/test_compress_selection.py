"""How many classes of each family stay."""

import itertools

import numpy as np
import pytest

from nas_face.arch.combinators import Sequence
from nas_face.arch.cost import Shape
from nas_face.arch.layers import Conv
from nas_face.compress.pruning.channels import Family, couple
from nas_face.compress.pruning.selection import Counts, Grid, Selection

TREE = Sequence(
    layers=(Conv(out_channels=4), Conv(out_channels=6), Conv(out_channels=2)),
    names=("a", "b", "c"),
)
INPUT = Shape(3, 4, 4)


@pytest.mark.parametrize(
    ("size", "class_width", "round_to", "min_keep", "permitted"),
    [
        (32, 1, 8, 0.25, [8, 16, 24, 32]),
        (32, 1, 8, 0.3, [16, 24, 32]),
        (20, 1, 8, 0.0, [8, 16, 20]),
        (6, 1, 8, 0.0, [6]),
        (5, 8, 8, 0.25, [2, 3, 4, 5]),
        (16, 2, 8, 0.25, [4, 8, 12, 16]),
        (4, 3, 2, 0.25, [2, 4]),
        (10, 1, 1, 0.3, [3, 4, 5, 6, 7, 8, 9, 10]),
        (3, 1, 1, 0.0, [1, 2, 3]),
        (8, 1, 1, 1.0, [8]),
        (1, 1, 8, 0.0, [1]),
    ],
)
def test_permitted_numbers(
    size: int, class_width: int, round_to: int, min_keep: float, permitted: list[int]
) -> None:
    family = Family(name="a", classes=tuple(range(size)), class_width=class_width)
    grid = Grid.of(family, round_to=round_to, min_keep=min_keep)
    assert sorted({grid.at_least(count) for count in range(size + 1)}) == permitted
    assert [grid.above(count) for count in permitted[:-1]] == permitted[1:]


def selection(*, round_to: int = 1, min_keep: float = 0.0) -> Selection:
    coupling = couple(TREE, INPUT)
    scores = np.random.default_rng(0).random(coupling.n_classes)
    return Selection(coupling, scores, round_to=round_to, min_keep=min_keep)


def cost(counts: Counts) -> int:
    a, b = counts
    return 3 * a + a * b + 2 * b


@pytest.mark.parametrize("budget", range(6, 49))
def test_nothing_more_fits(budget: int) -> None:
    chosen = selection()
    counts = chosen.fit(budget, cost)
    assert cost(counts) <= budget
    for grown in itertools.product(*(range(n, n + 2) for n in counts)):
        beyond = any(n > size for n, size in zip(grown, (4, 6), strict=True))
        assert grown == counts or beyond or cost(grown) > budget


def test_least_important_go_first() -> None:
    chosen = selection()
    coupling = chosen.coupling
    free = [each for family in coupling.families for each in family.classes]
    for n_least in range(len(free) - 1):
        counts = chosen.without(n_least)
        gone = set(np.flatnonzero(~chosen.alive(counts)).tolist())
        expected = sorted(free, key=lambda each: chosen.scores[each])[:n_least]
        assert gone <= set(expected)
        assert len(set(expected) - gone) <= 1  # the floor of one class


def test_floor_and_rounding_are_loosened_one_by_one() -> None:
    tight = selection(round_to=2, min_keep=0.6)
    assert tight.floors == (4, 4)
    assert tight.loosened(round_to=1).floors == (3, 4)
    assert tight.loosened(min_keep=0.0).floors == (2, 2)
