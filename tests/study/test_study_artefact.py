"""The folder that a compression leaves: whole, self-describing, and run by ten lines of Python."""

import dataclasses
import hashlib
import json
import shutil

import numpy as np
import onnxruntime
import pytest

from nas_face.arch.spec import ArchSpec
from nas_face.deploy import export_onnx, open_artefact, quantise_onnx
from nas_face.deploy.manifest import Manifest
from nas_face.deploy.openvino import export_openvino, openvino_missing
from nas_face.errors import DeployError
from nas_face.nn import FaceModel
from nas_face.study.compression.artefact import write_artefact
from nas_face.study.compression.cards import NamedPairs
from nas_face.study.compression.lineage import Origin
from nas_face.study.compression.results import FileResult, StepResult
from nas_face.study.compression.runtimes import file_name
from nas_face.study.compression.state import PlacedFile
from nas_face.study.opening import open_model
from nas_face.verify import ThresholdCard, cosine_scores


def result(precision="fp32", runtime="onnxruntime", latency_ms=2.0, **changes):
    figures = {
        "file": file_name(precision, runtime),
        "size_bytes": 1000,
        "latency_ms": latency_ms,
        "speedup": 2 / latency_ms,
        "accuracy": 0.9,
        "accuracy_std": 0.01,
        "auc": 0.95,
        "eer": 0.1,
        "judged": 0.9,
        "min_cosine": 0.99,
        "p01_cosine": 0.995,
        "mean_cosine": 0.999,
        "max_abs_difference": 0.01,
    }
    return FileResult(runtime=runtime, precision=precision, **{**figures, **changes})


def step(*files, name="original", verdict="kept"):
    return StepResult(
        step=name,
        kind=name.split()[-1],
        verdict=verdict,
        madds=1000,
        params=100,
        files=files,
        seconds=1.0,
    )


@pytest.fixture(scope="module")
def model(finished):
    return finished.model(next(trial for trial in finished.trials() if trial.values))


@pytest.fixture(scope="module")
def faces(finished):
    return finished.faces()


@pytest.fixture(scope="module")
def write(model, faces, tmp_path_factory):
    """A function that makes an artefact of two ONNX files, and one for OpenVINO where that is."""
    made = tmp_path_factory.mktemp("made")
    export_onnx(model, made / "step.onnx")
    quantise_onnx(made / "step.onnx", made / "step8.onnx", faces.split.train.batch(np.arange(8)))
    files = [
        PlacedFile(path=made / "step8.onnx", result=result("int8", latency_ms=1.0)),
        PlacedFile(path=made / "step.onnx", result=result()),
    ]
    if openvino_missing() is None:
        export_openvino(model, made / "step.xml")
        files.append(PlacedFile(path=made / "step.xml", result=result(runtime="openvino")))

    def write(out, **changes):
        arguments = {
            "title": "tiny",
            "origin": Origin(
                path="runs/tiny",
                trial=3,
                model=model,
                recipe={"name": "small", "steps": []},
                training={"epochs": 2},
                seed=5,
                train=faces.split.train,
            ),
            "results": [step(result()), step(*(each.result for each in files), name="1 quantise")],
            "judge": NamedPairs(name="search pairs", pairs=faces.search_pairs),
            "report": NamedPairs(name="test pairs", pairs=faces.test_pairs),
        }
        return write_artefact(out, model, files, **{**arguments, **changes})

    return write


@pytest.fixture(scope="module")
def done(write, tmp_path_factory):
    """A finished artefact; not to be changed."""
    out = tmp_path_factory.mktemp("artefact") / "out"
    write(out)
    return out


@pytest.fixture
def copied(done, tmp_path):
    shutil.copytree(done, tmp_path / "out")
    return tmp_path / "out"


def read(path):
    return json.loads(path.read_text(encoding="utf-8"))


def scores_of(path, pairs):
    """Cosines by ONNX Runtime itself."""
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    images = pairs.images.batch(np.arange(len(pairs.images)))
    x = images.transpose(0, 3, 1, 2).astype(np.float32)
    y = session.run(None, {"image": x})[0] + session.run(None, {"image": x[..., ::-1].copy()})[0]
    return cosine_scores(y, pairs.first, pairs.second)


