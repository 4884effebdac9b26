"""Faces of a study: exclusions, pairs by name, samples."""

import numpy as np
import pytest

from nas_face.data import all_pairs
from nas_face.errors import ConfigError, DataError
from nas_face.study.config import DataSettings
from nas_face.study.faces import (
    load_faces,
    load_source,
    pairs_of,
    read_exclusions,
    sample_images,
    split_but_the_judged,
)


def test_exclusions_are_first_words_without_comments(tmp_path):
    path = tmp_path / "out.txt"
    path.write_text("s1\n\n# all of this\n s2 because # of that\n", encoding="utf-8")
    assert read_exclusions(path) == ("s1", "s2")


def test_exclusions_hold_for_the_built_in_faces_too(tmp_path):
    (tmp_path / "out.txt").write_text("s1\ns40\n", encoding="utf-8")
    settings = DataSettings(exclude=str(tmp_path / "out.txt"))
    identities = load_source(settings, height=32, width=32).identities
    assert len(identities) == 38
    assert not {"s1", "s40"} & set(identities)


@pytest.mark.parametrize("content", [None, b"\xff\xfe\x00"])
def test_exclusions_that_cannot_be_read(content, tmp_path):
    path = tmp_path / "out.txt"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ConfigError, match=r"out\.txt: the list of identities to exclude"):
        load_source(DataSettings(exclude=str(path)), height=32, width=32)


def test_split_depends_on_the_seed_alone():
    one, same, other = (
        load_faces(DataSettings(), height=32, width=32, seed=seed) for seed in (0, 0, 1)
    )
    assert one.split.test.identities == same.split.test.identities
    assert np.array_equal(one.search_pairs.first, same.search_pairs.first)
    assert one.split.test.identities != other.split.test.identities


def test_test_pairs_are_balanced_and_search_pairs_are_not():
    faces = load_faces(DataSettings(max_impostors_per_genuine=4), height=32, width=32, seed=0)
    assert faces.test_pairs.n_same == faces.test_pairs.n_different == 450
    assert faces.search_pairs.n_different == 4 * faces.search_pairs.n_same == 4 * 450


def test_pairs_of_a_run_are_its_test_pairs(copied, monkeypatch):
    monkeypatch.chdir("/")
    pairs = pairs_of(str(copied.folder), None, height=32, width=32)
    assert pairs.images.identities == copied.faces().test_pairs.images.identities


def test_pairs_by_name():
    pairs = pairs_of("orl", None, height=32, width=32)
    assert pairs.n_same == pairs.n_different == 40 * 45


def test_pairs_that_are_not_there(tmp_path):
    with pytest.raises(DataError, match=r"this has identities, not pairs"):
        pairs_of(str(tmp_path), None, height=32, width=32)
    with pytest.raises(DataError, match=r"nope\.txt: there is no such file"):
        pairs_of(str(tmp_path / "nope.txt"), None, height=32, width=32)


def test_sample_is_without_repetition_and_no_longer_than_there_are_images():
    images = load_source(DataSettings(), height=32, width=32).subset({"s1", "s2"})
    sample = sample_images(images, 99, seed=0)
    assert sample.shape == (20, 32, 32, 3)
    assert len(np.unique(sample.reshape(20, -1), axis=0)) == 20
    assert np.array_equal(sample_images(images, 5, seed=0), sample[:5])


def test_people_whom_other_pairs_show_are_left_out_and_the_test_part_is_trained_on():
    settings = DataSettings()
    of_the_study = load_faces(settings, height=32, width=32, seed=0)
    orl = load_source(settings, height=32, width=32)
    judged = {"s1", *of_the_study.split.search.identities[:3]}
    pairs = all_pairs(orl.subset(judged), max_impostors_per_genuine=1, seed=0)
    train, search_pairs = split_but_the_judged(
        settings, pairs, where="these", height=32, width=32, seed=0
    )
    searched = set(search_pairs.images.identities)
    assert searched == set(of_the_study.split.search.identities) - judged
    assert set(train.identities) == set(orl.identities) - judged - searched


def test_people_of_other_pairs_stay_if_asked():
    settings = DataSettings()
    orl = load_source(settings, height=32, width=32)
    pairs = all_pairs(orl, max_impostors_per_genuine=1, seed=0)
    train, search_pairs = split_but_the_judged(
        settings, pairs, where="these", height=32, width=32, seed=0, allow_overlap=True
    )
    assert {*train.identities, *search_pairs.images.identities} == set(orl.identities)


def test_pairs_that_show_everybody_leave_nobody():
    orl = load_source(DataSettings(), height=32, width=32)
    pairs = all_pairs(orl, max_impostors_per_genuine=1, seed=0)
    with pytest.raises(DataError, match=r"0 identities are left to train on .* has 40 of its"):
        split_but_the_judged(DataSettings(), pairs, where="this", height=32, width=32, seed=0)
