import io
import json
import tarfile
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import pytest

from nas_face.data.blobs import MemoryBlobs
from nas_face.data.formats.folders import list_folder
from nas_face.data.formats.tars import list_tars, write_tars
from nas_face.data.listing import FaceListing
from nas_face.errors import DataError

MakeFaces = Callable[[Mapping[str, int]], Path]


def make_tar(path: Path, members: Mapping[str, bytes | str]) -> Path:
    with tarfile.open(path, "w") as tar:
        for name, content in members.items():
            data = content.encode() if isinstance(content, str) else content
            member = tarfile.TarInfo(name)
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))
    return path


def in_memory(images: Mapping[str, tuple[str, bytes]]) -> FaceListing:
    """Name -> identity and bytes."""
    return FaceListing(
        root=Path("made up"),
        blobs=MemoryBlobs([data for _, data in images.values()]),
        names=tuple(images),
        identities=tuple(identity for identity, _ in images.values()),
    )


def contents(listing: FaceListing) -> dict[str, tuple[str, bytes]]:
    return {
        name: (identity, listing.blobs.read(row))
        for row, (name, identity) in enumerate(zip(listing.names, listing.identities, strict=True))
    }


ODD = in_memory(
    {
        "ann/ann_0001.jpg": ("ann", b"one"),
        "ann/ann.b 2.PNG": ("ann", b"two" * 500),
        " /../etc/passwd": (" ", b""),
        "José/名.jpeg": ("José", b"\x89PNG rest"),
        "x\udcff/bytes": ("x\udcff", b"\x89PNG more"),
    }
)


def test_a_folder_comes_back_from_a_tar(make_faces: MakeFaces, tmp_path: Path) -> None:
    listing = list_folder(make_faces({"ann": 3, "bob": 1}))
    write_tars(listing, tmp_path / "faces.tar")
    back = list_tars(tmp_path / "faces.tar")
    assert back.names == listing.names
    assert contents(back) == contents(listing)


def test_any_name_comes_back(tmp_path: Path) -> None:
    write_tars(ODD, tmp_path / "odd.tar")
    assert contents(list_tars(tmp_path / "odd.tar")) == contents(ODD)


def test_the_same_listing_gives_the_same_bytes(tmp_path: Path) -> None:
    write_tars(ODD, tmp_path / "a.tar")
    write_tars(ODD, tmp_path / "b.tar")
    assert (tmp_path / "a.tar").read_bytes() == (tmp_path / "b.tar").read_bytes()
    with tarfile.open(tmp_path / "a.tar") as tar:
        assert {(each.mtime, each.uid, each.gid, each.uname) for each in tar} == {(0, 0, 0, "")}


@pytest.mark.parametrize("pattern", ["s-%03d.tar", "s-{000..004}.tar"])
def test_shards_are_cut_by_bytes_and_read_by_pattern(tmp_path: Path, pattern: str) -> None:
    images = in_memory({f"a/{row}.jpg": ("a", bytes(40)) for row in range(10)})
    paths = write_tars(images, tmp_path / "s-%03d.tar", shard_bytes=80)
    assert [path.name for path in paths] == [f"s-00{shard}.tar" for shard in range(5)]
    assert sorted(tmp_path.iterdir()) == list(paths)
    assert list_tars(tmp_path / pattern).names == images.names
    assert list_tars(tmp_path).names == images.names


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # leaves files open
def test_the_webdataset_library_reads_what_is_written(
    make_faces: MakeFaces, tmp_path: Path
) -> None:
    webdataset = pytest.importorskip("webdataset")
    listing = list_folder(make_faces({"ann": 2, "bob": 1}))
    write_tars(listing, tmp_path / "w-%06d.tar", shard_bytes=1)
    shards = str(tmp_path / "w-{000000..000002}.tar")
    samples = list(webdataset.WebDataset(shards, shardshuffle=False).decode("rgb8"))
    assert [sample["cls"] for sample in samples] == [0, 0, 1]
    assert [sample["json"]["identity"] for sample in samples] == ["ann", "ann", "bob"]
    assert [int(sample["png"][0, 0, 0]) for sample in samples] == [0, 1, 2]


