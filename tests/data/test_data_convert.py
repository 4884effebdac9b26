import itertools
import json
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import pytest

from nas_face.data.blobs import MemoryBlobs
from nas_face.data.formats.convert import convert, form_of
from nas_face.data.formats.opening import list_faces, list_pairs
from nas_face.data.formats.tars import write_tars
from nas_face.data.formats.trees import NAMES_FILE, SafeNames
from nas_face.data.listing import FaceListing, PairListing
from nas_face.errors import DataError

MakeFaces = Callable[[Mapping[str, int]], Path]
FACE_TARGETS = ("tree", "r.rec", "t.tar", "s-%03d.tar")
PAIRS = "2\t1\nann\t1\t2\nann\t3\tbob\t1\nbob\t2\t1\nbob\t2\tcid\t1\n"


@pytest.fixture
def root(make_faces: MakeFaces) -> Path:
    return make_faces({"ann": 3, "bob": 2, "cid": 1})


@pytest.fixture
def pairs_file(root: Path, tmp_path: Path) -> Path:
    path = tmp_path / "pairs.txt"
    path.write_text(PAIRS)
    return path


def contents(listing: FaceListing) -> dict[str, tuple[str, bytes]]:
    return {
        name: (identity, listing.blobs.read(row))
        for row, (name, identity) in enumerate(zip(listing.names, listing.identities, strict=True))
    }


def pair_bytes(listing: PairListing) -> list[tuple[bytes, bytes, bool]]:
    return [
        (listing.blobs.read(int(first)), listing.blobs.read(int(second)), bool(same))
        for first, second, same in zip(listing.first, listing.second, listing.same, strict=True)
    ]


@pytest.mark.parametrize(("via", "to"), list(itertools.product(FACE_TARGETS, FACE_TARGETS)))
def test_faces_go_round_through_every_two_formats(
    root: Path, tmp_path: Path, via: str, to: str
) -> None:
    (tmp_path / "1").mkdir()
    first = convert(root, tmp_path / "1" / via)
    second = convert(tmp_path / "1" / via, tmp_path / "2" / to)
    back = convert(tmp_path / "2" / to, tmp_path / "back")
    assert contents(list_faces(tmp_path / "back")) == contents(list_faces(root))
    for report in (first, second, back):
        assert (report.n_images, report.n_identities, report.n_pairs) == (6, 3, None)
        assert report.image_bytes == sum(
            len(data) for _, data in contents(list_faces(root)).values()
        )
    assert not list(tmp_path.rglob("*partial*"))


def odd_names() -> FaceListing:
    images = {
        "ann/a.jpg": "ann",
        "Ann/a.jpg": "Ann",
        "ann/A.jpg": "ann",
        "ann/a.JPG": "ann",
        "ann/no ending": "ann",
        "a/b/c.png": "a/b",
        "a\\b/c.png": "a\\b",
        ".hidden/.x.jpg": ".hidden",
        " / blank .jpg": " ",
        "../up.jpg": "..",
        "con/nul.jpg": "con",
        "José/é.jpg": "José",
        "Jose\u0301/e\u0301.jpg": "Jose\u0301",
        "名/" + "名" * 90 + ".webp": "名",
        "y" * 300 + "/1.jpg": "y" * 300,
        "y" * 301 + "/1.jpg": "y" * 301,
        "100%25/x%2F.jpg": "100%25",
        "elsewhere/1.jpg": "not its folder",
        'q"uo:te*/<1>?|.jpg': 'q"uo:te*',
    }
    return FaceListing(
        root=Path("made up"),
        blobs=MemoryBlobs([b"image %d" % row for row in range(len(images))]),
        names=tuple(images),
        identities=tuple(images.values()),
    )


def test_names_that_files_cannot_have_come_back_from_a_tree(tmp_path: Path) -> None:
    write_tars(odd_names(), tmp_path / "odd.tar")
    convert(tmp_path / "odd.tar", tmp_path / "tree")
    assert contents(list_faces(tmp_path / "tree")) == contents(odd_names())
    files = [path.relative_to(tmp_path / "tree") for path in (tmp_path / "tree").rglob("*")]
    assert len({str(file).casefold() for file in files}) == len(files)
    assert max(len(part.encode()) for file in files for part in file.parts) <= 200
    convert(tmp_path / "tree", tmp_path / "again.tar")
    assert contents(list_faces(tmp_path / "again.tar")) == contents(odd_names())


def test_plain_names_need_no_file_of_names(root: Path, tmp_path: Path) -> None:
    convert(root, tmp_path / "tree")
    files = {path.relative_to(tmp_path / "tree") for path in (tmp_path / "tree").rglob("*.*")}
    assert files == {path.relative_to(root) for path in root.rglob("*.*")}


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("plain name.x", "plain name.x"),
        ("名 é", "名 é"),
        ("a/b", "a%2Fb"),
        ("50%", "50%25"),
        (".a.", "%2Ea%2E"),
        (" a ", "%20a%20"),
        ("a\nb\0", "a%0Ab%00"),
        ("aux.b", "%61ux.b"),
        ("", "%"),
    ],
)
def test_unsafe_names_are_written_as_in_urls(name: str, expected: str) -> None:
    assert SafeNames().take(name) == expected


