"""Floors of a recipe: softening, rolling back, what ships then, and tries that are not repeated.

What is judged is set by rules of the tests' own, so that each floor breaks where it is meant to.
"""

import contextlib
import errno
import json
import shutil
from dataclasses import replace

import filelock
import numpy as np
import pytest
from tiny_study import TRAINING

from nas_face.arch.codec import from_data
from nas_face.deploy.openvino import openvino_missing
from nas_face.errors import CompressionError, ConfigError, DataError
from nas_face.nn import FaceModel
from nas_face.study.compression import pruning_step, quantise_step, teaching
from nas_face.study.compression.bench import Bench, standard_error
from nas_face.study.compression.calibration import calibration_images, made_up_images
from nas_face.study.compression.floors import unresolved_floors
from nas_face.study.compression.recipe import Recipe
from nas_face.study.compression.record import CompressionFaces
from nas_face.study.compression.step_settings import (
    AwareTraining,
    DistilStep,
    LowBitsStep,
    PruneStep,
    QuantiseStep,
)
from nas_face.study.compression.steps import compress
from nas_face.train import TrainSettings

WHOLE = 0.9  # accuracy of the original, by every rule below


def recipe_of(*steps, **settings):
    given = {"name": "r", "runtime": "onnxruntime", "deliver": ("onnxruntime",), **settings}
    return Recipe(steps=steps, **given)


@contextlib.contextmanager
def no_bar(n_epochs):
    yield lambda report: None


@pytest.fixture(scope="module")
def faces(finished):
    found = finished.faces()
    return CompressionFaces(
        train=found.split.train, judge=found.search_pairs, pairs=found.test_pairs
    )


@pytest.fixture(scope="module")
def model(finished):
    """The widest candidate of the run."""
    complete = [trial for trial in finished.trials() if trial.values]
    return finished.model(max(complete, key=lambda trial: trial.values[1]))


@pytest.fixture(scope="module")
def carry_out(faces):
    settings = from_data(TrainSettings, TRAINING, where="recipe", error=ConfigError)

    def carry_out(model, out, recipe, faces=faces):
        return compress(model, recipe, faces, out, training=settings, seed=0, epochs=no_bar)

    return carry_out


@pytest.fixture
def judged_by(monkeypatch):
    """Judges files by a rule on path, precision and model; gives the list of those measured."""

    def judged_by(rule):
        measure, seen = Bench.measure, []

        def ruled(self, path, runtime, precision, model):
            seen.append(path)
            result = measure(self, path, runtime, precision, model)
            return replace(result, judged=rule(path, precision, model))

        monkeypatch.setattr(Bench, "measure", ruled)
        return seen

    return judged_by


@pytest.fixture
def by_width(judged_by, model):
    """Accuracy falls by a point with each hundredth of the multiply-adds."""
    whole = model.description.cost.madds
    return judged_by(lambda path, precision, each: WHOLE + each.description.cost.madds / whole - 1)


SOFTENED = recipe_of(PruneStep(share=0.4, round_to=1, floor=-40, max_tries=4))


def test_pruning_is_softened_to_the_first_target_that_keeps_the_floor(
    by_width, carry_out, model, tmp_path
):
    compression = carry_out(model, tmp_path / "out", SOFTENED)
    shares = [each.madds / model.description.cost.madds for each in compression.tries]
    # 0.4 asked; of 0.4 + 0.6 n / 8 the least n with 0.6 or more is 3, found by 4, 2, 3.
    assert shares == pytest.approx([0.4, 0.7, 0.55, 0.625], abs=0.02)
    assert [each.keeps for each in compression.tries] == [False, True, False, True]
    assert [each.position for each in compression.tries] == [0, 4, 2, 3]
    row = compression.results[1]
    assert row.verdict == "softened: to 62.5% of the MAdds instead of 40.0%"
    assert row.madds == FaceModel.load(tmp_path / "out").description.cost.madds
    assert row.madds == compression.tries[-1].madds
    assert not compression.reached
    assert compression.shortfalls == (f"1 prune: {row.verdict}",)


