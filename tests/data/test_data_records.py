"""Record files: MXNet's bytes, InsightFace's layout, and refusals."""

import logging
import struct
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from nas_face.data.blobs import MemoryBlobs
from nas_face.data.faces import SkippedImage
from nas_face.data.formats.folders import list_folder
from nas_face.data.formats.records import list_records, write_records
from nas_face.data.listing import FaceListing
from nas_face.errors import DataError
from tests.data.conftest import MakeFaces

MAGIC = bytes.fromhex("0a23d7ce")

# What MXNet 1.9.1 wrote for records 0 to 6: InsightFace's layout, and images with the magic number
# at their end, at multiples of four, in the header and in no place at all.
BY_MXNET = bytes.fromhex(
    "0a23d7ce20000000020000000000000000000000000000000000000000000000" + "0000a0400000e040"
    "0a23d7ce1f000000000000000000000001000000000000000000000000000000" + "6162630a23d7ce00"
    "0a23d7ce18000020000000000000000002000000000000000000000000000000"
    "0a23d7ce0f000060780a23d7ce0a23d7ce797a0a23d7ce00"
    "0a23d7ce080000200200000000000000"
    "0a23d7ce140000400000000000000000000000000000803f0000803f0a23d7ce0400006061626364"
    "0a23d7ce18000000000000000000803f04000000000000000000000000000000"
    "0a23d7ce20000000020000000000000005000000000000000000000000000000" + "0000803f00004040"
    "0a23d7ce20000000020000000000000006000000000000000000000000000000" + "000040400000a040"
)
BY_MXNET_IDX = "0\t0\n1\t40\n2\t80\n3\t136\n4\t192\n5\t224\n6\t264\n"


def framed(content: bytes) -> bytes:
    """A record by the definition, part by part."""
    words = [content[start : start + 4] for start in range(0, len(content), 4)]
    parts, part = [], b""
    for word in words:
        if word == MAGIC:
            parts.append(part)
            part = b""
        else:
            part += word
    parts.append(part)
    kinds = [0] if len(parts) == 1 else [1, *[2] * (len(parts) - 2), 3]
    return b"".join(
        MAGIC + struct.pack("<I", kind << 29 | len(part)) + part + bytes(-len(part) % 4)
        for kind, part in zip(kinds, parts, strict=True)
    )


def image_record(key: int, labels: Sequence[float], content: bytes) -> bytes:
    if len(labels) == 1:
        return framed(struct.pack("<IfQQ", 0, labels[0], key, 0) + content)
    head = struct.pack("<IfQQ", len(labels), 0, key, 0)
    return framed(head + struct.pack(f"<{len(labels)}f", *labels) + content)


