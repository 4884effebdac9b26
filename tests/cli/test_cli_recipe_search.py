"""`compress --search` as a user types it."""

import json

import pytest

SPACE = """
name: tiny
runtime: onnxruntime
deliver: [onnxruntime]
shares: [1.0, 0.5]
round_to: [2]
importance: [l2]
precision: [int8, w6]
quantise: {n_images: 8}
"""


@pytest.fixture
def space(tmp_path):
    path = tmp_path / "space.yaml"
    path.write_text(SPACE, encoding="utf-8")
    return path


def test_front_as_a_table_and_as_json(nas_face, model, space, tmp_path):
    out = tmp_path / "out"
    command = ["compress", model, "--search", "--space", space, "--trials", 2, "--out", out]
    answer = nas_face(*command)
    assert answer.code == 0, answer.err
    for text in ("Front of recipes", "as it was given", "hypervolume", "What ships"):
        assert text in answer.out
    assert "trial 1 (2 of 2): " in answer.err
    assert "as it was given (fp32 ONNX Runtime): judged" in answer.err
    assert (out / "report" / "front.png").exists()
    page = (out / "report.html").read_text(encoding="utf-8")
    assert "All recipes" in page
    assert "best-trial-" in page
    data = json.loads(nas_face(*command, "--json").out)
    kept = json.loads((out / "front.json").read_text(encoding="utf-8"))
    assert {key: data[key] for key in kept} == kept
    assert data["folder"] == str(out / f"best-trial-{data['best']}")
    again = nas_face(
        "compress", model, "--recipe", out / "best_recipe.yaml", "--out", tmp_path / "again"
    )
    assert again.code == 0, again.err
    a, b = (
        json.loads((folder / "compression.json").read_text(encoding="utf-8"))["steps"][-2]
        for folder in (tmp_path / "again", out / f"best-trial-{data['best']}")
    )
    for key in ("judged", "accuracy", "size_bytes"):
        assert a["files"][0][key] == b["files"][0][key]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--trials", 2), "--trials goes with --search"),
        (("--max-size", "1MB"), "--max-size goes with --search"),
        (("--space", "without_training"), "--space goes with --search"),
        (("--sampler", "tpe"), "--sampler goes with --search"),
        (("--max-latency", "2ms"), "--max-latency goes with --search"),
        (("--floor", -1), "--floor goes with --search"),
        (("--search", "--all"), "--search is for one model and --all for a whole front; leave"),
        (("--search", "--recipe", "int8"), "--search chooses the recipe itself; leave --recipe"),
        (("--search", "--recipe", "prune_distil_int8"), "leave --recipe prune_distil_int8 out"),
        (("--search", "--space", "int8"), "int8: no such space of recipes"),
        (("--search", "--floor", 1), "floor is points of accuracy that may be lost"),
        (("--search", "--max-latency", "soon"), "--max-latency: expected a figure such as 10ms"),
        (("--search", "--sampler", "tpee"), "unknown sampler 'tpee'"),
        (("--search", "--space", "nowhere.yaml"), "nowhere.yaml: no such space"),
    ],
)
def test_what_does_not_go_together_is_refused(nas_face, model, tmp_path, options, message):
    answer = nas_face("compress", model, *options, "--out", tmp_path / "out")
    assert answer.code == 2
    assert message in answer.err.splitlines()[-1]
    assert not (tmp_path / "out").exists()


def test_budget_that_nothing_fits_ends_with_the_nearest(nas_face, model, space, tmp_path):
    out = tmp_path / "out"
    answer = nas_face(
        "compress", model, "--search", "--space", space, "--max-size", 10, "--out", out
    )
    assert answer.code == 0, answer.err
    assert "budget.max_size_bytes of 10 cannot be reached: the smallest network" in answer.err
    assert "not as asked: nothing keeps the walls; the nearest is trial 0" in answer.err
    assert (out / "best-trial-0" / "manifest.json").exists()
