"""Verification sets: what Python's pickle writes is read, and code is not."""

import io
import pickle
import pickletools
import struct
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nas_face.data.blobs import MemoryBlobs, SpanBlobs
from nas_face.data.decoding import decode_pairs
from nas_face.data.formats.lfw_pairs import list_lfw_pairs
from nas_face.data.formats.pickle_opcodes import MAX_OPCODES
from nas_face.data.formats.verification_bin import list_bin, write_bin
from nas_face.data.listing import PairListing
from nas_face.errors import DataError

IMAGES = [b"\xff\xd8a'\"\\\n", b"b" * 260, b"\xff\xd8A'\"\\\n", b"\r\t\0\x1a"]
SAME = [True, False]

# What Python 2.7 wrote for them in protocols 0 to 2.
LONG = b"b" * 260
BY_PYTHON_2 = [
    b"((lp0\nS'\\xff\\xd8a\\'\"\\\\\\n'\np1\naS'"
    + LONG
    + b"'\np2\naS'\\xff\\xd8A\\'\"\\\\\\n'\np3\naS'\\r\\t\\x00"
    b"\\x1a'\np4\na(lp5\nI01\naI00\natp6\n.",
    b"(]q\x00(U\x07\xff\xd8a'\"\\\nq\x01T\x04\x01\x00\x00"
    + LONG
    + b"q\x02U\x07\xff\xd8A'\"\\\nq\x03U\x04\r\t\x00\x1aq\x04e]q\x05(I01\nI00\netq\x06.",
    b"\x80\x02]q\x00(U\x07\xff\xd8a'\"\\\nq\x01T\x04\x01\x00\x00"
    + LONG
    + b"q\x02U\x07\xff\xd8A'\"\\\nq\x03U\x04\r\t\x00\x1aq\x04e]q\x05(\x88\x89e\x86q\x06.",
]


def read(folder: Path, data: bytes) -> PairListing:
    (folder / "x.bin").write_bytes(data)
    return list_bin(folder / "x.bin")


def images_of(listing: PairListing) -> list[bytes]:
    return [listing.blobs.read(row) for row in range(len(listing.blobs))]


def listing_of(images: list[bytes], same: list[bool], n_folds: int | None = 10) -> PairListing:
    names = tuple(f"{row}.jpg" for row in range(len(images)))
    return PairListing(
        path=Path("memory"),
        blobs=MemoryBlobs(images),
        names=names,
        identities=names,
        first=np.arange(0, len(images), 2),
        second=np.arange(1, len(images), 2),
        same=np.array(same, dtype=np.bool_),
        n_folds=n_folds,
    )


class Harmful:
    def __init__(self, function: Callable[..., object], *arguments: object) -> None:
        self.call = function, arguments

    def __reduce__(self) -> tuple[Callable[..., object], tuple[object, ...]]:
        return self.call


@pytest.mark.parametrize("protocol", range(6))
@pytest.mark.parametrize(
    "value",
    [
        (IMAGES, SAME),
        [IMAGES, SAME],
        (tuple(IMAGES), tuple(SAME)),
        (IMAGES, [1, 0]),
        (IMAGES, list(np.array(SAME))),
        (IMAGES, np.array(SAME)),
        ([np.array(list(image), dtype=np.uint8) for image in IMAGES], SAME),
        ([np.frombuffer(image, dtype=np.uint8) for image in IMAGES], SAME),
        ([np.array([list(image)], dtype=np.uint8).T.copy() for image in IMAGES], SAME),
    ],
    ids="tuple list tuples ints bools array arrays views columns".split(),
)
def test_what_python_3_pickles_is_read(tmp_path: Path, protocol: int, value: object) -> None:
    listing = read(tmp_path, pickle.dumps(value, protocol=protocol))
    assert images_of(listing) == IMAGES
    assert listing.same.tolist() == SAME
    assert listing.first.tolist() == [0, 2] and listing.second.tolist() == [1, 3]


@pytest.mark.parametrize("data", BY_PYTHON_2, ids=["0", "1", "2"])
def test_what_python_2_pickled_is_read(tmp_path: Path, data: bytes) -> None:
    assert pickle.loads(data, encoding="bytes") == (IMAGES, SAME)
    listing = read(tmp_path, data)
    assert images_of(listing) == IMAGES
    assert listing.same.tolist() == SAME


