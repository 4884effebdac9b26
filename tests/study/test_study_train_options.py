"""`nas-face train` beside the plain case: judges by name, warm starts, teachers, kept epochs."""

from dataclasses import replace

import pytest
import torch

from nas_face.data.bundled import list_orl
from nas_face.data.leakage import fingerprints
from nas_face.errors import BuildError, ConfigError, DataError
from nas_face.nn import FaceModel
from nas_face.nn.model import Preprocessing
from nas_face.study.devices import device_kind, device_of
from nas_face.study.report import front_of
from nas_face.study.training import train_network, training_job
from nas_face.study.verification.trained_on import read_trained_on
from nas_face.study.verification.verify import PairSource
from nas_face.study.warm_start import warm_start


def quiet(report):
    return None


@pytest.fixture
def job_of(copied, tmp_path):
    """A job for the knee of the run, into a folder of that name, by overrides and options."""
    knee = front_of(copied).knee

    def make(name, overrides=None, **options):
        given = {"full_training.epochs": 1, **(overrides or {})}
        return training_job(str(copied.folder), knee, "", given, tmp_path / name, **options)

    return make


@pytest.fixture
def judges(tmp_path):
    """Pairs of five of the built-in people."""
    people = ("s3", "s7", "s11", "s20", "s40")
    lines = [f"{who}/1.pgm {who}/2.pgm 1" for who in people]
    lines += [
        f"{one}/1.pgm {other}/1.pgm 0" for one, other in zip(people, people[1:], strict=False)
    ]
    path = tmp_path / "pairs.txt"
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return PairSource(name=str(path), root=list_orl().root), people


def test_with_pairs_everybody_else_is_trained_on(job_of, judges):
    source, people = judges
    job = job_of("out", pairs=source)
    assert job.faces.left_out == tuple(sorted(people))
    assert job.faces.train.n_identities == 35
    assert not set(people) & set(job.faces.train.identities)
    result = train_network(job, quiet)
    assert (result.n_same, result.n_different) == (5, 4)
    assert set(read_trained_on(job.out)) == set(fingerprints(job.faces.train.identities))


def test_weights_that_have_seen_the_judges_are_refused_as_a_start(job_of, judges):
    before = job_of("before")
    train_network(before, quiet)
    everybody = set(before.faces.train.identities)
    source, people = judges
    assert everybody & set(people)
    with pytest.raises(DataError, match=r"pairs\.txt: \d of its 5 identities were trained on"):
        job_of("out", pairs=source, init=before.out)
    allowed = job_of("out", pairs=source, init=before.out, allow_overlap=True)
    assert allowed.faces.train.n_identities == 40


def test_warm_start_takes_weights_preprocessing_and_people(job_of):
    first = job_of("first")
    train_network(first, quiet)
    model = FaceModel.load(first.out)
    other = replace(model.description, preprocessing=Preprocessing(mean=127.0, scale=128.0))
    FaceModel.of(other, model.module.state_dict()).save(first.out)
    start = warm_start(FaceModel.fresh(first.spec, seed=5), first.out)
    assert start.description.preprocessing.scale == 128.0
    for name, value in start.module.state_dict().items():
        assert torch.equal(value, model.module.state_dict()[name]), name
    second = job_of("second", {"full_training.learning_rate": 1e-9}, init=first.out)
    train_network(second, quiet)
    ended = FaceModel.load(second.out)
    assert ended.description.lineage[0] == model.description.lineage[0]
    assert ended.description.lineage[1].startswith("taken as a start, weights ")
    assert len(ended.description.lineage) == 3
    parameters = dict(model.module.named_parameters())
    for name, value in ended.module.named_parameters():  # a step of next to nothing
        assert torch.allclose(value, parameters[name], atol=1e-6), name
    assert set(read_trained_on(first.out)) <= set(read_trained_on(second.out))


