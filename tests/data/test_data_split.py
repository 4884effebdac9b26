import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nas_face.data import FaceImages, IdentitySplit, split_identities
from nas_face.errors import DataError


def faces(n_images: list[int], prefix: str = "person") -> FaceImages:
    labels = np.repeat(np.arange(len(n_images)), n_images)
    names = [f"{prefix}{number}" for number in range(len(n_images))]
    return FaceImages.from_array(np.zeros((len(labels), 2, 2, 3), np.uint8), labels, names)


def split(
    images: FaceImages, search: float = 0.2, test: float = 0.1, seed: int = 0
) -> IdentitySplit:
    return split_identities(images, search_fraction=search, test_fraction=test, seed=seed)


def test_sizes_are_exact_and_every_image_is_in_one_part() -> None:
    images = faces([3] * 50)
    parts = split(images)
    assert parts.train.n_identities == 35
    assert parts.search.n_identities == 10
    assert parts.test.n_identities == 5
    names = parts.train.names + parts.search.names + parts.test.names
    assert sorted(names) == sorted(images.names)


def test_the_same_seed_gives_the_same_split_and_another_another() -> None:
    images = faces([2] * 60)
    assert split(images, seed=3).test.identities == split(images, seed=3).test.identities
    assert split(images, seed=3).test.identities != split(images, seed=4).test.identities


def test_the_split_does_not_change_between_versions() -> None:
    parts = split(faces([2] * 20))
    assert parts.test.identities == ("person9", "person12")
    assert parts.search.identities == ("person0", "person3", "person4", "person17")


def test_the_order_of_the_identities_does_not_matter() -> None:
    pixels = np.zeros((60, 2, 2, 3), np.uint8)
    names = [f"p{number}" for number in range(30)]
    labels = np.repeat(np.arange(30), 2)
    forward = split(FaceImages.from_array(pixels, labels, names))
    backward = split(FaceImages.from_array(pixels, labels, names[::-1]))
    assert set(forward.search.identities) == set(backward.search.identities)
    assert set(forward.test.identities) == set(backward.test.identities)


@given(n=st.integers(20, 120), seed=st.integers(0, 50))
def test_an_added_identity_moves_at_most_two_others_into_or_out_of_a_part(
    n: int, seed: int
) -> None:
    before = split(faces([2] * n), seed=seed)
    after = split(faces([2] * (n + 1)), seed=seed)
    assert len(set(before.test.identities) - set(after.test.identities)) <= 1
    assert len(set(before.search.identities) - set(after.search.identities)) <= 2
    assert len(set(before.train.identities) - set(after.train.identities)) <= 2


def test_identities_with_one_image_are_only_trained_on() -> None:
    parts = split(faces([1] * 40 + [2] * 20))
    assert np.bincount(parts.search.labels).min() == 2
    assert np.bincount(parts.test.labels).min() == 2
    assert parts.search.n_identities == 4
    assert parts.test.n_identities == 2
    assert parts.train.n_identities == 54


def test_identities_with_one_image_do_not_make_the_other_parts_larger() -> None:
    without, beside = split(faces([2] * 20)), split(faces([2] * 20 + [1] * 100))
    assert without.search.identities == beside.search.identities
    assert without.test.identities == beside.test.identities


def test_too_few_identities_with_two_images_are_refused() -> None:
    with pytest.raises(
        DataError, match="30 identities, 8 of them .* give 27 to train, 2 to search and 1 to test"
    ):
        split(faces([1] * 22 + [2] * 8))


@given(
    n=st.integers(2, 40),
    search=st.floats(0.02, 0.6),
    test=st.floats(0.02, 0.38),
)
def test_too_few_identities_say_how_many_are_enough(n: int, search: float, test: float) -> None:
    try:
        parts = split(faces([2] * n), search, test)
    except DataError as error:
        enough = int(str(error).split(" to test; ")[1].split()[0])
        assert enough > n
        parts = split(faces([2] * enough), search, test)
    assert min(part.n_identities for part in (parts.train, parts.search, parts.test)) >= 2


@pytest.mark.parametrize(
    ("search", "test"), [(0, 0.1), (0.1, 0), (0.5, 0.5), (-0.1, 0.2), (1, 0.1)]
)
def test_fractions_are_checked(search: float, test: float) -> None:
    with pytest.raises(ValueError, match="sum to less than 1"):
        split(faces([2] * 50), search, test)


def test_parts_with_a_common_identity_are_refused() -> None:
    images = faces([2] * 4)
    with pytest.raises(ValueError, match="must not share an identity"):
        IdentitySplit(
            train=images.subset(["person0", "person1"]),
            search=images.subset(["person1", "person2"]),
            test=images.subset(["person3"]),
        )
