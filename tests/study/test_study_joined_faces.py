"""Faces of several sources, and everybody trained on but the judges."""

import zlib

import numpy as np
import pytest
from PIL import Image
from tiny_study import write_study

from nas_face.data.leakage import name_key
from nas_face.errors import ConfigError, DataError
from nas_face.study.config import DataSettings, load_study
from nas_face.study.faces import all_but_the_judged, list_source, load_source, pairs_of

SIZE = {"height": 16, "width": 16}


def write_people(folder, *names, n_images=2):
    """Folders of images, each of one grey value that no other image has."""
    for name in names:
        (folder / name).mkdir(parents=True)
        for number in range(n_images):
            grey = np.uint8(zlib.crc32(f"{folder.name} {name} {number}".encode()) % 256)
            pixels = np.full((16, 16, 3), grey, np.uint8)
            Image.fromarray(pixels).save(folder / name / f"{name}_{number + 1:04d}.png")
    return str(folder)


def write_pairs(folder, same, different):
    """A list as LFW's, of the images that `write_people` wrote."""
    lines = [f"{who}\t1\t2" for who in same]
    lines += [f"{one}\t1\t{other}\t1" for one, other in different]
    path = folder / "pairs.txt"
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def test_two_sources_are_one_set_with_the_images_of_each(tmp_path):
    a = write_people(tmp_path / "a", "eve", "ann")
    b = write_people(tmp_path / "b", "bob")
    one = load_source(DataSettings(source=(b, a)), **SIZE)
    assert one.identities == ("ann", "bob", "eve")
    assert len(one) == 6
    for name, who, image in zip(
        one.names, one.labels, one.batch(np.arange(len(one))), strict=True
    ):
        root = tmp_path / ("b" if name.startswith("bob") else "a")
        assert one.identities[who] == name.split("/")[0]
        assert np.array_equal(image, np.asarray(Image.open(root / name)))


def test_one_source_in_a_list_is_that_source(tmp_path):
    a = write_people(tmp_path / "a", "eve", "ann")
    one, other = (load_source(DataSettings(source=each), **SIZE) for each in (a, (a,)))
    assert one.names == other.names


def test_the_built_in_faces_join_with_others(tmp_path):
    a = write_people(tmp_path / "a", "ann")
    images = load_source(DataSettings(source=("orl", a)), **SIZE)
    assert images.n_identities == 41
    assert len(images) == 402


def test_somebody_in_two_sources(tmp_path):
    a = write_people(tmp_path / "a", "ann", "eve")
    b = write_people(tmp_path / "b", "Ann", "eve", "kim")
    settings = {"source": (a, b)}
    with pytest.raises(DataError, match=r"'Ann' \('ann' in .*/a\) and 1 more would be in both"):
        load_source(DataSettings(**settings), **SIZE)
    joined = load_source(DataSettings(**settings, same_names="join"), **SIZE)
    assert joined.identities == ("ann", "eve", "kim")
    assert np.bincount(joined.labels).tolist() == [4, 4, 2]
    apart = load_source(DataSettings(**settings, same_names="apart"), **SIZE)
    assert apart.identities == ("Ann", "ann", "eve", "eve (2)", "kim")
    (tmp_path / "out.txt").write_text("ann\nAnn\neve\n", encoding="utf-8")
    (tmp_path / "c" / "bob").mkdir(parents=True)
    write_people(tmp_path / "c", "joe", "lea")
    excluded = DataSettings(source=(a, b, str(tmp_path / "c")), exclude=str(tmp_path / "out.txt"))
    assert load_source(excluded, **SIZE).identities == ("joe", "kim", "lea")


def test_listing_of_the_sources_has_the_names_of_their_images(tmp_path):
    a, b = (write_people(tmp_path / name, "ann", "eve") for name in "ab")
    settings = DataSettings(source=(a, b), same_names="apart")
    assert set(load_source(settings, **SIZE).names) == set(list_source(settings).names)


