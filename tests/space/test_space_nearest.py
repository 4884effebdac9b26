"""Walks against brute force, and how sure a share of draws is."""

import copy
import itertools

import pytest
from space_checks import SHIPPED, TINY, space_of

from nas_face.space import load_space, screener_of
from nas_face.space.nearest import descended, nearest
from nas_face.space.survey import interval, survey

BLOCK = TINY["stages"][0]["block"]
NESTED = copy.deepcopy(TINY)
"""A kind of block whose first options are the dear ones: a change of kind alone never helps."""
NESTED["stages"][0]["block"] = {
    "choice": {
        "mobile": {**BLOCK, "expansion": {"choice": [2, 3]}},
        "other": {
            "kind": "inverted_residual",
            "expansion": {"choice": [6, 4, 1]},
            "kernel": {"choice": [7, 3]},
        },
    }
}

MEASURES = {
    "madds": lambda each: (each.madds,),
    "params": lambda each: (each.params,),
    "most madds": lambda each: (-each.madds,),
    "peak": lambda each: (each.peak_activations, each.madds),
}


@pytest.mark.parametrize("measure", MEASURES.values(), ids=MEASURES)
@pytest.mark.parametrize("raw", [TINY, NESTED], ids=["tiny", "nested"])
def test_a_descent_from_anywhere_ends_at_the_least(raw, measure, tmp_path):
    space = space_of(tmp_path, raw)
    screener = screener_of(space)
    every = [found for each in space.ways() if (found := screener.screened(each)) is not None]
    least = min(map(measure, every))
    for start in every[:: max(1, len(every) // 12)]:
        assert measure(descended(space, start, measure)) == least


def test_a_walk_comes_nearest_to_two_walls(tmp_path):
    """Few multiply-adds and many parameters, against brute force."""
    space = space_of(tmp_path, NESTED)
    screener = screener_of(space)
    every = [found for each in space.ways() if (found := screener.screened(each)) is not None]
    madds, params = sorted(each.madds for each in every), sorted(each.params for each in every)
    for most, least in itertools.product(madds[::20], params[::20]):

        def rank(design, most=most, least=least):
            return (max(design.madds / most, 1) ** 4 + max(least / design.params, 1) ** 4,)

        found = nearest(space, every[:3], rank, seed=0)
        assert rank(found) == min(map(rank, every))


def test_a_walk_stops_where_it_is_good_enough():
    space = load_space(SHIPPED["seesaw"])
    drawn = list(itertools.islice(screener_of(space).draws(0), 20))
    start = min(drawn, key=lambda each: each.madds)
    found = nearest(space, drawn, lambda each: (each.madds,), seed=0, enough=(start.madds,))
    assert found == start


def test_walks_are_those_of_their_seed():
    space = load_space(SHIPPED["seesaw"])
    drawn = list(itertools.islice(screener_of(space).draws(0), 5))

    def rank(each):
        return (abs(each.madds - 30_000_000) + abs(each.params - 400_000),)

    one, other = (nearest(space, drawn, rank, seed=1).choices for _ in range(2))
    assert one == other


def test_a_survey_draws_on_where_few_fit():
    space = load_space(SHIPPED["seesaw"])
    wall = sorted(each.madds for each in itertools.islice(screener_of(space).draws(0), 400))[20]

    def fits(cost):
        return cost.madds <= wall

    few = survey(space, fits, seed=0, n_samples=200)
    more = survey(space, fits, seed=0, n_samples=200, n_most=600)
    enough = survey(space, lambda cost: True, seed=0, n_samples=200, n_most=600)
    assert (len(few.costs), len(more.costs), len(enough.costs)) == (200, 600, 200)
    assert more.costs[:200] == few.costs
    assert more.n_fitting == sum(map(fits, more.costs))
    assert more.share_fitting == more.n_fitting / 600
    assert few.interval[0] < more.share_fitting < few.interval[1]


@pytest.mark.parametrize(
    ("n_hits", "n", "low", "high"),
    [
        (0, 10, 0.0, 0.2775),
        (5, 10, 0.2366, 0.7634),
        (10, 10, 0.7225, 1.0),
        (1, 29, 0.0061, 0.1718),
    ],
)
def test_intervals_are_those_of_wilson(n_hits, n, low, high):
    """The last one is in table I of Newcombe, "Two-sided confidence intervals for the single
    proportion", 1998; the others are the formula by hand."""
    assert interval(n_hits, n) == pytest.approx((low, high), abs=1e-4)
