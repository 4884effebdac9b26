"""`import-weights` as a user types it."""

import json

import pytest
import torch

from nas_face.arch.zoo import network
from nas_face.nn import FaceModel

NETWORK = "mobilefacenet_128"
COMMAND = ["--as", NETWORK, "--input-size", 32, "--embedding-size", 16]


@pytest.fixture(scope="module")
def model():
    spec = network(NETWORK).variant(input_size=(32, 32), embedding_size=16)
    return FaceModel.fresh(spec, seed=0)


@pytest.fixture
def checkpoint(model, tmp_path):
    path = tmp_path / "best.pt"
    state = {f"module.{key}": value for key, value in model.module.state_dict().items()}
    torch.save({"state_dict": state, "epoch": 3}, path)
    return path


def test_what_matched_is_told_and_the_folder_is_a_model(nas_face, model, checkpoint, tmp_path):
    out = tmp_path / "deep" / "imported"
    answer = nas_face("import-weights", checkpoint, *COMMAND, "--out", out, "--mean", 100)
    assert answer.code == 0, answer.err
    assert "stages.1" in answer.out
    assert "module.stem.0.conv" in answer.out
    assert "taken from state_dict" in answer.err
    assert "held against nothing" in answer.err
    assert f"written: {out}" in answer.err
    loaded = FaceModel.load(out)
    assert loaded.description.preprocessing.mean == 100
    for key, value in model.module.state_dict().items():
        assert torch.equal(loaded.module.state_dict()[key], value)
    assert json.loads((out / "model.json").read_text())["lineage"][0].startswith(
        "imported from best.pt (torch, sha256 "
    )
    assert sorted(each.name for each in out.parent.iterdir()) == ["imported"]
    assert nas_face("verify", out, "--pairs", "orl").code == 0
    again = nas_face("import-weights", checkpoint, *COMMAND, "--out", out, "--mean", 100)
    assert again.code == 0
    assert f"already there: {out}" in again.err
    other = nas_face("import-weights", checkpoint, *COMMAND, "--out", out, "--mean", 90)
    assert other.code == 2
    assert "holds something else; choose another folder with --out" in other.err


def test_every_layer(nas_face, checkpoint, tmp_path):
    out = tmp_path / "imported"
    answer = nas_face("import-weights", checkpoint, *COMMAND, "--out", out, "--verbose")
    assert "stages.2.1.branches.0.project.conv" in answer.out
    assert "weight (16, 512)" in answer.out


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--as", "mobilefacenet_128"], "head.global needs weight (512, 1, 7, 7), the file has"),
        (["--as", "mobilefacenet_129"], "is no zoo network"),
        ([*COMMAND, "--scale", 0], "--scale must be above 0"),
        ([*COMMAND, "--part", "model"], "has no part 'model', but 'state_dict'"),
        ([*COMMAND, "--input-size", "big"], "an image size is N or HEIGHTxWIDTH"),
    ],
)
def test_misuse_is_one_line_and_nothing_is_written(
    nas_face, checkpoint, tmp_path, options, words, monkeypatch
):
    empty = tmp_path / "empty"
    empty.mkdir()
    monkeypatch.chdir(empty)
    answer = nas_face("import-weights", checkpoint, *options)
    assert answer.code == 2
    assert answer.err.startswith("nas-face: ")
    assert answer.err.count("\n") == 1
    assert words in answer.err
    assert list(empty.iterdir()) == []
