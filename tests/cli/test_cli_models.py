"""`train`, `verify` and `compress` as a user types them."""

import json
import shutil

import pytest

from nas_face.nn import FaceModel
from nas_face.study.evaluate import verify_on
from nas_face.study.faces import pairs_of

RECIPE = """
name: small
steps:
  - {kind: prune, share: 0.8, round_to: 4}
  - {kind: distil, epochs: 1}
  - {kind: quantise, n_images: 8}
"""


@pytest.fixture
def recipe(tmp_path):
    path = tmp_path / "small.yaml"
    path.write_text(RECIPE, encoding="utf-8")
    return path


def test_train_a_trial_then_compress_it(nas_face, run, recipe):
    answer = nas_face("train", run, "--trial", 0, "--epochs", 2)
    assert answer.code == 0
    assert "training trial 0 (" in answer.err
    assert f"written: {run}/trained/trial-0" in answer.err
    assert "accuracy, 10 folds" in answer.out
    answer = nas_face("compress", run, "--trial", 0, "--recipe", recipe)
    assert answer.code == 0
    assert "compressing trial 0, trained in full (" in answer.err
    out = run / "compressed" / "trial-0-full" / "small"
    for name in ("model.json", "weights.safetensors", "model.onnx", "model.int8.onnx"):
        assert (out / name).stat().st_size
    for row in ("original", "1 prune", "2 distil", "3 quantise"):
        assert f"│ {row} " in answer.out
    assert nas_face("verify", out / "model.int8.onnx", "--pairs", run).code == 0


def test_train_a_published_network_small(nas_face, study, tmp_path):
    out = tmp_path / "trained"
    command = ["train", "shufflefacenet_1x", "--study", study, "--input-size", 16, "--out", out]
    answer = nas_face(*command, "--seed", 3, "--threads", 1)
    assert answer.code == 0
    assert "input 3x16x16" in answer.err
    assert FaceModel.load(out).height == 16


def test_verify_gives_what_the_library_gives(nas_face, model):
    data = json.loads(nas_face("verify", model, "--pairs", "orl", "--json").out)
    result = verify_on(FaceModel.load(model), pairs_of("orl", None, height=32, width=32))
    assert data == json.loads(json.dumps(result.as_dict()))
    shown = nas_face("verify", model, "--pairs", "orl").out
    assert f"{result.accuracy:.4f} ± {result.accuracy_std:.4f}" in shown
    assert "1800 same, 1800 different" in shown


def test_verify_on_the_test_people_of_a_run(nas_face, searched):
    front = json.loads(nas_face("pareto", searched[0], "--json").out)["front"]
    for row in front:
        answer = nas_face(
            "verify", searched[0], "--trial", row["trial"], "--pairs", searched[0], "--json"
        )
        data = json.loads(answer.out)
        assert data["auc"] == pytest.approx(row["test_auc"], abs=1e-9)
        assert data["accuracy"] == pytest.approx(row["test_accuracy"], abs=1e-9)


def test_verify_on_lists_of_either_format(nas_face, model, made_up_faces, tmp_path):
    same = [(f"p{who}", 1, f"p{who}", number) for who in range(12) for number in (2, 3)]
    different = [
        (f"p{who}", 1, f"p{(who + step) % 12}", 2) for who in range(12) for step in (1, 2)
    ]
    names = [
        (f"{a}/{a}_{i:04d}.png", f"{b}/{b}_{j:04d}.png", int(a == b))
        for a, i, b, j in same + different
    ]
    table = made_up_faces / "pairs.csv"
    table.write_text(
        "first,second,same\n" + "".join(f"{a},{b},{s}\n" for a, b, s in names), encoding="utf-8"
    )
    lines = [f"{a}\t{i}\t{j}\n" for a, i, _, j in same]
    lines += [f"{a}\t{i}\t{b}\t{j}\n" for a, i, b, j in different]
    listed = tmp_path / "pairs.txt"
    listed.write_text("".join(lines), encoding="utf-8")
    by_table = nas_face("verify", model, "--pairs", table, "--json")
    by_list = nas_face("verify", model, "--pairs", listed, "--images", made_up_faces, "--json")
    assert by_table.code == by_list.code == 0
    one, other = json.loads(by_table.out), json.loads(by_list.out)
    assert one["auc"] == pytest.approx(other["auc"])
    assert (one["n_same"], one["n_different"]) == (24, 24)
    missing = nas_face("verify", model, "--pairs", listed)
    assert missing.code == 2
    assert len(missing.err.splitlines()) == 1


def test_compress_with_own_pairs_is_not_mixed_with_others(nas_face, model, recipe, tmp_path):
    mine = tmp_path / "mine"
    shutil.copytree(model, mine)
    out = mine / "compressed" / "small"
    assert nas_face("compress", mine, "--recipe", recipe).code == 0
    assert (out / "compression.json").exists()
    before = (out / "compression.json").read_bytes()
    again = nas_face("compress", mine, "--recipe", recipe)
    assert again.code == 0
    assert (out / "compression.json").read_bytes() == before
    other = nas_face("compress", mine, "--recipe", recipe, "--pairs", "orl")
    assert other.code == 2
    assert "holds the results of another compression (faces changed)" in other.err
    assert (out / "compression.json").read_bytes() == before
