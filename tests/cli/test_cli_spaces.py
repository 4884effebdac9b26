"""`space show` and `space check`, and a search for a target, as a user runs them."""

import json

import pytest

SPACE = """
name: small
description: a few designs
input_shape: [3, 32, 32]
shared: {act: {choice: [relu, prelu, silu]}}
stem: [{kind: conv_unit, out_channels: {choice: [8, 16]}, stride: 2, act: {shared: act}}]
stages:
  - out_channels: {choice: [8, 16, 24]}
    stride: 2
    repeats: {choice: [1, 2]}
    block: {kind: inverted_residual, expansion: {choice: [1, 2]}, act: {shared: act}}
head: {kind: pooled_linear, embedding_size: 32, tail_channels: 32, act: {shared: act}}
constraints:
  - rule: stages.0.out_channels >= stem.0.out_channels
    because: maps only widen
"""
CHIP = "{name: chip, description: none, avoid: [silu], slow: [prelu]}\n"


@pytest.fixture
def place(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "small.yaml").write_text(SPACE, encoding="utf-8")
    (tmp_path / "chip.yaml").write_text(CHIP, encoding="utf-8")
    (tmp_path / "broken.yaml").write_text(
        SPACE.replace("choice: [8, 16, 24]", "choice: [8, 4]").replace(
            "  - rule: stages", "  - rule: shared.act == relu\n  - rule: stages"
        ),
        encoding="utf-8",
    )
    return tmp_path


def test_show_prints_numbers_and_budget(nas_face, place):
    shown = nas_face("space", "show", "small.yaml", "--max-madds", "150k", "--knobs")
    assert (shown.code, shown.err) == (0, "")
    assert "small, 3x32x32 images: a few designs" in shown.out
    assert "designs: 60, 60 distinct architectures (72 ways to choose, the others are" in shown.out
    for word in ("smallest", "median", "largest", "MAdds", "params", "peak activations"):
        assert word in shown.out
    assert "budget 150,000 MAdds (300,000 FLOPs): " in shown.out
    assert "stages.0.block.expansion" in shown.out
    assert "constraint: stages.0.out_channels >= stem.0.out_channels  (maps only wi" in shown.out


def test_show_in_json_agrees_with_flops_as_the_budget(nas_face, place):
    first, second = (
        json.loads(nas_face("space", "show", "small.yaml", "--json", *budget).out)
        for budget in (("--max-madds", "150k"), ("--max-flops", "300k"))
    )
    assert first == second
    assert first["designs"] == 60
    assert 0 < first["fitting"] < 60
    assert first["share_fitting"] == pytest.approx(first["fitting"] / 60)
    spread = first["madds"]
    assert spread["smallest"] < spread["median"] < spread["largest"]


def test_show_at_another_size_and_for_a_target(nas_face, place):
    whole = json.loads(nas_face("space", "show", "small.yaml", "--json", "--knobs").out)
    large = json.loads(nas_face("space", "show", "small.yaml", "--json", "--input-size", 64).out)
    assert large["input_shape"] == [3, 64, 64]
    assert large["madds"]["largest"] > whole["madds"]["largest"]
    acts = {
        options: json.loads(
            nas_face("space", "show", "small.yaml", "--json", "--knobs", *options).out
        )["knobs"]["shared.act"]
        for options in ((), ("--target", "chip.yaml"), ("--target", "chip.yaml", "--allow-slow"))
    }
    assert list(acts.values()) == [["relu", "prelu", "silu"], ["relu"], ["relu", "prelu"]]


def test_an_estimate_is_marked_as_such(nas_face, place):
    shown = nas_face("space", "show", "variable_group", "--max-madds", "50M", "--samples", 40)
    assert shown.code == 0
    assert "~" in next(line for line in shown.out.splitlines() if "designs fit" in line)
    assert "median: of 40 designs drawn" in shown.out


def test_check_of_a_good_space_ends_with_zero(nas_face, place):
    checked = nas_face("space", "check", "small.yaml")
    assert (checked.code, checked.err) == (0, "")
    assert checked.out.startswith("small: no problems found in 5 choices and ")


def test_check_of_a_broken_space_ends_with_one(nas_face, place):
    checked = nas_face("space", "check", "broken.yaml")
    assert checked.code == 1
    lines = checked.out.splitlines()
    assert len(lines) == 1 + sum(line.startswith("dead option: ") for line in lines)
    assert "dead option: shared.act=silu: no design with it is legal" in checked.out
    assert "dead option: stages.0.out_channels=4: " in checked.out
    data = json.loads(nas_face("space", "check", "broken.yaml", "--json").out)
    assert [each["where"] for each in data["findings"]] == [
        line.removeprefix("dead option: ").split(":")[0] for line in lines[:-1]
    ]


def test_check_names_options_over_the_budget(nas_face, place):
    assert nas_face("space", "check", "small.yaml", "--max-params", "1M").code == 0
    checked = nas_face("space", "check", "small.yaml", "--max-params", 2400)
    assert checked.code == 1
    assert "over budget: stages.0.out_channels=24: even the smallest design" in checked.out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("space show nope.yaml", "nope.yaml: no such file of a search space"),
        ("space show chip.yaml", "chip.yaml: avoid is not a known key"),
        ("space check small.yaml --target nope", "nope: no such target; known: integer_npu"),
        ("space show small.yaml --target small.yaml", "small.yaml: input_shape is not a known"),
        ("space show small.yaml --allow-slow", "--allow-slow says what to do with a --target"),
        ("space show small.yaml --max-madds x", "--max-madds: expected a figure such as 150M"),
        ("space show small.yaml --max-madds 1 --max-flops 2", "are one budget"),
        ("space show small.yaml --input-size 4by4", "an image size is N or HEIGHTxWIDTH"),
    ],
)
def test_misuse_is_one_line(nas_face, place, arguments, message):
    ended = nas_face(*arguments.split())
    assert ended.code == 2
    assert message in ended.err
    assert ended.out == ""


def test_a_search_for_a_target_proposes_only_what_it_runs(nas_face, study, place):
    (place / "study.yaml").write_text(
        study.read_text(encoding="utf-8")
        .replace("space: space.yaml", "space: small.yaml\ntarget: chip.yaml")
        .replace("300k", "2M"),
        encoding="utf-8",
    )
    searched = nas_face("search", "study.yaml", "--out", "run")
    assert searched.code == 0
    assert "target chip.yaml" in searched.err
    shown = json.loads(nas_face("pareto", "run", "--json").out)
    assert shown["trials"] == 3
    for model in (place / "run" / "candidates").iterdir():
        text = (model / "model.json").read_text(encoding="utf-8")
        assert "silu" not in text
        assert "prelu" not in text
    (place / "chip.yaml").write_text(CHIP.replace("prelu", "relu6"), encoding="utf-8")
    changed = nas_face("search", "study.yaml", "--out", "run")
    assert changed.code == 2
    assert "the target chip.yaml has changed since" in changed.err
    other = nas_face("search", "study.yaml", "--out", "other", "--target", "nope")
    assert other.code == 2
    assert "study.yaml: target: nope: no such target; known: " in other.err