def test_images_that_lie_whole_in_the_file_are_not_copied(tmp_path: Path) -> None:
    data = BY_PYTHON_2[2]
    listing = read(tmp_path, data)
    blobs = listing.blobs
    assert isinstance(blobs, SpanBlobs)
    assert blobs.offsets[1] == data.index(LONG) and blobs.lengths[1] == 260
    assert blobs.where(1) == f"{tmp_path / 'x.bin'} at byte {data.index(LONG)}"


def test_images_are_their_own_identities_in_ten_folds(tmp_path: Path) -> None:
    listing = read(tmp_path, BY_PYTHON_2[2])
    assert listing.names == ("000000", "000001", "000002", "000003") == listing.identities
    assert listing.n_folds == 10


def test_one_image_may_stand_in_several_pairs(tmp_path: Path) -> None:
    image = bytes([1, 2, 3])
    listing = read(tmp_path, pickle.dumps(([image] * 4, [True, True])))
    assert images_of(listing) == [image] * 4


@pytest.mark.parametrize("encoding", ["bytes", "latin1", "ASCII"])
def test_python_reads_what_is_written(tmp_path: Path, encoding: str) -> None:
    write_bin(listing_of(IMAGES, SAME), tmp_path / "new" / "y.bin")
    with (tmp_path / "new" / "y.bin").open("rb") as file:
        assert pickle.load(file, encoding=encoding) == (IMAGES, SAME)
    assert len(list((tmp_path / "new").iterdir())) == 1


def test_more_images_than_a_batch_are_written_in_order(tmp_path: Path) -> None:
    images = [f"image {row}".encode() for row in range(2002)]
    same = [row % 3 == 0 for row in range(1001)]
    write_bin(listing_of(images, same), tmp_path / "y.bin")
    assert pickle.loads((tmp_path / "y.bin").read_bytes()) == (images, same)
    listing = list_bin(tmp_path / "y.bin")
    assert images_of(listing) == images and listing.same.tolist() == same


def test_an_image_of_several_pairs_is_written_for_each(tmp_path: Path) -> None:
    listing = PairListing(
        path=Path("memory"),
        blobs=MemoryBlobs([b"a", b"b", b"c"]),
        names=("a", "b", "c"),
        identities=("a", "a", "c"),
        first=np.array([0, 2]),
        second=np.array([1, 0]),
        same=np.array([True, False]),
        n_folds=10,
    )
    write_bin(listing, tmp_path / "y.bin")
    assert pickle.loads((tmp_path / "y.bin").read_bytes()) == ([b"a", b"b", b"c", b"a"], SAME)


@pytest.mark.parametrize("n_folds", [None, 5])
def test_other_folds_than_ten_are_dealt_anew_to_ten_of_both_kinds(
    tmp_path: Path, n_folds: int | None
) -> None:
    images = [f"{row}".encode() for row in range(80)]
    write_bin(listing_of(images, [True] * 20 + [False] * 20, n_folds), tmp_path / "y.bin")
    found, same = pickle.loads((tmp_path / "y.bin").read_bytes())
    assert [sum(same[start : start + 4]) for start in range(0, 40, 4)] == [2] * 10
    pairs = {(int(found[2 * row]), int(found[2 * row + 1]), same[row]) for row in range(40)}
    assert pairs == {(2 * row, 2 * row + 1, row < 20) for row in range(40)}


def test_nothing_is_written_when_an_image_is_missing(tmp_path: Path) -> None:
    path = tmp_path / "x.bin"
    listing = read(tmp_path, BY_PYTHON_2[2])
    path.write_bytes(path.read_bytes()[:40])
    with pytest.raises(DataError, match="the file ends before"):
        write_bin(listing, tmp_path / "y.bin")
    assert list(tmp_path.iterdir()) == [path]
    with pytest.raises(DataError, match="the list of pairs is empty"):
        write_bin(listing_of([], []), path)
    assert path.stat().st_size == 40


