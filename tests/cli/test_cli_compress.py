"""`compress` as a user types it: what is refused, JSON, and the whole front at once."""

import json
import shutil

import filelock
import pytest

from nas_face.arch.spec import ArchSpec
from nas_face.nn import FaceModel

RECIPE = """
name: tiny
runtime: onnxruntime
deliver: [onnxruntime]
steps:
  - {kind: prune, share: 0.7, round_to: 1}
  - {kind: quantise, n_images: 8, floor: -100}
"""


@pytest.fixture
def recipe(tmp_path):
    path = tmp_path / "tiny.yaml"
    path.write_text(RECIPE, encoding="utf-8")
    return path


def test_network_without_weights_is_refused(nas_face, recipe, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    answer = nas_face("compress", "mobilefacenet_128", "--recipe", recipe)
    assert answer.code == 2
    [line] = answer.err.splitlines()
    assert "mobilefacenet_128 is a network without weights: train it with nas-face train" in line
    assert "import-weights" in line


def test_untrained_weights_are_refused_unless_they_are_wanted(nas_face, model, recipe, tmp_path):
    spec = ArchSpec.load(model / "spec.json")
    FaceModel.fresh(spec, seed=0).save(tmp_path / "fresh")
    command = ["compress", tmp_path / "fresh", "--recipe", recipe, "--out", tmp_path / "out"]
    answer = nas_face(*command)
    assert answer.code == 2
    [line] = answer.err.splitlines()
    assert "fresh: its weights were never trained" in line
    assert not (tmp_path / "out").exists()
    assert nas_face(*command, "--allow-untrained").code == 0
    assert (tmp_path / "out" / "manifest.json").exists()


def test_json_is_what_the_folder_says(nas_face, model, recipe, tmp_path):
    command = ["compress", model, "--recipe", recipe, "--out", tmp_path / "out"]
    answer = nas_face(*command, "--json")
    assert answer.code == 0
    data = json.loads(answer.out)
    assert data == json.loads((tmp_path / "out" / "compression.json").read_text(encoding="utf-8"))
    assert [each["verdict"] for each in data["steps"]][:2] == ["kept", "kept"]
    with filelock.FileLock(tmp_path / "out" / "lock"):
        refused = nas_face(*command)
    assert refused.code == 2
    assert "another process compresses into it" in refused.err.splitlines()[-1]


def test_whole_front_before_and_after(nas_face, run, recipe, tmp_path):
    shown = json.loads(nas_face("pareto", run, "--json").out)
    trials = [each["trial"] for each in shown["front"]]
    out = tmp_path / "out"
    command = ["compress", run, "--recipe", recipe, "--all", "--out", out]
    answer = nas_face(*command)
    assert answer.code == 0, answer.err
    names = {path.name for path in out.iterdir()}
    front = {f"front-tiny.{suffix}" for suffix in ("json", "html", "png")}
    assert names == front | {f"trial-{each}" for each in trials}
    page = (out / "front-tiny.html").read_text(encoding="utf-8")
    assert f"Trial {json.loads((out / 'front-tiny.json').read_text())['best_after']} wins" in page
    for each in trials:
        assert (out / f"trial-{each}" / "model.int8.onnx").exists()
    assert f"member {len(trials)} of {len(trials)} of the front" in answer.err
    assert answer.out.count("before") >= len(trials)
    steps = out / f"trial-{trials[0]}" / "steps"
    made = {path: path.stat().st_mtime_ns for path in steps.rglob("*") if path.is_file()}
    data = json.loads(nas_face(*command, "--json").out)
    assert data == json.loads((out / "front-tiny.json").read_text(encoding="utf-8"))
    assert [each["trial"] for each in data["members"]] == trials
    assert {path: path.stat().st_mtime_ns for path in made} == made
    for each in data["members"]:
        folder = out / f"trial-{each['trial']}"
        table = json.loads((folder / "compression.json").read_text(encoding="utf-8"))
        assert each["before"]["judged"] == table["steps"][0]["files"][0]["judged"]
        assert each["after"]["judged"] == table["delivered"][0]["judged"]
        assert each["after"]["madds"] <= 0.7 * each["before"]["madds"]
        assert each["after"]["size_bytes"] == table["delivered"][0]["size_bytes"]
    for side in ("before", "after"):
        assert data[f"best_{side}"] == nearest(data["members"], side)
        for each in data["members"]:
            assert each[side]["on_front"] == (not beaten(each, data["members"], side))


def losses(member, side):
    standing = member[side]
    return (-standing["judged"], standing["latency_ms"], standing["size_bytes"])


def beaten(member, members, side):
    own = losses(member, side)
    return any(
        other != own and all(a <= b for a, b in zip(other, own, strict=True))
        for other in (losses(each, side) for each in members)
    )


def nearest(members, side):
    """The member of the front nearest to the best of every axis, each scaled to the front."""
    front = [each for each in members if not beaten(each, members, side)]
    columns = list(zip(*(losses(each, side) for each in front), strict=True))

    def distance(member):
        return sum(
            ((value - min(column)) / ((max(column) - min(column)) or 1.0)) ** 2
            for value, column in zip(losses(member, side), columns, strict=True)
        )

    return min(front, key=distance)["trial"]


def test_whole_front_is_of_a_run_and_takes_no_trial(nas_face, run, model, recipe):
    answer = nas_face("compress", run, "--recipe", recipe, "--all", "--trial", 0)
    assert answer.code == 2
    assert "--all takes every member of the front; leave --trial out" in answer.err
    alone = shutil.copytree(model, run / "alone")
    answer = nas_face("compress", alone, "--recipe", recipe, "--all")
    assert answer.code == 2
    assert "not a run folder" in answer.err
