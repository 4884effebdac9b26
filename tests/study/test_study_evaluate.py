"""One candidate of a search: interrupted anywhere, it ends the same, and its cost is known."""

import errno
import json
import types
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from tiny_study import TRAINING, write_study

from nas_face.errors import TrainingDiverged
from nas_face.nn import FaceModel
from nas_face.search import TrialStopped
from nas_face.search.ledger import Ledger, Seconds
from nas_face.study import evaluate as evaluate_file
from nas_face.study.config import load_study
from nas_face.study.evaluate import TrainAndVerify
from nas_face.study.run import Run

N_EPOCHS = 3


class Killed(BaseException):
    """Stands for a process that ends."""


class Clock:
    """A clock that stands still until it is moved."""

    def __init__(self):
        self.now = Seconds()

    def __call__(self):
        return self.now

    def pass_s(self, wall_s):
        self.now += Seconds(wall_s=wall_s, cpu_s=2 * wall_s)


@pytest.fixture(scope="module")
def config(tmp_path_factory):
    changes = {
        "training": {**TRAINING, "epochs": N_EPOCHS},
        "rungs": {"epochs": [1, 2], "keep": 0.5, "n_warmup": 2},
    }
    return load_study(write_study(tmp_path_factory.mktemp("study"), changes))


@pytest.fixture(scope="module")
def run(config, tmp_path_factory):
    return Run.start(tmp_path_factory.mktemp("run"), config)


@pytest.fixture(scope="module")
def faces(run):
    return run.faces()


@pytest.fixture(scope="module")
def spec(run):
    return run.space.decode({path: each.labels[0] for path, each in run.space.choices().items()})


@pytest.fixture
def candidate(config, faces, tmp_path):
    """The evaluation of candidates, kept under the test's folder."""
    return TrainAndVerify(
        config=config,
        faces_of=lambda input_size: faces,
        teacher_of=lambda input_size: None,
        meter=None,
        reference_ms=0.0,
        folder=tmp_path / "candidates",
        on_epoch=lambda report: None,
    )


class Sitting:
    """Evaluates one candidate and notes what it reports."""

    def __init__(self, evaluate, spec):
        self.evaluate, self.spec = evaluate, spec
        self.reports, self.ledger = {}, Ledger()
        self.stop_at = None

    def report(self, epochs, values):
        assert self.reports.setdefault(epochs, values) == values  # the same, however often
        return epochs != self.stop_at

    def run(self):
        return self.evaluate(
            self.spec, seed=7, report=self.report, timed={"latency_ms": 1.5}, ledger=self.ledger
        )

    @property
    def folder(self):
        return self.evaluate.folder / self.spec.arch_id

    def files(self):
        return {path.name: path.read_bytes() for path in self.folder.iterdir()}


@pytest.fixture(scope="module")
def whole(config, faces, spec, tmp_path_factory):
    """What an evaluation that nothing interrupts comes to."""
    evaluate = TrainAndVerify(
        config=config,
        faces_of=lambda input_size: faces,
        teacher_of=lambda input_size: None,
        meter=None,
        reference_ms=0.0,
        folder=tmp_path_factory.mktemp("whole"),
        on_epoch=lambda report: None,
    )
    sitting = Sitting(evaluate, spec)
    return types.SimpleNamespace(
        figures=sitting.run(), reports=sitting.reports, files=sitting.files()
    )


def kill_at(monkeypatch, owner, name, *, call, after=False):
    """End the process at one call of a function, before it does anything or when it is done."""
    function, calls = getattr(owner, name), []

    def killing(*args, **kwargs):
        calls.append(name)
        if len(calls) == call and not after:
            raise Killed
        result = function(*args, **kwargs)
        if len(calls) == call:
            raise Killed
        return result

    monkeypatch.setattr(owner, name, killing)


MOMENTS = {
    "before the first rung is measured": ("figures_on", 1, False),
    "when the first rung is measured": ("figures_on", 1, True),
    "when the first epoch is accounted": ("write_text", 1, True),
    "when the second rung is measured": ("figures_on", 2, True),
    "when the last epoch is accounted": ("write_text", 3, True),
    "when the training is over": ("train", 1, True),
    "before the test pairs": ("figures_on", 4, False),
    "before the spec is written": ("write_text", 4, False),
    "before the model is saved": ("save", 1, False),
    "when the model is saved": ("save", 1, True),
}


@pytest.mark.parametrize("moment", MOMENTS)
def test_killed_at_any_moment_it_ends_the_same(moment, candidate, spec, whole, monkeypatch):
    name, call, after = MOMENTS[moment]
    sitting = Sitting(candidate, spec)
    with monkeypatch.context() as patch:
        owner = FaceModel if name == "save" else evaluate_file
        kill_at(patch, owner, name, call=call, after=after)
        with pytest.raises(Killed):
            sitting.run()
    assert sitting.run() == whole.figures
    assert sitting.reports == whole.reports
    assert sitting.files() == whole.files


def test_a_sitting_repeats_only_the_epoch_that_was_cut_off(candidate, spec, whole):
    seen = []

    def ending(epoch):
        seen.append(epoch.epoch)
        if len(seen) % 2 == 0:
            raise Killed

    sitting = Sitting(replace(candidate, on_epoch=ending), spec)
    for _ in range(N_EPOCHS - 1):
        with pytest.raises(Killed):
            sitting.run()
    assert sitting.run() == whole.figures
    assert seen == [1, 2, 2, 3, 3]
    assert sitting.files() == whole.files


def test_it_keeps_the_model_and_its_spec_and_nothing_else(whole, spec):
    assert sorted(whole.files) == [
        "model.json",
        "spec.json",
        "trained_on.json",
        "weights.safetensors",
    ]
    assert json.loads(whole.files["spec.json"]) == json.loads(json.dumps(spec.to_data()))