@pytest.mark.parametrize("protocol", range(6))
@pytest.mark.parametrize(
    ("value", "name"),
    [
        (Harmful(eval, "1"), "eval"),
        (Harmful(bytes, 10**12), "bytes"),
        (Harmful(bytearray, b"x"), "bytearray"),
        (Harmful(io.BytesIO), "_io.BytesIO"),
        (Harmful(np.arange, 10), "numpy.*arange"),
    ],
    ids=["eval", "bytes", "bytearray", "class", "numpy"],
)
def test_a_pickle_that_would_run_code_is_refused_by_name_and_place(
    tmp_path: Path, protocol: int, value: object, name: str
) -> None:
    data = pickle.dumps(([value, b"x"], [True]), protocol=protocol)
    globals_at = [
        (start, opcode.name)
        for opcode, _, start in pickletools.genops(data)
        if opcode.name in ("GLOBAL", "STACK_GLOBAL")
    ]
    with pytest.raises(DataError, match=f"asks for '.*{name}': .* would run code") as caught:
        read(tmp_path, data)
    start, opcode_name = globals_at[0]
    assert f"x.bin at byte {start}: opcode {opcode_name}: " in str(caught.value)


def test_code_in_an_unused_corner_is_refused_too(tmp_path: Path) -> None:
    before_the_end = BY_PYTHON_2[2][:-1]
    with pytest.raises(DataError, match="opcode GLOBAL: it asks for 'os.system'"):
        read(tmp_path, before_the_end + b"cos\nsystem\n0.")


@pytest.mark.parametrize(
    ("opcode", "name"),
    [
        (b"0", "POP"),
        (b"2", "DUP"),
        (b"}", "EMPTY_DICT"),
        (b"i", "INST"),
        (b"o", "OBJ"),
        (b"\x81", "NEWOBJ"),
        (b"\x92", "NEWOBJ_EX"),
        (b"P", "PERSID"),
        (b"Q", "BINPERSID"),
        (b"\x82", "EXT1"),
        (b"\x97", "NEXT_BUFFER"),
        (b"F", "FLOAT"),
        (b"\xff", "0xff, which is none"),
    ],
)
def test_opcodes_that_no_set_needs_are_refused_by_name(
    tmp_path: Path, opcode: bytes, name: str
) -> None:
    with pytest.raises(DataError, match=rf"x\.bin at byte 3: opcode {name}: no verification set"):
        read(tmp_path, b"\x80\x02]" + opcode + b"\0" * 8)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            b"c_codecs\nencode\nX\x01\0\0\0aX\x05\0\0\0utf-8\x86R",
            "must be given text and 'latin1'",
        ),
        (b"c_codecs\nencode\nU\x01aX\x06\0\0\0latin1\x86R", "must be given text and 'latin1'"),
        (b"c_codecs\nencode\nX\x01\0\0\0a\x85R", "must be given text and 'latin1'"),
        (b"c_codecs\nencode\n]R", "without a tuple of arguments"),
        (b"c_codecs\ndecode\n", "asks for '_codecs.decode'"),
        (b"U\x01a)R", "it calls what is not a known function"),
        (b"cnumpy\nndarray\n)R", "it calls what is not a known function"),
        (b"cnumpy\ndtype\nU\x02f8K\0K\x01\x87R", r"must be 'u1' \(encoded images\) or 'b1'"),
        (b"cnumpy\ndtype\nU\x02O8K\0K\x01\x87R", r"must be 'u1' \(encoded images\) or 'b1'"),
        (
            b"cnumpy.core.multiarray\n_reconstruct\nU\x01aK\0\x85U\x01b\x87R",
            "must make an ndarray",
        ),
        (b"cnumpy.core.multiarray\nscalar\nU\x02b1U\x01\1\x86R", "scalar must be a boolean"),
        (b"U\x01a)b", "only NumPy's arrays and types are given a state"),
        (b"U\x01aU\x01b\x93", "asks for 'a.b'"),
        (b"K\x01K\x02\x93", "a module and a name should come before it"),
    ],
)
def test_calls_that_differ_from_the_known_are_refused(
    tmp_path: Path, call: bytes, message: str
) -> None:
    with pytest.raises(DataError, match=message):
        read(tmp_path, b"\x80\x02](" + call + b"e](\x88e\x86.")


