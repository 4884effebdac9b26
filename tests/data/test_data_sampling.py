import doctest
import json
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError

from nas_face.data import sampling
from nas_face.data.sampling import (
    BalancedSampling,
    BatchPlan,
    PeopleSampling,
    RandomSampling,
    SamplingSettings,
)
from nas_face.errors import ConfigError, DataError

ALL = [RandomSampling(), BalancedSampling(), PeopleSampling(images_per_identity=2)]


def plan(labels: Any, batch_size: int = 4, seed: int = 0, **options: Any) -> BatchPlan:
    return BatchPlan(labels=np.asarray(labels), batch_size=batch_size, seed=seed, **options)


def pairs(n: int) -> np.ndarray:
    return np.arange(n) // 2


def of_sizes(sizes: list[int]) -> np.ndarray:
    """Labels of identities with so many images, mixed up."""
    labels = np.repeat(np.arange(len(sizes)), sizes)
    return np.random.default_rng(0).permutation(labels)


@pytest.mark.parametrize(
    ("n", "size", "expected"),
    [
        (8, 4, [4, 4]),
        (10, 4, [4, 4, 2]),
        (11, 4, [4, 4, 3]),
        (9, 4, [4, 4]),  # the ninth alone would break batch normalisation
        (3, 4, [3]),
        (2, 4, [2]),
        (2, 2, [2]),
        (3, 2, [2]),
        (5, 1000, [5]),
    ],
)
@pytest.mark.parametrize("settings", [RandomSampling(), BalancedSampling()])
def test_sizes_of_batches(n: int, size: int, expected: list[int], settings: Any) -> None:
    found = plan(pairs(n), size, sampling=settings)
    assert [len(each) for each in found.batches(epoch=0)] == expected
    assert [found.size(position) for position in range(found.n_batches)] == expected


@pytest.mark.parametrize(
    ("n", "size", "n_ranks", "expected"),
    [
        (11, 8, 1, [8, 3]),
        (11, 8, 2, [8]),  # one of them would have a single image
        (12, 8, 2, [8, 4]),
        (13, 8, 3, [8]),
        (14, 8, 3, [8, 6]),
        (5, 8, 2, [5]),
    ],
)
def test_no_process_has_a_single_image(
    n: int, size: int, n_ranks: int, expected: list[int]
) -> None:
    found = plan(pairs(n), size, n_ranks=n_ranks)
    batches = found.batches(epoch=0)
    assert [len(each) for each in batches] == expected
    assert found.n_batches == len(expected)
    for batch, same in zip(batches, plan(pairs(n), size).batches(epoch=0), strict=False):
        assert np.array_equal(batch, same)
        assert min(len(each) for each in np.array_split(batch, n_ranks)) >= 2


@pytest.mark.parametrize("settings", ALL)
def test_batches_depend_on_seed_and_epoch_only(settings: Any) -> None:
    def order(**options: int) -> list[int]:
        epoch = options.pop("epoch", 0)
        found = plan(pairs(40), sampling=settings, **options).batches(epoch=epoch)
        return np.concatenate(found).tolist()

    assert order() == order() == order(n_ranks=2)
    assert order() != order(epoch=1)
    assert order() != order(seed=1)
    assert order(seed=1, epoch=0) != order(seed=0, epoch=1)


@pytest.mark.parametrize("n", [2, 9, 50])
def test_random_takes_every_image_once(n: int) -> None:
    found = np.concatenate(plan(pairs(n), 2 * n).batches(epoch=3))
    assert sorted(found) == list(range(n))
    assert np.array_equal(found, np.random.default_rng([0, 3]).permutation(n))


SIZES = st.lists(st.integers(1, 12), min_size=2, max_size=9)


@given(sizes=SIZES, epoch=st.integers(0, 5))
def test_balanced_takes_identities_and_their_images_equally_often(
    sizes: list[int], epoch: int
) -> None:
    labels = of_sizes(sizes)
    found = plan(labels, len(labels), sampling=BalancedSampling()).order(
        np.random.default_rng(epoch)
    )
    assert len(found) == len(labels)
    people = np.bincount(labels[found], minlength=len(sizes))
    assert people.max() - people.min() <= 1
    for identity in range(len(sizes)):
        images = np.flatnonzero(labels == identity)
        times = np.array([(found == image).sum() for image in images])
        assert times.max() - times.min() <= 1