def test_timed_figures_are_part_of_reports_and_of_the_outcome(whole):
    assert whole.figures["latency_ms"] == 1.5
    assert list(whole.reports) == [1, 2]
    for values in whole.reports.values():
        assert values["latency_ms"] == 1.5
        assert not any(name.startswith("test_") for name in values)


@pytest.mark.parametrize("rung", [1, 2])
def test_a_stopped_candidate_leaves_nothing_behind(rung, candidate, spec):
    sitting = Sitting(candidate, spec)
    sitting.stop_at = rung
    with pytest.raises(TrialStopped):
        sitting.run()
    assert list(candidate.folder.iterdir()) == []
    assert sitting.ledger.counts == {"epochs": rung}
    assert sitting.ledger.seconds["train"].wall_s > 0


def test_a_candidate_that_diverges_leaves_nothing_behind(candidate, config, spec):
    training = replace(config.training, learning_rate=1e30)
    sitting = Sitting(replace(candidate, config=replace(config, training=training)), spec)
    with pytest.raises(TrainingDiverged):
        sitting.run()
    assert list(candidate.folder.iterdir()) == []
    assert sitting.ledger.seconds.keys() >= {"build", "train"}


def test_a_full_disk_leaves_the_checkpoint_to_the_next_sitting(
    candidate, spec, whole, monkeypatch
):
    def full(self, folder: Path):
        raise OSError(errno.ENOSPC, "No space left on device")

    seen = []
    sitting = Sitting(replace(candidate, on_epoch=lambda epoch: seen.append(epoch.epoch)), spec)
    with monkeypatch.context() as patch:
        patch.setattr(FaceModel, "save", full)
        with pytest.raises(OSError, match="No space left"):
            sitting.run()
    assert seen == [1, 2, 3]
    assert sitting.run() == whole.figures
    assert seen == [1, 2, 3]
    assert sitting.files() == whole.files


def test_a_model_of_another_training_is_not_taken_for_this_one(
    candidate, config, faces, spec, whole
):
    shorter = replace(
        config,
        training=replace(config.training, epochs=2),
        rungs=replace(config.rungs, epochs=(1,)),
    )
    Sitting(replace(candidate, config=shorter), spec).run()
    sitting = Sitting(candidate, spec)
    assert sitting.run() == whole.figures
    assert sitting.ledger.counts == {"epochs": N_EPOCHS}
    assert sitting.files() == whole.files


@pytest.fixture
def clock(monkeypatch):
    """Time passes only as this says: 1 s for a verification, half a second for a saving."""
    clock = Clock()
    verify, save = evaluate_file.figures_on, FaceModel.save

    def verifying(model, pairs, groups):
        clock.pass_s(1)
        return verify(model, pairs, groups)

    def saving(model, folder):
        clock.pass_s(0.5)
        save(model, folder)

    monkeypatch.setattr(evaluate_file, "process_clock", clock)
    monkeypatch.setattr(evaluate_file, "figures_on", verifying)
    monkeypatch.setattr(FaceModel, "save", saving)
    return clock


def test_seconds_go_to_their_phases_and_add_up(candidate, spec, clock):
    sitting = Sitting(replace(candidate, on_epoch=lambda epoch: clock.pass_s(10)), spec)
    sitting.run()
    by_phase = {name: spent.wall_s for name, spent in sitting.ledger.seconds.items()}
    assert by_phase == {"build": 0, "train": 30, "verify": 4, "save": 0.5}
    assert sum(by_phase.values()) == clock.now.wall_s
    assert sitting.ledger.seconds["train"] == Seconds(wall_s=30, cpu_s=60)
    assert sitting.ledger.counts == {"epochs": N_EPOCHS}


def test_seconds_of_a_killed_sitting_are_not_lost_and_not_counted_twice(
    candidate, spec, clock, monkeypatch
):
    sitting = Sitting(replace(candidate, on_epoch=lambda epoch: clock.pass_s(10)), spec)
    with monkeypatch.context() as patch:
        kill_at(patch, evaluate_file, "figures_on", call=2)  # at the second epoch
        with pytest.raises(Killed):
            sitting.run()
    assert sitting.ledger.seconds == {}
    sitting.run()
    # The second epoch was trained twice; its first time was cut off with the process.
    assert sitting.ledger.seconds["train"].wall_s == 30
    assert sitting.ledger.counts == {"epochs": N_EPOCHS}
    assert not (sitting.folder / "spent.json").exists()


class Meter:
    """Says that every network takes twice as long as the reference, and remembers it."""

    def __init__(self):
        self.measured = []

    def measure(self, model):
        self.measured.append(model.description.arch_id)
        return types.SimpleNamespace(ratio=2.0)


def test_latency_is_that_of_the_reference_times_the_ratio(candidate, spec):
    meter = Meter()
    timing = replace(candidate, meter=meter, reference_ms=3.5)
    assert timing.time(spec) == {"latency_ms": 7.0, "latency_ratio": 2.0}
    assert meter.measured == [spec.arch_id]
    assert not candidate.folder.exists()


def test_without_a_meter_nothing_is_timed(candidate, spec):
    assert candidate.time(spec) == {}


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_seconds_on_a_gpu_are_counted(candidate, spec):
    sitting = Sitting(replace(candidate, device=torch.device("cuda")), spec)
    sitting.run()
    assert sitting.ledger.seconds["train"].gpu_s > 0


def test_a_processor_spends_no_gpu_seconds(candidate, spec):
    sitting = Sitting(candidate, spec)
    sitting.run()
    assert {spent.gpu_s for spent in sitting.ledger.seconds.values()} == {0.0}
