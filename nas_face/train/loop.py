"""The training loop: images in, a margin loss or a teacher, one optimiser step after another."""

import contextlib
from collections.abc import Callable, Iterator

import torch

from nas_face.data import FaceImages
from nas_face.errors import DataError
from nas_face.nn.fast import fast_training
from nas_face.nn.model import FaceModel
from nas_face.nn.ranks import ALONE, Ranks
from nas_face.nn.sync_norm import localise_, synchronise_
from nas_face.train.checkpoint import Checkpoints
from nas_face.train.reports import EpochReport, StepReport
from nas_face.train.resume import begun_run, save_run
from nas_face.train.run import Run
from nas_face.train.settings import TrainSettings
from nas_face.train.task import Task
from nas_face.train.teachers import TeacherTargets

MIN_IDENTITIES = 3
"""Two teach one boundary: a network that tells these two apart, and nobody else."""


def train(
    model: FaceModel,
    images: FaceImages,
    settings: TrainSettings,
    *,
    seed: int,
    on_epoch: Callable[[EpochReport], bool | None] = lambda report: None,
    on_step: Callable[[StepReport], bool | None] = lambda report: None,
    checkpoints: Checkpoints | None = None,
    teacher: TeacherTargets | None = None,
    ranks: Ranks = ALONE,
) -> FaceModel:
    """Train a model in place.

    The same model, images, settings, seed and teacher give the same weights on one CPU, whether or
    not the training was killed at some step and resumed from its checkpoints.

    Args:
        model: starting weights, on the device to train on; they change.
        images: crops of the model's input size, with labels.
        settings: the recipe.
        seed: of class centres, order and augmentation.
        on_epoch: called after every epoch, with the weights that would be saved; returning False
            ends the training there. An epoch counts as done when this has returned: one that was
            interrupted before is reported again, alike.
        on_step: called after every step; returning False writes a checkpoint and interrupts the
            training as Ctrl-C does.
        checkpoints: hold the state after every epoch, and now and then in between; the training
            goes on from the last. They stay when it ends, for the caller to clear once the model
            is put away.
        teacher: of the distillation in the settings.
        ranks: processes that train together, each with its own call of this function; every one
            has all the images and takes its share of each batch.

    Returns:
        The same model.

    Raises:
        DataError: fewer than three identities, where the loss needs them.
        TrainingDiverged: the loss, the weights or the embeddings went astray.
        RanksLost: another process is gone.
        KeyboardInterrupt: `on_step` returned False.
    """
    if settings.needs_labels and images.n_identities < MIN_IDENTITIES:
        raise DataError(
            f"training needs at least {MIN_IDENTITIES} identities, and hundreds to be of use, got "
            f"{images.n_identities}; add people, or learn from a teacher without labels"
        )
    if (teacher is None) == bool(settings.distil):
        raise ValueError("a teacher goes with settings.distil, and the other way round")
    device = next(model.module.parameters()).device
    task = Task(
        model=model,
        images=images,
        settings=settings,
        seed=seed,
        teacher=teacher,
        ranks=ranks,
        start=model.digest,
    )
    with _ready(model, settings, ranks), torch.random.fork_rng(_cuda_of(device)), ranks.guard():
        run = begun_run(task, checkpoints)
        while _generation(run, on_epoch, on_step, checkpoints):
            if run.generation + 1 == settings.generations:
                break
            run = Run(task, run.generation + 1)
    return model


def _generation(
    run: Run,
    on_epoch: Callable[[EpochReport], bool | None],
    on_step: Callable[[StepReport], bool | None],
    checkpoints: Checkpoints | None,
) -> bool:
    """Train one generation to its end; gives whether the training is to go on."""
    while run.epoch < run.settings.epochs:
        for batch in run.batches():
            report = run.step(batch)
            stop = on_step(report) is False
            if checkpoints is not None and (stop or run.ranks.agree(checkpoints.due)):
                save_run(run, checkpoints)
            if stop:
                raise KeyboardInterrupt
        run.watch.see_weights(where=f"epoch {run.epochs_before + run.epoch + 1}", now=True)
        with run.average.applied() if run.average is not None else contextlib.nullcontext():
            goes_on = on_epoch(run.epoch_report()) is not False
        if not goes_on:
            run.finish()
            return False
        run.next_epoch()
        if checkpoints is not None:
            save_run(run, checkpoints)
    run.finish()
    return True


@contextlib.contextmanager
def _ready(model: FaceModel, settings: TrainSettings, ranks: Ranks) -> Iterator[None]:
    """The module in the form that trains fastest, and afterwards as it was."""
    with fast_training(model.module, fuse=not settings.compile):
        if ranks.n > 1:
            synchronise_(model.module, ranks)
        model.module.train()
        try:
            yield
        finally:
            if ranks.n > 1:
                localise_(model.module)
            model.module.eval()


def _cuda_of(device: torch.device) -> list[torch.device]:
    return [device] if device.type == "cuda" else []
