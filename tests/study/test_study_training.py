"""Training one network in full: a trial of a run, a published network, a spec file."""

import json
from dataclasses import replace

import pytest
from tiny_study import write_study

from nas_face.arch.zoo import network
from nas_face.errors import ConfigError, TrainingDiverged
from nas_face.nn import FaceModel
from nas_face.study.compression.job import compress_job
from nas_face.study.evaluate import verify_on
from nas_face.study.networks import design_of, embedder_of
from nas_face.study.report import front_of
from nas_face.study.training import study_config, train_network, training_job


@pytest.fixture
def quiet():
    return lambda report: None


@pytest.fixture(scope="module")
def knee(finished):
    return front_of(finished).knee


def test_trial_of_a_run(copied, knee, quiet):
    job = training_job(str(copied.folder), knee, "", {}, None)
    assert job.out == copied.folder / "trained" / f"trial-{knee}"
    result = train_network(job, quiet)
    model = FaceModel.load(job.out)
    assert model.description.arch_id == copied.trial(knee).user_attrs["arch_id"]
    assert model.description.cost.madds == copied.trial(knee).values[1]
    assert verify_on(model, copied.faces().test_pairs).auc == pytest.approx(result.auc)
    names = ["model.json", "trained_on.json", "weights.safetensors"]
    assert sorted(path.name for path in job.out.iterdir()) == names


def test_published_network_at_a_small_size(tmp_path, quiet):
    study = write_study(tmp_path)
    job = training_job("shufflefacenet_1x", None, str(study), {}, tmp_path / "out")
    assert job.spec.input_shape == (3, 32, 32)
    overrides = {"full_training.epochs": 1}
    job = training_job("shufflefacenet_1x", None, str(study), overrides, tmp_path / "out")
    seen = []
    train_network(job, seen.append)
    assert [(report.epoch, report.n_epochs) for report in seen] == [(1, 1)]
    described = FaceModel.load(tmp_path / "out").description
    assert described.embedding_size == network("shufflefacenet_1x").spec.embedding_size
    assert "trained 1 epochs on 200 images with seed 0 in study tiny" in described.lineage


def test_spec_file(finished, knee, tmp_path):
    spec = finished.spec(finished.trial(knee))
    path = tmp_path / "mine.json"
    path.write_text(json.dumps(spec.to_data()), encoding="utf-8")
    job = training_job(str(path), None, str(finished.folder), {}, None)
    assert job.spec == spec
    assert job.out.parts[-3:] == ("runs", "trained", "mine")
    assert job.config.full_training == finished.config.full_training


def test_interrupted_training_ends_as_an_uninterrupted_one(copied, knee, quiet, tmp_path):
    def interrupt(report):
        if report.epoch == 2:
            raise KeyboardInterrupt

    cut = training_job(str(copied.folder), knee, "", {}, tmp_path / "cut")
    with pytest.raises(KeyboardInterrupt):
        train_network(cut, interrupt)
    assert (tmp_path / "cut" / "checkpoints").is_dir()
    seen = []
    train_network(cut, seen.append)
    assert [report.epoch for report in seen] == [2]
    train_network(replace(cut, out=tmp_path / "whole"), quiet)
    one, other = (tmp_path / name / "weights.safetensors" for name in ("cut", "whole"))
    assert one.read_bytes() == other.read_bytes()
    names = ["model.json", "trained_on.json", "weights.safetensors"]
    assert sorted(path.name for path in cut.out.iterdir()) == names


def test_training_that_diverges_says_so(copied, knee, quiet, tmp_path):
    job = training_job(
        str(copied.folder), knee, "", {"full_training.learning_rate": 1e30}, tmp_path / "out"
    )
    with pytest.raises(TrainingDiverged, match=r"lower training\.learning_rate"):
        train_network(job, quiet)
    assert not (tmp_path / "out" / "model.json").exists()


def test_place_that_cannot_be_written_shows_before_the_training(copied, knee, tmp_path):
    (tmp_path / "file").touch()
    job = training_job(str(copied.folder), knee, "", {}, tmp_path / "file")
    seen = []
    with pytest.raises(FileExistsError):
        train_network(job, seen.append)
    assert seen == []


@pytest.mark.parametrize(
    "take",
    [
        embedder_of,
        lambda path, trial: training_job(str(path), trial, "quickstart", {}, None),
        lambda path, trial: compress_job(path, trial, "quickstart", {}, None, None),
    ],
    ids=["verify", "train", "compress"],
)
def test_run_needs_a_trial_and_nothing_else_takes_one(take, finished, tmp_path):
    with pytest.raises(ConfigError, match="is a run: say which trial with --trial N"):
        take(finished.folder, None)
    with pytest.raises(ConfigError, match="--trial goes with a run folder"):
        take(tmp_path, 3)


def test_study_by_path_by_run_or_not_at_all(finished, tiny, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert study_config("studies/quickstart.yaml", {}).name == "quickstart"
    assert study_config(str(finished.folder), {"seed": 5}).seed == 5
    with pytest.raises(ConfigError, match="nope: no such study file or run folder"):
        study_config("nope", {})


def test_compression_takes_the_full_training_where_there_is_one(copied, knee, quiet):
    arguments = (copied.folder, knee, "", {}, None, None)
    searched = compress_job(*arguments)
    assert searched.name == f"trial {knee}, as the search trained it"
    train_network(training_job(str(copied.folder), knee, "", {}, None), quiet)
    full = compress_job(*arguments)
    assert full.name == f"trial {knee}, trained in full"
    assert full.folder != searched.folder
    assert full.faces.pairs.images.identities == copied.faces().split.test.identities


def test_tree_of_a_model_folder_is_the_one_of_its_spec(finished, knee):
    trial = finished.trial(knee)
    folder = finished.folder / "candidates" / trial.user_attrs["arch_id"]
    design = design_of(str(folder))
    assert design.network.cost(design.input) == finished.spec(trial).cost()
    assert design.input == finished.spec(trial).input