def test_shares_of_stages_are_softened_together(by_width, carry_out, model, tmp_path):
    step = PruneStep(
        stages={"stages.0": 0.2, "stem": 0.6}, round_to=1, min_keep=0.0, floor=-30, max_tries=3
    )
    compression = carry_out(model, tmp_path / "out", recipe_of(step))
    asked, first = (each.setting for each in compression.tries[:2])
    assert asked == "to 20.0% of stages.0, 60.0% of stem"
    assert first == "to 60.0% of stages.0, 80.0% of stem"  # half of the way to nothing
    kept = [each for each in compression.tries if each.keeps]
    assert kept
    verdict = compression.results[1].verdict
    assert verdict == f"softened: {kept[-1].setting} instead of {asked.removeprefix('to ')}"


def test_tries_that_were_judged_are_not_repeated(
    by_width, carry_out, model, tmp_path, monkeypatch
):
    """The third is cut off while it is measured; then only it and the last are left to do."""
    measure, n_left = Bench.measure, 3

    def cut_off(self, *arguments):
        nonlocal n_left
        if n_left == 0:
            raise KeyboardInterrupt
        n_left -= 1
        return measure(self, *arguments)

    monkeypatch.setattr(Bench, "measure", cut_off)
    out = tmp_path / "out"
    with pytest.raises(KeyboardInterrupt):
        carry_out(model, out, SOFTENED)
    tries = json.loads((out / "steps" / "1-prune" / "tries.json").read_text(encoding="utf-8"))
    assert [each["position"] for each in tries["tries"]] == [0, 4]
    monkeypatch.setattr(Bench, "measure", measure)
    n_before = len(by_width)
    compression = carry_out(model, out, SOFTENED)
    assert [path.parent.name for path in by_width[n_before:]] == ["2", "3"]
    assert [each.position for each in compression.tries] == [0, 4, 2, 3]
    assert not (out / "steps" / "1-prune" / "tries").exists()


def test_pruning_that_no_target_saves_is_rolled_back(by_width, carry_out, model, tmp_path):
    recipe = recipe_of(PruneStep(share=0.4, round_to=1, floor=-2, max_tries=2))
    compression = carry_out(model, tmp_path / "out", recipe)
    assert compression.results[1].verdict.startswith("rolled back: to 70.0% of the MAdds")
    assert compression.results[1].first == compression.results[0].first
    shipped = FaceModel.load(tmp_path / "out")
    assert shipped.description.network == model.description.network
    assert len(compression.tries) == 2


def test_recovery_is_part_of_what_is_judged(judged_by, carry_out, model, tmp_path):
    """A pruning that breaks its floor by itself, and keeps it with its recovery."""
    judged_by(
        lambda path, precision, each: (
            WHOLE
            if each.description.lineage[-1].startswith("distilled")
            or each.description.network == model.description.network
            else 0.5
        )
    )
    step = PruneStep(share=0.6, round_to=1, floor=-1, recover=DistilStep(epochs=1), max_tries=1)
    kept = carry_out(model, tmp_path / "kept", recipe_of(step))
    assert kept.results[1].verdict == "kept"
    alone = carry_out(model, tmp_path / "alone", recipe_of(replace(step, recover=None)))
    assert alone.results[1].rolled_back


def test_distillation_that_makes_worse_is_undone(judged_by, carry_out, model, tmp_path):
    judged_by(
        lambda path, precision, each: WHOLE - 0.02 * ("distilled" in each.description.lineage[-1])
    )
    step = DistilStep(epochs=1)
    undone = carry_out(model, tmp_path / "undone", recipe_of(step))
    assert undone.results[1].verdict == "rolled back: judged 88.00%, 90.00% is the floor"
    assert FaceModel.load(tmp_path / "undone").description.lineage[:-1] == (
        model.description.lineage
    )
    kept = carry_out(model, tmp_path / "kept", recipe_of(replace(step, floor=-3)))
    assert kept.results[1].verdict == "kept"


