"""The rule of promotion against a plain re-implementation."""

import itertools
import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nas_face.errors import ConfigError
from nas_face.search.rungs import Rungs


@pytest.mark.parametrize(
    ("value", "goes_on"), [(0, True), (1.5, True), (2.5, True), (3.5, False), (5, False)]
)
def test_the_better_half_goes_on(value, goes_on):
    """With the candidate there are five; the best three of them go on."""
    assert Rungs(epochs=(1,)).promotes([value], [[1], [2], [3], [4]]) is goes_on


@given(
    others=st.lists(st.integers(0, 100).map(float), max_size=15, unique=True),
    value=st.integers(0, 99).map(lambda each: each + 0.5),
    keep=st.sampled_from([0.1, 0.25, 0.5, 0.9, 1.0]),
    n_warmup=st.integers(1, 6),
)
def test_one_objective_is_a_plain_ranking(others, value, keep, n_warmup):
    rungs = Rungs(epochs=(1,), keep=keep, n_warmup=n_warmup)
    better = sum(each < value for each in others)
    free = len(others) < n_warmup
    expected = free or better < max(1, math.ceil(keep * (len(others) + 1)))
    assert rungs.promotes([value], [[each] for each in others]) is expected


def test_the_first_ones_pass_freely():
    rungs = Rungs(epochs=(1,), keep=0.1, n_warmup=3)
    assert rungs.promotes([9, 9], [])
    assert rungs.promotes([9, 9], [[0, 0], [1, 1]])
    assert not rungs.promotes([9, 9], [[0, 0], [1, 1], [2, 2]])


def test_a_trade_off_goes_on_where_a_dominated_candidate_does_not():
    others = [[0, 4], [4, 0], [5, 5], [6, 6], [7, 7]]
    rungs = Rungs(epochs=(1,), keep=0.5)
    assert rungs.promotes([1, 3], others)
    assert not rungs.promotes([5.5, 5.5], others)


def test_among_equals_in_rank_the_one_that_adds_more_goes_on():
    crowd = [[0, 10], [4.9, 5.1], [5, 5], [5.1, 4.9], [10, 0]]
    rungs = Rungs(epochs=(1,), keep=0.6)  # four of six
    assert rungs.promotes([2, 7], crowd)
    assert not rungs.promotes([5.05, 4.95], crowd)


def test_equal_candidates_are_answered_alike():
    """None of them adds anything to the others, so the last is not behind the first."""
    assert Rungs(epochs=(1,), keep=0.1).promotes([1, 1], [[1, 1]] * 9)


def dominates(a, b) -> bool:
    return all(x <= y for x, y in zip(a, b, strict=True)) and a != b


def cells(values, reference) -> set[tuple[int, ...]]:
    """Unit cells below an integer reference that an integer point dominates."""
    grid = itertools.product(*(range(edge) for edge in reference))
    return {
        cell
        for cell in grid
        if any(all(x <= c for x, c in zip(each, cell, strict=True)) for each in values)
    }


def naive_promotes(rungs, value, others) -> bool:
    """Peels fronts until the quota is spent; counts cells within the one that is too large."""
    left = [tuple(each) for each in (*others, value)]
    worst = [max(column) for column in zip(*left, strict=True)]
    extent = [max(column) - min(column) for column in zip(*left, strict=True)]
    # Cells of a tenth of a unit: the reference lies a tenth of the extent beyond the worst.
    reference = [10 * w + (e or 10) for w, e in zip(worst, extent, strict=True)]
    room = max(1, math.ceil(rungs.keep * len(left)))
    while True:
        front = [each for each in left if not any(dominates(other, each) for other in left)]
        if tuple(value) in front:
            break
        room -= len(front)
        left = [each for each in left if each not in front]
    if room <= 0 or room >= len(front):
        return room > 0
    fine = [tuple(10 * x for x in each) for each in front]
    whole = cells(fine, reference)
    lost = [
        len(whole) - len(cells(fine[:at] + fine[at + 1 :], reference)) for at in range(len(fine))
    ]
    return sum(each > lost[fine.index(tuple(10 * x for x in value))] for each in lost) < room


