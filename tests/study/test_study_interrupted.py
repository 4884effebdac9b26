"""kill -9 in the middle of the real program, then the same command again."""

import contextlib
import json
import signal
import sqlite3
import subprocess
import sys
import time

import pytest
from optuna.trial import TrialState
from tiny_study import write_study

from nas_face.nn import FaceModel
from nas_face.study.compress import compress
from nas_face.study.compress_job import compress_job
from nas_face.study.recipe import load_recipe
from nas_face.study.report import front_of
from nas_face.study.run import Run

PROGRAM = [sys.executable, "-c", "from nas_face.cli import main; main()"]
TIMEOUT_S = 60


def kill_when(arguments, reached):
    """Start the program and kill it as soon as `reached` says so."""
    process = subprocess.Popen(
        [*PROGRAM, *map(str, arguments)], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
    )
    end = time.monotonic() + TIMEOUT_S
    try:
        while not reached():
            assert process.poll() is None, process.stderr.read().decode()
            assert time.monotonic() < end
            time.sleep(0.003)
    finally:
        process.send_signal(signal.SIGKILL)
        process.communicate()
    assert process.returncode == -signal.SIGKILL


def ask_storage(run, question):
    """One number from the storage while another process writes it; 0 before there is any."""
    path = run / "study.db"
    if not path.exists():
        return 0
    connection = sqlite3.connect(f"file:{path}?mode=ro", uri=True)
    try:
        return connection.execute(question).fetchone()[0]
    except sqlite3.OperationalError:
        return 0
    finally:
        connection.close()


def states(run):
    return {
        trial.number: (trial.state, trial.values, trial.datetime_complete)
        for trial in Run.open(run).trials()
        if trial.state.is_finished()
    }


@pytest.mark.slow
def test_killed_search_loses_and_repeats_nothing(finished, tmp_path):
    study, folder = write_study(tmp_path / "study"), tmp_path / "run"
    moments = (
        # the first candidate is under way; two are finished; a third model is on disk
        "select count(*) from trial_user_attributes where key = 'arch_id'",
        "select count(*) > 1 from trials where state in ('COMPLETE', 'PRUNED')",
        "select count(*) > 3 from trial_user_attributes where key = 'arch_id'",
    )
    before = {}
    for question in moments:
        kill_when(
            ["search", study, "--out", folder], lambda asked=question: ask_storage(folder, asked)
        )
        now = states(folder)
        assert before.items() <= now.items()
        before = now
    run = Run.start(folder, Run.open(folder).config)
    with run.locked():  # the lock died with its process
        run.search(run.faces())
    assert before.items() <= states(folder).items()
    evaluated = [trial for trial in run.trials() if "arch_id" in trial.user_attrs]
    expected = finished.trials()
    for name in ("params", "values", "state"):
        assert [getattr(each, name) for each in evaluated] == [
            getattr(each, name) for each in expected
        ]
    assert not [trial for trial in run.trials() if trial.state == TrialState.RUNNING]
    assert front_of(run).n_trials == len(expected)
    for trial in evaluated:
        if trial.state == TrialState.COMPLETE:
            same = finished.model(trial).module.state_dict()
            for key, value in run.model(trial).module.state_dict().items():
                assert (value == same[key]).all()


@pytest.mark.slow
def test_killed_compression_goes_on_from_its_last_step(copied, tmp_path):
    path = tmp_path / "small.yaml"
    steps = [
        {"kind": "prune", "share": 0.7, "round_to": 4},
        {"kind": "distil", "epochs": 8},
        {"kind": "quantise", "n_images": 8},
    ]
    path.write_text(json.dumps({"name": "small", "steps": steps}), encoding="utf-8")
    trial, out = front_of(copied).knee, tmp_path / "out"
    command = ["compress", copied.folder, "--trial", trial, "--recipe", path, "--out", out]
    pruned, checkpoint = out / "steps" / "1-prune", out / "steps" / "2-distil" / "checkpoint.pt"
    kill_when(command, (pruned / "result.json").exists)
    stamps = {each: each.stat().st_mtime_ns for each in pruned.iterdir()}
    kill_when(command, checkpoint.exists)
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
    assert {each: each.stat().st_mtime_ns for each in pruned.iterdir()} == stamps
    assert not checkpoint.exists()
    one, other = (each / "weights.safetensors" for each in (out, tmp_path / "whole"))
    assert one.read_bytes() == other.read_bytes()
    assert FaceModel.load(out).description == FaceModel.load(tmp_path / "whole").description
