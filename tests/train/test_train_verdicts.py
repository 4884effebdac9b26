"""Trainings that cannot come to anything end in one line; good ones are left alone."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from nas_face.arch.blocks.conv_unit import ConvUnit
from nas_face.arch.blocks.inverted_residual import InvertedResidual
from nas_face.arch.heads import GlobalDepthwiseHead
from nas_face.arch.spec import ArchSpec
from nas_face.data import FaceImages, load_orl
from nas_face.errors import TrainingDiverged
from nas_face.losses.margins.settings import ArcFace, CosFace
from nas_face.nn import FaceModel
from nas_face.train import TrainSettings, train
from nas_face.train.verdicts import LOOK_EVERY, N_RECENT, N_SKIPPED, WINDOW_STEPS, Watch

NAMES = [f"s{number}/1.pgm" for number in range(10)]
FINITE = torch.ones(4, 3)
INDICES = np.array([7, 2, 5, 0])


def made(**settings) -> tuple[nn.Module, Watch]:
    module = nn.Linear(2, 2, bias=False)
    nn.init.ones_(module.weight)
    return module, Watch(module, TrainSettings(**settings), NAMES)


def verdict(call: Callable[[], None]) -> str:
    with pytest.raises(TrainingDiverged) as caught:
        call()
    assert "\n" not in str(caught.value)
    return str(caught.value)


def lose(watch: Watch, loss: float, embeddings: Tensor = FINITE) -> None:
    watch.see_loss(loss, embeddings, INDICES, where="epoch 1, step 3")


def test_images_whose_embeddings_are_not_finite_are_named() -> None:
    embeddings = FINITE.clone()
    embeddings[1, 2], embeddings[3, 0] = float("nan"), float("inf")
    said = verdict(lambda: lose(made()[1], float("nan"), embeddings))
    assert said == (
        "loss is nan at epoch 1, step 3; 2 of the 4 embeddings are not finite, those of "
        "s2/1.pgm, s0/1.pgm; look at these images, or lower training.learning_rate (now 0.1) or "
        "lengthen training.warmup"
    )


@pytest.mark.parametrize(
    ("precision", "cause"),
    [("fp32", "no embedding of the batch is finite"), ("fp16", "left the range of fp16")],
)
def test_a_batch_without_a_finite_embedding_names_no_image(precision: str, cause: str) -> None:
    watch = made(precision=precision)[1]
    said = verdict(lambda: lose(watch, float("inf"), FINITE * float("nan")))
    assert cause in said
    assert "pgm" not in said


def test_weights_that_are_not_finite_are_the_cause_of_the_loss() -> None:
    module, watch = made()
    module.weight.data[0, 0] = float("nan")
    said = verdict(lambda: lose(watch, float("nan"), FINITE * float("nan")))
    assert "the weights are not finite" in said
    assert "lower training.learning_rate (now 0.1)" in said


def test_weights_that_are_not_finite_are_not_kept() -> None:
    module, watch = made()
    watch.see_weights(where="epoch 1", now=True)
    module.weight.data[0, 0] = float("inf")
    said = verdict(lambda: watch.see_weights(where="epoch 2", now=True))
    assert said.startswith("weights are not finite after epoch 2; lower training.learning_rate")


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_a_gradient_that_is_not_finite_ends_the_training_before_its_step(precision: str) -> None:
    watch = made(precision=precision)[1]
    watch.see_gradient(1e30, where="epoch 1, step 1")
    said = verdict(lambda: watch.see_gradient(float("nan"), where="epoch 1, step 2"))
    assert said.startswith("the gradient is not finite at epoch 1, step 2")


def test_fp16_may_skip_steps_but_not_for_ever() -> None:
    watch = made(precision="fp16")[1]
    for _ in range(3):
        for _ in range(N_SKIPPED - 1):
            watch.see_gradient(float("inf"), where="epoch 1")
        watch.see_gradient(1.0, where="epoch 1")
    for _ in range(N_SKIPPED - 1):
        watch.see_gradient(float("inf"), where="epoch 2")
    said = verdict(lambda: watch.see_gradient(float("inf"), where="epoch 3"))
    assert "set training.precision to bf16 or fp32" in said


def follow(
    module: nn.Module, watch: Watch, *, growth: float, fall: float, n_steps: int = 200
) -> int | None:
    """Grow weights and lose by these factors a step; the step of the verdict, from 1."""
    for step in range(1, n_steps + 1):
        lose(watch, 6.0 * fall ** (step - 1))
        module.weight.data.mul_(growth)
        try:
            watch.see_weights(where="here")
        except TrainingDiverged:
            return step
    return None


def looked_at(step: int) -> int:
    """The first look at the weights from this step on."""
    return -(-step // LOOK_EVERY) * LOOK_EVERY


@pytest.mark.parametrize(
    ("settings", "factor"),
    [
        ({}, 2.0),
        ({"clip_norm": 10.0}, 2.0),
        ({"clip_norm": None}, 10.0),
        ({"clip_norm": 100.0}, 10.0),
        ({"optimizer": "adamw", "clip_norm": None}, 1.5),
    ],
)
def test_growth_without_a_falling_loss_is_a_rate_too_high(settings, factor: float) -> None:
    growth = 1.03
    due = int(np.ceil(np.log(factor) / np.log(growth)))
    assert follow(*made(**settings), growth=growth, fall=1.0) == looked_at(due)


def test_growth_with_a_falling_loss_is_none() -> None:
    assert follow(*made(), growth=1.2, fall=0.99) is None


def test_a_rate_that_rises_too_high_is_found_though_the_loss_fell_before() -> None:
    module, watch = made()
    assert follow(module, watch, growth=1.0, fall=0.99) is None  # 6 to 0.8
    assert follow(module, watch, growth=1.1, fall=1.0) == 2 * LOOK_EVERY


def test_slow_growth_is_none() -> None:
    """Doubled in a little more than the window."""
    growth = 2 ** (1 / (WINDOW_STEPS + 2 * LOOK_EVERY))
    assert follow(*made(), growth=growth, fall=1.0, n_steps=1000) is None


def test_a_few_losses_are_awaited() -> None:
    """The first look comes before there are enough."""
    assert LOOK_EVERY < N_RECENT
    assert follow(*made(), growth=10.0, fall=1.0) == 2 * LOOK_EVERY


def test_the_verdict_says_what_was_seen_and_what_to_change() -> None:
    module, watch = made(learning_rate=12.5)
    for loss in (6.25, 8.0, 9.0, 10.0, 11.0, 12.0):
        lose(watch, loss)
        watch.see_weights(where="here")
    module.weight.data.mul_(3.0)
    assert verdict(lambda: watch.see_weights(where="epoch 1, step 6", now=True)) == (
        "the learning rate is far too high: after epoch 1, step 6 the weights are 3.0 times as "
        "long as 6 steps before, and the loss went from 6.25 to 10; set training.learning_rate to "
        "a tenth or less (now 12.5)"
    )


@pytest.mark.parametrize("at", [1, 6, 10])
def test_a_resumed_watch_gives_the_same_verdict(at: int) -> None:
    whole = follow(*made(), growth=1.04, fall=1.0)
    module, watch = made()
    assert follow(module, watch, growth=1.04, fall=1.0, n_steps=at) is None
    resumed = Watch(module, TrainSettings(), NAMES)  # sees the grown weights first
    resumed.load_state_dict(watch.state_dict())
    assert follow(module, resumed, growth=1.04, fall=1.0) == whole - at


# Real trainings of a few steps.
def stage(channels: int) -> tuple[InvertedResidual, ...]:
    block = InvertedResidual(out_channels=channels, hidden_channels=2 * channels)
    return (replace(block, stride=2), *[block] * 3)


SPEC = ArchSpec(
    input_shape=(3, 32, 32),
    stem=(ConvUnit(out_channels=16, stride=2),),
    stages=(stage(16), stage(24), stage(32)),
    head=GlobalDepthwiseHead(embedding_size=64, tail_channels=64),
)
STUDY = TrainSettings(epochs=10, batch_size=16, loss=CosFace(margin=0.2, scale=16.0))
ADAMW = replace(STUDY, optimizer="adamw", learning_rate=1e-3, weight_decay=0.05)
STEEP = replace(STUDY, loss=ArcFace(margin=0.5, scale=64.0))
N_STEPS = 20


@pytest.fixture(scope="module")
def faces() -> FaceImages:
    images = load_orl(32, 32)
    return images.subset(images.identities[:10])


def n_steps_of(settings: TrainSettings, factor: float, images: FaceImages) -> int:
    """Steps that a training made of `N_STEPS` at this many times its learning rate."""
    seen = []

    def on_step(report) -> bool:
        seen.append(report.step)
        return len(seen) < N_STEPS

    settings = replace(settings, learning_rate=factor * settings.learning_rate)
    try:
        train(FaceModel.fresh(SPEC, seed=0), images, settings, seed=0, on_step=on_step)
    except TrainingDiverged as failure:
        assert f"(now {settings.learning_rate:g})" in str(failure)
    except KeyboardInterrupt:
        pass
    return len(seen)


@pytest.mark.parametrize(
    ("settings", "factor"),
    [(STUDY, 100.0), (STEEP, 100.0), (ADAMW, 1000.0)],
    ids=["study", "steep", "adamw"],
)
def test_a_rate_far_too_high_ends_within_twenty_steps(settings, factor: float, faces) -> None:
    """So small a network still learns at 100 times AdamW's usual rate."""
    assert n_steps_of(settings, factor, faces) < N_STEPS


@pytest.mark.parametrize("factor", [0.5, 1.0, 4.0])
@pytest.mark.parametrize("settings", [STUDY, ADAMW, STEEP], ids=["study", "adamw", "steep"])
def test_half_to_four_times_the_rate_goes_on(settings, factor: float, faces) -> None:
    assert n_steps_of(settings, factor, faces) == N_STEPS
