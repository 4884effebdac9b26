"""kill -9 in the middle of the real program, then the same command again."""

import contextlib
import json
import os
import random
import signal
import time

import pytest
from optuna.study import Study
from optuna.trial import Trial
from real_program import Program
from tiny_study import TRAINING, write_study

from nas_face.nn import FaceModel
from nas_face.search import loop
from nas_face.search.record import LEDGER, METRICS, WORKER
from nas_face.study.compression.job import compress_job
from nas_face.study.compression.recipe import load_recipe
from nas_face.study.compression.steps import compress
from nas_face.study.config import load_study
from nas_face.study.report import front_of
from nas_face.study.run import Run

TIMEOUT_S = 60


def kill_when(arguments, reached, err):
    """Start the program and kill it as soon as `reached` says so."""
    process = Program(arguments, err)
    try:
        process.wait_until(reached, TIMEOUT_S)
    finally:
        process.send(signal.SIGKILL)
        code = process.ended(TIMEOUT_S)
    assert code == -signal.SIGKILL


LONG = {
    "trials": 10,
    "rungs": {"epochs": [2, 4], "keep": 0.5, "n_warmup": 2},
    "training": {**TRAINING, "epochs": 6},
}
N_KILLS = 20


def outcome(run):
    """All that must be the same, bit for bit; what differs are times and who did it."""
    aside = {LEDGER, METRICS, WORKER}
    trials = []
    for trial in run.trials():
        record = {key: value for key, value in trial.user_attrs.items() if key not in aside}
        metrics = {**trial.user_attrs[METRICS], "wall_s": None}
        trials.append((trial.number, trial.state, trial.params, trial.values, record, metrics))
    weights = {
        path.parent.name: path.read_bytes()
        for path in (run.folder / "candidates").glob("*/weights.safetensors")
    }
    front = front_of(run).trials.drop(columns="wall_s").to_csv()
    files = sorted(
        str(path.relative_to(run.folder)) for path in (run.folder / "candidates").rglob("*")
    )
    return trials, front, weights, files


def n_epochs(run):
    """Epochs that were trained to their end, those that were trained twice included."""
    return sum(trial.user_attrs[LEDGER]["counts"].get("epochs", 0) for trial in run.trials())


@pytest.mark.slow
def test_a_search_that_is_killed_twenty_times_ends_as_one_that_never_was(tmp_path):
    """kill -9 of the real program at random moments, from the first proposal on."""
    study = write_study(tmp_path / "study", LONG)
    whole = Run.start(tmp_path / "whole", load_study(study))
    faces = whole.faces()
    began = time.monotonic()
    whole.search(faces)
    pause_s = 1.2 * (time.monotonic() - began) / N_KILLS

    folder = tmp_path / "run"
    rng = random.Random(0)
    for _ in range(N_KILLS):
        kill_after(["search", study, "--out", folder], folder, pause_s * rng.random())
    run = Run.start(folder, load_study(study))
    run.search(run.faces())
    assert outcome(run) == outcome(whole)
    # A kill costs the epoch that it cuts; one in between a trial's last file and its record costs
    # the count of that trial's epochs.
    fewest = n_epochs(whole) - LONG["training"]["epochs"]
    assert fewest <= n_epochs(run) <= n_epochs(whole) + N_KILLS


def kill_after(arguments, folder, pause_s):
    """Start the program and kill it some time after it has begun to search."""
    workers = folder / "workers"

    def locks():
        return set(workers.iterdir()) if workers.exists() else set()

    before, begun = locks(), []

    def reached():
        if not begun and locks() - before:
            begun.append(time.monotonic())
        return begun and time.monotonic() - begun[0] >= pause_s

    kill_when(arguments, reached, folder.with_suffix(".err"))


class Killed(BaseException):
    """In place of a signal, where the moment must be exact."""


def killed_at(run, count, module, name, *, after):
    """Search until a function is called for the `count`-th time; whether it was."""
    calls = []
    real = getattr(module, name)

    def dying(*args, **kwargs):
        calls.append(args)
        if len(calls) != count:
            return real(*args, **kwargs)
        if after:
            real(*args, **kwargs)
        raise Killed

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, name, dying)
        try:
            run.search(run.faces())
        except Killed:
            return True
    return False


@pytest.mark.slow
@pytest.mark.parametrize(
    ("module", "name", "counts"),
    [
        (os, "replace", (1, 2, 3, 5, 6, 7)),  # of checkpoints, records, weights
        (Study, "tell", (1, 2, 3)),
        (Trial, "set_user_attr", range(1, 11)),
        (loop, "opened", (1, 2)),
    ],
)
@pytest.mark.parametrize("after", [False, True])
def test_an_end_at_any_step_of_a_trial_changes_nothing(
    module, name, counts, after, tmp_path, finished
):
    """Before and after everything that is put on record, while it is trained, saved and told."""
    study = write_study(tmp_path / "study")
    for count in counts:
        folder = tmp_path / f"run{count}"
        run = Run.start(folder, load_study(study, {"trials": 3}))
        assert killed_at(run, count, module, name, after=after)
        run.search(run.faces())
        ended, expected = outcome(run)[0], outcome(finished)[0][:3]
        assert ended == expected


@pytest.mark.slow
def test_killed_compression_goes_on_from_its_last_step(copied, tmp_path):
    path = tmp_path / "small.yaml"
    steps = [
        {"kind": "prune", "share": 0.7, "round_to": 4},
        {"kind": "distil", "epochs": 8, "floor": -100},
        {"kind": "quantise", "n_images": 8},
    ]
    recipe = {"name": "small", "runtime": "onnxruntime", "deliver": ["onnxruntime"]}
    path.write_text(json.dumps({**recipe, "steps": steps}), encoding="utf-8")
    trial, out = front_of(copied).knee, tmp_path / "out"
    command = ["compress", copied.folder, "--trial", trial, "--recipe", path, "--out", out]
    pruned = out / "steps" / "1-prune"
    checkpoints = out / "steps" / "2-distil" / "tries" / "0" / "checkpoints"
    err = tmp_path / "err"
    kill_when(command, (pruned / "result.json").exists, err)
    stamps = {each: each.stat().st_mtime_ns for each in pruned.iterdir() if each.is_file()}
    kill_when(command, lambda: any(checkpoints.glob("*.safetensors")), err)
    assert not (out / "compression.json").exists()

    job = compress_job(copied.folder, trial, "", {}, None, None)
    epochs = []
    for folder in (out, tmp_path / "whole"):
        compress(
            job.model,
            load_recipe(str(path)),
            job.faces,
            folder,
            training=job.config.full_training,
            seed=job.config.seed,
            epochs=lambda n_epochs: contextlib.nullcontext(epochs.append),
        )
    assert len(epochs) < 2 * 8  # the first epochs of the killed one were not trained again
    assert {each: each.stat().st_mtime_ns for each in pruned.iterdir()} == stamps  # no tries left
    assert not checkpoints.exists()
    one, other = (each / "weights.safetensors" for each in (out, tmp_path / "whole"))
    assert one.read_bytes() == other.read_bytes()
    assert FaceModel.load(out).description == FaceModel.load(tmp_path / "whole").description