def test_ten_lines_embed_two_crops_and_decide(done, faces):
    from nas_face.deploy import open_artefact

    crop_a, crop_b = faces.test_pairs.images.batch(np.array([0, 1]))
    model = open_artefact(done, precision="int8")
    a, b = model.embed(np.stack([crop_a, crop_b]))
    same, score = model.same(crop_a, crop_b, fmr=1e-2)
    (threshold,) = (each for each in model.file.thresholds if each.fmr == 1e-2)

    assert score == pytest.approx(a @ b / np.linalg.norm(a) / np.linalg.norm(b), abs=1e-5)
    assert same == (score >= threshold.cosine)


def test_the_folder_is_a_model_folder(done, model, faces):
    crops = faces.test_pairs.images.batch(np.arange(4))
    np.testing.assert_array_equal(FaceModel.load(done).embed(crops), model.embed(crops))


def test_the_manifest_says_what_the_network_takes(done, model):
    manifest = Manifest.read(done)
    how = model.description.preprocessing
    assert (manifest.input.height, manifest.input.width) == (model.height, model.width)
    assert (manifest.normalisation.mean, manifest.normalisation.scale) == (how.mean, how.scale)
    assert manifest.embedding.size == model.description.embedding_size
    assert manifest.model == model.digest
    assert manifest.recommended == "int8"  # of the first file


def test_the_points_are_insightfaces_at_the_size_of_the_crops(done, model):
    published = np.array(  # insightface, utils/face_align.py, arcface_dst, 112x112
        [
            [38.2946, 51.6963],
            [73.5318, 51.5014],
            [56.0252, 71.7366],
            [41.5493, 92.3655],
            [70.7299, 92.2041],
        ]
    )
    alignment = Manifest.read(done).alignment
    assert alignment is not None
    np.testing.assert_allclose(alignment.points, published * model.width / 112, atol=1e-4)


def test_every_file_of_the_manifest_lies_in_the_folder_with_its_digest(done):
    parts = [
        part
        for each in Manifest.read(done).files
        for part in (*each.parts, *([each.card] if each.card else []))
    ]
    assert len(parts) >= 4
    for part in parts:
        content = (done / part.name).read_bytes()
        assert (hashlib.sha256(content).hexdigest(), len(content)) == (
            part.sha256,
            part.size_bytes,
        )


@pytest.mark.parametrize("precision", ["fp32", "int8"])
def test_a_card_promises_what_its_own_pairs_give_and_is_checked_on_others(done, faces, precision):
    name = file_name(precision, "onnxruntime")
    card = ThresholdCard.from_json((done / f"card.{precision}.onnxruntime.json").read_bytes())
    check = read(done / f"card.{precision}.onnxruntime.check.json")
    scores = scores_of(done / name, faces.search_pairs)
    others = scores_of(done / name, faces.test_pairs)
    impostors = scores[~faces.search_pairs.same]
    assert card.model == name and card.pairs == "search pairs" and check["pairs"] == "test pairs"
    assert card.thresholds
    for each, tried in zip(card.thresholds, check["thresholds"], strict=True):
        below = each.cosine - 1e-6
        assert (impostors >= below).mean() <= each.fmr
        assert tried["observed_fmr"] == pytest.approx(
            (others[~faces.test_pairs.same] >= below).mean()
        )


def test_the_manifest_has_the_thresholds_of_the_cards(done):
    for each in Manifest.read(done).files:
        assert each.card is not None
        card = ThresholdCard.from_json((done / each.card.name).read_bytes())
        assert [(one.fmr, one.cosine) for one in each.thresholds] == [
            (one.fmr, one.cosine) for one in card.thresholds
        ]
        assert all(isinstance(one.holds, bool) for one in each.thresholds)