@settings(deadline=None, max_examples=60)
@given(
    values=st.integers(1, 2).flatmap(
        lambda m: st.lists(st.tuples(*[st.integers(0, 4)] * m), min_size=2, max_size=9)
    ),
    keep=st.sampled_from([0.1, 0.3, 0.5, 0.8]),
)
def test_rule_is_that_of_a_plain_reimplementation(values, keep):
    rungs = Rungs(epochs=(1,), keep=keep, n_warmup=1)
    *others, value = values
    assert rungs.promotes(value, others) is naive_promotes(rungs, value, others)


@given(
    values=st.lists(
        st.tuples(*[st.floats(0, 1, allow_subnormal=False)] * 3), min_size=6, max_size=15
    ),
    scale=st.tuples(*[st.sampled_from([1, 2, 4, 1024])] * 3),  # exact: powers of two, upwards
)
def test_units_do_not_matter(values, scale):
    rungs = Rungs(epochs=(1,), keep=0.4)
    stretched = [[x * s for x, s in zip(each, scale, strict=True)] for each in values]
    assert rungs.promotes(values[-1], values[:-1]) is rungs.promotes(stretched[-1], stretched[:-1])


def test_the_best_on_the_dear_axis_is_not_stopped_for_the_many_cheap_ones():
    """Nine tiny networks are on the front, none dominated; the accurate one adds the most."""
    tiny = [[0.9 - 0.01 * at, 1 + 0.1 * at] for at in range(9)]
    assert Rungs(epochs=(1,), keep=0.2).promotes([0.1, 5], tiny)


def test_what_is_infinite_never_goes_on_and_counts_as_worse():
    rungs = Rungs(epochs=(1,), keep=0.5, n_warmup=2)
    assert not rungs.promotes([math.inf, 0], [])
    assert not rungs.promotes([math.inf, 0], [[1, 1]] * 4)
    bad = [[math.inf, 0]] * 4
    assert rungs.promotes([2, 2], [*bad, [1, 1]])
    assert not rungs.promotes([2, 2], [[0, 0]] * 4 + [[1, 1]])


def test_audit_draws_its_share_and_the_same_ones_again():
    keys = [f"{number:012x}" for number in range(4000)]
    drawn = {key for key in keys if Rungs(audit=0.1).audits(key)}
    assert 320 < len(drawn) < 480  # four standard deviations about 400
    assert drawn == {key for key in keys if Rungs(audit=0.1, epochs=(3,)).audits(key)}
    assert drawn <= {key for key in keys if Rungs(audit=0.2).audits(key)}
    assert not any(Rungs(audit=0.0).audits(key) for key in keys)
    assert all(Rungs(audit=1.0).audits(key) for key in keys)


def test_everybody_goes_on_where_all_are_kept():
    assert Rungs(epochs=(1,), keep=1.0).promotes([9], [[0]] * 9)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"epochs": (0,)}, r"rungs.epochs must rise from 1, got \[0\]"),
        ({"epochs": (2, 2)}, r"rungs.epochs must rise from 1, got \[2, 2\]"),
        ({"epochs": (3, 1)}, r"rungs.epochs must rise from 1, got \[3, 1\]"),
        ({"keep": 0.0}, "rungs.keep must be above 0 and at most 1, got 0.0"),
        ({"keep": 1.1}, "rungs.keep must be above 0 and at most 1, got 1.1"),
        ({"keep": float("nan")}, "rungs.keep must be .*got nan"),
        ({"audit": -0.1}, "rungs.audit must be from 0 to 1, got -0.1"),
        ({"audit": 1.5}, "rungs.audit must be from 0 to 1, got 1.5"),
        ({"audit": float("nan")}, "rungs.audit must be .*got nan"),
        ({"n_warmup": 0}, "rungs.n_warmup must be at least 1, got 0"),
    ],
)
def test_impossible_settings_are_refused(given, message):
    with pytest.raises(ConfigError, match=message):
        Rungs(**given)
