import json
from pathlib import Path

import pytest
import typer
from PIL import Image
from typer.testing import CliRunner

from nas_face.cli.data_convert import convert
from nas_face.data.formats.opening import list_faces, list_pairs
from nas_face.errors import DataError

app = typer.Typer()
app.command()(convert)
app.command("other")(lambda: None)


def run(*arguments: str | Path) -> tuple[str, str]:
    result = CliRunner().invoke(
        app, ["convert", *map(str, arguments)], catch_exceptions=False, standalone_mode=False
    )
    if result.exception is not None:
        raise result.exception
    assert result.exit_code == 0
    return result.stdout, result.stderr


@pytest.fixture
def faces(tmp_path: Path) -> Path:
    for identity in ("ann", "bob"):
        (tmp_path / "faces" / identity).mkdir(parents=True)
        for number in (1, 2):
            path = tmp_path / "faces" / identity / f"{identity}_{number:04d}.png"
            Image.new("L", (8, 8), 100 * number).save(path)
    return tmp_path / "faces"


def test_faces_are_converted_and_summed_up(faces: Path, tmp_path: Path) -> None:
    (faces / "nobody").mkdir()
    stdout, stderr = run(faces, tmp_path / "faces.tar")
    assert stdout == f"{tmp_path}/faces.tar: 4 images, 2 identities, 0.0 MB, 1 left out\n"
    assert "left out: nobody (identity without an image)" in stderr
    assert list_faces(tmp_path / "faces.tar").names == list_faces(faces).names


def test_pairs_are_converted_from_a_root(faces: Path, tmp_path: Path) -> None:
    (tmp_path / "p.txt").write_text("ann 1 2\nann 1 bob 1\n")
    stdout, _ = run(tmp_path / "p.txt", tmp_path / "p.bin", "--images", faces)
    assert "3 images, 2 pairs" in stdout
    assert list_pairs(tmp_path / "p.bin").same.tolist() == [True, False]


def test_json_is_printed_alone(faces: Path, tmp_path: Path) -> None:
    stdout, _ = run(faces, tmp_path / "f.rec", "--json")
    report = json.loads(stdout)
    assert report["target"] == str(tmp_path / "f.rec")
    assert (report["form"], report["n_images"], report["n_pairs"]) == ("records", 4, None)
    assert report["image_bytes"] == sum(path.stat().st_size for path in faces.rglob("*.png"))


def test_force_replaces(faces: Path, tmp_path: Path) -> None:
    run(faces, tmp_path / "f.tar")
    with pytest.raises(DataError, match="exists already"):
        run(faces, tmp_path / "f.tar")
    run(faces, tmp_path / "f.tar", "--force")


def test_a_protocol_is_passed_on(faces: Path, tmp_path: Path) -> None:
    (tmp_path / "cfp" / "Protocol").mkdir(parents=True)
    with pytest.raises(DataError, match="two protocols, FF .*, got XX"):
        run(tmp_path / "cfp", tmp_path / "x.bin", "--protocol", "XX")
