"""First designs reach over the known costs, not only to where draws crowd."""

import itertools

import numpy as np
import pytest
from search_checks import shipped_space, tiny_space

from nas_face.search import Budget
from nas_face.search.designs import SpaceDesigns
from nas_face.search.front_gain.startup import first_designs, logarithms, pool_of, van_der_corput

DESIGNS = SpaceDesigns(shipped_space(), Budget())
NAMES = ("madds",)


def first(n, names=NAMES, seed=0):
    pool = pool_of(DESIGNS, NAMES)
    tried = []
    for turn in range(n):
        rng = np.random.default_rng([seed, turn])
        keys = {each.key for each in tried}
        tried.append(
            next(each for each in first_designs(pool, names, tried, rng) if each.key not in keys)
        )
    return tried


def test_the_pool_reaches_further_than_draws():
    drawn = [each.known["madds"] for each in itertools.islice(DESIGNS.draws(0), 200)]
    pool = [each.known["madds"] for each in pool_of(DESIGNS, NAMES)]
    assert min(pool) < 0.8 * min(drawn)
    assert max(pool) > 1.2 * max(drawn)


def test_first_designs_lie_evenly_over_the_logarithm_of_the_cost():
    logs = logarithms([each.known["madds"] for each in pool_of(DESIGNS, NAMES)])
    edges = np.linspace(logs.min(), logs.max(), 5)
    found = np.log([each.known["madds"] for each in first(15)])
    counts = np.histogram(found, edges)[0]
    assert counts.min() >= 3
    drawn = np.log([each.known["madds"] for each in itertools.islice(DESIGNS.draws(0), 15)])
    assert np.histogram(drawn, edges)[0].min() < 3


def test_several_known_objectives_take_turns():
    both = first(14, names=("madds", "peak_activations"))
    for name, turns in (("madds", both[::2]), ("peak_activations", both[1::2])):
        logs = logarithms([each.known[name] for each in pool_of(DESIGNS, NAMES)])
        places = (np.log([each.known[name] for each in turns]) - logs.min()) / np.ptp(logs)
        wanted = [van_der_corput(turn) for turn in range(1, 8)]
        assert places == pytest.approx(wanted, abs=0.15)


def test_without_known_objectives_designs_differ():
    found = np.stack([each.vector for each in first(8, names=())])
    drawn = np.stack([each.vector for each in itertools.islice(DESIGNS.draws(1), 8)])
    assert nearest(found) > 1.2 * nearest(drawn)


def nearest(vectors):
    """Mean distance to the nearest other."""
    distances = np.linalg.norm(vectors[:, None] - vectors[None], axis=2)
    np.fill_diagonal(distances, np.inf)
    return distances.min(axis=1).mean()


def test_seeds_give_different_designs_and_the_same_seed_the_same():
    keys = [[each.key for each in first(5, seed=seed)] for seed in (0, 0, 1)]
    assert keys[0] == keys[1] != keys[2]


def test_the_pool_of_a_small_space_is_all_of_it():
    assert len(pool_of(SpaceDesigns(tiny_space(), Budget()), NAMES)) == 24


def test_every_member_of_the_pool_is_offered():
    pool = pool_of(SpaceDesigns(tiny_space(), Budget()), NAMES)
    offered = [each.key for each in first_designs(pool, NAMES, [], np.random.default_rng(0))]
    assert sorted(offered) == sorted(each.key for each in pool)


def test_van_der_corput_fills_gaps():
    assert [van_der_corput(turn) for turn in range(1, 8)] == [
        0.5, 0.25, 0.75, 0.125, 0.625, 0.375, 0.875
    ]  # fmt: skip


def test_costs_of_zero_are_not_turned_into_logarithms():
    assert logarithms([0.0, 1.0]).tolist() == [0.0, 1.0]
    assert logarithms([1.0, np.e]) == pytest.approx([0.0, 1.0])
