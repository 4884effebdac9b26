import json
import math

import numpy as np
import pytest
from scipy.stats import binom, binomtest

from nas_face.errors import MetricError
from nas_face.verify import (
    PairIdentities,
    ThresholdCard,
    bootstrap_intervals,
    tar_at_far,
    threshold_card,
)
from nas_face.verify.thresholds import CARD_FMRS


def scored(n_same: int, n_different: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    same = np.arange(n_same + n_different) < n_same
    order = rng.permutation(len(same))
    scores = np.clip(rng.normal(np.where(same, 0.6, 0.0), 0.15), -1, 1)
    return scores[order], same[order]


def card_of(scores: np.ndarray, same: np.ndarray, **options: object) -> ThresholdCard:
    return threshold_card(scores, same, model="m", precision="int8", **options)


def test_a_threshold_is_the_last_impostor_that_may_match() -> None:
    scores, same = scored(400, 5000, seed=0)
    card = card_of(scores, same, pairs="set a")
    assert (card.model, card.precision, card.pairs) == ("m", "int8", "set a")
    assert (card.n_same, card.n_different, card.resampled) == (400, 5000, "none")
    assert [each.fmr for each in card.thresholds] == [1e-2, 1e-3]
    impostors = sorted(scores[~same].tolist(), reverse=True)
    for each, n in zip(card.thresholds, (50, 5), strict=True):
        assert each.n_false_matches == n
        assert each.cosine == impostors[n - 1]
        assert (
            each.tmr == np.mean(scores[same] >= each.cosine) <= tar_at_far(scores, same, each.fmr)
        )
        assert each.tmr in each.tmr_interval
        exact = binomtest(n, 5000).proportion_ci(0.95, method="exact")
        assert (each.fmr_interval.low, each.fmr_interval.high) == pytest.approx(exact)


def test_distances_decide_as_cosines_do() -> None:
    scores, same = scored(400, 5000, seed=1)
    for each in card_of(scores, same).thresholds:
        assert each.distance == pytest.approx(math.sqrt(2 - 2 * each.cosine))
        distances = np.sqrt(2 - 2 * scores)
        near = np.abs(scores - each.cosine) < 1e-12
        assert np.array_equal((distances <= each.distance)[~near], (scores >= each.cosine)[~near])
        low, high = each.cosine_interval.low, each.cosine_interval.high
        assert low <= each.cosine <= high
        assert each.distance_interval.low == pytest.approx(math.sqrt(2 - 2 * high))
        assert each.distance_interval.high == pytest.approx(math.sqrt(2 - 2 * low))


@pytest.mark.parametrize("n", [100, 1000, 3000])
def test_the_interval_of_a_threshold_has_the_ranks_of_the_binomial(n: int) -> None:
    # Impostor scores that tell their rank from the top: 1, 2, ... n.
    scores = np.append(1 - np.arange(1, n + 1) / (2 * n), 0.0)
    same = np.arange(n + 1) == n
    (threshold,) = card_of(scores, same, fmrs=(0.01,)).thresholds
    fewest, most = int(binom.ppf(0.025, n, 0.01)), int(binom.ppf(0.975, n, 0.01)) + 1
    expected_high = 1.0 if fewest == 0 else 1 - fewest / (2 * n)
    assert threshold.cosine_interval.high == pytest.approx(expected_high)
    assert threshold.cosine_interval.low == pytest.approx(1 - most / (2 * n))


def test_intervals_of_thresholds_hold_as_often_as_they_say() -> None:
    truth = 0.15 * 2.3263478740408408  # exceeded by 1 % of impostors
    n_inside, rates = 0, []
    for seed in range(200):
        scores, same = scored(10, 1000, seed)
        (threshold,) = card_of(scores, same, fmrs=(0.01,)).thresholds
        n_inside += truth in threshold.cosine_interval
        rates.append(0.5 * math.erfc(threshold.cosine / 0.15 / math.sqrt(2)))
    assert n_inside >= 184  # of 190 expected or more
    assert np.mean(rates) == pytest.approx(10 / 1001, rel=0.07)  # as the docstring promises


def test_what_is_not_supported_is_refused_with_the_reason() -> None:
    scores, same = scored(50, 2500, seed=2)
    card = card_of(scores, same)
    assert [each.fmr for each in card.thresholds] + [each.fmr for each in card.refused] == list(
        CARD_FMRS
    )
    assert [each.fmr for each in card.refused] == [1e-4, 1e-5]
    assert "at least 10000 pairs" in card.refused[0].reason
    assert "got 2500" in card.refused[0].reason


def test_ties_are_rejected_as_a_whole_or_refused() -> None:
    same = np.array([True] * 5 + [False] * 100)
    scores = np.append(np.full(5, 0.9), [0.8, 0.8, *[0.5] * 10, *[0.1] * 88])
    card = card_of(scores, same, fmrs=(0.5, 0.1, 0.02, 0.01))
    assert [(each.fmr, each.n_false_matches, each.cosine) for each in card.thresholds] == [
        (0.5, 12, 0.5),
        (0.1, 2, 0.8),
        (0.02, 2, 0.8),
    ]
    assert "2 highest impostor scores are all 0.8, and 1 of 100 may match" in (
        card.refused[0].reason
    )


@pytest.mark.parametrize("score", [-1.0, 0.0, 1.0])
def test_a_model_that_scores_all_alike_gets_no_threshold(score: float) -> None:
    same = np.arange(200) < 100
    card = card_of(np.full(200, score), same)
    assert card.thresholds == ()
    assert len(card.refused) == len(CARD_FMRS)


def test_all_impostors_may_match_at_a_rate_of_one() -> None:
    card = card_of(np.array([0.5, 0.25]), np.array([True, False]), fmrs=(1.0,))
    assert [(each.cosine, each.tmr) for each in card.thresholds] == [(0.25, 1.0)]


def test_a_check_counts_on_other_pairs() -> None:
    card = card_of(*scored(400, 20_000, seed=3))
    scores, same = scored(300, 9000, seed=4)
    check = card.checked_on(scores, same, pairs="set b")
    assert (check.pairs, check.n_same, check.n_different) == ("set b", 300, 9000)
    assert [each.fmr for each in check.thresholds] == [1e-2, 1e-3, 1e-4]
    for each, own in zip(check.thresholds, card.thresholds, strict=True):
        assert each.cosine == own.cosine
        assert each.n_false_matches == sum(
            score >= own.cosine for score, kind in zip(scores, same, strict=True) if not kind
        )
        assert each.n_false_non_matches == sum(
            score < own.cosine for score, kind in zip(scores, same, strict=True) if kind
        )
        assert each.observed_fmr == each.n_false_matches / 9000
        assert each.observed_fnmr == each.n_false_non_matches / 300
        for count, n, interval in (
            (each.n_false_matches, 9000, each.fmr_interval),
            (each.n_false_non_matches, 300, each.fnmr_interval),
        ):
            exact = binomtest(count, n).proportion_ci(0.95, method="exact")
            assert (interval.low, interval.high) == pytest.approx(exact)
    assert check.thresholds[0].holds
    data = json.loads(json.dumps(check.as_dict(), allow_nan=False))
    assert data["thresholds"][0]["holds"] is True


def test_a_promise_that_is_broken_is_told_from_one_that_is_kept_too_well() -> None:
    card = card_of(*scored(400, 5000, seed=5), fmrs=(0.01,))
    scores, same = scored(400, 5000, seed=6)
    shifted = np.where(same, scores, np.clip(scores + 0.2, -1, 1))
    (worse,) = card.checked_on(shifted, same).thresholds
    assert (worse.holds, worse.too_many) == (False, True)
    lowered = np.where(same, scores, np.clip(scores - 0.2, -1, 1))
    (better,) = card.checked_on(lowered, same).thresholds
    assert (better.holds, better.too_many) == (False, False)


def test_a_card_survives_json() -> None:
    card = card_of(*scored(100, 3000, seed=7), pairs="a")
    assert ThresholdCard.from_json(card.to_json()) == card


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"model": 3}, "my.json: model: .*string"),
        ({"n_same": None}, "my.json: n_same"),
        ({"thresholds": [{"fmr": 0.1}]}, r"my.json: thresholds.0.cosine"),
        ({"n_same": "12"}, "my.json: n_same"),
        ({"colour": "red"}, "my.json: colour"),
    ],
)
def test_what_is_no_card_is_refused_by_name(change: dict[str, object], message: str) -> None:
    data = json.loads(card_of(*scored(100, 3000, seed=7)).to_json())
    with pytest.raises(MetricError, match=message):
        ThresholdCard.from_json(json.dumps(data | change), where="my.json")