def test_distillation_without_labels_leaves_the_margin_loss_out(monkeypatch):
    training = from_data(TrainSettings, TRAINING, where="recipe", error=ConfigError)
    with_labels = teaching.training_of(DistilStep(epochs=3, batch_size=8), training)
    without = teaching.training_of(DistilStep(epochs=3, loss="none"), training)
    assert with_labels.loss == training.loss
    assert (with_labels.epochs, with_labels.batch_size) == (3, 8)
    assert without.loss is None
    assert not without.needs_labels


@pytest.fixture
def by_layers(judged_by, monkeypatch):
    """An int8 file loses a point; with at least three further layers in float it loses nothing."""
    counts = {}
    quantise = quantise_step.quantise_onnx

    def counting(source, target, calibration, **options):
        counts[target] = len(options["keep_float"])
        return quantise(source, target, calibration, **options)

    monkeypatch.setattr(quantise_step, "quantise_onnx", counting)

    def rule(path, precision, each):
        return WHOLE - 0.01 * (precision == "int8" and counts[path] < 3)

    judged_by(rule)
    return counts


def test_quantisation_leaves_as_few_layers_in_float_as_the_floor_permits(
    by_layers, carry_out, model, tmp_path
):
    compression = carry_out(
        model, tmp_path / "out", recipe_of(QuantiseStep(n_images=8, floor=-0.5))
    )
    row = compression.results[1]
    assert row.verdict.startswith("softened: int8, 3 of ")
    assert compression.tries[0].position == 0
    assert min(each.position for each in compression.tries if each.keeps) == 3
    assert by_layers[max(by_layers)] >= 3
    layers = json.loads(
        (tmp_path / "out" / "steps" / "1-quantise" / "layers.json").read_text(encoding="utf-8")
    )
    assert sum(each["in_float"] for each in layers["layers"]) == 3


def test_training_under_quantisation_comes_before_layers_in_float(
    judged_by, carry_out, model, tmp_path, monkeypatch
):
    trained = []
    judged_by(lambda path, precision, each: WHOLE - 0.01 * (precision == "int8" and not trained))
    step = QuantiseStep(n_images=8, floor=-0.5, aware=AwareTraining(epochs=1))
    original = quantise_step.aware_trained

    def noted(*arguments, **options):
        trained.append(True)
        return original(*arguments, **options)

    monkeypatch.setattr(quantise_step, "aware_trained", noted)
    compression = carry_out(model, tmp_path / "out", recipe_of(step))
    assert [each.keeps for each in compression.tries] == [False, True]
    assert compression.results[1].verdict.startswith("kept: int8 after training for it")
    assert compression.delivered[0].runtime == "onnxruntime"
    assert FaceModel.load(tmp_path / "out").description.lineage[:-1] == model.description.lineage


def test_weights_get_more_bits_where_few_break_the_floor(judged_by, carry_out, model, tmp_path):
    loss = {"w4": 0.05, "w6": 0.01}
    judged_by(lambda path, precision, each: WHOLE - loss.get(precision, 0.0))
    compression = carry_out(model, tmp_path / "out", recipe_of(LowBitsStep(bits=4, floor=-2)))
    assert [each.setting for each in compression.tries] == [
        "weights in 4 bits",
        "weights in 6 bits",
    ]
    assert compression.results[1].verdict == "softened: weights in 6 bits"
    assert compression.delivered[0].precision == "w6"
    assert (tmp_path / "out" / "model.w6.onnx").exists()
    plain = (tmp_path / "out" / "steps" / "0-original" / "plain.onnx").stat().st_size
    assert (tmp_path / "out" / "model.w6.onnx").stat().st_size < plain


def test_what_ships_keeps_the_floor_of_the_whole(judged_by, carry_out, model, tmp_path):
    """A pruning that nothing stops goes too far; a distillation does not bring it back."""
    whole = model.description.network

    def rule(path, precision, each):
        return WHOLE if each.description.network == whole else WHOLE - 0.1

    judged_by(rule)
    recipe = recipe_of(PruneStep(share=0.6, round_to=1), DistilStep(epochs=1), floor=-1)
    compression = carry_out(model, tmp_path / "out", recipe)
    assert FaceModel.load(tmp_path / "out").description.network == whole
    assert not compression.reached
    assert (
        "the recipe's floor is 89.00%: what ships is from 'original'"
        in (compression.shortfalls[-1])
    )
    assert (tmp_path / "out" / "model.onnx").exists()


