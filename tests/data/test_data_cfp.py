import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from nas_face.data.formats.cfp import list_cfp, list_cfp_faces
from nas_face.data.formats.opening import list_faces, list_pairs, load_pairs
from nas_face.errors import DataError

N_FRONTAL, N_PROFILE = 3, 2
VIEWS = {"F": ("frontal", N_FRONTAL), "P": ("profile", N_PROFILE)}


def write_protocol(root: Path, n_persons: int) -> None:
    """CFP's layout: images are numbered person by person; fold k pairs person k with k + 1."""
    protocol = root / "Protocol"
    for view, (folder, n_images) in VIEWS.items():
        lines = [
            f"{person * n_images + image + 1} ../Data/Images/{person + 1:03d}/{folder}/"
            f"{image + 1:02d}.jpg\n"
            for person in range(n_persons)
            for image in range(n_images)
        ]
        protocol.mkdir(parents=True, exist_ok=True)
        (protocol / f"Pair_list_{view}.txt").write_text("".join(lines))
    for name, n_second in (("FF", N_FRONTAL), ("FP", N_PROFILE)):
        for fold in range(10):
            split = protocol / "Split" / name / f"{fold + 1:02d}"
            split.mkdir(parents=True)
            other = (fold + 1) % n_persons
            second = fold * n_second + 2
            (split / "same.txt").write_text(f"{fold * N_FRONTAL + 1},{second}\n")
            (split / "diff.txt").write_text(f"{fold * N_FRONTAL + 1},{other * n_second + 1}\n")


@pytest.fixture
def cfp(tmp_path: Path) -> Path:
    root = tmp_path / "cfp-dataset"
    write_protocol(root, 10)
    for view, (folder, n_images) in VIEWS.items():
        for person in range(10):
            for image in range(n_images):
                path = root / f"Data/Images/{person + 1:03d}/{folder}/{image + 1:02d}.jpg"
                path.parent.mkdir(parents=True, exist_ok=True)
                grey = 10 * person + 100 * (view == "P") + image
                Image.new("L", (8, 8), grey).save(path)
    return root


@pytest.mark.parametrize(("protocol", "view"), [("FF", "frontal"), ("FP", "profile")])
def test_ten_folds_of_same_and_different(cfp: Path, protocol: str, view: str) -> None:
    listing = list_cfp(cfp, protocol)
    assert listing.n_folds == 10
    assert listing.same.tolist() == [True, False] * 10
    pairs = [
        (listing.names[first], listing.names[second])
        for first, second in zip(listing.first, listing.second, strict=True)
    ]
    assert pairs[:2] == [
        ("001/frontal/01.jpg", f"001/{view}/02.jpg"),
        ("001/frontal/01.jpg", f"002/{view}/01.jpg"),
    ]
    assert pairs[-1] == ("010/frontal/01.jpg", f"001/{view}/01.jpg")
    identities = np.array(listing.identities)
    assert np.array_equal(identities[listing.first] == identities[listing.second], listing.same)


def test_it_is_opened_by_its_folder(cfp: Path) -> None:
    pairs = load_pairs(cfp, height=8, width=8, protocol="FP")
    assert (len(pairs), pairs.n_folds, pairs.images.n_identities) == (20, 10, 10)
    grey = pairs.images.batch(pairs.second)[:, 0, 0, 0].astype(int)
    expected = [
        100 + 10 * ((fold + different) % 10) + (not different)
        for fold in range(10)
        for different in (0, 1)
    ]
    assert np.abs(grey - expected).max() <= 2  # JPEG
    assert list_faces(cfp).names == list_cfp_faces(cfp).names


def test_its_faces_are_those_of_both_lists(cfp: Path) -> None:
    (cfp / "Data/Images/003/profile/01.jpg").unlink()
    faces = list_cfp_faces(cfp)
    assert len(faces.names) == 10 * (N_FRONTAL + N_PROFILE) - 1
    assert len(set(faces.identities)) == 10
    assert [each.name for each in faces.skipped] == ["003/profile/01.jpg"]


def test_crops_may_lie_elsewhere(cfp: Path, tmp_path: Path) -> None:
    shutil.move(cfp / "Data" / "Images", tmp_path / "crops")
    listing = list_pairs(cfp, tmp_path / "crops", protocol="FF")
    assert listing.blobs.where(0) == str(tmp_path / "crops/001/frontal/01.jpg")
    with pytest.raises(DataError, match=r"01\.jpg is missing \(20 of 20 images are"):
        list_pairs(cfp, protocol="FF")


@pytest.mark.parametrize("protocol", [None, "PP", "ff"])
def test_the_protocol_must_be_chosen(cfp: Path, protocol: str | None) -> None:
    with pytest.raises(DataError, match=f"two protocols, FF .* and FP .*, got {protocol}"):
        list_pairs(cfp, protocol=protocol)


@pytest.mark.parametrize(
    ("file", "text", "message"),
    [
        ("Pair_list_F.txt", "", "the list of images is empty"),
        ("Pair_list_F.txt", "1 01.jpg\n", ":1: a line is 'NUMBER"),
        ("Pair_list_F.txt", "x ../a/b/c.jpg\n", ":1: a line is 'NUMBER"),
        ("Pair_list_F.txt", "1 a/b/c.jpg\n1 a/b/d.jpg\n", ":2: the number 1 is taken"),
        ("Split/FP/02/same.txt", "4;3\n", ":1: a line is 'NUMBER,NUMBER', got '4;3'"),
        ("Split/FP/02/same.txt", "4,9999\n", ":1: no image has the number 9999"),
        ("Split/FP/02/same.txt", "4," + "9" * 5000 + "\n", ":1: a line is"),
        ("Split/FP/02/same.txt", "1,3\n", ":1: 001/frontal/01.jpg and 002/.* are of two persons"),
        ("Split/FP/02/diff.txt", "4,3\n", ":1: .* are of one person"),
        ("Split/FP/02/diff.txt", "4,5\n4,6\n", "02: the folds must be of one size, 2 .* got 3"),
    ],
)
def test_what_breaks_the_format_is_named(cfp: Path, file: str, text: str, message: str) -> None:
    (cfp / "Protocol" / file).write_text(text)
    with pytest.raises(DataError, match=message) as caught:
        list_cfp(cfp, "FP")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("file", ["Pair_list_P.txt", "Split/FP/10/diff.txt"])
def test_missing_lists_are_named(cfp: Path, file: str) -> None:
    (cfp / "Protocol" / file).unlink()
    with pytest.raises(DataError, match=f"{file}: there is no such list"):
        list_cfp(cfp, "FP")


@pytest.mark.faces
def test_a_miniature_of_real_faces(faces_data: Path, tmp_path: Path) -> None:
    persons = sorted(path for path in (faces_data / "train").glob("cfp_*"))[:10]
    root = tmp_path / "cfp"
    write_protocol(root, 10)
    for number, person in enumerate(persons, start=1):
        for folder, n_images in VIEWS.values():
            place = root / "Data" / "Images" / f"{number:03d}" / folder
            place.mkdir(parents=True)
            for image in range(1, n_images + 1):
                name = f"{folder}_{image:02d}.jpg"
                shutil.copy(person / name, place / f"{image:02d}.jpg")
    pairs = load_pairs(root, height=112, width=112, protocol="FP")
    assert (len(pairs), pairs.n_same, pairs.images.n_identities) == (20, 10, 10)
    assert len(list_cfp_faces(root).names) == 50
