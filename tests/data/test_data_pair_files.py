import re
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import pytest

from nas_face.data import PairList, load_lfw_pairs, load_pair_csv, load_pairs
from nas_face.errors import DataError

MakeFaces = Callable[[Mapping[str, int]], Path]

TWO_FOLDS = "2\t1\nann\t1\t2\nann\t3\tbob\t1\nbob\t2\t1\nbob\t2\tcid\t1\n"


@pytest.fixture
def root(make_faces: MakeFaces) -> Path:
    return make_faces({"ann": 3, "bob": 2, "cid": 1, "unused": 2})


def write(root: Path, text: str, name: str = "pairs.txt") -> Path:
    path = root.parent / name
    path.write_text(text, encoding="utf-8")
    return path


def lfw(root: Path, text: str) -> PairList:
    return load_lfw_pairs(write(root, text), root, height=8, width=8)


def names(pairs: PairList) -> list[tuple[str, str, bool]]:
    images = pairs.images.names
    return [
        (Path(images[first]).stem, Path(images[second]).stem, bool(same))
        for first, second, same in zip(pairs.first, pairs.second, pairs.same, strict=True)
    ]


FOUR = [
    ("ann_0001", "ann_0002", True),
    ("ann_0003", "bob_0001", False),
    ("bob_0002", "bob_0001", True),
    ("bob_0002", "cid_0001", False),
]


def test_the_lfw_format_is_read_in_its_order(root: Path) -> None:
    pairs = lfw(root, TWO_FOLDS)
    assert names(pairs) == FOUR
    assert pairs.n_folds == 2
    assert (pairs.n_same, pairs.n_different, len(pairs)) == (2, 2, 4)


def test_only_used_images_are_decoded_each_once(root: Path) -> None:
    (root / "unused" / "unused_0001.png").write_text("broken")
    images = lfw(root, TWO_FOLDS).images
    assert len(images) == 6
    assert images.identities == ("ann", "bob", "cid")
    assert images.labels.tolist() == [0, 0, 0, 1, 1, 2]
    assert images.batch(np.arange(6))[:, 0, 0, 0].tolist() == [0, 1, 2, 3, 4, 5]


@pytest.mark.parametrize(
    "text",
    [
        TWO_FOLDS.partition("\n")[2],
        TWO_FOLDS.replace("\t", " "),
        TWO_FOLDS.replace("\n", "\r\n"),
        "\ufeff" + TWO_FOLDS,
        "\n" + TWO_FOLDS.replace("bob\t2\t1", "\n  \nbob\t02\t1"),
        TWO_FOLDS.rstrip("\n"),
        TWO_FOLDS.replace("2\t1\nann", "2\nann"),
    ],
)
def test_variants_of_the_format_are_the_same_list(root: Path, text: str) -> None:
    assert sorted(names(lfw(root, text))) == sorted(FOUR)


def test_a_list_without_folds_is_dealt_to_ten(root: Path) -> None:
    pairs = lfw(root, "ann 1 2\nann 1 3\nann 1 bob 1\nann 2 bob 1\n")
    assert pairs.n_folds == 10
    assert [same for _, _, same in names(pairs)] == [True, True, False, False]


def test_other_suffixes_are_found(root: Path) -> None:
    (root / "ann" / "ann_0001.png").rename(root / "ann" / "ann_0001.jpeg")
    assert "ann/ann_0001.jpeg" in lfw(root, TWO_FOLDS).images.names


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "the list of pairs is empty"),
        ("\n \n", "the list of pairs is empty"),
        ("ann\t1\t2\n", "got 1 same and 0 different"),
        ("ann\t1\tbob\t2\n", "got 0 same and 1 different"),
        ("ann\t1\t2\nann\t1\n", ":2: .* got 2 columns"),
        ("ann\t1\t2\na\tb\tc\td\te\n", ":2: .* got 5 columns"),
        ("ann\t1\t2\nann\t1\tx\n", ":2: .* whole numbers from 1, got 'x'"),
        ("ann\t1\t2\nann\t1.5\t2\n", ":2: .* got '1.5'"),
        ("ann\t1\t2\nann\t0\t2\n", ":2: .* got '0'"),
        ("ann\t1\t2\nann\t-1\tbob\t2\n", ":2: .* got '-1'"),
        ("ann\t1\t2\nann\t" + "9" * 5000 + "\tbob\t2\n", ":2: images are counted"),
        ("ann\t1\t2\n\t1\tbob\t2\n", ":2: an identity has no name"),
        ("ann\t1\t2\nbob\t1\tbob\t2\n", ":2: .* got bob twice"),
        ("ann\t1\t2\nann\t1\t1\n", ":2: an image is paired with itself, ann/ann_0001"),
        ("ann\t1\t9\nann\t1\tbob\t2\n", ":1: image .*ann_0009.jpg is missing .1 of 3 images"),
        ("ann\t1\t2\nann\t1\tzoe\t2\nzoe\t1\t3\n", ":2: .*zoe_0002.jpg is missing .3 of 5"),
        ("ann\t1\t2\nann\t1\t" + "z" * 300 + "\t2\n", ":2: image .* is missing"),
        ("ann\t1\t2\nann\t1\tz\0e\t2\n", ":2: image .* is missing"),
        ("3\t1\n" + TWO_FOLDS[4:], ":1: the header promises 3 folds of 1 .* 6 in all, found 4"),
        ("0\t0\n", ":1: the header promises"),
        ("2\t1\nann\t1\t2\nann\t1\t3\nann\t1\tbob\t1\nann\t2\tbob\t1\n", ":2: fold 1 must have 1"),
        ("1\t2\t3\t4\t5\t6\n", "got 6 columns"),
    ],
)
def test_bad_lists_are_refused_with_the_line(root: Path, text: str, message: str) -> None:
    with pytest.raises(DataError, match=message) as caught:
        lfw(root, text)
    assert str(caught.value).startswith(str(root.parent / "pairs.txt"))
    assert "\n" not in str(caught.value)


