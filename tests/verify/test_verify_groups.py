import json
import math

import numpy as np
import pytest

from nas_face.errors import MetricError
from nas_face.verify.groups import MIN_SAME, group_report, worst_group_tar
from nas_face.verify.intervals import wilson_interval

NAMES = ("a", "b", "c")


def made_up(
    seed: int = 0, n_pairs: int = 4_000
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Scores, same, and the groups of both images; group 2 is small, and some are unknown."""
    rng = np.random.default_rng(seed)
    first = rng.choice([-1, 0, 1, 2], size=n_pairs, p=[0.1, 0.5, 0.39, 0.01])
    second = np.where(rng.random(n_pairs) < 0.7, first, rng.permutation(first))
    same = (rng.random(n_pairs) < 0.3) & (first == second)
    # group 1 is harder
    scores = rng.normal(np.where(same, 2.0 - 0.7 * (first == 1), 0.0))
    return scores, same, first, second


@pytest.mark.parametrize("far", [None, 0.1, 0.01])
def test_figures_are_those_of_pairs_counted_one_by_one(far):
    scores, same, first, second = made_up()
    report = group_report(scores, same, first, second, NAMES, attribute="age", far=far)
    kinds = {"all pairs": [], "between groups": [], **{name: [] for name in NAMES}}
    for score, is_same, a, b in zip(scores, same, first, second, strict=True):
        decision = (bool(is_same), bool(score >= report.threshold))
        kinds["all pairs"].append(decision)
        if a >= 0 and b >= 0:
            kinds[NAMES[a] if a == b else "between groups"].append(decision)
    for each in (report.overall, report.cross_group, *report.groups):
        decisions = kinds[each.name]
        genuine = [accepted for is_same, accepted in decisions if is_same]
        impostor = [accepted for is_same, accepted in decisions if not is_same]
        assert (each.n_same, each.n_true_accepts) == (len(genuine), sum(genuine))
        assert (each.n_different, each.n_false_accepts) == (len(impostor), sum(impostor))
        right = [is_same == accepted for is_same, accepted in decisions]
        assert each.accuracy == sum(right) / len(right)
    assert report.cross_group.n_same == 0 and report.cross_group.tar is None


def test_the_threshold_of_a_far_is_the_lowest_that_keeps_to_it():
    scores, same, first, second = made_up()
    report = group_report(scores, same, first, second, NAMES, attribute="age", far=0.01)
    impostors = scores[~same]
    assert np.mean(impostors >= report.threshold) <= 0.01
    lower = scores[scores < report.threshold].max()
    assert np.mean(impostors >= lower) > 0.01


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_without_a_far_the_threshold_is_that_of_the_best_accuracy(dtype):
    scores, same, first, second = made_up(n_pairs=500)
    scores = scores.astype(dtype)
    report = group_report(scores, same, first, second, NAMES, attribute="age")
    best = max(np.mean((scores >= t) == same) for t in [*scores, np.inf])
    assert report.overall.accuracy == best
    assert report.far is None


def test_the_worst_group_is_named_and_small_ones_are_left_out():
    scores, same, first, second = made_up()
    report = group_report(scores, same, first, second, NAMES, attribute="age", far=0.1)
    assert report.groups[2].n_same < MIN_SAME
    assert report.too_small_for_tar == report.too_small_for_fmr == ("c",)
    assert report.worst_tar is report.groups[1]
    assert report.tar_gap == report.groups[0].tar - report.groups[1].tar
    rates = [report.groups[0].fmr, report.groups[1].fmr]
    assert report.worst_fmr.fmr == max(rates)
    assert report.fmr_ratio == max(rates) / min(rates)


def test_intervals_are_those_of_wilson():
    scores, same, first, second = made_up()
    group = group_report(scores, same, first, second, NAMES, attribute="age", far=0.1).groups[0]
    assert group.tar_interval == wilson_interval(group.n_true_accepts, group.n_same)
    assert group.fmr_interval == wilson_interval(group.n_false_accepts, group.n_different)
    found = group.as_dict()
    assert found["tar_interval"] == [group.tar_interval.low, group.tar_interval.high]
    assert found["fnmr"] == pytest.approx(1 - group.tar, abs=1e-15)
    assert found["fnmr_interval"] == pytest.approx(
        [1 - group.tar_interval.high, 1 - group.tar_interval.low], abs=1e-12
    )


def test_one_group_has_no_gap_and_an_unknown_one_no_figures():
    scores, same, first, second = made_up(n_pairs=300)
    alone = np.zeros(300, dtype=np.int64)
    report = group_report(scores, same, alone, alone, ("all",), attribute="none", far=0.1)
    assert report.groups[0].n_true_accepts == report.overall.n_true_accepts
    assert report.tar_gap is None and report.fmr_ratio is None
    nobody = group_report(scores, same, alone - 1, alone - 1, ("all",), attribute="none", far=0.1)
    assert nobody.groups[0].tar is None and nobody.groups[0].fmr is None
    assert nobody.worst_tar is None and nobody.worst_fmr is None
    assert json.loads(json.dumps(nobody.as_dict()))["worst_tar_group"] is None


def test_a_group_without_false_accepts_makes_the_ratio_infinite():
    n = 200
    groups = np.repeat([0, 1], n)
    same = np.tile(np.arange(n) < 50, 2)
    scores = np.where(same, 2.0, np.where(groups == 0, 0.0, np.tile(np.arange(n) / n, 2)))
    report = group_report(scores, same, groups, groups, ("a", "b"), attribute="x", far=0.2)
    assert report.groups[0].n_false_accepts == 0 < report.groups[1].n_false_accepts
    assert report.fmr_ratio == math.inf
    assert json.loads(json.dumps(report.as_dict()))["fmr_ratio"] == "inf"


@pytest.mark.parametrize("far", [0.1, 0.01])
def test_the_search_objective_is_the_reports_lowest_tar(far):
    scores, same, first, second = made_up(3)
    groups = np.where(first == second, first, -1)
    report = group_report(scores, same, first, second, NAMES, attribute="age", far=far)
    assert worst_group_tar(scores, same, groups, far) == report.worst_tar.tar


def test_groups_that_are_all_too_small_are_no_objective():
    scores, same, _, _ = made_up(n_pairs=200)
    nobody = np.full(200, -1)
    with pytest.raises(MetricError, match="at least 30 genuine pairs, got at most 0;"):
        worst_group_tar(scores, same, nobody, 0.1)
    with pytest.raises(MetricError, match="FAR 0.0001 takes at least 10000"):
        worst_group_tar(scores, same, nobody, 1e-4)
    with pytest.raises(ValueError, match="of one shape"):
        worst_group_tar(scores, same, nobody[:3], 0.1)
    with pytest.raises(ValueError, match=r"groups must lie in -1\.\.2"):
        group_report(scores, same, nobody + 4, nobody, NAMES, attribute="x", far=0.1)
    with pytest.raises(MetricError, match="got 200 same and 0 different"):
        group_report(scores, same | True, nobody, nobody, NAMES, attribute="x")
