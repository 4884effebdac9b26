"""Trainings within a compression: a teacher, a few epochs, taken up again from checkpoints."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from nas_face.compress.pruning import lacks_statistics, restore_norms
from nas_face.data import FaceImages
from nas_face.losses.distillation import Angular
from nas_face.nn import FaceModel
from nas_face.nn.model import MODEL_FILE
from nas_face.search import derive_seed
from nas_face.study.compression.state import Work
from nas_face.study.compression.step_settings import ORIGINAL, DistilStep
from nas_face.study.config import DataSettings
from nas_face.study.faces import sample_images
from nas_face.study.layout import CHECKPOINTS_FOLDER
from nas_face.study.teachers import teacher_targets
from nas_face.train import Checkpoints, TrainSettings, train
from nas_face.train.teachers import (
    CachedTargets,
    TeacherModel,
    TeacherSettings,
    TeacherTargets,
    images_digest,
)

UNCOMPRESSED = "the original network"

_N_FOR_NORMS = 256  # crops


def distilled(model: FaceModel, step: DistilStep, work: Work, folder: Path) -> FaceModel:
    """A model that was trained with a teacher; the given one stays as it is.

    Taken from `folder` where it is there already, else left there.

    Raises:
        TrainingDiverged: the loss stopped being finite.
        NasFaceError: the teacher is missing.
    """
    if (folder / MODEL_FILE).exists():  # written last, so the folder is whole
        kept = FaceModel.load(folder)
        if kept.description.network == model.description.network:
            return kept
    folder.mkdir(parents=True, exist_ok=True)
    images = work.bench.faces.train
    student = FaceModel.of(model.description, model.module.state_dict())
    if lacks_statistics(student):
        crops = sample_images(images, _N_FOR_NORMS, seed=derive_seed(work.seed, "norms"))
        student = restore_norms(student, crops)
    checkpoints = Checkpoints(folder / CHECKPOINTS_FOLDER)
    with work.epochs(step.epochs) as on_epoch:
        train(
            student,
            images,
            training_of(step, work.training),
            seed=derive_seed(work.seed, "distil"),
            on_epoch=on_epoch,
            checkpoints=checkpoints,
            teacher=targets_of(step.teacher, work),
        )
    teacher = UNCOMPRESSED if step.teacher == ORIGINAL else Path(step.teacher).name
    student = student.noting(
        f"distilled {step.epochs} epochs on {len(images)} images from {teacher}"
        + (", without labels" if step.loss == "none" else "")
    )
    student.save(folder)
    checkpoints.clear()
    return student


def training_of(step: DistilStep, training: TrainSettings) -> TrainSettings:
    """Settings of a study's training as a step changes them."""
    return replace(
        training,
        epochs=step.epochs,
        learning_rate=step.learning_rate,
        batch_size=step.batch_size or training.batch_size,
        teacher=TeacherSettings(model=step.teacher),
        distil=(Angular(weight=step.weight),),
        loss=None if step.loss == "none" else training.loss,
        generations=1,
    )


def targets_of(teacher: str, work: Work) -> TeacherTargets:
    """What a teacher makes of the training images."""
    return teacher_of(
        teacher,
        work.original.model,
        work.bench.faces.train,
        work.data,
        work.teachers,
        note=work.note,
    )


def teacher_of(
    teacher: str,
    original: FaceModel,
    images: FaceImages,
    data: DataSettings,
    cache: Path,
    *,
    note: Callable[[str], None],
) -> TeacherTargets:
    """What a teacher makes of images; nothing is embedded yet.

    Args:
        teacher: `original`, or as `TeacherSettings.model`.
        original: the model that was given.
        images: to train on.
        data: where they come from.
        cache: folder of embeddings.
        note: is told how far the embedding is.

    Raises:
        NasFaceError: the teacher is missing or broken.
    """
    if teacher != ORIGINAL:
        return teacher_targets(
            TeacherSettings(model=teacher), images, data, cache=cache, note=note
        )
    source = TeacherModel(
        name=UNCOMPRESSED,
        digest=original.digest,
        height=original.height,
        width=original.width,
        load=lambda: original,
    )
    return CachedTargets(source, images, images_digest(images), cache, note=note)
