from itertools import combinations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.model_selection import KFold

from nas_face.data import FaceImages, PairList, all_pairs
from nas_face.data.pairs import fold_order
from nas_face.errors import DataError


def faces(labels: list[int]) -> FaceImages:
    return FaceImages.from_array(np.zeros((len(labels), 2, 2, 3), np.uint8), np.array(labels))


def pairs_of(images: FaceImages, limit: int | None = None, seed: int = 0) -> PairList:
    return all_pairs(images, max_impostors_per_genuine=limit, seed=seed)


def as_sets(pairs: PairList) -> dict[frozenset[int], bool]:
    members = zip(pairs.first.tolist(), pairs.second.tolist(), strict=True)
    return {frozenset(both): same for both, same in zip(members, pairs.same.tolist(), strict=True)}


labels_with_pairs = st.lists(st.integers(0, 3), min_size=3, max_size=14).map(
    lambda values: np.unique([0, 0, 1, *values], return_inverse=True)[1].tolist()
)


@given(labels=labels_with_pairs)
def test_all_pairs_are_those_of_brute_force(labels: list[int]) -> None:
    pairs = pairs_of(faces(labels))
    expected = {
        frozenset((i, j)): labels[i] == labels[j] for i, j in combinations(range(len(labels)), 2)
    }
    assert as_sets(pairs) == expected
    assert len(pairs) == len(expected)


@given(labels=labels_with_pairs, limit=st.integers(1, 3), seed=st.integers(0, 5))
def test_a_sample_of_impostors_has_the_asked_size(
    labels: list[int], limit: int, seed: int
) -> None:
    images = faces(labels)
    every, sample = pairs_of(images), pairs_of(images, limit, seed)
    assert sample.n_same == every.n_same
    assert sample.n_different == min(limit * every.n_same, every.n_different)
    assert as_sets(sample).items() <= as_sets(every).items()
    assert len(as_sets(sample)) == len(sample)


def test_the_seed_decides_the_sample() -> None:
    images = faces(np.repeat(np.arange(20), 3).tolist())
    assert as_sets(pairs_of(images, 1, 7)) == as_sets(pairs_of(images, 1, 7))
    assert as_sets(pairs_of(images, 1, 7)) != as_sets(pairs_of(images, 1, 8))


def test_the_sample_is_even() -> None:
    images = faces(np.repeat(np.arange(40), 10).tolist())
    pairs = pairs_of(images, 1, 0)
    assert len(pairs) == 3600
    impostors = np.concatenate([pairs.first[~pairs.same], pairs.second[~pairs.same]])
    counts = np.bincount(images.labels[impostors], minlength=40)
    assert abs(counts - 90).max() < 45  # 90 expected, standard deviation 9.5


def test_folds_are_balanced_and_cut_where_the_protocol_cuts() -> None:
    images = faces(np.repeat(np.arange(7), [3, 4, 2, 5, 3, 6, 2]).tolist())
    pairs = pairs_of(images, 3)
    assert pairs.n_folds == 10
    for _, fold in KFold(10, shuffle=False).split(pairs.same):
        n_same = np.count_nonzero(pairs.same[fold])
        assert abs(n_same - pairs.n_same / 10) < 1
        assert abs(len(fold) - n_same - pairs.n_different / 10) < 1


def test_genuine_pairs_of_an_identity_are_neighbours() -> None:
    images = faces(np.repeat(np.arange(40), 10).tolist())
    pairs = pairs_of(images, 1)
    fold_of = np.repeat(np.arange(10), 360)
    of_identity = images.labels[pairs.first]
    for label in range(40):
        assert len(np.unique(fold_of[pairs.same & (of_identity == label)])) == 1


@given(same=st.lists(st.booleans(), min_size=1, max_size=120), n_folds=st.integers(2, 12))
def test_fold_order_deals_both_kinds_evenly(same: list[bool], n_folds: int) -> None:
    kinds = np.array(same)
    order = fold_order(kinds, n_folds)
    assert sorted(order.tolist()) == list(range(len(same)))
    for kind in (True, False):
        assert (np.diff(order[kinds[order] == kind]) > 0).all()
    for fold in np.array_split(kinds[order], n_folds):
        assert abs(np.count_nonzero(fold) - kinds.sum() / n_folds) < 1
        assert abs(np.count_nonzero(~fold) - (~kinds).sum() / n_folds) < 1


def test_fold_order_leaves_a_list_in_folds_alone() -> None:
    same = np.tile(np.repeat([True, False], 30), 10)
    assert fold_order(same, 10).tolist() == list(range(600))


@pytest.mark.parametrize("labels", [[0, 1, 2], [0, 0, 0], [0]])
def test_images_without_both_kinds_are_refused(labels: list[int]) -> None:
    with pytest.raises(DataError, match="same and .* different"):
        pairs_of(faces(labels))


def test_the_limit_is_checked() -> None:
    with pytest.raises(ValueError, match="at least 1 or None, got 0"):
        pairs_of(faces([0, 0, 1]), 0)


GOOD = {"first": [0, 0], "second": [1, 2], "same": [True, False], "n_folds": 2}


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"second": [1]}, ValueError, "one length"),
        ({"second": [1, 3]}, ValueError, "point into 0..2"),
        ({"first": [0, -1]}, ValueError, "point into 0..2"),
        ({"same": [1, 0]}, ValueError, "type bool"),
        ({"n_folds": 1}, ValueError, "at least 2"),
        ({"same": [True, True]}, DataError, "2 same and 0 different"),
        ({"same": [False, False]}, DataError, "0 same and 2 different"),
    ],
)
def test_lists_that_do_not_fit_are_refused(
    change: dict[str, object], error: type[Exception], message: str
) -> None:
    parts = GOOD | change
    with pytest.raises(error, match=message):
        PairList(
            images=faces([0, 0, 1]),
            first=np.array(parts["first"]),
            second=np.array(parts["second"]),
            same=np.array(parts["same"]),
            n_folds=parts["n_folds"],
        )


def test_an_empty_list_is_refused() -> None:
    none = np.array([], dtype=np.int64)
    with pytest.raises(DataError, match="0 same and 0 different"):
        PairList(images=faces([0]), first=none, second=none, same=none.astype(bool))
