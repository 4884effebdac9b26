"""`data show` as a user types it."""

import contextlib
import io
import json
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import typer
from PIL import Image

from nas_face.cli.data_show import show
from nas_face.errors import NasFaceError

Show = Callable[..., tuple[int, str, str]]


def call(*arguments: object) -> tuple[int, str, str]:
    """Exit code, output and messages."""
    app = typer.Typer()
    app.command()(show)
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            code = app([str(each) for each in arguments], standalone_mode=False)
        except NasFaceError as failure:
            return 2, out.getvalue(), f"{failure}\n"
    return int(code or 0), out.getvalue(), err.getvalue()


def words_of(text: str) -> str:
    return " ".join(text.split())


@pytest.fixture
def flawed(made_up_faces: Path) -> Path:
    """36 images of 12 people, and 4 that are odd."""
    (made_up_faces / "p0" / "zero.jpg").write_bytes(b"")
    (made_up_faces / "lonely").mkdir()
    Image.new("L", (30, 50)).save(made_up_faces / "lonely" / "black.jpg")
    copy = (made_up_faces / "p1" / "p1_0001.png").read_bytes()
    (made_up_faces / "p2" / "copy.png").write_bytes(copy)
    (made_up_faces / "p1" / "copy.png").write_bytes(copy)
    (made_up_faces / "empty").mkdir()
    return made_up_faces


def test_a_folder_is_described(flawed: Path) -> None:
    code, out, err = call(flawed)
    assert (code, err) == (0, "")
    words = words_of(out)
    for said in (
        f"{flawed}: folder of identities",
        "identities 13",
        "images 40",
        "images per identity min 1, median 3, mean 3.1, max 4",
        "fewer than 2 1: lonely (1)",
        "left out 1: empty (identity without an image)",
        "broken 1: p0/zero.jpg (the file is empty (0 bytes))",
        "height x width 40x40 (38), 50x30 (1)",
        "not square 1",
        "encoding PNG 38, JPEG 1",
        "pixels colour 38, grey 1",
        "constant 1: lonely/black.jpg",
        "dark 0",
        "across identities 1: p1/copy.png = p1/p1_0001.png = p2/copy.png",
    ):
        assert said in words
    assert max(map(len, out.splitlines())) <= 140


def test_json_has_all_that_the_tables_have(flawed: Path) -> None:
    code, out, _ = call(flawed, "--json", "--few", 4)
    data = json.loads(out)
    assert code == 0
    assert data["faces"]["n_images"] == 40
    assert data["faces"]["images_per_identity"]["maximum"] == 4
    assert len(data["faces"]["few"]) == 10
    assert data["images"]["size_bytes"] == sum(path.stat().st_size for path in flawed.rglob("*.*"))
    assert data["images"]["sizes"] == [[[40, 40], 38], [[50, 30], 1]]
    assert data["images"]["broken"] == [
        {"name": "p0/zero.jpg", "reason": "the file is empty (0 bytes)"}
    ]
    assert data["images"]["equal"][0]["identities"] == ["p1", "p1", "p2"]


def test_a_limit_looks_at_so_many_and_counts_all(flawed: Path) -> None:
    words = words_of(call(flawed, "--limit", 7)[1])
    assert "looked at 7 of 40, evenly spread" in words
    assert "images 40" in words


def test_json_of_unreadable_images_has_no_nan(made_up_faces: Path) -> None:
    for path in made_up_faces.rglob("*.png"):
        path.write_bytes(b"")
    out = call(made_up_faces, "--json")[1]
    assert "NaN" not in out
    assert json.loads(out)["images"]["brightness"]["mean"] is None


def test_a_sheet_is_written_beside_the_tables(flawed: Path, tmp_path: Path) -> None:
    sheet = tmp_path / "sheet.png"
    code, out, err = call(flawed, "--sheet", sheet, "--rows", 3, "--columns", 2)
    assert (code, err) == (0, f"written: {sheet}\n")
    assert out == call(flawed)[1]
    with Image.open(sheet) as image:
        small = image.size
    call(flawed, "--sheet", sheet, "--rows", 6, "--columns", 2)
    with Image.open(sheet) as image:
        assert image.width == small[0]
        assert image.height > 1.8 * small[1]


@pytest.fixture
def pair_list(made_up_faces: Path) -> Path:
    lines = ["first,second,same"]
    for who in range(6):
        own = [f"p{who}/p{who}_{number:04d}.png" for number in (1, 2)]
        lines += [f"{own[0]},{own[1]},1", f"{own[0]},p{who + 6}/p{who + 6}_0001.png,0"]
    lines.append("p0/p0_0001.png,p0/p0_0003.png,0")
    path = made_up_faces.parent / "pairs.csv"
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def test_a_list_of_pairs_is_described(pair_list: Path, made_up_faces: Path) -> None:
    code, out, err = call(pair_list, "--images", made_up_faces)
    assert (code, err) == (0, "")
    words = words_of(out)
    for said in (
        "list of pairs",
        "pairs 6 same, 7 different",
        "folds none of its own",
        "images used 19, of them 6 in both kinds",
        "pairs per image min 1, median 1, mean 1.4, max 3",
        "most p0/p0_0001.png (3)",
        "identities used 12",
        "against identities 1: p0/p0_0001.png and p0/p0_0003.png",
        "repeated pairs 0",
        "looked at 19",
    ):
        assert said in words
    data = json.loads(call(pair_list, "--images", made_up_faces, "--json")[1])
    assert data["pairs"]["n_in_both"] == 6
    assert data["images"]["n_images"] == 19


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nowhere"], "nowhere: there is no such file"),
        (["faces", "--images", "."], "only a list of pairs takes --images"),
        (["faces", "--sheet", "sheet.jpg"], r"sheet.jpg: .* must end in \.png"),
    ],
)
def test_a_mistake_is_one_line(
    made_up_faces: Path,
    monkeypatch: pytest.MonkeyPatch,
    arguments: list[str],
    message: str,
) -> None:
    monkeypatch.chdir(made_up_faces.parent)
    code, out, err = call(*arguments)
    assert code == 2
    assert re.search(message, err)
    assert (out, err.count("\n")) == ("", 1)


@pytest.mark.faces
def test_real_faces_are_described() -> None:
    import os

    folder = os.environ.get("NAS_FACE_DATA")
    if not folder:
        pytest.skip("NAS_FACE_DATA names no folder of faces")
    data = json.loads(call(Path(folder) / "lfw", "--limit", 300, "--json")[1])
    assert (data["faces"]["n_identities"], data["faces"]["n_images"]) == (3554, 6922)
    assert data["images"]["sizes"] == [[[112, 112], 300]]
    assert np.isclose(data["images"]["brightness"]["mean"], 116, atol=10)