def plain(folder: Path, images: Sequence[bytes], *, label: float | None = None) -> Path:
    """Files as im2rec writes them: two images for each label, keys from 0."""
    rec, idx = b"", ""
    for key, content in enumerate(images):
        idx += f"{key}\t{len(rec)}\n"
        rec += image_record(key, [key // 2 if label is None else label], content)
    (folder / "set.rec").write_bytes(rec)
    (folder / "set.idx").write_text(idx)
    return folder / "set.rec"


def listing_of(images: Mapping[str, bytes]) -> FaceListing:
    return FaceListing(
        root=Path("memory"),
        blobs=MemoryBlobs(tuple(images.values())),
        names=tuple(images),
        identities=tuple(name.split("/")[0] for name in images),
    )


def contents(listing: FaceListing) -> dict[str, bytes]:
    return {name: listing.blobs.read(row) for row, name in enumerate(listing.names)}


PIXEL = b"P5 2 1 255 \x00\xff"


@pytest.fixture
def mxnet_file(tmp_path: Path) -> Path:
    (tmp_path / "train.rec").write_bytes(BY_MXNET)
    (tmp_path / "train.idx").write_text(BY_MXNET_IDX)
    return tmp_path / "train.rec"


def test_what_mxnet_wrote_is_read(mxnet_file: Path) -> None:
    listing = list_records(mxnet_file)
    assert contents(listing) == {
        "0/1.jpg": b"abc" + MAGIC,
        "0/2.jpg": MAGIC + b"x" + MAGIC + MAGIC + b"yz" + MAGIC,
        "1/3.jpg": MAGIC + b"abcd",
        "1/4.jpg": b"",
    }
    assert listing.identities == ("0", "0", "1", "1")


@pytest.mark.parametrize("part", ["", "train.rec", "train.idx"])
def test_a_set_is_named_by_its_folder_or_one_of_its_files(mxnet_file: Path, part: str) -> None:
    assert list_records(mxnet_file.parent / part).names == list_records(mxnet_file).names


def test_the_bytes_written_are_those_of_mxnet_and_of_the_definition(tmp_path: Path) -> None:
    images = {
        "ann/1.pgm": PIXEL,
        "bob/1.pgm": PIXEL + MAGIC,
        "ann/2.png": PIXEL + b"x" * 3 + MAGIC + b"yz" + MAGIC * 2,
    }
    write_records(listing_of(images), tmp_path / "a.rec")
    expected = [
        image_record(0, [4, 6], b""),
        image_record(1, [0], images["ann/1.pgm"]),
        image_record(2, [0], images["ann/2.png"]),
        image_record(3, [1], images["bob/1.pgm"]),
        image_record(4, [1, 3], b""),
        image_record(5, [3, 4], b""),
    ]
    assert (tmp_path / "a.rec").read_bytes() == b"".join(expected)
    starts = np.cumsum([0, *map(len, expected[:-1])])
    index = "".join(f"{key}\t{start}\n" for key, start in enumerate(starts))
    assert (tmp_path / "a.idx").read_text() == index
    assert (
        tmp_path / "a.lst"
    ).read_text() == "1\t0\tann/1.pgm\n2\t0\tann/2.png\n3\t1\tbob/1.pgm\n"
    assert (tmp_path / "property").read_text() == "2,1,2"
    assert len(list(tmp_path.iterdir())) == 4


def test_records_without_an_index_are_found_by_reading_through(tmp_path: Path) -> None:
    write_records(listing_of({"b/1.pgm": PIXEL, "a/1.pgm": PIXEL + MAGIC}), tmp_path)
    before = list_records(tmp_path)
    (tmp_path / "train.idx").unlink()
    after = list_records(tmp_path)
    assert (after.names, after.identities) == (before.names, before.identities)
    assert contents(after) == contents(before)


def test_insightface_puts_record_0_behind_the_images_and_keys_still_count(tmp_path: Path) -> None:
    rec = image_record(1, [0, 1], b"one") + image_record(2, [1, 1], b"two")
    rec += (
        image_record(0, [3, 5], b"") + image_record(3, [1, 2], b"") + image_record(4, [2, 3], b"")
    )
    (tmp_path / "train.rec").write_bytes(rec)
    assert contents(list_records(tmp_path)) == {"0/1.jpg": b"one", "1/2.jpg": b"two"}


def test_a_plain_file_has_images_from_record_0_on(tmp_path: Path) -> None:
    path = plain(tmp_path, [b"a", b"b", b"c"])
    assert contents(list_records(path)) == {"0/0.jpg": b"a", "0/1.jpg": b"b", "1/2.jpg": b"c"}
    path.with_suffix(".idx").unlink()
    assert contents(list_records(path)) == {"0/0.jpg": b"a", "0/1.jpg": b"b", "1/2.jpg": b"c"}


def test_records_whose_own_numbers_repeat_go_by_their_places(tmp_path: Path) -> None:
    (tmp_path / "a.rec").write_bytes(image_record(7, [3], b"a") + image_record(7, [4], b"b"))
    assert list_records(tmp_path).names == ("3/0.jpg", "4/1.jpg")


def test_names_come_from_the_list_beside_the_records(tmp_path: Path) -> None:
    path = plain(tmp_path, [b"a", b"b", b"c"])
    path.with_suffix(".lst").write_text(
        "0\t0.000000\t/photos/ann/x.png\n2\t1.000000\t/photos/bob/x.png\n1\t0.000000\t/photos/ann/y.png\n"
    )
    listing = list_records(path)
    assert listing.names == ("ann/x.png", "ann/y.png", "bob/x.png")
    assert listing.identities == ("ann", "ann", "bob")


def test_names_come_from_a_list_of_insightface(tmp_path: Path) -> None:
    rec = image_record(0, [3, 3], b"") + image_record(1, [0], b"a") + image_record(2, [1], b"b")
    (tmp_path / "train.rec").write_bytes(rec)
    (tmp_path / "train.lst").write_text("1\t/photos/ann/x.png\t0\n1\t/photos/bob/x.png\t1\n")
    assert list_records(tmp_path).names == ("ann/x.png", "bob/x.png")


@pytest.mark.parametrize(
    "text",
    [
        "0\t0\tann/x.png\n1\t0\tann/y.png\n",
        "0\t0\tann/x.png\n1\t0\tann/y.png\n2\t1\tann/z.png\n",
        "0\t0\tann/x.png\n1\t0\tbob/y.png\n2\t1\tcid/z.png\n",
        "0\t0\tx.png\n1\t0\ty.png\n2\t1\tz.png\n",
    ],
    ids=["an image is missing", "one name for two labels", "two names for one", "no folder"],
)
def test_a_list_that_cannot_name_the_identities_is_left_out_and_said_so(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, text: str
) -> None:
    path = plain(tmp_path, [b"a", b"b", b"c"])
    path.with_suffix(".lst").write_text(text)
    with caplog.at_level(logging.WARNING):
        listing = list_records(path)
    assert listing.names == ("0/0.jpg", "0/1.jpg", "1/2.jpg")
    assert "set.lst: not used" in caplog.text


def test_files_of_one_name_are_told_apart_by_their_keys(tmp_path: Path) -> None:
    path = plain(tmp_path, [b"a", b"b"])
    path.with_suffix(".lst").write_text("0\t0\t1/ann/x.png\n1\t0\t2/ann/x.png\n")
    assert list_records(path).names == ("ann/0.jpg", "ann/1.jpg")


@pytest.mark.parametrize(
    ("labels", "stated", "gap"),
    [
        ((0, 0, 1), 3, "3 identities, and the records show 2; label 2, for one, has no image"),
        ((0, 2, 4), 5, "5 identities, and the records show 3; label 1, for one, has no image"),
        ((1, 2, 2), 3, "3 identities, and the records show 2; label 0, for one, has no image"),
        ((1, 2, 3), 2, "2 identities, and the records show 3"),
        ((70, 9, 9), 5, "5 identities, and the records show 2"),
    ],
)
def test_a_wrong_number_of_identities_is_warned_of(
    labels: tuple[int, ...],
    stated: int,
    gap: str,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    rec = b"".join(image_record(key, [label], b"a") for key, label in enumerate(labels))
    (tmp_path / "set.rec").write_bytes(rec)
    (tmp_path / "property").write_text(f"{stated},112,112")
    with caplog.at_level(logging.WARNING):
        list_records(tmp_path / "set.rec")
    assert caplog.messages[0].endswith(f"property: states {gap}")


def test_folders_of_faces_survive_the_round_trip(make_faces: MakeFaces, tmp_path: Path) -> None:
    faces = list_folder(make_faces({"ann": 3, "bob": 1, "10": 2, "9": 2}))
    write_records(faces, tmp_path / "set.rec")
    found = list_records(tmp_path / "set.rec")
    assert (found.names, found.identities) == (faces.names, faces.identities)
    assert contents(found) == contents(faces)
    assert (tmp_path / "property").read_text() == "4,8,8"
    write_records(found, tmp_path / "again" / "set.rec")
    for suffix in (".rec", ".idx", ".lst"):
        first, second = tmp_path / f"set{suffix}", tmp_path / "again" / f"set{suffix}"
        assert first.read_bytes() == second.read_bytes()


def test_a_file_is_not_replaced_when_an_image_cannot_be_read(
    make_faces: MakeFaces, tmp_path: Path
) -> None:
    root = make_faces({"ann": 2, "bob": 2})
    faces = list_folder(root)
    write_records(faces, tmp_path / "out")
    before = {path.name: path.read_bytes() for path in (tmp_path / "out").iterdir()}
    (root / "bob" / "bob_0002.png").unlink()
    with pytest.raises(DataError, match="bob_0002.png: there is no such file"):
        write_records(faces, tmp_path / "out")
    after = {path.name: path.read_bytes() for path in (tmp_path / "out").iterdir()}
    assert after == before


def test_property_is_left_alone_where_two_files_share_a_folder(tmp_path: Path) -> None:
    write_records(listing_of({"ann/1.pgm": PIXEL}), tmp_path / "a.rec")
    write_records(listing_of({"ann/1.pgm": PIXEL, "bob/1.pgm": PIXEL}), tmp_path / "b.rec")
    assert (tmp_path / "property").read_text() == "1,1,2"


@pytest.mark.parametrize(
    ("name", "identity"), [("a/x\ty.png", "a"), ("a/b/x.png", "a/b"), ("x.png", ""), ("a/\n", "a")]
)
def test_names_that_a_list_cannot_hold_are_not_written(
    tmp_path: Path, name: str, identity: str
) -> None:
    listing = FaceListing(
        root=tmp_path, blobs=MemoryBlobs([PIXEL]), names=(name,), identities=(identity,)
    )
    with pytest.raises(DataError, match="names of one line without tabs"):
        write_records(listing, tmp_path / "a.rec")
    assert not list(tmp_path.iterdir())


def test_a_set_without_any_image_that_opens_is_not_written(tmp_path: Path) -> None:
    with pytest.raises(
        DataError, match="none of its images can be opened, the first: the file is"
    ):
        write_records(listing_of({"a/1.png": b"", "a/2.png": b"no"}), tmp_path / "a.rec")
    empty = FaceListing(
        root=tmp_path,
        blobs=MemoryBlobs([]),
        names=(),
        identities=(),
        skipped=(SkippedImage(name="x", reason="y"),),
    )
    with pytest.raises(DataError, match="there is no image"):
        write_records(empty, tmp_path / "a.rec")
    assert not list(tmp_path.iterdir())


def test_a_missing_file_an_empty_one_and_a_folder_with_two_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"a\.rec: there is no such file"):
        list_records(tmp_path / "a.rec")
    (tmp_path / "a.rec").touch()
    with pytest.raises(DataError, match=r"a\.rec: the file is empty"):
        list_records(tmp_path)
    (tmp_path / "b.rec").touch()
    with pytest.raises(DataError, match=r"only one \.rec file, found 2"):
        list_records(tmp_path)
    plain(tmp_path, [b"a"]).with_suffix(".idx").unlink()
    with pytest.raises(DataError, match=r"set\.idx: there is no such file"):
        list_records(tmp_path / "set.idx")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", r"set\.idx: the file is empty"),
        ("0\t0\nx\t36\n", r"set\.idx:2: a line is 'KEY<tab>OFFSET'"),
        ("0\t0\n1\t-36\n", r"set\.idx:2: a line is 'KEY<tab>OFFSET'"),
        ("0\t0\t0\n", r"set\.idx:1: a line is 'KEY<tab>OFFSET'"),
        ("0\t0\n0\t36\n", r"set\.idx: each key must come once, and 0 comes"),
        ("0\t0\n1\t0\n", r"set\.idx: each offset must come once, and 0 comes"),
        ("0\t4\n", r"set\.rec at byte 4: a record begins with 0a23d7ce, found 19000000"),
        ("0\t999999999999999999\n", "at byte 999999999999999999: a record should begin here"),
        ("0\t1" + "0" * 20, r"set\.idx:1: a line is"),
        ("0" * 5000, r"set\.idx:1: a line has at most 4096 bytes"),
        ("0\t\xff", r"set\.idx:1: the file must be UTF-8 text"),
    ],
)
def test_an_index_that_lies_is_refused(tmp_path: Path, text: str, message: str) -> None:
    path = plain(tmp_path, [b"a", b"b"])
    path.with_suffix(".idx").write_bytes(text.encode("latin-1"))
    with pytest.raises(DataError, match=message):
        list_records(path)