def test_floor_of_the_whole_softens_the_last_step_that_can_be(
    by_width, carry_out, model, tmp_path
):
    recipe = recipe_of(PruneStep(share=0.4, round_to=1, max_tries=4), floor=-40)
    compression = carry_out(model, tmp_path / "out", recipe)
    assert compression.results[1].verdict.startswith("softened: to 62.5% of the MAdds")


def test_latency_is_a_share_of_what_is_in_front(carry_out, model, tmp_path, monkeypatch):
    """By a clock that counts multiply-adds."""
    current = {}

    def write(each, folder, runtime):
        path = written(each, folder, runtime)
        current[path] = each.description.cost.madds
        return path

    written = pruning_step.write_float
    monkeypatch.setattr(pruning_step, "write_float", write)
    whole = model.description.cost.madds
    monkeypatch.setattr(
        Bench,
        "relative_latency",
        lambda self, path, reference: current.get(path, whole) / current.get(reference, whole),
    )
    monkeypatch.setattr(
        "nas_face.study.compression.preflight._require_fast_enough", lambda *arguments: None
    )
    recipe = recipe_of(PruneStep(latency_share=0.6, round_to=1))
    compression = carry_out(model, tmp_path / "out", recipe)
    assert compression.results[1].madds / whole == pytest.approx(0.6, abs=0.03)


def test_rounds_recover_in_between(carry_out, model, tmp_path):
    step = PruneStep(
        share=0.5, round_to=1, rounds=2, recover_epochs=1, recover=DistilStep(epochs=1)
    )
    carry_out(model, tmp_path / "out", recipe_of(step))
    told = FaceModel.load(tmp_path / "out").description.lineage[len(model.description.lineage) :]
    kinds = [line.split()[0] for line in told]
    assert kinds.count("pruned") == 2
    assert kinds.count("distilled") == 2
    assert kinds.index("distilled") < len(kinds) - 1 - kinds[::-1].index("pruned")


def test_second_process_is_refused(carry_out, model, tmp_path):
    out = tmp_path / "out"
    recipe = recipe_of(PruneStep(share=0.8, round_to=1))
    carry_out(model, out, recipe)
    with filelock.FileLock(out / "lock"):
        with pytest.raises(ConfigError, match="another process compresses into it"):
            carry_out(model, out, recipe)
    carry_out(model, out, recipe)


def test_full_disk_loses_nothing_that_is_done(carry_out, model, tmp_path, monkeypatch):
    out = tmp_path / "out"
    recipe = recipe_of(PruneStep(share=0.8, round_to=1), DistilStep(epochs=2, floor=-100))
    save = FaceModel.save

    def full(self, folder):
        if "2-distil" in folder.parts:
            raise OSError(errno.ENOSPC, "No space left on device", str(folder))
        save(self, folder)

    monkeypatch.setattr(FaceModel, "save", full)
    with pytest.raises(OSError, match="No space left"):
        carry_out(model, out, recipe)
    before = {path: path.read_bytes() for path in (out / "steps" / "1-prune").iterdir()}
    assert out / "steps" / "1-prune" / "result.json" in before
    monkeypatch.setattr(FaceModel, "save", save)
    compression = carry_out(model, out, recipe)
    assert compression.results[2].verdict == "kept"
    assert {path: path.read_bytes() for path in before} == before


