"""Groups of people among pairs: their figures counted pair by pair, and what is refused."""

import dataclasses

import numpy as np
import pytest

from nas_face.data import FaceImages, all_pairs
from nas_face.data.formats.attributes import read_attributes
from nas_face.errors import DataError
from nas_face.study.verification.groups import find_groups, worst_tar_of

N_PEOPLE, N_IMAGES = 30, 6
WHO = tuple(f"p{number}" for number in range(N_PEOPLE))


@pytest.fixture(scope="module")
def pairs():
    """450 genuine pairs, 15 a person, and 4500 impostor pairs."""
    labels = np.repeat(np.arange(N_PEOPLE), N_IMAGES)
    images = FaceImages.from_array(np.zeros((len(labels), 8, 8, 3), np.uint8), labels, WHO)
    return all_pairs(images, max_impostors_per_genuine=10, seed=0)


@pytest.fixture(scope="module")
def scores(pairs):
    """People of higher numbers are harder."""
    rng = np.random.default_rng(1)
    number = pairs.images.labels[pairs.first]
    return rng.normal(np.where(pairs.same, 3 - number / N_PEOPLE, 0.0))


@pytest.fixture
def table(tmp_path):
    def table(text):
        path = tmp_path / "people.csv"
        path.write_text(text, encoding="utf-8")
        return read_attributes(path)

    return table


def two_attributes(who=WHO):
    """Three groups by half or none, and ages of which one has a single person."""
    lines = ["identity,half,age"]
    for number, name in enumerate(who):
        half = "" if number % 10 == 0 else "low" if number < 15 else "high"
        age = "ninety" if number == 29 else "forty" if number % 2 else "thirty"
        lines.append(f"{name},{half},{age}")
    return "\n".join(lines) + "\n"


def naive_worst_tar(scores, pairs, table, far):
    """Lowest TAR of any group with at least 30 genuine pairs, one pair at a time."""
    impostors = sorted(scores[~pairs.same], reverse=True)
    n_allowed = int(far * len(impostors))
    threshold = min(score for score in scores if score > impostors[n_allowed])
    images = pairs.images
    worst = []
    for column in range(len(table.attributes)):
        accepted = {}
        for first, second, same, score in zip(
            pairs.first, pairs.second, pairs.same, scores, strict=True
        ):
            one, other = (
                table.values.get(images.identities[images.labels[each]], ("", ""))[column]
                for each in (first, second)
            )
            if same and one and one == other:
                accepted.setdefault(one, []).append(score >= threshold)
        worst += [np.mean(each) for each in accepted.values() if len(each) >= 30]
    return min(worst)


@pytest.mark.parametrize("far", [0.001, 0.01, 0.1])
def test_the_worst_group_is_that_of_pairs_counted_one_by_one(far, pairs, scores, table):
    known = table(two_attributes())
    groups = find_groups(known, pairs, far=far, of="search pairs")
    naive = naive_worst_tar(scores, pairs, known, far)
    assert groups.worst_tar(scores) == pytest.approx(naive, abs=1e-12)
    assert 0 < naive < 1
    reports = groups.reports(scores)
    assert [each.attribute for each in reports] == ["half", "age"]
    assert len({each.threshold for each in reports}) == 1
    assert worst_tar_of(reports) == pytest.approx(naive, abs=1e-12)
    assert groups.remarks == ()


def test_people_who_are_not_listed_still_set_the_threshold(pairs, scores, table):
    known = table(two_attributes(WHO[:12]))
    groups = find_groups(known, pairs, far=0.01, of="search pairs")
    naive = naive_worst_tar(scores, pairs, known, 0.01)
    assert groups.worst_tar(scores) == pytest.approx(naive, abs=1e-12)
    assert [line.removesuffix(f"{known.path}: in no group") for line in groups.remarks] == [
        "search pairs: 18 of 30 identities are not in "
    ]


def test_an_attribute_that_nobody_has_is_left_out_and_said(pairs, table):
    text = "identity,half,age\n" + "".join(f"p{number},,young\n" for number in range(30))
    groups = find_groups(table(text), pairs, far=0.01, of="search pairs")
    assert [each.attribute for each in groups.attributes] == ["age"]
    assert len(groups.remarks) == 1
    assert "none of 180 images has a value of 'half'" in groups.remarks[0]


def test_attributes_that_fit_nothing_are_refused(pairs, table):
    with pytest.raises(DataError, match=r"^search pairs: .*people\.csv: none of 180 images has"):
        find_groups(table("identity,half\nsomebody,low\n"), pairs, far=0.01, of="search pairs")


def test_groups_that_are_all_too_small_are_refused(pairs, table):
    lonely = "identity,half\np3,low\np4,high\n"  # 15 genuine pairs each
    with pytest.raises(DataError, match="at least 30 pairs of the same identity, got at most 15"):
        find_groups(table(lonely), pairs, far=0.01, of="search pairs")
    groups = find_groups(table(lonely.replace("high", "low")), pairs, far=0.01, of="")
    assert groups.attributes[0].names == ("low",)


def test_a_far_that_the_pairs_do_not_support_is_refused(pairs, table):
    known = table(two_attributes())
    find_groups(known, pairs, far=1 / 4500, of="search pairs")
    with pytest.raises(DataError, match=r"FAR of 0\.0002 .* at least 5,000 pairs .* got 4,500"):
        find_groups(known, pairs, far=0.0002, of="search pairs")


def test_the_digest_tells_groups_apart(pairs, table):
    def digest(text, far=0.01):
        return find_groups(table(text), pairs, far=far, of="").digest

    text = two_attributes()
    assert digest(text) == digest(text)
    changed = (
        digest(text, far=0.02),
        digest(text.replace("p3,low", "p3,high")),
        digest(text.replace("thirty", "twenty")),
        digest(text.replace("half", "side")),
    )
    assert len({digest(text), *changed}) == 5


def test_groups_by_image_name(pairs, scores, table):
    names = tuple(f"{pairs.images.identities[each]}/x" for each in pairs.images.labels)
    by_row = tuple(f"{name}{row}" for row, name in enumerate(names))
    images = dataclasses.replace(pairs.images, names=by_row)
    named = dataclasses.replace(pairs, images=images)
    half = {who: "low" if number < 15 else "high" for number, who in enumerate(WHO)}
    lines = [f"{name},{half[name.split('/')[0]]}" for name in by_row[:-6]]
    groups = find_groups(table("image,half\n" + "\n".join(lines)), named, far=0.01, of="mine")
    by_identity = "identity,half\n" + "".join(f"{who},{half[who]}\n" for who in WHO[:-1])
    same = find_groups(table(by_identity), pairs, far=0.01, of="mine")
    assert groups.worst_tar(scores) == same.worst_tar(scores)
    assert groups.remarks[0].startswith("mine: 6 of 180 images are not in ")