def replaced(data: bytes, at: int, part: bytes) -> bytes:
    return data[:at] + part + data[at + len(part) :]


@pytest.mark.parametrize("with_index", [True, False])
@pytest.mark.parametrize(
    ("at", "part", "message"),
    [
        (36, b"\0", r"set\.rec at byte 36: a record begins with 0a23d7ce, found 0023d7ce"),
        (40, b"\xff\xff\xff\x1f", r"at byte 44: a record of 536870911 bytes should follow, and"),
        (
            40,
            b"\x19\0\0\x40",
            r"at byte 36: this part of a record must be of kind 0 or 1, found 2",
        ),
        (40, b"\x19\0\0\x20", r"at byte 72: a record should begin here, and the file has 0 more"),
        (4, b"\x19\0\0\x20", r"at byte 36: this part of a record must be of kind 2 or 3, found 0"),
        (8, b"\xff\xff\xff\xff", r"at byte 0: .* here 17179869204 bytes, and this record has 25"),
        (
            12,
            struct.pack("<f", 0.5),
            r"record 0: an identity's label is a whole number from 0, got",
        ),
        (12, struct.pack("<f", -1), r"record 0: an identity's label .* got -1 \(1 of 2 are\)"),
        (12, struct.pack("<f", np.nan), r"record 0: an identity's label .* got nan"),
        (12, struct.pack("<f", 3e38), r"record 0: an identity's label .* got 3e\+38"),
    ],
)
def test_a_damaged_record_is_refused_with_its_place(
    tmp_path: Path, with_index: bool, at: int, part: bytes, message: str
) -> None:
    path = plain(tmp_path, [b"a", b"b"])
    path.write_bytes(replaced(path.read_bytes(), at, part))
    if not with_index:
        path.with_suffix(".idx").unlink()
    with pytest.raises(DataError, match=message):
        list_records(path)


