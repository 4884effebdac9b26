"""Event files, read back by TensorBoard's own reader."""

import builtins
from pathlib import Path

import pytest

import nas_face
from nas_face.errors import ConfigError
from nas_face.study.tensorboard import TensorBoardLog
from nas_face.train import EpochReport, StepReport

PACKAGE = Path(nas_face.__file__).parent


def step(number):
    return StepReport(
        step=number,
        n_steps=6,
        epoch=1 + (number - 1) // 3,
        n_epochs=2,
        loss=10.0 / number,
        images=32,
        learning_rate=0.01 * number,
        seconds=0.5,
        wait_s=0.125,
    )


def write(folder, *numbers):
    with TensorBoardLog(folder) as log:
        for number in numbers:
            log.step(step(number))
            if number % 3 == 0:
                log.epoch(EpochReport(epoch=number // 3, n_epochs=2, loss=number, images=96))


def read(folder, name):
    module = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    events = module.EventAccumulator(str(folder))
    events.Reload()
    return {event.step: pytest.approx(event.value) for event in events.Scalars(name)}


def test_figures_of_every_step_and_epoch(tmp_path):
    pytest.importorskip("tensorboard")
    write(tmp_path, 1, 2, 3, 4, 5, 6)
    assert read(tmp_path, "train/loss") == {n: 10.0 / n for n in range(1, 7)}
    assert read(tmp_path, "train/learning_rate") == {n: 0.01 * n for n in range(1, 7)}
    assert read(tmp_path, "pace/images_per_s") == dict.fromkeys(range(1, 7), 64.0)
    assert read(tmp_path, "pace/wait_share") == dict.fromkeys(range(1, 7), 0.25)
    assert read(tmp_path, "epoch/loss") == {3: 3.0, 6: 6.0}


def test_a_training_that_goes_on_replaces_the_steps_that_it_repeats(tmp_path):
    pytest.importorskip("tensorboard")
    write(tmp_path, 1, 2, 3, 4)
    write(tmp_path, 3, 4, 5)
    module = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    events = module.EventAccumulator(str(tmp_path))
    events.Reload()
    assert [event.step for event in events.Scalars("train/loss")] == [1, 2, 3, 4, 5]


def test_without_the_package_one_line_says_how_to_get_it(tmp_path, monkeypatch):
    real = builtins.__import__

    def without(name, *args, **kwargs):
        if name.startswith("torch.utils.tensorboard"):
            raise ModuleNotFoundError(name)
        return real(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(ConfigError, match=r"^TensorBoard is an extra: pip install 'nas-face\[te"):
        TensorBoardLog(tmp_path)


def test_nothing_else_knows_of_tensorboard():
    users = [
        str(path.relative_to(PACKAGE))
        for path in PACKAGE.rglob("*.py")
        if "torch.utils.tensorboard" in path.read_text(encoding="utf-8")
    ]
    assert users == ["study/tensorboard.py"]
