"""`train`, `verify` and `compress` as a user types them."""

import json
import shutil

import pytest

from nas_face.nn import FaceModel
from nas_face.study.evaluate import verify_on
from nas_face.study.faces import pairs_of

RECIPE = """
name: small
runtime: onnxruntime
deliver: [onnxruntime]
steps:
  - {kind: prune, share: 0.8, round_to: 1}
  - {kind: distil, epochs: 1, floor: -100}
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
    data = json.loads(nas_face("verify", model, "--pairs", "orl", "--allow-overlap", "--json").out)
    result = verify_on(FaceModel.load(model), pairs_of("orl", None, height=32, width=32))
    assert data == json.loads(json.dumps(result.as_dict()))
    shown = nas_face("verify", model, "--pairs", "orl", "--allow-overlap").out
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
    assert "0 identities are left to train on" in other.err
    other = nas_face("compress", mine, "--recipe", recipe, "--pairs", "orl", "--allow-overlap")
    assert other.code == 2
    assert "holds the results of another compression (faces changed)" in other.err
    assert (out / "compression.json").read_bytes() == before


@pytest.fixture
def people(tmp_path):
    path = tmp_path / "people.csv"
    lines = [f"s{number},{'odd' if number % 2 else 'even'}" for number in range(1, 41)]
    path.write_text("identity,kind\n" + "\n".join(lines) + "\n", encoding="utf-8")
    return path


def test_compress_shows_groups_before_and_after(nas_face, run, recipe, people, tmp_path):
    out = tmp_path / "out"
    command = ["compress", run, "--trial", 0, "--recipe", recipe, "--out", out]
    answer = nas_face(*command, "--groups", people, "--group-far", 0.05)
    assert answer.code == 0, answer.err
    assert "worst" in answer.out and "group TAR" in answer.out
    assert "Groups by kind: original and delivered" in answer.out
    assert "each at its own threshold of FAR 0.05 over all pairs" in " ".join(answer.out.split())
    steps = json.loads((out / "compression.json").read_text(encoding="utf-8"))["steps"]
    before, after = (
        {each["name"]: each for each in step["groups"][0]["groups"]}
        for step in (steps[0], steps[-1])
    )
    for name in ("even", "odd"):
        rates = [before[name]["tar"], after[name]["tar"], after[name]["tar"] - before[name]["tar"]]
        row = cells_of(answer.out, name)
        assert row[2:5] == [f"{rates[0]:.4f}", f"{rates[1]:.4f}", f"{rates[2]:+.4f}"]
        assert row[6:] == [f"{each[name]['fmr']:.4f}" for each in (before, after)]
    gaps = [abs(each["even"]["tar"] - each["odd"]["tar"]) for each in (before, after)]
    assert cells_of(answer.out, "gap")[2:4] == [f"{gap:.4f}" for gap in gaps]
    plain = nas_face(*command)
    assert plain.code == 0
    assert "group" not in plain.out
    assert "group" not in (out / "compression.json").read_text(encoding="utf-8")


def cells_of(shown, name):
    """Cells of the one row of that name."""
    [row] = [line for line in shown.splitlines() if line.startswith(f"│ {name} ")]
    return [cell.strip() for cell in row.strip("│").split("│")]


def test_compress_refuses_groups_that_do_not_fit(nas_face, run, recipe, people, tmp_path):
    command = ["compress", run, "--trial", 0, "--recipe", recipe, "--out", tmp_path / "out"]
    wrong = tmp_path / "wrong.csv"
    wrong.write_text("identity,kind\nAnn,odd\n", encoding="utf-8")
    for options, said in (
        (["--groups", wrong], "test pairs of the study: "),
        (["--groups", people, "--group-far", 0.001], "takes at least 1,000 pairs"),
        (["--groups", people, "--group-far", 2], "data.group_far must be between 0 and 1"),
        (["--group-far", 0.1], "--group-far goes with --groups"),
    ):
        answer = nas_face(*command, *options)
        assert answer.code == 2
        assert said in answer.err
        assert len(answer.err.splitlines()) == 1
    assert not (tmp_path / "out").exists()


def test_compress_takes_the_attributes_of_the_study(nas_face, run, recipe, people, caplog):
    command = ["compress", run, "--trial", 0, "--recipe", recipe]
    settings = json.loads((run / "study.json").read_text(encoding="utf-8"))

    def compressed(far):
        settings["data"] = {"attributes": str(people), "group_far": far}
        (run / "study.json").write_text(json.dumps(settings), encoding="utf-8")
        answer = nas_face(*command)
        assert answer.code == 0
        return answer.out

    assert "Groups by kind" in compressed(0.05)
    assert caplog.messages == []
    assert "group" not in compressed(0.001)
    [said] = caplog.messages
    assert said.startswith("without figures of groups; test pairs of the study: a FAR of 0.001 ")


def test_search_by_groups_that_do_not_fit_is_refused(nas_face, study, tmp_path):
    wrong = tmp_path / "wrong.csv"
    wrong.write_text("identity,kind\nAnn,odd\n", encoding="utf-8")
    text = study.read_text(encoding="utf-8").replace("log_tar, ", "worst_group_tar, ")
    text += f"data: {{source: orl, attributes: {wrong}}}\n"
    other = study.parent / "by_groups.yaml"
    other.write_text(text, encoding="utf-8")
    answer = nas_face("search", other, "--out", tmp_path / "run")
    assert answer.code == 2
    assert "search pairs: " in answer.err.splitlines()[-1]
    assert "has a value of 'kind'" in answer.err.splitlines()[-1]
    assert not list((tmp_path / "run").rglob("candidates/*"))