def test_a_broken_image_is_named_with_its_line(root: Path) -> None:
    (root / "bob" / "bob_0001.png").write_bytes(b"")
    with pytest.raises(DataError, match=r":3: image .*bob_0001\.png is broken: the file is empty"):
        lfw(root, TWO_FOLDS)


CSV = """first,second,same
ann/ann_0001.png,ann/ann_0002.png,1
ann/ann_0003.png,bob/bob_0001.png,0
bob/bob_0002.png,bob/bob_0001.png,True
"bob/bob_0002.png",cid/cid_0001.png,no
"""


@pytest.mark.parametrize(
    "text", [CSV, CSV.replace(",", ", "), CSV.replace("/", "\\"), "\ufeff" + CSV + "\n\n"]
)
def test_csv_is_read(root: Path, text: str) -> None:
    pairs = load_pair_csv(write(root, text, "pairs.csv"), root, height=8, width=8)
    assert sorted(names(pairs)) == sorted(FOUR)
    assert pairs.n_folds == 10
    assert pairs.images.identities == ("ann", "bob", "cid")


def test_csv_paths_start_from_its_own_folder(root: Path) -> None:
    (root / "pairs.csv").write_text(CSV)
    assert len(load_pair_csv(root / "pairs.csv", height=8, width=8)) == 4


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", ":1: the first line must be 'first,second,same', got ''"),
        ("first,second\n", ":1: the first line must be"),
        ("first,second,same\n", "the list of pairs is empty"),
        (CSV + "a,b\n", ":6: .* got 2 columns"),
        (CSV + "a,b,2\n", ":6: same must be 1 or 0, got '2'"),
        (CSV + "a,,1\n", ":6: an image has no name"),
        (CSV + "a,a,1\n", ":6: an image is paired with itself"),
        (CSV + "a.png,b.png,1\n", r":6: image .*a\.png is missing \(2 of 8 images"),
        (CSV + '"a,b,1\n', ":6: not valid CSV"),
        (CSV.replace("0\n", "1\n").replace("no\n", "1\n"), "4 same and 0 different"),
    ],
)
def test_bad_csv_is_refused_with_the_line(root: Path, text: str, message: str) -> None:
    path = write(root, text, "pairs.csv")
    with pytest.raises(DataError, match=re.escape(str(path)) + ".*" + message) as caught:
        load_pair_csv(path, root, height=8, width=8)
    assert "\n" not in str(caught.value)


HEADLESS = CSV.partition("\n")[2]


@pytest.mark.parametrize(
    "text",
    [
        CSV.replace(",", ";"),
        CSV.replace(",", "\t"),
        CSV.replace("first,second,same", "File1,file_2,is same"),
        CSV.replace("first,second,same", "path1,path2,Label"),
        HEADLESS,
        HEADLESS.replace(",", ";"),
        "\n" + CSV,
        CSV.replace("\n", "\r\n"),
        "".join(f"x,{line},y\n" for line in CSV.splitlines()),
        "".join(",".join(reversed(line.split(","))) + "\n" for line in CSV.splitlines()),
        "".join(
            ",".join((truth, first, second)) + "\n"
            for first, second, truth in (line.split(",") for line in HEADLESS.splitlines())
        ),
    ],
)
def test_variants_of_csv_are_the_same_list(root: Path, text: str) -> None:
    pairs = load_pair_csv(write(root, text, "pairs.csv"), root, height=8, width=8)
    assert sorted(names(pairs)) == sorted(FOUR)


def with_columns(names: str, values: list[str]) -> str:
    lines = zip(CSV.splitlines(), [names, *values], strict=True)
    return "".join(f"{line},{value}\n" for line, value in lines)