@pytest.mark.parametrize(("name", "value"), [("cosine", 1.5), ("cosine", math.nan), ("fmr", 0.0)])
def test_a_threshold_out_of_range_is_refused(name: str, value: float) -> None:
    data = json.loads(card_of(*scored(100, 3000, seed=7)).to_json())
    data["thresholds"][1][name] = value
    with pytest.raises(MetricError, match=r"my.json: .*fmr in \(0, 1\] and a cosine"):
        ThresholdCard.from_json(json.dumps(data), where="my.json")


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", b"\xff"])
def test_text_that_is_no_card_is_refused(text: str | bytes) -> None:
    with pytest.raises(MetricError, match="threshold card: "):
        ThresholdCard.from_json(text)


def test_people_who_are_known_are_resampled() -> None:
    rng = np.random.default_rng(0)
    people = np.stack([rng.integers(0, 60, 3000), rng.integers(0, 60, 3000)])
    people[1, :500] = people[0, :500]
    same = people[0] == people[1]
    likeness = rng.normal(0, 0.1, 60)  # some people are like many
    scores = rng.normal(np.where(same, 0.6, likeness[people].sum(axis=0)), 0.05).clip(-1, 1)
    identities = PairIdentities(first=people[0], second=people[1])
    plain, by_people = (
        card_of(scores, same, identities=each, fmrs=(0.05,)) for each in (None, identities)
    )
    assert by_people.resampled == "identities"
    assert by_people.thresholds[0].cosine == plain.thresholds[0].cosine
    expected = bootstrap_intervals(scores, same, identities=identities, fars=(0.05,))
    assert by_people.thresholds[0].cosine_interval == expected.threshold_at_far[0][1]
    widths = [
        card.thresholds[0].cosine_interval.high - card.thresholds[0].cosine_interval.low
        for card in (plain, by_people)
    ]
    assert widths[1] > 1.5 * widths[0]


def test_single_precision_may_stray_over_one() -> None:
    scores = np.array([1.0000001, 0.2, -1.0000001], dtype=np.float32)
    same = np.array([True, False, False])
    (threshold,) = card_of(scores, same, fmrs=(1.0,)).thresholds
    assert threshold.cosine == -1.0
    assert threshold.distance == 2.0


@pytest.mark.parametrize(
    ("scores", "same", "error", "message"),
    [
        ([1.5, 0.0], [True, False], ValueError, r"cosines in \[-1, 1\], got 1.5"),
        ([np.nan, 0.0], [True, False], MetricError, "1 of 2"),
        ([0.5, 0.0], [False, False], MetricError, "got 0 same and 2 different"),
        ([0.5], [True, False], ValueError, "of one shape"),
    ],
)
def test_input_is_checked(
    scores: list[float], same: list[bool], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        card_of(np.array(scores), np.array(same))
    card = card_of(np.array([0.5, 0.0]), np.array([True, False]))
    with pytest.raises(error, match=message):
        card.checked_on(np.array(scores), np.array(same))
