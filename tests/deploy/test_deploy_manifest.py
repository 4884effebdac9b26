"""The manifest: read back, whole files, and what embeddings may be compared."""

import hashlib
import json
from dataclasses import replace

import numpy as np
import onnx
import pytest

from nas_face.deploy import open_artefact, quantise_onnx
from nas_face.deploy.low_bit import quantise_weights
from nas_face.deploy.manifest import (
    POINTS,
    Alignment,
    EmbeddingOutput,
    ImageInput,
    Manifest,
    ModelFile,
    Normalisation,
    Part,
    Threshold,
)
from nas_face.errors import DeployError

SIZE = 56
TEMPLATE = tuple((float(x), float(x) + 2) for x in range(5))


def manifest_of(*files, **changes):
    parts = {
        "model": "abc",
        "input": ImageInput(height=SIZE, width=SIZE, name="image"),
        "normalisation": Normalisation(mean=127.5, scale=127.5, channel_order="RGB"),
        "embedding": EmbeddingOutput(size=128, name="embedding"),
        "alignment": Alignment(points=TEMPLATE),
        "recommended": "fp32",
        "files": files,
    }
    return Manifest(**{**parts, **changes})


@pytest.fixture
def artefact(mobile_file, tmp_path):
    """A folder with one ONNX file, and its manifest."""
    (tmp_path / "model.onnx").write_bytes(mobile_file.read_bytes())
    (tmp_path / "card.json").write_text("{}", encoding="utf-8")
    file = ModelFile(
        runtime="onnxruntime",
        precision="fp32",
        parts=(Part.of(tmp_path / "model.onnx"),),
        card=Part.of(tmp_path / "card.json"),
        thresholds=(
            Threshold(fmr=0.01, cosine=0.2, low=0.1, high=0.3, holds=True),
            Threshold(fmr=0.001, cosine=0.999, low=0.99, high=1.0),
        ),
    )
    manifest = manifest_of(file)
    manifest.write(tmp_path)
    return tmp_path, manifest


def edit(folder, change):
    path = folder / "manifest.json"
    data = json.loads(path.read_text(encoding="utf-8"))
    change(data)
    path.write_text(json.dumps(data), encoding="utf-8")


def test_a_manifest_is_read_back_as_it_was_written(artefact):
    folder, manifest = artefact
    assert Manifest.read(folder) == manifest


def test_a_part_has_the_digest_and_length_of_its_file(artefact):
    folder, manifest = artefact
    content = (folder / "model.onnx").read_bytes()
    (part,) = manifest.files[0].parts
    assert part.sha256 == hashlib.sha256(content).hexdigest()
    assert part.size_bytes == len(content) == manifest.files[0].size_bytes


def test_all_that_a_caller_must_know_stands_in_the_json(artefact):
    folder, _ = artefact
    data = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
    assert data["version"] == 1
    assert data["input"] == {
        "height": SIZE,
        "width": SIZE,
        "name": "image",
        "layout": "NCHW",
        "dtype": "float32",
        "channel_order": "RGB",
        "low": 0,
        "high": 255,
    }
    assert data["normalisation"]["in_graph"] is True
    assert data["embedding"]["unit_length"] is False and data["embedding"]["flip"] == "add"
    assert len(data["alignment"]["points"]) == len(data["alignment"]["names"]) == 5


@pytest.mark.parametrize(
    "changes",
    [
        {"model": "abd"},
        {"input": ImageInput(height=SIZE, width=64, name="image")},
        {"normalisation": Normalisation(mean=127.5, scale=128.0, channel_order="RGB")},
        {"normalisation": Normalisation(mean=127.5, scale=127.5, channel_order="BGR")},
        {"embedding": EmbeddingOutput(size=256, name="embedding")},
        {"alignment": Alignment(points=((0.0, 0.0), *TEMPLATE[1:]))},
        {"alignment": None},
    ],
)
def test_embeddings_of_another_convention_have_another_contract(artefact, changes):
    _, manifest = artefact
    assert replace(manifest, **changes).embedding_contract != manifest.embedding_contract


