"""Training under quantisation within a compression: the float network teaches, without labels."""

from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from nas_face.compress.quantisation.aware import quantisation_aware
from nas_face.compress.quantisation.fold import fold_norms
from nas_face.losses.distillation import Angular
from nas_face.nn import FaceModel
from nas_face.nn.model import MODEL_FILE
from nas_face.search import derive_seed
from nas_face.study.compression.state import Work
from nas_face.study.compression.step_settings import AwareTraining
from nas_face.study.layout import CHECKPOINTS_FOLDER
from nas_face.train import Checkpoints, train
from nas_face.train.teachers import CachedTargets, TeacherModel, TeacherSettings, images_digest

FLOAT_NETWORK = "the float network"
_WEIGHT = 7.0  # of the distance to the teacher; there is no other loss, so it scales the rate


def aware_trained(
    model: FaceModel,
    step: AwareTraining,
    work: Work,
    folder: Path,
    *,
    images: NDArray[np.uint8],
    weight_bits: int,
    activation_bits: int,
    keep_float: frozenset[str],
) -> FaceModel:
    """Float weights that lose less on a grid; taken from `folder` where they are there already.

    Args:
        model: float network, which teaches and is where the training starts; not changed.
        step: how it is trained.
        work: what all steps share.
        folder: where the model and its checkpoints are kept.
        images: crops that set the ranges of activations.
        weight_bits: of the grid.
        activation_bits: of the grid.
        keep_float: layers that are on no grid.

    Raises:
        TrainingDiverged: the loss stopped being finite.
    """
    if (folder / MODEL_FILE).exists():  # written last, so the folder is whole
        return FaceModel.load(folder)
    folder.mkdir(parents=True, exist_ok=True)
    faces = work.bench.faces.train
    teacher = CachedTargets(
        TeacherModel(
            name=FLOAT_NETWORK,
            digest=model.digest,
            height=model.height,
            width=model.width,
            load=lambda: model,
        ),
        faces,
        images_digest(faces),
        work.teachers,
        note=work.note,
    )
    settings = replace(
        work.training,
        epochs=step.epochs,
        learning_rate=step.learning_rate,
        batch_size=step.batch_size or work.training.batch_size,
        teacher=TeacherSettings(model=FLOAT_NETWORK),
        distil=(Angular(weight=_WEIGHT),),
        loss=None,
        generations=1,
    )
    checkpoints = Checkpoints(folder / CHECKPOINTS_FOLDER)
    folded = fold_norms(model)
    with (
        quantisation_aware(
            folded,
            images,
            weight_bits=weight_bits,
            activation_bits=activation_bits,
            keep_float=keep_float,
        ) as student,
        work.epochs(step.epochs) as on_epoch,
    ):
        train(
            student,
            faces,
            settings,
            seed=derive_seed(work.seed, "aware"),
            on_epoch=on_epoch,
            checkpoints=checkpoints,
            teacher=teacher,
        )
    student.save(folder)
    checkpoints.clear()
    return FaceModel.load(folder)
