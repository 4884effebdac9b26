import json
import math

import numpy as np
import pytest

from nas_face.errors import MetricError
from nas_face.verify import (
    PairIdentities,
    Resampling,
    RowPairs,
    auc,
    bootstrap,
    bootstrap_intervals,
    eer,
    verify_embeddings,
)

FARS = (0.1, 0.3)


def listed(n: int, seed: int, *, levels: int | None) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Scores, kinds, and the identities `(2, n)` of pairs among a dozen people."""
    rng = np.random.default_rng(seed)
    people = rng.integers(0, 12, (2, n))
    people[1, : n // 2] = people[0, : n // 2]
    people[:, :12] = np.arange(12)  # everyone is there
    same = people[0] == people[1]
    scores = rng.normal(same * 1.0, 0.7)
    if levels is not None:
        scores = np.round(scores * levels) / levels
    return scores, same, people


def tar_and_threshold(scores: np.ndarray, same: np.ndarray, far: float) -> tuple[float, float]:
    """By trying every score: the lowest threshold within the FAR, tied impostors together."""
    impostors = scores[~same]
    fits = [
        level
        for level in [*np.unique(impostors), np.inf]
        if np.mean(impostors >= level) <= far + 1e-12
    ]
    refused = impostors[impostors < min(fits)]
    below = refused.max() if len(refused) else -np.inf
    return float(np.mean(scores[same] > below)), min(fits)


def figures_of(
    scores: np.ndarray, same: np.ndarray, right: np.ndarray, weights: np.ndarray
) -> list[float]:
    """Of a list in which every pair is written down as often as its weight says."""
    share = np.mean(same)
    often = np.repeat(np.arange(len(scores)), weights)
    scores, same, right = scores[often], same[often], right[often]
    at_fars = [tar_and_threshold(scores, same, far) for far in FARS]
    return [
        share * np.mean(right[same]) + (1 - share) * np.mean(right[~same]),
        auc(scores, same),
        eer(scores, same),
        *(tar for tar, _ in at_fars),
        *(threshold for _, threshold in at_fars),
    ]


def ends(figures: list[list[float]], confidence: float) -> np.ndarray:
    """Both ends of the middle `confidence` of each figure, `(F, 2)`."""
    ranks = [(1 - confidence) / 2 * (len(figures) - 1), (1 + confidence) / 2 * (len(figures) - 1)]
    return np.sort(np.array(figures), axis=0)[[round(rank) for rank in ranks]].T


def found_ends(found: bootstrap.BootstrapIntervals) -> list[tuple[float, float]]:
    assert found.accuracy is not None
    assert tuple(far for far, _ in found.tar_at_far) == FARS
    intervals = [found.accuracy, found.auc, found.eer]
    intervals += [each for _, each in (*found.tar_at_far, *found.threshold_at_far)]
    return [(each.low, each.high) for each in intervals]


def drawn(rng: np.random.Generator, n: int, n_resamples: int) -> np.ndarray:
    """How often each of n comes up in each resample, `(n, n_resamples)`."""
    draws = rng.integers(0, n, (n, n_resamples))
    return np.stack([np.bincount(column, minlength=n) for column in draws.T], axis=1)


@pytest.mark.parametrize("levels", [None, 3])
def test_resampled_identities_are_lists_written_out(levels: int | None) -> None:
    scores, same, people = listed(120, 0, levels=levels)
    right = (scores > 0.5) == same
    found = bootstrap_intervals(
        scores,
        same,
        identities=PairIdentities(first=people[0], second=people[1]),
        right=right,
        fars=FARS,
        n_resamples=41,
        confidence=0.9,
        seed=5,
    )
    assert found.by == "identities"
    draws = drawn(np.random.default_rng(5), 12, 41)
    weights = np.where(same[:, None], draws[people[0]], draws[people[0]] * draws[people[1]])
    figures = [figures_of(scores, same, right, each) for each in weights.T]
    assert np.allclose(found_ends(found), ends(figures, 0.9), rtol=0, atol=1e-12)


@pytest.mark.parametrize("levels", [None, 3])
def test_resampled_pairs_are_lists_written_out(levels: int | None) -> None:
    scores, same, _ = listed(90, 1, levels=levels)
    right = (scores > 0.5) == same
    found = bootstrap_intervals(
        scores,
        same,
        identities=None,
        right=right,
        fars=FARS,
        n_resamples=41,
        confidence=0.9,
        seed=7,
    )
    assert found.by == "pairs"
    order = np.argsort(-scores, kind="stable")
    rng = np.random.default_rng(7)
    weights = np.zeros((90, 41), dtype=np.int64)
    for kind in (True, False):
        of_kind = order[same[order] == kind]
        weights[of_kind] = drawn(rng, len(of_kind), 41)
    figures = [figures_of(scores, same, right, each) for each in weights.T]
    assert np.allclose(found_ends(found), ends(figures, 0.9), rtol=0, atol=1e-12)


def test_many_pairs_are_resampled_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    scores, same, people = listed(200, 2, levels=None)
    identities = PairIdentities(first=people[0], second=people[1])
    whole = bootstrap_intervals(scores, same, identities=identities, n_resamples=2000)
    monkeypatch.setattr(bootstrap, "_MAX_WEIGHTS", 200 * 7)
    parts = bootstrap_intervals(scores, same, identities=identities, n_resamples=2000)
    assert parts.auc.low == pytest.approx(whole.auc.low, abs=0.02)
    assert parts.auc.high == pytest.approx(whole.auc.high, abs=0.02)


def test_people_who_spoil_all_their_pairs_widen_the_intervals() -> None:
    # 40 people, 50 pairs of each kind each; a few of the people fail always.
    person = np.repeat(np.arange(40), 100)
    same = np.tile(np.arange(100) < 50, 40)
    second = np.where(same, person, (person + 1 + np.arange(4000) % 39) % 40)
    bad = person < 4
    rng = np.random.default_rng(0)
    scores = rng.normal(np.where(same & ~bad, 1.0, 0.0), 0.1)
    widths = [
        found.auc.high - found.auc.low
        for found in (
            bootstrap_intervals(scores, same, identities=identities, n_resamples=300)
            for identities in (None, PairIdentities(first=person, second=second))
        )
    ]
    # 4 of 40 people vary by 0.047, 200 of 2,000 pairs by 0.0067: seven times as much.
    assert widths[1] > 4 * widths[0]


def test_intervals_of_independent_pairs_are_as_wide_as_theory_says() -> None:
    rng = np.random.default_rng(0)
    same = np.arange(4000) < 2000
    right = rng.random(4000) < 0.9
    found = bootstrap_intervals(
        rng.normal(same * 1.0), same, identities=None, right=right, n_resamples=2000
    )
    assert found.accuracy is not None
    deviation = math.sqrt(np.mean(right) * (1 - np.mean(right)) / 4000)
    width = found.accuracy.high - found.accuracy.low
    assert width == pytest.approx(2 * 1.96 * deviation, rel=0.1)


def test_a_seed_gives_the_same_intervals_again() -> None:
    scores, same, _ = listed(80, 3, levels=None)
    once, again, otherwise = (
        bootstrap_intervals(scores, same, identities=None, seed=seed) for seed in (1, 1, 2)
    )
    assert once == again
    assert once != otherwise


def test_names_of_images_are_not_taken_for_people() -> None:
    rng = np.random.default_rng(0)
    same = np.array([True, False] * 20)
    found = verify_embeddings(
        rng.normal(size=(80, 4)),
        RowPairs(same=same),
        resampling=Resampling(identities=np.arange(80), n_resamples=20),
    ).bootstrap
    assert found is not None
    assert found.by == "pairs"


def test_too_few_people_are_refused() -> None:
    # Two people: one resample in two draws one of them only.
    people = PairIdentities(first=np.array([0, 1, 0]), second=np.array([0, 1, 1]))
    same = np.array([True, True, False])
    with pytest.raises(MetricError, match="of 1000 resamples .* too few identities"):
        bootstrap_intervals(np.array([0.5, 0.6, 0.1]), same, identities=people, seed=1)


def test_a_far_that_is_not_supported_is_refused() -> None:
    scores, same, _ = listed(80, 4, levels=None)
    with pytest.raises(MetricError, match=r"FAR 0.001 takes at least 1000 pairs"):
        bootstrap_intervals(scores, same, identities=None, fars=(0.001,))


@pytest.mark.parametrize("options", [{"confidence": 1.0}, {"n_resamples": 1}])
def test_options_are_checked(options: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=next(iter(options))):
        bootstrap_intervals(
            np.array([0.0, 1.0]), np.array([False, True]), identities=None, **options
        )


def test_intervals_go_into_json() -> None:
    # The top score is shared by half of the impostors: no threshold accepts a fifth of them.
    same = np.array([True, False] * 20)
    scores = np.where(np.arange(40) % 4 == 1, 1.0, 0.5)
    found = bootstrap_intervals(scores, same, identities=None, fars=(0.2,), n_resamples=50)
    data = json.loads(json.dumps(found.as_dict(), allow_nan=False))
    assert data["threshold_at_far"] == {"0.2": {"low": None, "high": None}}
    assert data["tar_at_far"]["0.2"] == {"low": 0.0, "high": 0.0}
    assert data["accuracy"] is None
