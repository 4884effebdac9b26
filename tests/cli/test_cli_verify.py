"""`nas-face verify` as a user types it."""

import json
import os
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from nas_face.data import load_pairs
from nas_face.deploy import Convention, OnnxEmbedder, export_onnx, export_openvino
from nas_face.nn import FaceModel
from nas_face.verify import ThresholdCard


@pytest.fixture
def foreign(tmp_path):
    """A random linear network as an ONNX file that says nothing of its input."""
    weights = np.random.default_rng(0).normal(0, 0.1, (3 * 32 * 32, 16)).astype(np.float32)
    graph = helper.make_graph(
        [
            helper.make_node("Flatten", ["data"], ["flat"]),
            helper.make_node("MatMul", ["flat", "weights"], ["fc1"]),
        ],
        "foreign",
        [helper.make_tensor_value_info("data", TensorProto.FLOAT, (1, 3, 32, 32))],
        [helper.make_tensor_value_info("fc1", TensorProto.FLOAT, (1, 16))],
        [numpy_helper.from_array(weights, "weights")],
    )
    opset = [helper.make_opsetid("", 13)]
    path = tmp_path / "foreign.onnx"
    onnx.save(helper.make_model(graph, opset_imports=opset, ir_version=8), path)
    return path


@pytest.fixture
def listed(made_up_faces):
    """A list of 12 genuine and 132 impostor pairs."""
    people = range(12)
    rows = [f"p{a}/p{a}_0001.png,p{b}/p{b}_0002.png,{int(a == b)}" for a in people for b in people]
    path = made_up_faces / "pairs.csv"
    path.write_text("\n".join(["first,second,same", *rows]), encoding="utf-8")
    return path


def test_a_foreign_file_needs_its_input_told(nas_face, foreign):
    refused = nas_face("verify", foreign, "--pairs", "orl")
    assert refused.code == 2
    assert refused.err.rstrip().endswith("--scale 127.5; and --rgb or --bgr")
    assert len(refused.err.splitlines()) == 1
    given = ("--mean", "127.5", "--scale", "128", "--rgb")
    answer = nas_face("verify", foreign, "--pairs", "orl", *given, "--threads", 2)
    assert answer.code == 0
    assert "embedded 400 images" in answer.err
    assert "TAR at FAR 0.001 " in answer.out
    assert "refused: takes 10,000 impostors" in answer.out
    assert "1800 same, 1800 different (impostors)" in answer.out


def test_what_is_said_of_the_input_reaches_the_file(nas_face, foreign, listed, tmp_path):
    given = ("--mean", "100,110,120", "--scale", "60", "--layout", "nchw", "--output", "fc1")
    for order in ("rgb", "bgr"):
        keep = ("--embeddings", tmp_path / f"{order}.npy", "--no-flip")
        command = ("verify", foreign, "--pairs", listed, *given, f"--{order}", *keep)
        assert nas_face(*command).code == 0
        said = Convention(mean=(100.0, 110.0, 120.0), scale=(60.0,), order=order.upper())
        crops = load_pairs(listed, height=32, width=32).images.batch(np.arange(24))
        expected = OnnxEmbedder(foreign, said).embed(crops, flip=False)
        np.testing.assert_allclose(np.load(tmp_path / f"{order}.npy"), expected, rtol=1e-5)


@pytest.mark.parametrize(("name", "export"), [("m.onnx", export_onnx), ("m.xml", export_openvino)])
def test_a_model_and_its_export_give_the_same(name, export, nas_face, model, tmp_path):
    path = tmp_path / name
    export(FaceModel.load(model), path)
    data = json.loads(
        nas_face("verify", model, path, "--pairs", "orl", "--allow-overlap", "--json").out
    )["models"]
    assert list(data) == [model.name, name]
    assert data[name]["auc"] == pytest.approx(data[model.name]["auc"], abs=1e-4)
    shown = nas_face("verify", model, path, "--pairs", "orl", "--allow-overlap").out
    assert f"{data[name]['auc']:.5f}" in shown


@pytest.mark.parametrize(
    ("graph", "weights", "told"),
    [
        (b"<net", b"", "m.xml: not an OpenVINO file that can run here"),
        (b"<net", None, "m.bin: there is no such file"),
    ],
)
def test_a_broken_openvino_file_is_one_line(graph, weights, told, nas_face, tmp_path):
    (tmp_path / "m.xml").write_bytes(graph)
    if weights is not None:
        (tmp_path / "m.bin").write_bytes(weights)
    answer = nas_face("verify", tmp_path / "m.xml", "--pairs", "orl")
    assert answer.code == 1
    assert told in answer.err
    assert len(answer.err.splitlines()) == 1


def test_options_about_the_input_do_not_go_with_openvino(nas_face, model, tmp_path):
    export_openvino(FaceModel.load(model), tmp_path / "m.xml")
    answer = nas_face("verify", tmp_path / "m.xml", "--pairs", "orl", "--mean", "127")
    assert answer.code == 2
    assert "prepares pixels itself" in answer.err


def test_options_about_the_input_go_to_foreign_files_only(nas_face, model, foreign):
    given = ("--mean", "127.5", "--scale", "128", "--rgb")
    assert (
        nas_face("verify", model, foreign, "--pairs", "orl", "--allow-overlap", *given).code == 0
    )
    refused = nas_face("verify", model, "--pairs", "orl", *given)
    assert refused.code == 2
    assert "prepares pixels itself" in refused.err


