"""`data check` as a user types it."""

import contextlib
import inspect
import io
import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
import typer
from PIL import Image

from nas_face.cli.data_check import check
from nas_face.data.near_duplicates import DEFAULT_DISTANCE
from nas_face.errors import NasFaceError
from nas_face.study.faces import read_exclusions


def call(*arguments: object) -> tuple[int, str, str]:
    """Exit code, output and messages."""
    app = typer.Typer()
    app.command()(check)
    out, err = io.StringIO(), io.StringIO()
    code = 0
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            app([str(each) for each in arguments], standalone_mode=False)
        except NasFaceError as failure:
            code = 2
            print(failure, file=err)
    return code, out.getvalue(), err.getvalue()


def words_of(text: str) -> str:
    return " ".join(text.split())


def write_face(path: Path, seed: int, **options: int) -> None:
    rng = np.random.default_rng(seed)
    coarse = Image.fromarray(rng.integers(0, 256, (9, 9, 3), dtype=np.uint8))
    path.parent.mkdir(parents=True, exist_ok=True)
    coarse.resize((112, 112), Image.Resampling.BICUBIC).save(path, **options)


@pytest.fixture
def sets(tmp_path: Path) -> tuple[Path, Path]:
    """Two data sets of different people and photos."""
    a, b = tmp_path / "a", tmp_path / "b"
    for number in range(4):
        write_face(a / f"Ann_{number}x" / "1.png", number)
        write_face(b / f"Bob_{number}x" / "1.png", 100 + number)
    return a, b


def test_sets_with_nothing_in_common_pass(sets: tuple[Path, Path], tmp_path: Path) -> None:
    code, out, err = call(*sets, "--sheet", tmp_path / "sheet.png")
    assert (code, err) == (0, f"not written: {tmp_path / 'sheet.png'}: no images are shared\n")
    assert "identities 4 4 0 identities images 4 4 0 equal files, 0 near-duplicates" in words_of(
        out
    )


def test_a_shared_name_is_refused_after_the_table(sets: tuple[Path, Path]) -> None:
    a, b = sets
    write_face(b / "Ann_1x" / "9.png", 200)
    write_face(b / "ann 2X" / "9.png", 201)
    code, out, err = call(a, b)
    assert code == 2
    assert "same name Ann_1x Ann_1x probably the same name Ann_2x ann 2X" in re.sub(
        r"[^\w\s]", "", words_of(out)
    )
    assert err == (
        f"{a} and {b} share 1 identity, probably 1 more, and 0 pairs of equal files: "
        "Ann_1x, Ann_2x (probably ann 2X); leave them out of training (--write-exclude FILE)\n"
    )


def test_an_equal_file_is_refused(sets: tuple[Path, Path]) -> None:
    a, b = sets
    shutil.copy(a / "Ann_0x" / "1.png", b / "Bob_3x" / "other.png")
    code, out, err = call(a, b)
    assert code == 2
    assert "equal files Ann_0x/1.png Bob_3x/other.png" in words_of(out)
    assert "share 0 identities, and 1 pair of equal files: Ann_0x; " in err


def test_near_duplicates_alone_are_a_warning_and_can_be_seen(
    sets: tuple[Path, Path], tmp_path: Path
) -> None:
    a, b = sets
    write_face(b / "Bob_3x" / "copy.jpg", 2, quality=70)
    sheet = tmp_path / "sheet.png"
    code, out, err = call(a, b, "--sheet", sheet)
    assert code == 0
    assert re.search(r"\d+ bits +Ann_2x/1.png +Bob_3x/copy.jpg", out)
    assert err.startswith(f"written: {sheet}\nwarning: 1 pair of near-duplicate images")
    with Image.open(sheet) as image:
        assert image.width > 2 * 112


def test_exclusions_that_are_written_cure_the_overlap(
    sets: tuple[Path, Path], tmp_path: Path
) -> None:
    a, b = sets
    write_face(b / "Ann_1x" / "9.png", 200)
    shutil.copy(a / "Ann_0x" / "1.png", b / "Bob_3x" / "other.png")
    write_face(b / "Bob_3x" / "copy.jpg", 2, quality=70)
    first, second = tmp_path / "new" / "out.txt", tmp_path / "again.txt"
    assert call(a, b, "--write-exclude", first)[0] == 2
    assert read_exclusions(first) == ("Ann_0x", "Ann_1x", "Ann_2x")
    code, out, err = call(a, b, "--exclude", first, "--write-exclude", second)
    assert (code, err) == (0, f"written: {second}, 3 identities\n")
    assert "identities 1 5 0 identities" in words_of(out)
    assert read_exclusions(second) == read_exclusions(first)


def test_a_name_that_the_list_cannot_hold_is_refused(
    sets: tuple[Path, Path], tmp_path: Path
) -> None:
    a, b = sets
    write_face(a / "Ann Five" / "1.png", 5)
    write_face(b / "Ann Five" / "1.png", 6)
    code, _, err = call(a, b, "--write-exclude", tmp_path / "out.txt")
    assert code == 2
    assert "1 name holds spaces or '#' and cannot be listed, for one 'Ann Five'" in err
    assert not (tmp_path / "out.txt").exists()


def test_numbers_may_be_other_people(tmp_path: Path) -> None:
    a, b = tmp_path / "a", tmp_path / "b"
    for number in range(3):
        write_face(a / str(number) / "1.png", number)
        write_face(b / str(number) / "1.png", 100 + number)
    assert call(a, b)[0] == 2
    assert call(a, b, "--numbers-differ")[0] == 0


def test_json_comes_before_the_refusal(sets: tuple[Path, Path]) -> None:
    a, b = sets
    shutil.copytree(a / "Ann_0x", b / "Ann_0x")
    (b / "Bob_0x" / "2.png").write_bytes(b"")
    code, out, err = call(a, b, "--json")
    data = json.loads(out)
    assert code == 2 and err.count("\n") == 1
    assert data["identities"] == {"a": 4, "b": 5}
    assert data["shared_identities"] == ["Ann_0x"]
    assert data["equal_files"] == [
        {
            "a": "Ann_0x/1.png",
            "b": "Ann_0x/1.png",
            "identity_a": "Ann_0x",
            "identity_b": "Ann_0x",
            "distance": 0,
            "mirrored": False,
        }
    ]
    assert data["not_compared"]["b"] == {"Bob_0x/2.png": "the file is empty (0 bytes)"}
    assert data["to_exclude"] == {"Ann_0x": "has the same name"}


def test_a_list_of_pairs_can_judge(sets: tuple[Path, Path], tmp_path: Path) -> None:
    a, b = sets
    write_face(b / "Ann_1x" / "9.png", 200)
    write_face(b / "Ann_1x" / "8.png", 201)
    pairs = tmp_path / "pairs.csv"
    pairs.write_text("Ann_1x/9.png,Ann_1x/8.png,1\nAnn_1x/9.png,Bob_0x/1.png,0\n")
    code, out, err = call(a, pairs, "--images", b)
    assert code == 2
    assert "images 4 3 0 equal files" in words_of(out)
    assert f"{pairs} share 1 identity, and" in err


def test_the_default_distance_is_the_measured_one() -> None:
    assert inspect.signature(check).parameters["distance"].default == DEFAULT_DISTANCE