def test_what_the_webdataset_library_writes_is_read(tmp_path: Path) -> None:
    webdataset = pytest.importorskip("webdataset")
    with webdataset.TarWriter(str(tmp_path / "w.tar")) as writer:
        for number in range(3):
            writer.write({"__key__": f"k{number}", "jpg": b"jpg%d" % number, "cls": number // 2})
    back = list_tars(tmp_path / "w.tar")
    assert contents(back) == {
        "0/k0.jpg": ("0", b"jpg0"),
        "0/k1.jpg": ("0", b"jpg1"),
        "1/k2.jpg": ("1", b"jpg2"),
    }


@pytest.mark.parametrize(
    ("members", "expected"),
    [
        ({"a.jpg": "x", "a.cls": "7"}, {"7/a.jpg": "7"}),
        ({"a.cls": "7\n", "a.jpg": "x"}, {"7/a.jpg": "7"}),
        ({"a.jpg": "x", "a.txt": " Ann B \n"}, {"Ann B/a.jpg": "Ann B"}),
        ({"a.jpg": "x", "a.json": '{"label": 3}'}, {"3/a.jpg": "3"}),
        ({"a.jpg": "x", "a.json": '{"class": "c"}', "a.txt": "t"}, {"c/a.jpg": "c"}),
        ({"a.jpg": "x", "a.json": '{"identity": "i"}', "a.cls": "7"}, {"i/a.jpg": "i"}),
        ({"a.jpg": "x", "a.json": '{"label": 3}', "a.cls": "7"}, {"7/a.jpg": "7"}),
        ({"a.jpg": "x", "a.json": "broken", "a.cls": "7"}, {"7/a.jpg": "7"}),
        ({"a.jpg": "x", "a.json": '{"label": true}', "a.txt": "t"}, {"t/a.jpg": "t"}),
        ({"ann/1.jpg": "x", "bob/1.jpg": "x"}, {"ann/1.jpg": "ann", "bob/1.jpg": "bob"}),
        ({"./f/ann/1.jpg": "x", "./f/bob/1.jpg": "x"}, {"ann/1.jpg": "ann", "bob/1.jpg": "bob"}),
        ({"/f/ann/1.jpg": "x", "/f/ann/2.jpg": "x"}, {"ann/1.jpg": "ann", "ann/2.jpg": "ann"}),
        ({"../../ann/1.jpg": "x", "../bob/1.jpg": "x"}, {"ann/1.jpg": "ann", "bob/1.jpg": "bob"}),
        (
            {"u/ann/1.jpg": "x", "v/ann/1.jpg": "x"},
            {"u/ann/1.jpg": "u/ann", "v/ann/1.jpg": "v/ann"},
        ),
        ({"a/1.jpg": "x", "a/1.seg.png": "x"}, {"a/1.jpg": "a"}),
        ({"a/J.K_1.jpg": "x", "a/J.K_2.jpg": "x"}, {"a/J.K_1.jpg": "a", "a/J.K_2.jpg": "a"}),
        ({"a/.hidden.jpg": "x", "a/1.JPG": "x", "a/LICENSE": "x"}, {"a/1.JPG": "a"}),
        (
            {"p.jpg": "x", "p.cls": "1", "q/p.jpg": "x", "q/p.cls": "1"},
            {"1/p.jpg": "1", "1/p_2.jpg": "1"},
        ),
    ],
)
def test_identities_and_names_of_foreign_tars(
    tmp_path: Path, members: dict[str, str], expected: dict[str, str]
) -> None:
    listing = list_tars(make_tar(tmp_path / "t.tar", members))
    assert dict(zip(listing.names, listing.identities, strict=True)) == expected


def test_shards_may_repeat_keys(tmp_path: Path) -> None:
    for shard in "ab":
        make_tar(tmp_path / f"{shard}.tar", {"0.jpg": shard, "0.cls": "5"})
    back = list_tars(tmp_path)
    assert contents(back) == {"5/0.jpg": ("5", b"a"), "5/0_2.jpg": ("5", b"b")}


def test_what_is_left_out_is_named(tmp_path: Path) -> None:
    path = tmp_path / "t.tar"
    make_tar(path, {"0.jpg": "x", "1.jpg": "y", "1.cls": "4", "1.seg.png": "z"})
    with tarfile.open(path, "a") as tar:
        link = tarfile.TarInfo("2.jpg")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
        tar.addfile(link)
    listing = list_tars(path)
    assert listing.names == ("4/1.jpg",)
    assert {each.name: each.reason for each in listing.skipped} == {
        "0.jpg": "nothing says whose it is",
        "1.seg.png": "a second image of its sample",
        "2.jpg": "a link, or not stored in one piece",
    }


def test_bytes_are_read_from_where_they_lie(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    members = {f"{'d' * 120}/{row}.jpg": rng.bytes(row * 37) for row in range(30)}
    listing = list_tars(make_tar(tmp_path / "t.tar", members))
    assert [listing.blobs.read(row) for row in range(30)] == list(members.values())


def test_a_compressed_tar_is_refused_with_what_to_do(tmp_path: Path) -> None:
    for mode in ("gz", "bz2", "xz"):
        path = tmp_path / f"{mode}.tar"
        with tarfile.open(path, f"w:{mode}") as tar:
            tar.addfile(tarfile.TarInfo("a/1.jpg"))
        with pytest.raises(DataError, match="decompress it first"):
            list_tars(path)


def test_broken_tars_are_refused(tmp_path: Path) -> None:
    good = make_tar(tmp_path / "good.tar", {f"a/{row}.jpg": bytes(600) for row in range(4)})
    data = good.read_bytes()
    broken = tmp_path / "broken.tar"
    for content, message in (
        (b"", "broken one"),
        (b"no tar at all" * 100, "broken one"),
        (data[: 512 + 300], "broken one|header"),
        (data[:1536] + b"\xff" * 512 + data[2048:], "header at byte 1536 is broken"),
        (bytes(10240), "no image in it"),
    ):
        broken.write_bytes(content)
        with pytest.raises(DataError, match=message) as caught:
            list_tars(broken)
        assert "\n" not in str(caught.value)


def test_a_header_that_leads_back_is_refused(tmp_path: Path) -> None:
    data = bytearray(make_tar(tmp_path / "t.tar", {"a/1.jpg": bytes(10)}).read_bytes())
    data[124:136] = b"\xff" + (-1024).to_bytes(11, "big", signed=True)
    data[148:156] = b" " * 8
    data[148:156] = b"%06o\0 " % sum(data[:512])
    (tmp_path / "t.tar").write_bytes(data)
    with pytest.raises(DataError, match="broken"):
        list_tars(tmp_path / "t.tar")


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("none.tar", "no such tar"),
        ("s-{0..999999999}.tar", "s-1.tar: there is no such tar"),
        ("s-{9..0}.tar", "go up"),
        ("x-%d.tar", "x-0.tar: there is no such tar"),
        ("", "no .tar in this folder"),
    ],
)
def test_missing_tars_are_named(tmp_path: Path, name: str, message: str) -> None:
    folder = tmp_path / "tars"
    folder.mkdir()
    if name:
        make_tar(folder / "s-0.tar", {"a/1.jpg": "x"})
    with pytest.raises(DataError, match=message):
        list_tars(folder / name)


def test_tars_without_identities_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="whose it is; give each"):
        list_tars(make_tar(tmp_path / "t.tar", {"1.jpg": "x", "2.jpg": "y"}))


def test_a_failed_write_leaves_what_was_there(tmp_path: Path) -> None:
    target = tmp_path / "t.tar"
    target.write_text("old")
    gone = list_folder_with_a_gap(tmp_path / "faces")
    with pytest.raises(DataError, match="no such file"):
        write_tars(gone, target)
    assert target.read_text() == "old"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["faces", "t.tar"]


def list_folder_with_a_gap(root: Path) -> FaceListing:
    (root / "ann").mkdir(parents=True)
    for number in range(3):
        (root / "ann" / f"{number}.jpg").write_bytes(b"x")
    listing = list_folder(root)
    (root / "ann" / "1.jpg").unlink()
    return listing


def test_the_json_says_what_the_listing_says(tmp_path: Path) -> None:
    write_tars(ODD, tmp_path / "odd.tar")
    with tarfile.open(tmp_path / "odd.tar") as tar:
        file = tar.extractfile("000000003.json")
        assert file is not None
        assert json.loads(file.read()) == {"identity": "José", "name": "José/名.jpeg"}
        assert [each.name for each in tar][::3] == [
            "000000000.jpg",
            "000000001.png",
            "000000002.jpg",
            "000000003.jpeg",
            "000000004.png",
        ]