def test_warm_start_of_another_architecture_names_the_first_weight(job_of, tmp_path):
    job = job_of("out")
    stem = job.spec.stem[0]
    wider = replace(job.spec, stem=(replace(stem, out_channels=stem.out_channels + 8),))
    FaceModel.fresh(wider, seed=0).save(tmp_path / "wide")
    with pytest.raises(
        BuildError, match=r"wide: \d+ of its weights do not fit .* start from a"
    ) as failure:
        train_network(replace(job, init=tmp_path / "wide"), quiet)
    n = stem.out_channels
    assert f"{n + 8}x3x3x3 there, {n}x3x3x3 here" in str(failure.value)
    assert not job.out.exists()


def test_every_epoch_is_kept_where_that_is_asked_for(job_of):
    job = replace(job_of("out", {"full_training.epochs": 2}), keep_epochs=True)
    train_network(job, quiet)
    kept = sorted((job.out / "epochs").iterdir())
    assert [path.name for path in kept] == ["001", "002"]
    first, last = ((path / "weights.safetensors").read_bytes() for path in kept)
    assert first != last == (job.out / "weights.safetensors").read_bytes()
    assert read_trained_on(kept[0]) == read_trained_on(job.out)


def test_a_teacher_teaches_by_angular_distillation_if_nothing_says_how(job_of):
    kinds = lambda job: [each.kind for each in job.config.full_training.distil]  # noqa: E731
    assert kinds(job_of("a", {"full_training.teacher": "sface"})) == ["angular"]
    given = {"full_training.teacher": "sface", "full_training.distil": ["template"]}
    assert kinds(job_of("a", given)) == ["template"]
    assert kinds(job_of("a")) == []


def test_a_students_teacher_is_in_its_lineage_and_its_embeddings_on_disk(job_of, tmp_path):
    teacher = job_of("teacher")
    train_network(teacher, quiet)
    job = job_of("student", {"full_training.teacher": str(teacher.out)})
    job = replace(job, teachers=tmp_path / "cache")
    said = []
    train_network(job, quiet, note=said.append)
    assert any((tmp_path / "cache").rglob("*"))
    assert said
    [line] = FaceModel.load(job.out).description.lineage
    assert f", taught by {teacher.out.name} with seed" in line
    said.clear()
    train_network(replace(job, out=tmp_path / "again"), quiet, note=said.append)
    assert said == []
    one, other = (
        (each / "weights.safetensors").read_bytes() for each in (job.out, tmp_path / "again")
    )
    assert one == other


def test_stopping_behind_a_step_and_going_on_changes_nothing(job_of, tmp_path):
    job = job_of("out", {"full_training.epochs": 2})
    steps = []

    def two(report):
        steps.append(report.step)
        return len(steps) < 2

    with pytest.raises(KeyboardInterrupt):
        train_network(job, quiet, on_step=two)
    assert steps == [1, 2]
    train_network(job, quiet, on_step=lambda report: steps.append(report.step))
    assert steps == list(range(1, len(steps) + 1))
    train_network(replace(job, out=tmp_path / "whole"), quiet)
    one, other = (
        (each / "weights.safetensors").read_bytes() for each in (job.out, tmp_path / "whole")
    )
    assert one == other


def test_devices_by_name(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert device_kind("auto") == device_kind("cpu") == "cpu"
    with pytest.raises(ConfigError, match="--device cuda: torch finds no GPU here; say cpu or"):
        device_kind("cuda")
    with pytest.raises(ConfigError, match="--device: there is no 'gpu'"):
        device_kind("gpu")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert device_kind("auto") == "cuda"
    assert device_kind("cpu") == "cpu"
    assert device_of("cuda", 1) == torch.device("cuda", 1)
    assert device_of("cpu", 5) == torch.device("cpu")
    with pytest.raises(ConfigError, match="process 2 of this machine has no GPU: there are 2"):
        device_of("cuda", 2)