def test_precision_and_thresholds_do_not_change_the_contract(artefact):
    _, manifest = artefact
    other = replace(manifest.files[0], precision="int8", thresholds=())
    changed = replace(manifest, files=(other,), recommended="int8")
    assert changed.embedding_contract == manifest.embedding_contract


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda data: data.update(version=2), "must be of version 1, got 2"),
        (lambda data: data.pop("version"), "must be of version 1, got None"),
        (
            lambda data: data["input"].update(chanel_order="RGB"),
            r"chanel_order is not a known key.*did you mean 'channel_order'",
        ),
        (lambda data: data["input"].pop("height"), "input.height: "),
        (lambda data: data["input"].update(height="56"), "input.height: .*got '56'"),
        (lambda data: data["normalisation"].update(mean=0.5), "embedding_contract does not fit"),
        (lambda data: data.update(recommended="int4"), "recommended precision 'int4'"),
        (lambda data: data["files"].append(data["files"][0]), "two files are fp32"),
        (
            lambda data: data["files"][0]["parts"][0].update(name="../model.onnx"),
            "must lie in the folder",
        ),
        (lambda data: data["files"][0].update(parts=[]), "lists no file"),
        (lambda data: data["files"][0]["thresholds"][0].update(cosine=1.5), "cosine in"),
        (lambda data: data["alignment"].update(points=[[0, 0]]), "five points"),
    ],
)
def test_a_manifest_that_breaks_a_rule_is_refused_in_one_line(artefact, change, message):
    folder, _ = artefact
    edit(folder, change)
    with pytest.raises(DeployError, match=message) as failure:
        Manifest.read(folder)
    assert str(failure.value).startswith(str(folder / "manifest.json"))
    assert "\n" not in str(failure.value)


@pytest.mark.parametrize("text", ["", "[]", "{", "\xff"])
def test_what_is_no_manifest_is_refused_in_one_line(artefact, text):
    folder, _ = artefact
    (folder / "manifest.json").write_text(text, encoding="latin-1")
    with pytest.raises(DeployError, match="not valid JSON|must hold a mapping") as failure:
        Manifest.read(folder)
    assert "\n" not in str(failure.value)


def test_a_folder_without_a_manifest_is_no_artefact(tmp_path):
    with pytest.raises(DeployError, match="not an artefact, manifest.json cannot be read"):
        open_artefact(tmp_path)


@pytest.mark.parametrize("name", ["model.onnx", "card.json"])
def test_a_missing_file_is_named(artefact, name):
    folder, _ = artefact
    (folder / name).unlink()
    with pytest.raises(DeployError, match=f"{name}: is missing, but manifest.json lists it"):
        open_artefact(folder)


