import os
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nas_face.data.formats import number_lines
from nas_face.data.formats.number_lines import line_of_row, read_whole_numbers
from nas_face.data.formats.template_lists import list_template_folder, list_templates
from nas_face.errors import DataError

IMAGES = "a.jpg 10 1\nb c.jpg 10 2\nd/e.jpg\t20 1\n\na.jpg 30 3\n"
PAIRS = "10 20 1\n10 30 0\n 20\t30  0\n"
NUMBERS = " ".join(str(number) for number in range(10))


def points_of(*names: str) -> str:
    return "".join(f"{name} {NUMBERS} 0.{row + 1}\n" for row, name in enumerate(names))


def laid_out(tmp_path: Path, images: str = IMAGES, pairs: str = PAIRS, points: str = "") -> Path:
    """A folder laid out as IJB-C is."""
    meta = tmp_path / "meta"
    meta.mkdir()
    (meta / "x_face_tid_mid.txt").write_text(images)
    (meta / "x_template_pair_label.txt").write_text(pairs)
    if points:
        (meta / "x_name_5pts_score.txt").write_text(points)
    crops = tmp_path / "loose_crop" / "d"
    crops.mkdir(parents=True)
    for name in ("a.jpg", "b c.jpg", "d/e.jpg"):
        (tmp_path / "loose_crop" / name).write_bytes(name.encode())
    return tmp_path


def test_a_folder_is_read_whole(tmp_path):
    found = list_template_folder(
        laid_out(tmp_path, points=points_of("d/e.jpg", "b c.jpg", "a.jpg", "unused.jpg"))
    )
    assert found.names == ("a.jpg", "b c.jpg", "d/e.jpg", "a.jpg")
    assert found.template_ids.tolist() == [10, 10, 20, 30]
    assert found.media_ids.tolist() == [1, 2, 1, 3]
    assert found.first.tolist() == [10, 10, 20]
    assert found.second.tolist() == [20, 30, 30]
    assert found.same.tolist() == [True, False, False]
    assert found.detector_scores.tolist() == [0.3, 0.2, 0.1, 0.3]
    assert found.landmarks.shape == (4, 5, 2)
    assert found.landmarks[0].tolist() == [[0, 1], [2, 3], [4, 5], [6, 7], [8, 9]]
    assert [found.blobs.read(row).decode() for row in range(4)] == list(found.names)


def test_points_may_be_missing(tmp_path):
    found = list_template_folder(laid_out(tmp_path))
    assert found.landmarks is None and found.detector_scores is None


@pytest.mark.parametrize(
    ("parts", "message"),
    [
        ({"images": ""}, "x_face_tid_mid.txt: the list of images is empty"),
        ({"images": "a.jpg 1\n"}, "mid.txt:1: a line is 'image template medium', got 2 fields"),
        ({"images": "a.jpg 1 2\nb x 2\n"}, "mid.txt:2: .* whole numbers, got 'x' and '2'"),
        ({"images": f"a.jpg {10**30} 2\n"}, "does not fit 64 bits"),
        ({"images": f"{'z' * 999} 10 1\n"}, "mid.txt:1: image .*zzz is missing"),
        ({"images": "z.jpg 10 1\n"}, "mid.txt:1: image .*z.jpg is missing; is .*loose_crop the"),
        ({"pairs": ""}, "label.txt: the list of pairs is empty"),
        ({"pairs": "10 20 1\n10 20\n"}, "label.txt:2: a line is 'template .*', got 2 fields"),
        ({"pairs": "10 20 1\n10 20 1 10 20\n3"}, "label.txt:2: a line is .* got 5 fields"),
        ({"pairs": "10 20 yes\n"}, "label.txt:1: .* in whole numbers, got '10 20 yes'"),
        ({"pairs": f"10 {10**20} 1\n"}, "label.txt:1: a number does not fit 64 bits"),
        ({"pairs": "10 20 1\n\n10 21 0\n"}, r"label.txt:3: template 21 has no image .*\(1 of 2"),
        ({"pairs": "10 20 1\n10 20 2\n"}, "label.txt:2: the label must be 1 or 0, got 2"),
        ({"pairs": "10 20 1\n10 20 1\n"}, "both same and different .* got 2 same and 0 different"),
        ({"points": points_of("a.jpg", "d/e.jpg")}, r"no points of image b c.jpg \(1 of 4"),
        ({"points": "a.jpg 1 2 3\n"}, "score.txt:1: a line is 'image x1"),
        ({"points": f"a.jpg {NUMBERS} sure\n"}, "score.txt:1: not a number: .*'sure'"),
        ({"points": f"a.jpg {NUMBERS} nan\n"}, "score.txt:1: points and scores must be finite"),
        ({"points": points_of("a.jpg", "a.jpg")}, "score.txt:2: image a.jpg has other points"),
    ],
)
def test_what_is_not_of_the_form_is_named_by_its_line(tmp_path, parts, message):
    with pytest.raises(DataError, match=message):
        list_template_folder(laid_out(tmp_path, **parts))