@given(
    sizes=SIZES,
    n_images=st.integers(2, 4),
    n_people=st.integers(2, 9),
    epoch=st.integers(0, 5),
)
def test_people_have_their_images_together(
    sizes: list[int], n_images: int, n_people: int, epoch: int
) -> None:
    n_people = min(n_people, len(sizes))
    labels, size = of_sizes(sizes), n_images * n_people
    found = plan(labels, size, sampling=PeopleSampling(images_per_identity=n_images))
    batches = found.batches(epoch=epoch)
    assert found.n_batches == len(batches) == -(-len(labels) // size)
    for position, batch in enumerate(batches):
        assert len(batch) == found.size(position) == size
        groups = labels[batch].reshape(n_people, n_images)
        assert (groups == groups[:, :1]).all()
        assert len(set(groups[:, 0])) == n_people
        for group, owner in zip(batch.reshape(n_people, n_images), groups[:, 0], strict=True):
            assert len(set(group)) == min(n_images, sizes[owner])
    turns = np.bincount(labels[np.concatenate(batches)], minlength=len(sizes)) // n_images
    assert turns.max() - turns.min() <= 1
    for identity in range(len(sizes)):
        images = np.flatnonzero(labels == identity)
        times = np.array([(np.concatenate(batches) == image).sum() for image in images])
        assert times.max() - times.min() <= 1


@pytest.mark.parametrize("settings", [BalancedSampling(), PeopleSampling(images_per_identity=2)])
def test_what_an_epoch_leaves_out_comes_in_others(settings: Any) -> None:
    labels = np.array([0] * 30 + [1, 1, 2, 2])
    found = plan(labels, sampling=settings)
    one = set(np.concatenate(found.batches(epoch=0)))
    assert len(one) < len(labels)
    every = set().union(*(np.concatenate(found.batches(epoch=epoch)) for epoch in range(40)))
    assert every == set(range(len(labels)))


def test_each_identity_is_as_likely_to_come_once_more() -> None:
    labels = of_sizes([3, 2, 3])  # 8 images: two identities come three times
    found = plan(labels, 8, sampling=BalancedSampling())
    counts = [
        np.bincount(labels[np.concatenate(found.batches(epoch=epoch))]) for epoch in range(300)
    ]
    assert {tuple(each) for each in counts} == {(3, 3, 2), (3, 2, 3), (2, 3, 3)}
    assert np.mean(counts, axis=0) == pytest.approx([8 / 3] * 3, abs=0.15)


def test_identities_without_images_are_no_matter() -> None:
    labels = np.array([0, 0, 5, 5, 7, 7])
    for settings in ALL:
        batches = plan(labels, 4, sampling=settings).batches(epoch=0)
        assert set(labels[np.concatenate(batches)]) == {0, 5, 7}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"batch_size": 1}, r"training\.batch_size must be at least 2, got 1"),
        (
            {"batch_size": 5, "n_ranks": 3},
            r"training\.batch_size must be at least 6 for 3 processes, got 5",
        ),
        (
            {"batch_size": 10, "sampling": PeopleSampling()},
            r"multiple of sampling\.images_per_identity=4, at least 8, got 10",
        ),
        (
            {"batch_size": 4, "sampling": PeopleSampling()},
            r"multiple of sampling\.images_per_identity=4, at least 8, got 4",
        ),
    ],
)
def test_batches_that_cannot_be_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        plan(pairs(8), **options)


@pytest.mark.parametrize(
    ("n", "options", "message"),
    [
        (1, {}, "an epoch needs at least 2 images, got 1"),
        (3, {"n_ranks": 2}, "an epoch needs at least 4 images for 2 processes, got 3"),
        (
            8,
            {"batch_size": 40, "sampling": PeopleSampling()},
            "batches of 40 with 4 images of each identity need 10 identities, got 4; lower",
        ),
    ],
)
def test_too_few_images_are_refused(n: int, options: dict[str, Any], message: str) -> None:
    with pytest.raises(DataError, match=message):
        plan(pairs(n), **options)


def test_arguments_are_checked() -> None:
    with pytest.raises(ValueError, match="seed must be at least 0 .* got -1 and 1"):
        plan(pairs(8), seed=-1)
    with pytest.raises(ValueError, match="n_ranks at least 1, got 0 and 0"):
        plan(pairs(8), n_ranks=0)
    with pytest.raises(ValueError, match="epoch must be at least 0, got -1"):
        plan(pairs(8)).batches(epoch=-1)


def test_one_image_of_each_identity_is_refused() -> None:
    with pytest.raises(
        ConfigError, match=r"sampling\.images_per_identity must be at least 2, got 1"
    ):
        PeopleSampling(images_per_identity=1)


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        ("random", RandomSampling()),
        ("balanced", BalancedSampling()),
        ({"kind": "balanced"}, BalancedSampling()),
        ("people", PeopleSampling(images_per_identity=4)),
        ({"kind": "people", "images_per_identity": 8}, PeopleSampling(images_per_identity=8)),
    ],
)
def test_settings_are_read_by_name_or_in_full(data: Any, expected: Any) -> None:
    adapter: TypeAdapter[Any] = TypeAdapter(SamplingSettings)
    assert adapter.validate_json(json.dumps(data), strict=True) == expected


@pytest.mark.parametrize("data", ["none", {"kind": "random", "images_per_identity": 4}, 3])
def test_unknown_settings_are_refused(data: Any) -> None:
    adapter: TypeAdapter[Any] = TypeAdapter(SamplingSettings)
    with pytest.raises(ValidationError):
        adapter.validate_json(json.dumps(data), strict=True)


def test_the_examples_in_the_docstrings_hold() -> None:
    result = doctest.testmod(sampling)
    assert result.failed == 0
    assert result.attempted > 0