@pytest.mark.parametrize(
    "content", ["[]", "broken", '{"identities": {}}', '{"identities": {"a": 1}, "images": {}}']
)
def test_a_broken_file_of_names_is_refused(root: Path, content: str) -> None:
    (root / NAMES_FILE).write_text(content)
    with pytest.raises(DataError, match=r"\.names\.json: not a list of names"):
        list_faces(root)


def test_names_that_meet_are_refused(root: Path) -> None:
    names = {"ann/ann_0001.png": "ann/ann_0002.png"}
    (root / NAMES_FILE).write_text(json.dumps({"identities": {}, "images": names}))
    with pytest.raises(DataError, match="two images have one name"):
        list_faces(root)


def test_a_single_identity_and_an_empty_file_pass(tmp_path: Path) -> None:
    (tmp_path / "one" / "ann").mkdir(parents=True)
    (tmp_path / "one" / "ann" / "empty.jpg").write_bytes(b"")
    convert(tmp_path / "one", tmp_path / "one.tar")
    convert(tmp_path / "one.tar", tmp_path / "back")
    assert contents(list_faces(tmp_path / "back")) == {"ann/empty.jpg": ("ann", b"")}


def test_what_the_source_left_out_is_reported(root: Path, tmp_path: Path) -> None:
    (root / "empty").mkdir()
    report = convert(root, tmp_path / "t.tar")
    assert [each.name for each in report.skipped] == ["empty"]


def test_nothing_to_convert_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="empty"):
        convert(tmp_path / "empty", tmp_path / "t.tar")
    assert not (tmp_path / "t.tar").exists()


def test_a_csv_points_at_the_originals(root: Path, pairs_file: Path, tmp_path: Path) -> None:
    report = convert(pairs_file, tmp_path / "lists" / "p.csv", images=root)
    assert (report.form, report.n_images, report.n_pairs) == ("csv", 6, 4)
    assert [path.name for path in (tmp_path / "lists").iterdir()] == ["p.csv"]
    first, back = list_pairs(pairs_file, root), list_pairs(tmp_path / "lists" / "p.csv")
    assert pair_bytes(back) == pair_bytes(first)
    assert back.n_folds == first.n_folds == 2
    assert back.identities == first.identities


def test_a_csv_of_a_bin_has_its_images_beside_it(
    root: Path, pairs_file: Path, tmp_path: Path
) -> None:
    convert(pairs_file, tmp_path / "p.bin", images=root)
    convert(tmp_path / "p.bin", tmp_path / "out" / "p.csv")
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["p.csv", "p_images"]
    shutil.move(tmp_path / "out", tmp_path / "moved")
    shutil.rmtree(root)
    back = list_pairs(tmp_path / "moved" / "p.csv")
    assert pair_bytes(back) == pair_bytes(list_pairs(tmp_path / "p.bin"))
    convert(tmp_path / "moved" / "p.csv", tmp_path / "again.bin")
    assert (tmp_path / "again.bin").read_bytes() == (tmp_path / "p.bin").read_bytes()


def test_originals_that_a_list_cannot_name_are_copied(root: Path, tmp_path: Path) -> None:
    listing = tmp_path / "p.csv"
    listing.write_text(
        "bob/bob_0001.png,bob/bob_0002.png,1\nbob/bob_0001.png,cid/cid_0001.png,0\n"
    )
    odd = tmp_path / "odd\\place"
    shutil.move(root, odd)
    convert(listing, tmp_path / "out.csv", images=odd)
    assert (tmp_path / "out_images").is_dir()
    assert pair_bytes(list_pairs(tmp_path / "out.csv")) == pair_bytes(list_pairs(listing, odd))


@pytest.mark.parametrize(
    ("source", "target", "message"),
    [
        ("faces", "x.bin", "faces without pairs, and a .bin states pairs; faces become"),
        ("faces", "x.csv", "faces without pairs, and a .csv states pairs"),
        ("pairs.txt", "x.rec", "a record file has identities and would lose the pairs; pairs"),
        ("pairs.txt", "x.tar", "a tar has identities"),
        ("pairs.txt", "x", "a folder tree has identities"),
        ("faces", "x.txt", "no .txt is written; targets are NAME.rec"),
        ("faces", "x.tar.gz", "no .gz is written"),
        ("faces", "faces", "must lie apart from the source"),
        ("faces", "faces/x.tar", "must not lie inside the source"),
        ("faces/ann", "faces", "must lie apart from the source|must lie in one folder"),
        ("none", "x.tar", "no such file or folder"),
    ],
)
def test_what_a_target_cannot_hold_is_refused(
    root: Path, pairs_file: Path, source: str, target: str, message: str
) -> None:
    images = root if source == "pairs.txt" else None
    before = sorted(root.parent.rglob("*"))
    with pytest.raises(DataError, match=message):
        convert(root.parent / source, root.parent / target, images=images, overwrite=True)
    assert sorted(root.parent.rglob("*")) == before