@pytest.mark.parametrize("name", ["model.onnx", "card.json"])
def test_one_flipped_byte_is_seen(artefact, name):
    folder, _ = artefact
    content = bytearray((folder / name).read_bytes())
    content[len(content) // 2] ^= 1
    (folder / name).write_bytes(content)
    with pytest.raises(DeployError, match=f"{name}: its content is not the one"):
        open_artefact(folder)


def test_a_shortened_file_is_seen(artefact):
    folder, _ = artefact
    content = (folder / "model.onnx").read_bytes()
    (folder / "model.onnx").write_bytes(content[:-1])
    with pytest.raises(DeployError, match="model.onnx: is .* bytes long where"):
        open_artefact(folder)


def test_a_file_of_another_size_than_the_manifest_says_is_refused(artefact):
    folder, manifest = artefact
    replace(manifest, embedding=EmbeddingOutput(size=64, name="embedding")).write(folder)
    with pytest.raises(DeployError, match="56x56 to 128 values where .* says 56x56 to 64"):
        open_artefact(folder)


def test_an_unknown_precision_names_the_near_ones(artefact):
    folder, _ = artefact
    with pytest.raises(DeployError, match="no file of precision 'fp23'; did you mean 'fp32'"):
        open_artefact(folder, precision="fp23")


def test_a_runtime_without_a_file_is_refused(artefact):
    folder, _ = artefact
    with pytest.raises(DeployError, match="no fp32 file for openvino; .* onnxruntime"):
        open_artefact(folder, runtime="openvino")


def test_openvino_comes_first_where_it_is_installed(artefact, monkeypatch):
    folder, manifest = artefact
    other = replace(manifest.files[0], runtime="openvino")
    replace(manifest, files=(*manifest.files, other)).write(folder)
    monkeypatch.setattr("nas_face.deploy.artefact.openvino_missing", lambda: None)
    assert open_artefact(folder).file.runtime == "openvino"
    monkeypatch.setattr("nas_face.deploy.artefact.openvino_missing", lambda: "not here")
    assert open_artefact(folder).file.runtime == "onnxruntime"
    with pytest.raises(DeployError, match="not here"):
        open_artefact(folder, runtime="openvino")


def test_the_score_is_the_cosine_of_crops_with_their_mirror_images(artefact, mobile, faces):
    folder, _ = artefact
    a, b = (mobile.embed(each[None])[0].astype(np.float64) for each in faces[:2])
    cosine = a @ b / np.linalg.norm(a) / np.linalg.norm(b)
    model = open_artefact(folder)
    assert model.score(faces[0], faces[1]) == pytest.approx(cosine, abs=1e-5)
    assert model.score(faces[0], faces[0]) == pytest.approx(1.0)


def test_a_pair_is_the_same_from_the_threshold_of_the_rate_on(artefact, faces):
    folder, _ = artefact
    model = open_artefact(folder)
    scores = [model.score(faces[0], each) for each in faces[1:]]
    other = faces[1 + int(np.argmax(scores))]
    score = max(scores)
    assert 0.2 <= score < 0.999  # between the two thresholds
    assert model.same(faces[0], other, fmr=0.01) == (True, score)
    assert model.same(faces[0], other, fmr=0.001) == (False, score)
    assert model.same(faces[0], faces[0]).same


def test_a_rate_without_a_threshold_names_those_that_there_are(artefact, faces):
    folder, manifest = artefact
    with pytest.raises(DeployError, match="no threshold for FMR 1e-05 at fp32; .* 0.01, 0.001"):
        open_artefact(folder).same(faces[0], faces[1], fmr=1e-5)
    replace(manifest, files=(replace(manifest.files[0], thresholds=()),)).write(folder)
    with pytest.raises(DeployError, match="the card has none"):
        open_artefact(folder).same(faces[0], faces[1])


def test_a_crop_of_another_size_is_refused(artefact, faces):
    folder, _ = artefact
    with pytest.raises(ValueError, match="must be uint8 of shape"):
        open_artefact(folder).score(faces[0][:50], faces[1])


def test_there_are_five_points_in_the_order_of_the_template():
    assert len(POINTS) == 5
    with pytest.raises(DeployError, match="five points"):
        Alignment(points=TEMPLATE, names=POINTS[::-1])


def insightface_feeds_plain_pixels(path):
    """The rule by which its `ArcFaceONNX` guesses (insightface 0.7): by the names of the first
    eight nodes."""
    names = [node.name for node in onnx.load(path).graph.node[:8]]
    return any(each.startswith(("Sub", "_minus")) for each in names) and any(
        each.startswith(("Mul", "_mul")) for each in names
    )


@pytest.mark.parametrize("precision", ["fp32", "int8", "w4"])
def test_insightface_feeds_our_files_the_pixels_that_they_take(
    mobile_file, faces, tmp_path, precision
):
    quantise_onnx(mobile_file, tmp_path / "int8.onnx", faces[:8])
    quantise_weights(mobile_file, tmp_path / "w4.onnx", bits=4)
    path = mobile_file if precision == "fp32" else tmp_path / f"{precision}.onnx"
    assert insightface_feeds_plain_pixels(path)