def test_curves_thresholds_groups_and_kept_embeddings_at_once(nas_face, model, tmp_path):
    people = "\n".join(f"s{n},{'a' if n < 15 else 'b'}" for n in range(1, 41))
    (tmp_path / "people.csv").write_text(f"identity,half\n{people}\n", encoding="utf-8")
    command = (
        "verify",
        model,
        "--pairs",
        "orl",
        "--allow-overlap",
        "--embeddings",
        tmp_path / "e.npy",
        "--intervals",
    )
    options = ("--plot", tmp_path / "roc.png", "--plot", tmp_path / "roc.html")
    options += ("--card", tmp_path / "card.json", "--groups", tmp_path / "people.csv")
    answer = nas_face(*command, *options)
    assert answer.code == 0
    assert "embedded 400 images" in answer.err
    assert "no threshold: a threshold for FMR 0.0001 " in answer.err
    for name in ("roc.png", "roc.html", "card.json"):
        assert f"written: {tmp_path / name}" in answer.err
        assert (tmp_path / name).stat().st_size
    assert "intervals of 95 %: bootstrap by identities" in answer.out
    assert "Groups by half" in answer.out
    card = ThresholdCard.from_json((tmp_path / "card.json").read_text(encoding="utf-8"))
    assert (card.model, card.precision, card.pairs) == (model.name, "fp32", "orl")
    again = nas_face(*command, *options, "--json")
    assert "embeddings were kept, none computed" in again.err
    data = json.loads(again.out)
    assert data["bootstrap"]["by"] == "identities"
    assert [each["name"] for each in data["groups"][0]["groups"]] == ["a", "b"]
    assert len(data["card"]["thresholds"]) == 2


def test_thresholds_are_checked_on_other_pairs(nas_face, model, listed, tmp_path):
    card = tmp_path / "card.json"
    command = (
        "verify",
        model,
        "--pairs",
        "orl",
        "--allow-overlap",
        "--card",
        card,
        "--card-check",
        listed,
    )
    answer = nas_face(*command)
    assert answer.code == 0
    assert "checked on pairs.csv: 12 same, 132 different" in answer.out
    data = json.loads((tmp_path / "card.check.json").read_text(encoding="utf-8"))
    assert [each["fmr"] for each in data["thresholds"]] == [0.01, 0.001]


def test_a_gallery_needs_no_pairs(nas_face, model, made_up_faces):
    data = json.loads(nas_face("verify", model, "--gallery", made_up_faces, "--json").out)
    assert (data["gallery"]["n_genuine"], data["gallery"]["n_impostor"]) == (36, 594)
    shown = nas_face("verify", model, "--gallery", made_up_faces).out
    assert "36 same, 594 different" in shown
    assert "rank 1" in shown


MISUSE = {
    "": "give --pairs, --gallery or --templates",
    "--plot roc.png --gallery x": "--plot goes with --pairs",
    "--card c.json --gallery x": "--card goes with --pairs",
    "--pairs orl --card-check orl": "--card-check goes with --card",
    "--pairs orl --card c.json --card-check orl": "orl made the thresholds; give other pairs",
    "--pairs orl --plot roc.gif": r"roc.gif: the name of a plot must end in",
    "--pairs orl --mean x": "--mean takes one number, or three as in 1,2,3; got 'x'",
    "--pairs orl --scale 1,2": "--scale takes one number, or three, got 1,2",
    "--pairs orl --layout nchv": "--layout is nchw or nhwc, got 'nchv'",
    "--pairs orl --input-size 0": "an image size is N or HEIGHTxWIDTH",
    "--pairs orl --group-far 2": "--group-far must be above 0 and at most 1",
    "--pairs orl --allow-overlap --embeddings e.txt": "whose name ends in .npy",
    "--pairs orl --groups nope.csv": "nope.csv: there is no such",
    "--pairs orl --protocol FF": "orl: only CFP's folder has protocols to choose from",
    "--gallery nope": "nope: there is no such file or folder",
    "--templates nope": "nope: one file must be named",
}


@pytest.mark.parametrize("options", MISUSE)
def test_misuse_is_one_line(options, nas_face, model, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    answer = nas_face("verify", model, *options.split())
    assert answer.code == 2
    assert MISUSE[options] in answer.err
    assert len(answer.err.splitlines()) == 1


@pytest.mark.faces
@pytest.mark.slow
def test_a_known_good_model_on_real_pairs(nas_face, tmp_path):
    """A trained MobileFaceNet, 98.8 % on folds 1 to 5 of LFW; here on 40 pairs of them."""
    folder = os.environ.get("NAS_FACE_DATA")
    if folder is None:
        pytest.skip("NAS_FACE_DATA names no folder of faces")
    lines = (Path(folder) / "lfw_dev_pairs.txt").read_text(encoding="utf-8").splitlines()
    listed = tmp_path / "pairs.txt"
    listed.write_text("\n".join([*lines[1:21], *lines[301:321]]), encoding="utf-8")
    model = Path(folder) / "teachers" / "mobilefacenet_512.onnx"
    given = ("--mean", "127", "--scale", "128", "--rgb", "--images", Path(folder) / "lfw")
    data = json.loads(nas_face("verify", model, "--pairs", listed, *given, "--json").out)
    assert (data["n_same"], data["n_different"]) == (20, 20)
    assert data["auc"] > 0.97


def test_a_model_is_not_judged_by_its_training_set(nas_face, model):
    """The model has seen some of the people of all pairs, and none of the pairs of its run."""
    refused = nas_face("verify", model, "--pairs", "orl")
    assert refused.code == 2
    assert "identities were trained on, such as 's" in refused.err
    assert "--allow-overlap" in refused.err
