"""`space nni` and `space from-nni`, as a user runs them."""

import json

import pytest

from nas_face.space import load_space

SPACE = """
name: small
input_shape: [3, 32, 32]
shared: {act: {choice: [relu, prelu, silu]}}
stem: [{kind: conv_unit, out_channels: {choice: [8, 16]}, stride: 2, act: {shared: act}}]
stages:
  - {out_channels: {choice: [8, 16]}, stride: 2, repeats: 1, block: {kind: inverted_residual,
      expansion: 1}}
head: {kind: pooled_linear, embedding_size: 32, tail_channels: 32, act: {shared: act}}
constraints: [stages.0.out_channels >= stem.0.out_channels]
"""


@pytest.fixture
def place(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "small.yaml").write_text(SPACE, encoding="utf-8")
    return tmp_path


def test_a_space_goes_to_json_is_edited_and_comes_back_smaller(nas_face, place):
    written = nas_face("space", "nni", "small.yaml", "--out", "small.json")
    assert (written.code, written.err) == (0, "")
    assert written.out == "small.json: 3 choices of small, without its rules between choices\n"
    data = json.loads((place / "small.json").read_text(encoding="utf-8"))
    assert data["shared.act"] == {"_type": "choice", "_value": ["relu", "prelu", "silu"]}

    data["shared.act"]["_value"].remove("silu")
    (place / "less.json").write_text(json.dumps(data), encoding="utf-8")
    read = nas_face(
        "space", "from-nni", "less.json", "--space", "small.yaml", "--out", "less.yaml"
    )
    assert (read.code, read.err) == (0, "")
    assert read.out == "less.yaml: 8 of the 12 ways to choose of small\n"
    smaller = load_space(place / "less.yaml")
    assert smaller.choices()["shared.act"].labels == ("relu", "prelu")
    assert [each.rule for each in smaller.constraints] == [
        "stages.0.out_channels >= stem.0.out_channels"
    ]


def test_a_shipped_space_is_found_by_its_name(nas_face, place):
    assert nas_face("space", "nni", "seesaw", "--out", "seesaw.json").code == 0
    assert "shared.act" in json.loads((place / "seesaw.json").read_text(encoding="utf-8"))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "bad.json: not valid JSON"),
        ('{"act": {"_type": "choice", "_value": [1]}}', "act: small has no such choice"),
        ('{"shared.act": {"_type": "choice", "_value": []}}', "_value must be a list with"),
    ],
)
def test_a_bad_file_is_one_line_and_misuse(text, message, nas_face, place):
    (place / "bad.json").write_text(text, encoding="utf-8")
    read = nas_face("space", "from-nni", "bad.json", "--space", "small.yaml", "--out", "x.yaml")
    assert (read.code, read.out) == (2, "")
    assert message in read.err
    assert read.err.count("\n") == 1
    assert not (place / "x.yaml").exists()