def test_an_array_of_another_shape_than_its_bytes_is_refused(tmp_path: Path) -> None:
    data = pickle.dumps(([np.zeros((2, 2), np.uint8), b"x"], [True]), protocol=3)
    with pytest.raises(DataError, match="must have one axis"):
        read(tmp_path, data)
    data = pickle.dumps(([np.zeros(200, np.uint8), b"x"], [True]), protocol=3)
    assert data.count(b"K\xc8\x85") == 1
    with pytest.raises(DataError, match="an array of 201 elements has 200 bytes"):
        read(tmp_path, data.replace(b"K\xc8\x85", b"K\xc9\x85"))


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", r"x\.bin: the file is empty"),
        (b"not a pickle", "at byte 0: opcode 0x6e, which is none: no verification set needs it"),
        (b"\x80\x06.", "at byte 0: opcode PROTO: protocols 0 to 5 are known, got 6"),
        (b".", "at byte 0: opcode STOP: the pickle ends with 0 values"),
        (b"](.", "at byte 2: opcode STOP: the pickle ends with 1 values"),
        (b"]].", "at byte 2: opcode STOP: the pickle ends with 2 values"),
        (b"].x", "at byte 2: the pickle ends, and 1 bytes follow"),
        (b"]", "the file ends at byte 1, and its pickle does not"),
        (
            b"B\xff\xff\xff\xffab",
            "at byte 0: opcode BINBYTES: 4294967295 bytes should follow, and",
        ),
        (b"\x8e" + b"\xff" * 8 + b"ab", "opcode BINBYTES8: 18446744073709551615 bytes should"),
        (b"T\xff\xff\xff\xffab", "opcode BINSTRING: a length must not be negative, got -1"),
        (b"C", "at byte 0: opcode SHORT_BINBYTES: 1 bytes should follow"),
        (b"\x95" + b"\xff" * 8 + b"].", "at byte 0: opcode FRAME: 18446744073709551615 bytes"),
        (b"S'abc", "at byte 0: opcode STRING: its line has no end"),
        (b"I" + b"1" * 300, "at byte 0: opcode INT: a line of at most 256 bytes should follow"),
        (b"I" + b"1" * 30 + b"\n", "at byte 0: opcode INT: a whole number should follow"),
        (b"I--1\n", "at byte 0: opcode INT: a whole number should follow"),
        (b"(" * 100, "at byte 16: opcode MARK: more than 16 marks are open"),
        (b"a", "at byte 0: opcode APPEND: it needs a value, and there is none"),
        (b"e", "at byte 0: opcode APPENDS: it needs a mark, and there is none"),
        (b"K\x01K\x01a", "at byte 4: opcode APPEND: only a list can be appended to"),
        (b"(a", "at byte 1: opcode APPEND: it needs a value"),
        (b"h\x05", "at byte 0: opcode BINGET: nothing was put under number 5"),
    ],
)
def test_a_broken_pickle_is_refused_with_its_place(
    tmp_path: Path, data: bytes, message: str
) -> None:
    with pytest.raises(DataError, match=message) as caught:
        read(tmp_path, data)
    assert str(caught.value).startswith(str(tmp_path / "x.bin"))


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (IMAGES, "the pickle is a list of 4; a verification set is"),
        (1, "the pickle is 1"),
        ((IMAGES, SAME, SAME), "the pickle is a tuple of 3"),
        ((IMAGES[:3], SAME), "2 pairs need 4 images, got 3"),
        ((IMAGES, SAME * 2), "4 pairs need 8 images, got 4"),
        ((IMAGES, None), "its booleans are None"),
        ((None, SAME), "its images are None"),
        ((["text", *IMAGES[1:]], SAME), "image 0 is not bytes but text"),
        ((IMAGES[:3] + [[b"x"]], SAME), "image 3 is not bytes but a list of 1"),
        ((IMAGES, [True, 2]), "boolean 1 is 2"),
        ((IMAGES, [True, None]), "boolean 1 is None"),
        ((IMAGES, [True, b"\1"]), "boolean 1 is bytes"),
        ((IMAGES, np.array([1, 0], np.uint8)), "its booleans are an array of type 'u1'"),
        ((np.zeros(4, np.uint8), SAME), "its images are an array of type 'u1'"),
        (([np.array(SAME)] * 4, SAME), "image 0 is not bytes but an array of type 'b1'"),
    ],
)
def test_a_pickle_of_something_else_is_refused(
    tmp_path: Path, value: object, message: str
) -> None:
    with pytest.raises(DataError, match=message):
        read(tmp_path, pickle.dumps(value))


def test_a_list_within_itself_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="the pickle is a list of 1"):
        read(tmp_path, b"]q\x00h\x00a.")


def test_a_flood_of_opcodes_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=f"more than {MAX_OPCODES:,} opcodes"):
        read(tmp_path, b"](" + b"\x88" * (MAX_OPCODES + 1) + b"e.")


def test_every_cut_of_a_pickle_is_refused(tmp_path: Path) -> None:
    data = pickle.dumps((IMAGES, SAME), protocol=2)
    for length in range(len(data)):
        with pytest.raises(DataError, match=r"x\.bin"):
            read(tmp_path, data[:length])