def test_files_that_are_missing_twofold_or_no_text_are_named(tmp_path):
    root = laid_out(tmp_path)
    images, pairs = (
        root / "meta" / f"x_{name}.txt" for name in ("face_tid_mid", "template_pair_label")
    )
    with pytest.raises(DataError, match="none.txt: there is no such list"):
        list_templates(images, root / "none.txt", root / "loose_crop")
    with pytest.raises(DataError, match="none.txt: there is no such list"):
        list_templates(root / "none.txt", pairs, root / "loose_crop")
    with pytest.raises(DataError, match="cannot be read"):
        list_templates(images, root / "meta", root / "loose_crop")
    (root / "meta" / "y_face_tid_mid.txt").write_bytes(b"\xff\xfe 1 1\n")
    with pytest.raises(DataError, match="must be named .*_face_tid_mid.txt, got 2"):
        list_template_folder(root)
    with pytest.raises(DataError, match="UTF-8"):
        list_templates(root / "meta" / "y_face_tid_mid.txt", pairs, root)


def read_by_loops(text: bytes) -> list[list[int]]:
    return [[int(field) for field in line.split()] for line in text.split(b"\n") if line.strip()]


@given(
    lines=st.lists(
        st.lists(st.sampled_from([b"0", b"7", b"123", b"-4", b"999999999999999999"]), max_size=3),
        max_size=12,
    ),
    blank=st.sampled_from([b" ", b"\t", b"  ", b" \t "]),
    end=st.sampled_from([b"\n", b"\r\n", b" \n"]),
    block=st.integers(1, 40),
)
def test_numbers_are_those_of_plain_loops(tmp_path_factory, lines, blank, end, block):
    path = tmp_path_factory.mktemp("numbers") / "numbers.txt"
    path.write_bytes(end.join(blank.join(line) for line in lines))
    whole = all(len(line) in (0, 3) for line in lines)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(number_lines, "_BLOCK_BYTES", block)
        if whole:
            found = read_whole_numbers(path, 3, "a b c")
            expected = read_by_loops(path.read_bytes())
            assert found.tolist() == expected
            for row in range(len(expected)):
                line = path.read_bytes().split(b"\n")[line_of_row(path, row) - 1]
                assert [int(field) for field in line.split()] == expected[row]
        else:
            first_bad = next(k for k, line in enumerate(lines, 1) if len(line) not in (0, 3))
            with pytest.raises(DataError, match=f"numbers.txt:{first_bad}: a line is 'a b c'"):
                read_whole_numbers(path, 3, "a b c")


def test_regular_lines_are_not_read_one_by_one(tmp_path, monkeypatch):
    numbers = np.random.default_rng(0).integers(0, 10**9, size=(5_000, 3))
    path = tmp_path / "numbers.txt"
    np.savetxt(path, numbers, fmt="%d")
    monkeypatch.setattr(number_lines, "_BLOCK_BYTES", 10_000)
    monkeypatch.setattr(number_lines, "_irregular", None)
    assert np.array_equal(read_whole_numbers(path, 3, "a b c"), numbers)


def test_a_line_without_an_end_is_not_read_whole(tmp_path, monkeypatch):
    path = tmp_path / "numbers.txt"
    path.write_bytes(b"1 2 3\n" + b"7" * 200_000)
    monkeypatch.setattr(number_lines, "_BLOCK_BYTES", 100)
    with pytest.raises(DataError, match="numbers.txt:2: a line is 'a b c', and this has no end"):
        read_whole_numbers(path, 3, "a b c")


@pytest.mark.faces
def test_real_crops_are_found(faces_data: Path, tmp_path: Path) -> None:
    root = faces_data / "train"
    folders = sorted(os.listdir(root))[:3]
    rows = [
        (f"{folder}/{file}", template, medium)
        for template, folder in enumerate(folders)
        for medium, file in enumerate(sorted(os.listdir(root / folder))[:2])
    ]
    images, pairs = tmp_path / "images.txt", tmp_path / "pairs.txt"
    images.write_text("".join(f"{name} {t} {m}\n" for name, t, m in rows))
    pairs.write_text("0 0 1\n0 1 0\n1 2 0\n")
    found = list_templates(images, pairs, root)
    assert all(found.blobs.read(row).startswith(b"\xff\xd8") for row in range(len(rows)))


def test_a_line_break_in_a_name_is_refused_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "tid.txt").write_bytes("a\x851.jpg 1 7\nb.jpg 2 8\n".encode())
    (tmp_path / "pairs.txt").write_text("1 1 1\n1 2 0\n")
    with pytest.raises(DataError, match=r"tid\.txt:1: a name must be of one line, got 'a\\x851"):
        list_templates(tmp_path / "tid.txt", tmp_path / "pairs.txt", tmp_path)
