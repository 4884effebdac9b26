"""Several processes train as one does, lose none of it, and go on in any number."""

import os
import signal
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from crew import Crew

from nas_face.arch.blocks.conv_unit import ConvUnit
from nas_face.arch.blocks.inverted_residual import InvertedResidual
from nas_face.arch.heads import GlobalDepthwiseHead
from nas_face.arch.spec import ArchSpec
from nas_face.data import FaceImages
from nas_face.data.augment import AugmentSettings
from nas_face.errors import ConfigError, RanksLost
from nas_face.losses.distillation import AdaptiveCentres, Angular, PairRanks, Relational
from nas_face.losses.margins import AdaFace, ArcFace, CosFace, CurricularFace, ElasticFace
from nas_face.nn import FaceModel
from nas_face.nn.ranks import ALONE, Ranks
from nas_face.train import Checkpoints, TrainSettings, train
from nas_face.train.teachers import TeacherSettings

SPEC = ArchSpec(
    input_shape=(3, 16, 16),
    stem=(ConvUnit(out_channels=8, stride=2),),
    stages=((InvertedResidual(out_channels=16, hidden_channels=16, stride=2),),),
    head=GlobalDepthwiseHead(embedding_size=8, tail_channels=16),
)
PLAIN = TrainSettings(
    epochs=2, batch_size=9, learning_rate=0.02, loss=CosFace(margin=0.35, scale=16.0)
)
TAUGHT = replace(PLAIN, teacher=TeacherSettings(model="made up"), distil=(Angular(),), loss=None)
RECIPES = {
    "plain": PLAIN,
    "sampled centres": replace(
        PLAIN, sample_rate=0.5, sub_centres=2, optimizer="adamw", learning_rate=1e-3
    ),
    "random margins": replace(PLAIN, loss=ElasticFace(scale=16.0)),
    "running margins": replace(PLAIN, loss=CurricularFace(scale=16.0)),
    "margins by length": replace(PLAIN, loss=AdaFace(scale=16.0)),
    "average": replace(PLAIN, ema=0.9, augment=AugmentSettings(shift=1, erase=0.5)),
    "taught": replace(TAUGHT, distil=(Angular(), PairRanks()), generations=2, epochs=1),
    "taught beside": replace(
        TAUGHT, loss=ArcFace(scale=16.0), distil=(Relational(), AdaptiveCentres())
    ),
}
CLOSE = 1e-4


def faces() -> FaceImages:
    """54 images of 7 people: whole batches of 9."""
    pixels = np.random.default_rng(0).integers(0, 256, (54, 16, 16, 3), dtype=np.uint8)
    return FaceImages.from_array(pixels, np.arange(54) % 7)


class Targets:
    embedding_size = 12
    identity = "by heart"

    def __init__(self) -> None:
        views = np.random.default_rng(7).normal(size=(2, 54, 12)).astype(np.float32)
        self.views = views / np.linalg.norm(views, axis=2, keepdims=True)

    def rows(self, indices, mirrored, *, epoch):
        return self.views[mirrored.astype(int), indices]

    def prepare(self, *, epoch, mirrored):
        pass

    def sample(self, n):
        return self.views[0][:n]


def trained(ranks: Ranks, name: str, folder: Path | None = None, stop_after: int = 10**6):
    """Losses of the steps, reports of the epochs, weights."""
    settings = RECIPES[name]
    steps, epochs = [], []
    model = FaceModel.fresh(SPEC, seed=1)

    def on_step(report):
        steps.append((report.step, report.loss, report.images))
        return report.step < stop_after

    try:
        train(
            model,
            faces(),
            settings,
            seed=3,
            on_step=on_step,
            on_epoch=lambda report: epochs.append((report.epoch, report.loss, report.images)),
            checkpoints=None if folder is None else Checkpoints(folder),
            teacher=Targets() if settings.distil else None,
            ranks=ranks,
        )
    except KeyboardInterrupt:
        pass
    weights = torch.cat([each.flatten().double() for each in model.module.state_dict().values()])
    return steps, epochs, weights


@pytest.fixture(scope="module", params=[2, 3])
def crew(request, tmp_path_factory):
    with Crew(tmp_path_factory.mktemp("crew"), request.param) as crew:
        yield crew


@pytest.fixture(scope="module", params=RECIPES)
def alone(request):
    return request.param, trained(ALONE, request.param)


def test_the_loss_curve_is_that_of_one_process(crew, alone):
    name, (steps, epochs, weights) = alone
    for own_steps, own_epochs, own_weights in crew(trained, name):
        assert np.array(own_steps) == pytest.approx(np.array(steps), rel=CLOSE)
        assert np.array(own_epochs) == pytest.approx(np.array(epochs), rel=CLOSE)
        torch.testing.assert_close(own_weights, weights, rtol=1e-2, atol=5e-3)


def test_what_several_began_any_number_ends(crew, alone, tmp_path):
    """Killed in the middle of an epoch; then one process goes on, and the other way round."""
    name, (steps, _, weights) = alone
    crew(trained, name, tmp_path / "several", 4)
    rest, _, ended = trained(ALONE, name, tmp_path / "several")
    assert np.array(rest) == pytest.approx(np.array(steps[4:]), rel=CLOSE)
    torch.testing.assert_close(ended, weights, rtol=1e-2, atol=5e-3)
    trained(ALONE, name, tmp_path / "one", 4)
    for rest, _, ended in crew(trained, name, tmp_path / "one"):
        assert np.array(rest) == pytest.approx(np.array(steps[4:]), rel=CLOSE)
        torch.testing.assert_close(ended, weights, rtol=1e-2, atol=5e-3)


def until_told(ranks: Ranks, folder: Path):
    """Train on and on; the state is kept after every step."""
    settings = replace(PLAIN, epochs=10_000)
    model = FaceModel.fresh(SPEC, seed=1)
    try:
        train(
            model,
            faces(),
            settings,
            seed=3,
            checkpoints=Checkpoints(folder, every_s=0),
            ranks=ranks,
        )
    except RanksLost as lost:
        return str(lost)
    return "nobody was missed"


def test_a_rank_that_is_lost_is_missed_and_its_work_is_kept(tmp_path):
    folder = tmp_path / "checkpoints"
    with Crew(tmp_path, 2, timeout_s=20) as crew:
        crew.start(until_told, folder)
        deadline = time.monotonic() + 60
        while not list(folder.glob("step-*.safetensors")) and time.monotonic() < deadline:
            time.sleep(0.05)
        os.kill(crew.processes[1].pid, signal.SIGKILL)
        said = crew.result(0)
    assert "another process of this training ended" in said
    assert "goes on from the last checkpoint" in said
    kept = max(int(path.stem.split("-")[1]) for path in folder.glob("step-*.safetensors"))
    seen = []
    with pytest.raises(KeyboardInterrupt):
        train(
            FaceModel.fresh(SPEC, seed=1),
            faces(),
            replace(PLAIN, epochs=10_000),
            seed=3,
            checkpoints=Checkpoints(folder),
            on_step=lambda report: bool(seen.append(report.step)),
        )
    assert seen == [kept + 1]


def too_small(ranks: Ranks):
    with pytest.raises(ConfigError) as caught:
        train(
            FaceModel.fresh(SPEC, seed=1),
            faces(),
            replace(PLAIN, batch_size=2),
            seed=3,
            ranks=ranks,
        )
    return str(caught.value)


def test_a_batch_that_is_too_small_for_its_ranks_is_refused(crew):
    n = len(crew.pipes)
    for said in crew(too_small):
        assert said == f"training.batch_size must be at least {2 * n} for {n} processes, got 2"