def test_text_that_stands_for_no_bytes_is_refused_when_it_is_read(tmp_path: Path) -> None:
    euro = "\u20ac".encode()
    text = b"c_codecs\nencode\nX" + struct.pack("<I", len(euro)) + euro + b"X\x06\0\0\0latin1\x86R"
    listing = read(tmp_path, b"\x80\x02](" + text + b"S'\\q'\n" + b"e](\x88e\x86.")
    with pytest.raises(DataError, match=r"x\.bin at byte 25: text that should stand for bytes"):
        listing.blobs.read(0)
    with pytest.raises(DataError, match="a string has the escape .*, which Python never writes"):
        listing.blobs.read(1)
    listing = read(tmp_path, b"](S'abc\nS\"a'\ne](\x88e\x86.")
    with pytest.raises(DataError, match="a string must stand in quotes"):
        listing.blobs.read(1)


def test_booleans_that_stand_for_no_bytes_are_refused(tmp_path: Path) -> None:
    data = pickle.dumps((IMAGES, np.array(SAME)), protocol=2)
    assert data.count(b"X\x02\0\0\0\1\0") == 1
    euro = "\u20ac".encode()
    data = data.replace(b"X\x02\0\0\0\1\0", b"X\x03\0\0\0" + euro)
    with pytest.raises(DataError, match="text that should stand for bytes"):
        read(tmp_path, data)


def test_a_missing_file_and_a_folder_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"x\.bin: there is no such file"):
        list_bin(tmp_path / "x.bin")
    with pytest.raises(DataError, match="cannot be read"):
        list_bin(tmp_path)


@given(
    images=st.lists(st.binary(max_size=300), min_size=1, max_size=4),
    protocol=st.integers(0, 5),
)
def test_any_bytes_survive_both_ways(
    tmp_path_factory: pytest.TempPathFactory, images: list[bytes], protocol: int
) -> None:
    folder = tmp_path_factory.mktemp("bin")
    # No empty bytes: Python 3 writes them in protocols 0 to 2 as a call of bytes().
    doubled = [image + b"\n" for image in images for _ in range(2)]
    same = [len(image) % 2 == 0 for image in images]
    listing = read(folder, pickle.dumps((doubled, same), protocol=protocol))
    assert images_of(listing) == doubled
    write_bin(listing, folder / "y.bin")
    with (folder / "y.bin").open("rb") as file:
        assert pickle.load(file, encoding="bytes") == (doubled, same)


@given(data=st.data())
def test_damage_is_refused_by_our_errors_only(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    folder = tmp_path_factory.mktemp("bin")
    arrays = [np.frombuffer(image, np.uint8) for image in IMAGES]
    valid = BY_PYTHON_2 + [pickle.dumps((arrays, SAME), protocol=number) for number in range(6)]
    content = bytearray(data.draw(st.sampled_from(valid)))
    at = data.draw(st.integers(0, len(content)))
    end = data.draw(st.sampled_from([at, at + 1, at + 4, len(content)]))
    content[at:end] = data.draw(st.binary(max_size=8))
    with suppress(DataError):
        listing = read(folder, bytes(content))
        for row in range(len(listing.blobs)):
            with suppress(DataError):
                listing.blobs.read(row)
        assert len(listing.blobs) == 2 * len(listing.same)


@pytest.mark.faces
def test_the_lfw_development_pairs_survive_the_round_trip(
    faces_data: Path, tmp_path: Path
) -> None:
    pairs = list_lfw_pairs(faces_data / "lfw_dev_pairs.txt", faces_data / "lfw")
    write_bin(pairs, tmp_path / "lfw.bin")
    found = list_bin(tmp_path / "lfw.bin")
    with (tmp_path / "lfw.bin").open("rb") as file:
        images, same = pickle.load(file, encoding="bytes")
    assert images_of(found) == images and found.same.tolist() == same

    def as_set(listing: PairListing) -> set[tuple[bytes, bytes, bool]]:
        read = listing.blobs.read
        pairs = zip(listing.first, listing.second, listing.same, strict=True)
        return {(read(int(a)), read(int(b)), bool(same)) for a, b, same in pairs}

    assert as_set(found) == as_set(pairs)
    decoded = decode_pairs(found, height=112, width=112)
    assert (len(decoded), decoded.n_folds, decoded.n_same) == (3000, 10, 1500)
