"""Walls on what a recipe is measured to be, in words and as Optuna's constraints."""

import pytest

from nas_face.search import Budget
from nas_face.study.compression.recipe_search.space import RecipeSpace
from nas_face.study.compression.recipe_search.walls import (
    broken,
    constraints_of,
    limits_of,
    miss,
    walls_of,
)

SPACE = RecipeSpace(
    floor=-2.0, budget=Budget(max_madds=100, max_latency_ms=2.0, min_size_bytes=1000)
)
WALLS = walls_of(SPACE, judged=0.92)
INSIDE = {"judged": 0.92, "latency_ms": 1.5, "size_bytes": 1250.0, "madds": 50.0}


def test_floor_is_a_wall_below_what_was_given():
    assert limits_of(WALLS) == {
        "judged": (pytest.approx(0.9), None),
        "latency_ms": (None, 2.0),
        "size_bytes": (1000, None),
    }
    assert walls_of(RecipeSpace(), judged=0.92) == ()


def test_constraints_are_shares_of_what_is_left_or_missing():
    assert constraints_of(WALLS, INSIDE) == {
        "floor": pytest.approx(0.9 / 0.92 - 1),
        "max_latency_ms": pytest.approx(-0.25),
        "min_size_bytes": pytest.approx(-0.2),
    }
    over = {**INSIDE, "latency_ms": 3.0, "size_bytes": 500.0}
    assert constraints_of(WALLS, over)["max_latency_ms"] == pytest.approx(0.5)
    assert constraints_of(WALLS, over)["min_size_bytes"] == pytest.approx(1.0)
    assert miss(WALLS, over) == pytest.approx(1.0)


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("latency_ms", 2.0, ""),
        ("latency_ms", 2.5, "latency_ms 2.5 is above max_latency_ms 2"),
        ("size_bytes", 999.0, "size_bytes 999 is below min_size_bytes 1,000"),
        ("judged", 0.85, "judged 0.85 is below floor 0.9"),
        ("madds", 101.0, "madds 101 is above max_madds 100"),
    ],
)
def test_what_is_broken_is_said(name, value, words):
    figures = {**INSIDE, name: value}
    assert broken(WALLS, figures) == words
    assert bool(words) == bool(miss(WALLS, figures))
    feasible = all(each <= 0 for each in constraints_of(WALLS, figures).values())
    assert feasible == (not words or name == "madds")  # that one is known before