def test_a_record_too_short_for_its_header_is_refused(tmp_path: Path) -> None:
    path = plain(tmp_path, [b"a", b"b"])
    path.write_bytes(replaced(path.read_bytes(), 40, b"\x17\0\0\0"))
    with pytest.raises(DataError, match=r"at byte 36: .* here 24 bytes, and this record has 23"):
        list_records(path)


def test_every_cut_of_a_file_is_refused_or_gives_fewer_images(tmp_path: Path) -> None:
    whole = plain(tmp_path, [b"a", b"b" + MAGIC, b"cdef" + MAGIC + b"g"]).read_bytes()
    cut = tmp_path / "cut.rec"
    n_images = {}
    for length in range(len(whole)):
        cut.write_bytes(whole[:length])
        with suppress(DataError):
            n_images[length] = len(list_records(cut).names)
    assert n_images == {36: 1, 36 + 40: 2}


def test_bytes_behind_the_last_record_are_refused_where_no_index_says_what_counts(
    tmp_path: Path,
) -> None:
    path = plain(tmp_path, [b"a", b"b"])
    path.write_bytes(path.read_bytes() + b"garbage!")
    assert len(list_records(path).names) == 2
    path.with_suffix(".idx").unlink()
    with pytest.raises(
        DataError, match="at byte 72: a record begins with 0a23d7ce, found 67617262"
    ):
        list_records(path)


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        ((0.0, 3.0), "record 0 must state the keys .* got 0 to 3"),
        ((3.0, 2.0), "record 0 must state the keys .* got 3 to 2"),
        ((2.5, 4.0), "record 0 must state the keys .* got 2.5 to 4"),
        ((float("nan"), 4.0), "record 0 must state the keys .* got nan to 4"),
        ((2.0, 4.0), "images have keys below 2, and record 2 is one"),
        ((1.0, 1.0), "images have keys below 1, and record 1 is one"),
    ],
)
def test_a_record_0_that_lies_is_refused(
    tmp_path: Path, labels: tuple[float, ...], message: str
) -> None:
    rec = image_record(0, labels, b"") + image_record(1, [0], b"a") + image_record(2, [1], b"b")
    (tmp_path / "a.rec").write_bytes(rec)
    with pytest.raises(DataError, match=message):
        list_records(tmp_path)