def test_sources_of_a_study_file_are_found_beside_it(tmp_path, monkeypatch):
    path = write_study(tmp_path / "studies", {"data": {"source": ["faces", "orl"]}})
    (tmp_path / "studies" / "faces").mkdir()
    monkeypatch.chdir(tmp_path)
    config = load_study(path)
    assert config.data.source == (str(tmp_path / "studies" / "faces"), "orl")
    assert config.data.where == f"{tmp_path}/studies/faces + orl"


@pytest.mark.parametrize(
    ("sources", "message"),
    [((), "must name at least one source"), (("a", "b", "a"), r"data\.source names a twice")],
)
def test_sources_that_make_no_sense(sources, message):
    with pytest.raises(ConfigError, match=message):
        DataSettings(source=sources)


@pytest.fixture
def judges(tmp_path):
    """Pairs of Ann_Lee, bob and two whom no other set has, with how they are called."""
    root = tmp_path / "judges"
    write_people(root, "Ann_Lee", "bob", "mia", "tom")
    path = write_pairs(root, ("Ann_Lee", "bob"), (("mia", "tom"), ("bob", "mia")))
    return pairs_of(str(path), root, **SIZE)


def test_everybody_is_trained_on_but_the_judges(tmp_path, judges):
    a = write_people(tmp_path / "a", "ann lee", "eve", "bob")
    b = write_people(tmp_path / "b", "kim", "bob", "BOB 2")
    settings = DataSettings(source=(a, b), same_names="apart")
    faces = all_but_the_judged(settings, judges, where="judges.txt", **SIZE)
    assert faces.left_out == ("ann lee", "bob", "bob (2)")
    assert faces.train.identities == ("BOB 2", "eve", "kim")
    known = {name_key(each) for each in judges.images.identities}
    assert not known & {name_key(each) for each in faces.train.identities}
    [line] = faces.remarks()
    assert line == (
        "left out of the training, as judges.txt has them: 3 people: 'ann lee', 'bob', 'bob (2)'"
    )


def test_that_nobody_had_to_be_left_out_is_said(tmp_path, judges):
    a = write_people(tmp_path / "a", "kim", "eve")
    faces = all_but_the_judged(DataSettings(source=a), judges, where="judges.txt", **SIZE)
    assert faces.train.identities == ("eve", "kim")
    assert faces.remarks() == ["nobody in the training has the name of anybody on judges.txt"]


def test_judges_may_be_trained_on_where_that_is_asked_for(tmp_path, judges):
    a = write_people(tmp_path / "a", "bob", "eve")
    faces = all_but_the_judged(
        DataSettings(source=a), judges, where="judges.txt", **SIZE, allow_overlap=True
    )
    assert faces.train.identities == ("bob", "eve")
    assert faces.remarks() == []


def test_faces_of_the_judges_alone_leave_nobody(tmp_path, judges):
    a = write_people(tmp_path / "a", "bob", "mia")
    with pytest.raises(DataError, match=r"/a: nobody is left to train on, since judges\.txt has"):
        all_but_the_judged(DataSettings(source=a), judges, where="judges.txt", **SIZE)


def test_pairs_that_do_not_tell_people_leave_nobody_out_and_say_so(tmp_path):
    root = tmp_path / "judges"
    write_people(root, "bob", "mia")
    table = tmp_path / "pairs.csv"
    for number, path in enumerate(sorted(root.rglob("*.png"))):
        path.rename(tmp_path / f"{number}.png")
    table.write_text("first,second,same\n0.png,1.png,1\n1.png,2.png,0\n", encoding="utf-8")
    pairs = pairs_of(str(table), tmp_path, **SIZE)
    a = write_people(tmp_path / "a", "bob", "eve")
    faces = all_but_the_judged(DataSettings(source=a), pairs, where="pairs.csv", **SIZE)
    assert faces.train.identities == ("bob", "eve")
    [line] = faces.remarks()
    assert line.startswith("pairs.csv: does not tell who is on its images")
