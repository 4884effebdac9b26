import shutil
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import pytest

from nas_face.data.formats.folders import list_folder
from nas_face.data.formats.opening import format_of, list_faces, list_pairs, load_faces, load_pairs
from nas_face.data.formats.records import write_records
from nas_face.data.formats.tars import write_tars
from nas_face.data.formats.verification_bin import write_bin
from nas_face.errors import DataError

MakeFaces = Callable[[Mapping[str, int]], Path]
PAIRS = "ann 1 2\nann 1 bob 1\n"


@pytest.fixture
def root(make_faces: MakeFaces) -> Path:
    return make_faces({"ann": 2, "bob": 2})


@pytest.fixture
def every(root: Path, tmp_path: Path) -> Path:
    """A folder with each format, one by one."""
    place = tmp_path / "every"
    place.mkdir()
    faces = list_folder(root)
    shutil.copytree(root, place / "faces")
    for folder, name in (("records", "train.rec"), ("others", "other.rec")):
        (place / folder).mkdir()
        write_records(faces, place / folder / name)
    write_tars(faces, place / "one.tar")
    write_tars(faces, place / "tars" / "faces-%03d.tar", shard_bytes=1)
    (place / "pairs.txt").write_text(PAIRS)
    write_bin(list_pairs(place / "pairs.txt", root), place / "pairs.bin")
    (place / "pairs.csv").write_text(
        "ann/ann_0001.png,ann/ann_0002.png,1\nann/ann_0001.png,bob/bob_0001.png,0\n"
    )
    return place


@pytest.mark.parametrize(
    "name",
    [
        "faces",
        "records",
        "records/train.rec",
        "records/train.idx",
        "others/other.rec",
        "one.tar",
        "tars",
        "tars/faces-{000..003}.tar",
        "tars/faces-%03d.tar",
    ],
)
def test_faces_of_every_format_are_the_same(every: Path, root: Path, name: str) -> None:
    faces = load_faces(every / name, height=8, width=8)
    assert faces.labels.tolist() == [0, 0, 1, 1]
    assert faces.batch(np.arange(4))[:, 0, 0, 0].tolist() == [0, 1, 2, 3]


@pytest.mark.parametrize("name", ["pairs.txt", "pairs.csv", "pairs.bin"])
def test_pairs_of_every_format_are_the_same(every: Path, root: Path, name: str) -> None:
    images = None if name == "pairs.bin" else root
    pairs = load_pairs(every / name, images, height=8, width=8)
    grey = pairs.images.batch(np.arange(len(pairs.images)))[:, 0, 0, 0]
    assert grey[pairs.first].tolist() == [0, 0]
    assert grey[pairs.second].tolist() == [1, 2]
    assert pairs.same.tolist() == [True, False]


@pytest.mark.parametrize(
    ("name", "kind"),
    [("pairs.bin", "bin"), ("one.tar", "tars"), ("others/other.rec", "records")],
)
def test_files_of_other_names_are_known_by_content(every: Path, name: str, kind: str) -> None:
    shutil.copy(every / name, every / "unnamed")
    assert format_of(every / "unnamed") == kind


@pytest.mark.parametrize("name", ["pairs.txt", "pairs.csv", "pairs.bin"])
def test_pairs_are_no_faces(every: Path, name: str) -> None:
    with pytest.raises(DataError, match="has pairs, not identities; faces are a folder"):
        list_faces(every / name)


@pytest.mark.parametrize("name", ["faces", "records", "one.tar"])
def test_faces_are_no_pairs(every: Path, name: str) -> None:
    with pytest.raises(DataError, match="has identities, not pairs; pairs are a list"):
        list_pairs(every / name)


def test_arguments_that_a_format_does_not_take_are_refused(every: Path, root: Path) -> None:
    with pytest.raises(DataError, match="holds its images; leave out"):
        list_pairs(every / "pairs.bin", root)
    with pytest.raises(DataError, match="only CFP's folder has protocols"):
        list_pairs(every / "pairs.txt", root, protocol="FF")


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.onnx", b"\x08\x07\0\0", "of no known format; faces are .*; pairs are"),
        ("a.jpg", b"\xff\xd8\xff\xe0\0\x10JFIF", "of no known format"),
        ("a.tgz", b"\x1f\x8b\x08\0", "compressed; decompress it first"),
        ("a", b"\x7fELF\0\0", "of no known format"),
    ],
)
def test_anything_else_is_refused(tmp_path: Path, name: str, content: bytes, message: str) -> None:
    (tmp_path / name).write_bytes(content)
    for open_it in (list_faces, list_pairs):
        with pytest.raises(DataError, match=message) as caught:
            open_it(tmp_path / name)
        assert "\n" not in str(caught.value)


def test_nothing_there_is_said(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no such file or folder"):
        list_faces(tmp_path / "none")


def test_the_built_in_faces_open_by_their_name() -> None:
    listing = list_faces(Path("orl"))
    assert (len(listing.names), len(set(listing.identities))) == (400, 40)
    assert len(load_faces(Path("orl"), height=16, width=16)) == 400