def test_lineage_says_where_it_came_from(done, model, faces):
    lineage = read(done / "lineage.json")
    assert lineage["source"]["path"] == "runs/tiny" and lineage["source"]["trial"] == 3
    assert lineage["source"]["digest"] == lineage["model"]["digest"] == model.digest
    assert lineage["recipe"]["name"] == "small" and lineage["seed"] == 5
    assert lineage["model"]["lineage"] == list(model.description.lineage)
    assert lineage["faces"]["train"]["n_images"] == len(faces.split.train)
    assert lineage["faces"]["judge"]["n_same"] == faces.search_pairs.n_same
    assert [each["step"] for each in lineage["steps"]] == ["original", "1 quantise"]
    assert lineage["versions"]["torch"] and lineage["versions"]["python"]
    assert isinstance(lineage["processor"]["int8_dot_product"], bool)
    for each in lineage["files"]:
        content = (done / each["name"]).read_bytes()
        assert hashlib.sha256(content).hexdigest() == each["sha256"]


def test_lineage_names_nothing_of_this_machine(done, faces):
    text = (done / "lineage.json").read_text(encoding="utf-8")
    assert str(done) not in text and str(done.parent) not in text


def test_equal_compressions_leave_equal_files(done, write, tmp_path):
    write(tmp_path / "out")
    names = {path.relative_to(done) for path in done.rglob("*") if path.is_file()}
    assert names == {
        path.relative_to(tmp_path / "out")
        for path in (tmp_path / "out").rglob("*")
        if path.is_file()
    }
    for name in names:
        assert (done / name).read_bytes() == (tmp_path / "out" / name).read_bytes(), name


def test_other_faces_have_other_digests(done, write, faces, tmp_path):
    pairs = faces.search_pairs
    flipped = dataclasses.replace(pairs, first=pairs.second, second=pairs.first)
    write(tmp_path / "out", judge=NamedPairs(name="search pairs", pairs=flipped))
    before, after = (read(each / "lineage.json") for each in (done, tmp_path / "out"))
    assert before["faces"]["judge"]["digest"] != after["faces"]["judge"]["digest"]
    assert before["faces"]["report"] == after["faces"]["report"]


def test_the_report_needs_nothing_else_and_stays_small(done):
    page = (done / "report.html").read_text(encoding="utf-8")
    assert "src='data:image/png;base64," in page
    assert "://" not in page
    assert "1 quantise" in page
    assert len(page) < 1_000_000


def test_a_flipped_byte_in_any_file_that_runs_is_seen(copied):
    for file in Manifest.read(copied).files:
        assert file.card is not None
        for part in (*file.parts, file.card):
            path = copied / part.name
            content = path.read_bytes()
            path.write_bytes(content[:-9] + bytes([content[-9] ^ 1]) + content[-8:])
            with pytest.raises(DeployError, match=f"{part.name}: its content is not the one"):
                open_artefact(copied, precision=file.precision, runtime=file.runtime)
            path.write_bytes(content)
        assert open_artefact(copied, precision=file.precision, runtime=file.runtime).file == file


def test_every_file_is_one_that_verify_takes_by_itself(done, faces):
    crops = faces.test_pairs.images.batch(np.arange(4))
    for file in Manifest.read(done).files:
        opened = open_model(done / file.parts[0].name, threads=1)
        assert opened.precision == file.precision and opened.folder == done
        artefact = open_artefact(done, precision=file.precision, runtime=file.runtime)
        np.testing.assert_allclose(
            opened.embedder.embed(crops), artefact.embed(crops), rtol=1e-4, atol=1e-4
        )


def test_a_manifest_is_there_last_and_gone_first(copied, write):
    with pytest.raises(DeployError, match="recommended precision"):
        write(copied, recommended="int4")
    with pytest.raises(DeployError, match="not an artefact"):
        open_artefact(copied)


def test_a_design_is_left_as_its_spec(write, finished, tmp_path):
    trial = next(trial for trial in finished.trials() if trial.values)
    spec = ArchSpec.load(finished.candidate_folder(trial) / "spec.json")
    write(tmp_path / "out", spec=spec)
    assert ArchSpec.load(tmp_path / "out" / "spec.json") == spec
    write(tmp_path / "out")
    assert not (tmp_path / "out" / "spec.json").exists()


def test_what_cannot_be_written_is_told_in_one_line(write, tmp_path):
    (tmp_path / "out").write_text("a file", encoding="utf-8")
    with pytest.raises(DeployError, match="out") as failure:
        write(tmp_path / "out")
    assert "\n" not in str(failure.value)