def test_csv_may_state_folds_and_identities(root: Path) -> None:
    values = ["2,A,A", "1,A,B", "2,B,B", "1,B,"]
    text = with_columns("fold,first_identity,second_identity", values)
    pairs = load_pair_csv(write(root, text, "pairs.csv"), root, height=8, width=8)
    assert pairs.n_folds == 2
    assert names(pairs) == [FOUR[1], FOUR[3], FOUR[0], FOUR[2]]
    assert pairs.images.identities == ("A", "B", "cid")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (with_columns("fold", ["1", "2", "2", "2"]), "of one size, fold 1 has 1 and must have 2"),
        (with_columns("fold", ["1", "1", "x", "2"]), ":4: fold must be a whole number, got 'x'"),
        (
            with_columns("identity1,identity2", ["A,A", "A,B", "B,C", "B,D"]),
            ":4: bob/bob_0001.png is said to show 'C', and above 'B'",
        ),
        (with_columns("label", ["1"] * 4), ":1: the first line must be 'first,second,same'"),
        ("1,a.png,0\n", ":1: the first line must be"),
        ("a.png,b.png,c.png,1\n", ":1: the first line must be"),
        ("first;second,same\n", ":1: the first line must be"),
    ],
)
def test_ambiguous_or_inconsistent_csv_is_refused(root: Path, text: str, message: str) -> None:
    with pytest.raises(DataError, match=message):
        load_pair_csv(write(root, text, "pairs.csv"), root, height=8, width=8)


PATHS = HEADLESS.replace('"', "").replace(",", " ")


@pytest.mark.parametrize(
    "text",
    [
        PATHS,
        PATHS.replace(" ", "\t"),
        PATHS.replace(" ", "   ").replace("/", "\\"),
        "".join(
            f"{line.split()[2]} {' '.join(line.split()[:2])}\n" for line in PATHS.splitlines()
        ),
    ],
)
def test_lines_of_paths_are_read(root: Path, text: str) -> None:
    pairs = load_pairs(write(root, text), root, height=8, width=8)
    assert sorted(names(pairs)) == sorted(FOUR)
    assert pairs.n_folds == 10


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (PATHS + "a/b.png c/d.png 2\n", ":5: same must be 1 or 0, got '2'"),
        (PATHS + "a/b c.png d/e.png 1\n", ":5: .* got 4 columns; tabs separate"),
        (PATHS + "a/b.png a/b.png 1\n", ":5: an image is paired with itself"),
        (PATHS + "a/b.png c/d.png 1\n", r":5: image .*b\.png is missing"),
    ],
)
def test_bad_lines_of_paths_are_refused(root: Path, text: str, message: str) -> None:
    with pytest.raises(DataError, match=message):
        load_pairs(write(root, text), root, height=8, width=8)


def test_images_without_a_folder_are_identities_of_their_own(root: Path) -> None:
    for name in ("a", "b", "c"):
        shutil.copy(root / "ann" / "ann_0001.png", root / f"{name}.png")
    pairs = load_pairs(write(root, "a.png b.png 1\na.png c.png 0\n"), root, height=8, width=8)
    assert pairs.images.identities == ("a.png", "b.png", "c.png")


@pytest.mark.parametrize(
    ("name", "text", "n_folds"),
    [("p.csv", CSV, 10), ("P.CSV", CSV, 10), ("p.txt", CSV, 10), ("p.txt", TWO_FOLDS, 2)],
)
def test_either_format_is_recognised(root: Path, name: str, text: str, n_folds: int) -> None:
    pairs = load_pairs(write(root, text, name), root, height=8, width=8)
    assert sorted(names(pairs)) == sorted(FOUR)
    assert pairs.n_folds == n_folds


def test_the_root_is_the_folder_of_the_list_by_default(root: Path) -> None:
    (root / "pairs.txt").write_text(TWO_FOLDS)
    assert len(load_pairs(root / "pairs.txt", height=8, width=8)) == 4


def test_the_list_itself_must_be_readable_text(root: Path) -> None:
    with pytest.raises(DataError, match="no such file or folder"):
        load_pairs(root / "missing.txt", root, height=8, width=8)
    with pytest.raises(DataError, match="identities, not pairs"):
        load_pairs(root, root, height=8, width=8)
    (root / "latin.txt").write_bytes("Müller\t1\t2".encode("latin-1"))
    with pytest.raises(DataError, match="UTF-8"):
        load_pairs(root / "latin.txt", root, height=8, width=8)


def test_pairs_are_the_same_from_memory_and_from_files(root: Path) -> None:
    path = write(root, TWO_FOLDS)
    cached = load_pairs(path, root, height=8, width=8)
    on_demand = load_pairs(path, root, height=8, width=8, cache_bytes=0)
    every = np.arange(len(cached.images))
    assert np.array_equal(cached.images.batch(every), on_demand.images.batch(every))


@pytest.mark.faces
def test_the_lfw_development_pairs_load(faces_data: Path) -> None:
    pairs = load_pairs(faces_data / "lfw_dev_pairs.txt", faces_data / "lfw", height=112, width=112)
    assert (len(pairs), pairs.n_folds, pairs.n_same, pairs.n_different) == (3000, 5, 1500, 1500)
    assert pairs.images.n_identities == 2086
    same_label = pairs.images.labels[pairs.first] == pairs.images.labels[pairs.second]
    assert np.array_equal(same_label, pairs.same)
