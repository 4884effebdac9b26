"""`train` as a user types it: faces of several sources, recipes, progress, interruptions,
ranks."""

import io
import os
import random
import re
import signal
import subprocess
import sys
import time

import pytest
from real_program import Program
from rich.console import Console

import nas_face as package
from nas_face.cli.progress import training_display
from nas_face.cli.stopping import Stop, stopping
from nas_face.nn import FaceModel
from nas_face.train import EpochReport, StepReport

PROGRAM = [sys.executable, "-m", "nas_face"]
TIMEOUT_S = 120


@pytest.fixture
def few(study):
    """A training of moments."""
    return [
        "train",
        "shufflefacenet_1x",
        "--study",
        study,
        "--input-size",
        "16",
        "--device",
        "cpu",
    ]


def listed(path, same, different):
    lines = [f"{who}\t1\t2" for who in same] + [f"{a}\t1\t{b}\t1" for a, b in different]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def test_faces_of_two_sources_judged_by_a_list(few, nas_face, made_up_faces, tmp_path):
    pairs = listed(tmp_path / "pairs.txt", ("p1", "p2"), (("p1", "p3"), ("p2", "p4")))
    out = tmp_path / "out"
    command = [*few, "--out", out, "--data", made_up_faces, "--data", "orl"]
    answer = nas_face(*command, "--pairs", pairs, "--images", made_up_faces)
    assert answer.code == 0, answer.err
    assert (
        f"left out of the training, as {pairs} has them: 4 people: 'p1', 'p2', 'p3', ..."
        in answer.err
    )
    n_images = 400 + 3 * 8
    assert f"on {n_images} images of 48 people, to be verified on 4 pairs (cpu)" in answer.err
    assert f"written: {out} (verified on {pairs})" in answer.err
    assert "2 same, 2 different" in answer.out


def test_a_line_an_epoch_where_nobody_watches(few, nas_face, tmp_path):
    answer = nas_face(
        *few, "--out", tmp_path / "out", "--set", "epochs=2", "--set", "loss=arcface"
    )
    assert answer.code == 0, answer.err
    lines = [line for line in answer.err.splitlines() if line.startswith("epoch ")]
    assert len(lines) == 2
    for number, line in enumerate(lines, start=1):
        pattern = (
            rf"epoch {number}/2: loss \d+\.\d{{3}}, \d+ images/s, \d+% waiting for data, "
            r"0:\d\d:\d\d left"
        )
        assert re.fullmatch(pattern, line), line
    assert FaceModel.load(tmp_path / "out").description.lineage[0].startswith("trained 2 epochs ")


def reports(*, n_epochs, n_steps, seconds, images=10, wait_s=0.0):
    """What a training tells, step by step and epoch by epoch."""
    per_epoch = n_steps // n_epochs
    for step in range(1, n_steps + 1):
        epoch = 1 + (step - 1) // per_epoch
        yield StepReport(
            step=step,
            n_steps=n_steps,
            epoch=epoch,
            n_epochs=n_epochs,
            loss=1.5,
            images=images,
            learning_rate=0.1,
            seconds=seconds,
            wait_s=wait_s,
        )
        if step % per_epoch == 0:
            yield EpochReport(epoch=epoch, n_epochs=n_epochs, loss=2.5, images=images * per_epoch)


def shown(terminal, told):
    with training_display(terminal) as display:
        for each in told:
            if isinstance(each, StepReport):
                display.step(each)
            else:
                display.epoch(each)


def test_pace_wait_and_time_left_are_those_of_the_last_steps():
    pipe = Console(file=io.StringIO(), force_terminal=False, width=200)
    shown(pipe, reports(n_epochs=3, n_steps=6, seconds=20.0, images=10, wait_s=5.0))
    assert pipe.file.getvalue().splitlines() == [
        "epoch 1/3: loss 2.500, 0 images/s, 25% waiting for data, 0:01:20 left",
        "epoch 2/3: loss 2.500, 0 images/s, 25% waiting for data, 0:00:40 left",
        "epoch 3/3: loss 2.500, 0 images/s, 25% waiting for data, 0:00:00 left",
    ]


def test_a_bar_on_a_terminal():
    terminal = Console(file=io.StringIO(), force_terminal=True, width=200, color_system=None)
    shown(terminal, reports(n_epochs=2, n_steps=8, seconds=0.5, images=64))
    text = terminal.file.getvalue()
    assert "epoch 2/2 step" in text
    assert "8/8" in text
    assert "loss 1.500, 128 images/s, 0% waiting for data, 0:00:00 left" in text
    assert "epoch 1/2: " not in text