@pytest.mark.skipif(openvino_missing() is not None, reason="OpenVINO is an extra")
def test_openvino_decides_and_both_runtimes_are_delivered(carry_out, model, tmp_path):
    recipe = Recipe(name="both", runtime="openvino", steps=(QuantiseStep(n_images=8),))
    compression = carry_out(model, tmp_path / "out", recipe)
    assert {(each.runtime, each.precision) for each in compression.delivered} == {
        (runtime, precision)
        for runtime in ("openvino", "onnxruntime")
        for precision in ("fp32", "int8")
    }
    assert compression.results[0].first.runtime == "openvino"
    for name in ("model.xml", "model.bin", "model.int8.xml", "model.onnx", "model.int8.onnx"):
        assert (tmp_path / "out" / name).stat().st_size
    for file in compression.delivered:
        if file.precision == "fp32":
            assert file.min_cosine > 0.9999
    again = carry_out(model, tmp_path / "out", recipe)
    assert again.as_dict() == compression.as_dict()


@pytest.mark.parametrize(
    ("step", "error", "message"),
    [
        (QuantiseStep(keep_float=("frist",)), CompressionError, "did you mean 'first'"),
        (LowBitsStep(keep_float=("steam",)), CompressionError, "'steam' is no layer and none of"),
        (QuantiseStep(calibration="nowhere"), DataError, "nowhere: there is no such file"),
        (DistilStep(teacher="nowhere"), ConfigError, "nowhere"),
        (PruneStep(share=0.9, recover=DistilStep(teacher="nowhere")), ConfigError, "nowhere"),
        (PruneStep(params=10), CompressionError, "target_params=10 cannot be reached"),
        (PruneStep(latency_share=0.001), CompressionError, r"latency_share=0\.001 cannot be reac"),
    ],
)
def test_what_cannot_be_is_said_before_anything_is_written(
    step, error, message, carry_out, model, tmp_path
):
    with pytest.raises(error, match=message):
        carry_out(model, tmp_path / "out", recipe_of(step))
    assert list(tmp_path.iterdir()) == []


def test_calibration_folder_without_faces(faces, tmp_path):
    (tmp_path / "notes.txt").write_text("no face", encoding="utf-8")
    with pytest.raises(DataError, match=str(tmp_path)):
        calibration_images(str(tmp_path), 16, faces.train, seed=0)


def test_made_up_images_have_the_size_and_the_range_of_photographs():
    images = made_up_images(6, 40, 56, seed=0)
    assert images.shape == (6, 40, 56, 3)
    assert images.dtype == np.uint8
    assert (images != made_up_images(6, 40, 56, seed=1)).any()
    assert (images == made_up_images(6, 40, 56, seed=0)).all()
    values = images.astype(np.float64)
    assert 20 < values.std(axis=(1, 2, 3)).min() < values.std(axis=(1, 2, 3)).max() < 80
    near = np.abs(np.diff(values, axis=2)).mean()
    shuffled = values[:, :, np.random.default_rng(0).permutation(56)]
    assert near < np.abs(np.diff(shuffled, axis=2)).mean() / 2


def test_floor_that_the_pairs_cannot_tell_is_said(faces):
    pairs = faces.judge
    error = 100 * standard_error(0.9, pairs)
    share = [0.1 * (1 - 0.1) / n for n in (pairs.n_same, pairs.n_different)]
    assert error == pytest.approx(50 * sum(share) ** 0.5, rel=0.05)
    fine, coarse = recipe_of(LowBitsStep(floor=-error / 2)), recipe_of(LowBitsStep(floor=-5))
    [line] = unresolved_floors(fine, 0.9, pairs)
    assert "is finer than the pairs that decide can tell" in line
    assert unresolved_floors(coarse, 0.9, pairs) == []
    assert unresolved_floors(recipe_of(LowBitsStep()), 0.9, pairs) == []


def test_broken_record_of_tries_is_named(by_width, carry_out, model, tmp_path):
    out = tmp_path / "out"
    carry_out(model, out, SOFTENED)
    step = out / "steps" / "1-prune"
    (step / "result.json").unlink()
    (step / "tries.json").write_text('{"tries": [{}]}', encoding="utf-8")
    with pytest.raises(ConfigError, match=r"1-prune/tries\.json: "):
        carry_out(model, out, SOFTENED)
    shutil.rmtree(step)
    assert len(carry_out(model, out, SOFTENED).tries) == 4