def test_a_file_of_headers_alone_has_no_image(tmp_path: Path) -> None:
    (tmp_path / "a.rec").write_bytes(image_record(0, [1, 2], b"") + image_record(1, [1, 1], b""))
    with pytest.raises(DataError, match="none of its 2 records is an image"):
        list_records(tmp_path)


def test_keys_beyond_the_exact_floats_are_taken_as_rounded(tmp_path: Path) -> None:
    last = 2**24 + 2  # the first header record, 2^24 + 3, is rounded to 2^24 + 4
    rec = image_record(0, [last + 2, last + 2], b"") + image_record(last, [5], b"a")
    rec += image_record(last + 1, [1, 2], b"")
    (tmp_path / "a.rec").write_bytes(rec)
    assert list_records(tmp_path).names == (f"5/{last}.jpg",)


def test_a_file_that_changed_since_it_was_listed_is_noticed(tmp_path: Path) -> None:
    path = plain(tmp_path, [b"a", b"bcd" + MAGIC + b"e" + MAGIC])
    path.write_bytes(image_record(0, [0], b"a") + image_record(1, [0], b"bcde" + MAGIC))
    path.with_suffix(".idx").unlink()
    listing = list_records(path)
    assert listing.blobs.read(1) == b"bcde" + MAGIC
    path.write_bytes(path.read_bytes()[:40] + b"\x04\0\0\x20" + path.read_bytes()[44:])
    with pytest.raises(DataError, match="at byte"):
        listing.blobs.read(1)