def test_a_root_for_faces_is_refused(root: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="--images and --protocol belong to pairs"):
        convert(root, tmp_path / "x.tar", images=root)


@pytest.mark.parametrize("target", FACE_TARGETS)
def test_what_is_there_is_only_replaced_on_demand(
    root: Path, make_faces: MakeFaces, tmp_path: Path, target: str
) -> None:
    (tmp_path / "out").mkdir()
    convert(root, tmp_path / "out" / target)
    with pytest.raises(DataError, match="exists already; choose another name, or --force"):
        convert(root, tmp_path / "out" / target)
    shutil.rmtree(root / "cid")
    convert(root, tmp_path / "out" / target, overwrite=True)
    assert len(list_faces(tmp_path / "out" / target).names) == 5
    assert not list(tmp_path.rglob("*.old"))


def test_shards_of_an_earlier_conversion_do_not_stay(root: Path, tmp_path: Path) -> None:
    write_tars(list_faces(root), tmp_path / "s-%d.tar", shard_bytes=1)
    assert len(list(tmp_path.glob("s-*.tar"))) == 6
    convert(root, tmp_path / "s-%d.tar", overwrite=True)
    assert len(list(tmp_path.glob("s-*.tar"))) == 1


def test_a_folder_of_other_things_is_never_replaced(root: Path, tmp_path: Path) -> None:
    (tmp_path / "home" / "work").mkdir(parents=True)
    (tmp_path / "home" / "work" / "thesis.odt").write_text("years")
    with pytest.raises(DataError, match=r"work/thesis\.odt is no image, so this folder is not"):
        convert(root, tmp_path / "home", overwrite=True)
    assert (tmp_path / "home" / "work" / "thesis.odt").read_text() == "years"


def test_an_empty_folder_is_taken(root: Path, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    convert(root, tmp_path / "out")
    assert contents(list_faces(tmp_path / "out")) == contents(list_faces(root))


def test_a_file_and_a_folder_do_not_replace_each_other(root: Path, tmp_path: Path) -> None:
    (tmp_path / "t.tar" / "x").mkdir(parents=True)
    (tmp_path / "tree").write_text("a file")
    for target in ("t.tar", "tree"):
        with pytest.raises(DataError, match="cannot take a file's place"):
            convert(root, tmp_path / target, overwrite=True)


@pytest.mark.parametrize("target", FACE_TARGETS)
def test_a_failure_leaves_what_was_there(root: Path, tmp_path: Path, target: str) -> None:
    convert(root, tmp_path / "out" / target)
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "out").rglob("*")}

    def interrupt(n_done: int, n_images: int) -> None:
        if n_done == 4:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        convert(root, tmp_path / "out" / target, overwrite=True, on_image=interrupt)
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "out").rglob("*")} == before


def test_progress_is_told(root: Path, tmp_path: Path) -> None:
    seen: list[tuple[int, int]] = []
    convert(root, tmp_path / "t.tar", on_image=lambda done, total: seen.append((done, total)))
    assert seen == [(number, 6) for number in range(1, 7)]


@pytest.mark.parametrize(
    ("name", "form"),
    [
        ("a.rec", "records"),
        ("a.REC", "records"),
        ("a-%06d.tar", "tars"),
        ("a.bin", "bin"),
        ("a.csv", "csv"),
        ("faces.v2", "folder"),
        ("faces", "folder"),
    ],
)
def test_the_name_decides(name: str, form: str) -> None:
    assert form_of(Path(name)) == form


@pytest.mark.faces
def test_the_lfw_development_pairs_go_round(faces_data: Path, tmp_path: Path) -> None:
    lines = (faces_data / "lfw_dev_pairs.txt").read_text().splitlines()
    (tmp_path / "dev.txt").write_text("\n".join(["1\t300", *lines[1:601]]))
    convert(tmp_path / "dev.txt", tmp_path / "dev.bin", images=faces_data / "lfw")
    convert(tmp_path / "dev.bin", tmp_path / "dev.csv")
    convert(tmp_path / "dev.csv", tmp_path / "again.bin")
    assert (tmp_path / "again.bin").read_bytes() == (tmp_path / "dev.bin").read_bytes()
    listing = list_pairs(tmp_path / "dev.bin")
    assert [np.count_nonzero(fold) for fold in np.split(listing.same, 10)] == [30] * 10