def test_an_epoch_that_was_done_before_an_interruption_has_no_pace():
    pipe = Console(file=io.StringIO(), force_terminal=False, width=200)
    shown(pipe, [EpochReport(epoch=1, n_epochs=2, loss=2.5, images=99)])
    assert pipe.file.getvalue() == "epoch 1/2: loss 2.500\n"


def test_a_signal_waits_for_the_step_that_is_under_way_and_the_second_does_not():
    first, last = reports(n_epochs=1, n_steps=2, seconds=1.0), None
    before = signal.getsignal(signal.SIGTERM)
    with stopping() as stop:
        with pytest.raises(KeyboardInterrupt):  # nothing is under way yet
            signal.raise_signal(signal.SIGTERM)
        first, last, _ = first
        assert stop.step(first)
        signal.raise_signal(signal.SIGTERM)
        assert not stop.step(first)
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
    assert signal.getsignal(signal.SIGTERM) is before
    after = Stop()
    after.step(last)
    with pytest.raises(KeyboardInterrupt):  # the last step is done
        after.ask(signal.SIGINT, None)


def test_the_package_runs_as_a_module():
    done = subprocess.run([*PROGRAM, "--version"], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == package.__version__


@pytest.mark.slow
@pytest.mark.parametrize("sign", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_training_says_where_it_goes_on_and_does(sign, few, nas_face, tmp_path):
    out = tmp_path / "out"
    command = [*map(str, few), "--set", "epochs=3", "--out"]
    process = Program([*command, out], tmp_path / "err")
    try:
        process.wait_until(lambda: "\nepoch 1/3" in process.errors, TIMEOUT_S)
        process.send(sign)
        code, err = process.ended(TIMEOUT_S), process.errors
    finally:
        process.send(signal.SIGKILL)
    assert code == 130, err
    last = err.splitlines()[-1]
    found = re.fullmatch(
        rf"nas-face: interrupted after step (\d+) of (\d+), checkpoint in {out}/checkpoints; "
        "run the same command to go on",
        last,
    )
    assert found, err
    assert int(found[1]) < int(found[2])
    assert not (out / "model.json").exists()
    assert nas_face(*command, out).code == 0
    assert nas_face(*command, tmp_path / "whole").code == 0
    one, other = (
        (each / "weights.safetensors").read_bytes() for each in (out, tmp_path / "whole")
    )
    assert one == other


@pytest.mark.slow
def test_kill_9_at_random_moments_changes_nothing(few, nas_face, tmp_path):
    rng = random.Random(5)
    out = tmp_path / "out"
    command = [*map(str, few), "--set", "epochs=12", "--out"]

    def checkpoints():
        return set((out / "checkpoints").glob("step-*.safetensors"))

    for _ in range(5):
        before = checkpoints()
        process = Program([*command, out], tmp_path / "err")
        try:
            process.wait_until(lambda before=before: checkpoints() - before, TIMEOUT_S)
            time.sleep(rng.uniform(0, 0.3))
        finally:
            process.send(signal.SIGKILL)
            process.ended(TIMEOUT_S)
    assert not (out / "model.json").exists()
    n_kept = [int(path.stem.split("-")[1]) for path in checkpoints()]
    assert len(n_kept) == 2
    assert max(n_kept) > 0
    assert nas_face(*command, out).code == 0
    assert nas_face(*command, tmp_path / "whole").code == 0
    one, other = (
        (each / "weights.safetensors").read_bytes() for each in (out, tmp_path / "whole")
    )
    assert one == other
    assert not (out / "checkpoints").exists()


@pytest.mark.slow
def test_two_processes_train_one_network_and_one_of_them_talks(few, tmp_path):
    out = tmp_path / "out"
    ranks = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    done = subprocess.run(
        [sys.executable, *ranks, "-m", "nas_face", *map(str, few), "--out", str(out)],
        capture_output=True,
        text=True,
        check=False,
        timeout=TIMEOUT_S,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    assert done.returncode == 0, done.stderr
    assert "(cpu, 2 processes)" in done.stderr
    for said in ("training shufflefacenet_1x", "epoch 1/1: ", "written: "):
        assert done.stderr.count(said) == 1
    assert done.stdout.count("accuracy, 10 folds") == 1
    assert FaceModel.load(out).height == 16
    assert not (out / "checkpoints").exists()


@pytest.mark.slow
def test_a_mistake_is_told_by_one_process(few, tmp_path):
    ranks = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    done = subprocess.run(
        [sys.executable, *ranks, "-m", "nas_face", *map(str, few), "--epochs", "0"],
        capture_output=True,
        text=True,
        check=False,
        timeout=TIMEOUT_S,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    assert done.returncode != 0
    assert done.stderr.count("nas-face: ") == 1
    assert "epochs must be at least 1, got 0" in done.stderr