@given(
    images=st.lists(
        st.lists(st.one_of(st.just(MAGIC), st.binary(max_size=5)), max_size=6).map(b"".join),
        min_size=1,
        max_size=5,
    )
)
def test_any_bytes_survive_the_round_trip(
    tmp_path_factory: pytest.TempPathFactory, images: list[bytes]
) -> None:
    folder = tmp_path_factory.mktemp("records")
    images = [PIXEL, *images]
    faces = listing_of({f"p{row % 2}/{row}.x": data for row, data in enumerate(images)})
    write_records(faces, folder)
    assert contents(list_records(folder)) == contents(faces)
    (folder / "train.idx").unlink()
    assert contents(list_records(folder)) == contents(faces)
    expected = b"".join(image_record(0, [0], data) for data in images)
    (folder / "train.rec").write_bytes(expected)
    (folder / "train.lst").unlink()
    found = list_records(folder)
    assert [found.blobs.read(row) for row in range(len(images))] == images


@given(data=st.data())
def test_damage_is_refused_by_our_errors_only(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    folder = tmp_path_factory.mktemp("records")
    (folder / "a.rec").write_bytes(BY_MXNET)
    (folder / "a.idx").write_text(BY_MXNET_IDX)
    for name in data.draw(st.sets(st.sampled_from(["a.rec", "a.idx"]), min_size=1)):
        content = bytearray((folder / name).read_bytes())
        at = data.draw(st.integers(0, len(content)))
        end = data.draw(st.sampled_from([at, at + 1, at + 4, len(content)]))
        content[at:end] = data.draw(st.one_of(st.binary(max_size=8), st.just(BY_MXNET[40:80])))
        (folder / name).write_bytes(content)
    if data.draw(st.booleans()):
        (folder / "a.idx").unlink()
    try:
        listing = list_records(folder)
    except DataError as error:
        assert str(folder) in str(error) and "\n" not in str(error)
    else:
        assert len(contents(listing)) == len(listing.names) > 0


@pytest.mark.faces
def test_real_faces_survive_the_round_trip(faces_data: Path, tmp_path: Path) -> None:
    every = list_folder(faces_data / "train")
    few = range(0, len(every.names), 7)
    faces = FaceListing(
        root=every.root,
        blobs=MemoryBlobs([every.blobs.read(row) for row in few]),
        names=tuple(every.names[row] for row in few),
        identities=tuple(every.identities[row] for row in few),
    )
    write_records(faces, tmp_path)
    found = list_records(tmp_path)
    assert contents(found) == contents(faces)
    assert found.identities == faces.identities
    n_identities = len(set(faces.identities))
    assert (tmp_path / "property").read_text() == f"{n_identities},112,112"
    with Image.open(faces_data / "train" / faces.names[0]) as image:
        assert image.size == (112, 112)
