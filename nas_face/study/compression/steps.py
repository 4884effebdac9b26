"""Carrying out a compression recipe: every step verified, timed, saved, and taken up again.

OUT/recipe.json           the recipe and what it was applied to
OUT/steps/N-KIND/         model folder behind every step, with its ONNX file, result.json and
                          groups.json
OUT/model.json, weights.safetensors, model.onnx, model.int8.onnx
OUT/compression.json      the table
"""

import json
import logging
import os
import shutil
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt

from nas_face.compress.pruning import prune
from nas_face.data import PairList
from nas_face.deploy import (
    OnnxSession,
    embedding_parity,
    export_onnx,
    measure_in_turns,
    quantise_onnx,
    require_parity,
)
from nas_face.losses.distillation import Angular
from nas_face.nn import FaceModel
from nas_face.nn.model import MODEL_FILE
from nas_face.search import derive_seed
from nas_face.study.compression.recipe import DistilStep, PruneStep, QuantiseStep, Recipe
from nas_face.study.compression.record import (
    GROUPS_FILE,
    RESULT_FILE,
    CompressionFaces,
    StepGroups,
    StepResult,
    claim,
    known_groups,
    known_result,
)
from nas_face.study.evaluate import embed_pairs
from nas_face.study.faces import sample_images
from nas_face.study.files import partial_of, write_text
from nas_face.study.layout import CHECKPOINTS_FOLDER, TEACHERS_FOLDER
from nas_face.study.verification.trained_on import write_trained_on
from nas_face.train import Checkpoints, EpochReport, TrainSettings, train
from nas_face.train.teachers import CachedTargets, TeacherModel, TeacherSettings, images_digest
from nas_face.verify import cosine_scores, verify_embeddings

_LOG = logging.getLogger(__name__)

UNPRUNED = "the unpruned network"
MIN_COSINE_FP32 = 0.9999
N_PARITY_CROPS = 64
ONNX_FILE = "model.onnx"
INT8_FILE = "model.int8.onnx"
TABLE_FILE = "compression.json"


Epochs = Callable[[int], AbstractContextManager[Callable[[EpochReport], None]]]
"""Opens a progress display over a number of epochs."""


def compress(
    model: FaceModel,
    recipe: Recipe,
    faces: CompressionFaces,
    out: Path,
    *,
    training: TrainSettings,
    seed: int,
    epochs: Epochs,
    source: Path | None = None,
) -> list[StepResult]:
    """Apply a recipe; a step that is already there from an earlier sitting is taken as it is.

    Args:
        model: what to compress.
        recipe: what to do.
        faces: of the model's input size.
        out: folder of results; made if it is not there.
        training: margin loss and batch size of distillation steps.
        seed: of distillation and of the choice of images.
        epochs: progress display.
        source: folder of the model; whom it was trained on is noted with the results.

    Returns:
        One row for the original, one for each step; also written to `compression.json`.

    Raises:
        ConfigError: `out` holds the results of something else, or of other faces.
        CompressionError: a step cannot be carried out; where that is foreseeable, nothing has been
            written.
        DeployError: an exported file does not agree with its source.
    """
    claim(
        out,
        model,
        recipe,
        faces,
        training,
        seed,
        require=lambda: _require_reachable(model, recipe),
    )
    crops = sample_images(faces.train, N_PARITY_CROPS, seed=derive_seed(seed, "parity"))
    original = out / "steps" / "0-original"
    results = [_file_step(model, "original", original, faces, crops, original)]
    current = model
    for number, step in enumerate(recipe.steps, start=1):
        folder = out / "steps" / f"{number}-{step.kind}"
        name = f"{number} {step.kind}"
        match step:
            case QuantiseStep():
                results.append(
                    _quantise(current, step, name, folder, faces, crops, original, seed)
                )
            case PruneStep() | DistilStep():
                if (folder / MODEL_FILE).exists():  # written last, so the folder is whole
                    current = FaceModel.load(folder)
                else:
                    current = _transform(
                        current, model, step, faces, folder, training, seed, epochs
                    )
                    current.save(folder)
                    Checkpoints(folder / CHECKPOINTS_FOLDER).clear()
                    shutil.rmtree(folder / TEACHERS_FOLDER, ignore_errors=True)
                results.append(_file_step(current, name, folder, faces, crops, original))
    write_trained_on(out, faces.train.identities, source)
    _publish(out, current, recipe)
    text = json.dumps([result.as_dict() for result in results], indent=1) + "\n"
    write_text(out / TABLE_FILE, text)
    return results


def _require_reachable(model: FaceModel, recipe: Recipe) -> None:
    """Raise if the recipe prunes below what its network can reach.

    How far a network can be pruned depends on its widths only. So the answer is certain up to the
    first pruning behind a distillation, whose weights, and hence what goes, are not known yet.
    """
    current = model
    distilled = False
    for step in recipe.steps:
        if isinstance(step, PruneStep):
            current = _pruned(current, step)
            if distilled:
                return
        distilled = distilled or isinstance(step, DistilStep)


def _pruned(model: FaceModel, step: PruneStep) -> FaceModel:
    return prune(
        model,
        target_madds=step.target_madds(model.description.cost.madds),
        importance=step.importance,
        round_to=step.round_to,
        min_keep=step.min_keep,
    ).model


def _transform(
    current: FaceModel,
    teacher: FaceModel,
    step: PruneStep | DistilStep,
    faces: CompressionFaces,
    folder: Path,
    training: TrainSettings,
    seed: int,
    epochs: Epochs,
) -> FaceModel:
    """The model behind a pruning or distillation step."""
    if isinstance(step, PruneStep):
        return _pruned(current, step)
    settings = replace(
        training,
        epochs=step.epochs,
        learning_rate=step.learning_rate,
        teacher=TeacherSettings(model=UNPRUNED),
        distil=(Angular(weight=step.weight),),
        generations=1,
    )
    targets = CachedTargets(
        TeacherModel(
            name=UNPRUNED,
            digest=teacher.digest,
            height=teacher.height,
            width=teacher.width,
            load=lambda: teacher,
        ),
        faces.train,
        images_digest(faces.train),
        folder / TEACHERS_FOLDER,
        note=_LOG.info,
    )
    student = FaceModel.of(current.description, current.module.state_dict())
    folder.mkdir(parents=True, exist_ok=True)
    with epochs(step.epochs) as on_epoch:
        train(
            student,
            faces.train,
            settings,
            seed=derive_seed(seed, "distil"),
            on_epoch=on_epoch,
            checkpoints=Checkpoints(folder / CHECKPOINTS_FOLDER),
            teacher=targets,
        )
    return student.noting(
        f"distilled {step.epochs} epochs on {len(faces.train)} images from the unpruned network "
        f"of {teacher.description.cost.madds} MAdds"
    )


def _file_step(
    model: FaceModel,
    name: str,
    folder: Path,
    faces: CompressionFaces,
    crops: npt.NDArray[np.uint8],
    original: Path,
) -> StepResult:
    """Export a model, hold the file against torch, verify and time it, and write that down."""
    known = known_result(folder)
    if known is not None:
        return _with_groups(known, folder / ONNX_FILE, faces)
    folder.mkdir(parents=True, exist_ok=True)
    export_onnx(model, folder / ONNX_FILE)
    session = OnnxSession(folder / ONNX_FILE)
    parity = embedding_parity(model.embed(crops), session.embed(crops))
    require_parity(parity, min_cosine=MIN_COSINE_FP32, where=str(folder / ONNX_FILE))
    embeddings = embed_pairs(session, faces.pairs)
    result = _measure(session, model, name, embeddings, faces.pairs, parity.min_cosine, original)
    write_text(folder / RESULT_FILE, json.dumps(result.as_dict(), indent=1) + "\n")
    return _with_groups(result, folder / ONNX_FILE, faces, embeddings)


def _quantise(
    model: FaceModel,
    step: QuantiseStep,
    name: str,
    folder: Path,
    faces: CompressionFaces,
    crops: npt.NDArray[np.uint8],
    original: Path,
    seed: int,
) -> StepResult:
    """Make the int8 file of the last model; its cosine is measured, and nothing is required."""
    known = known_result(folder)
    if known is not None:
        return _with_groups(known, folder / INT8_FILE, faces)
    folder.mkdir(parents=True, exist_ok=True)
    float_file, int8_file = folder / ONNX_FILE, folder / INT8_FILE
    export_onnx(model, float_file)
    images = sample_images(faces.train, step.n_images, seed=derive_seed(seed, "calibration"))
    report = quantise_onnx(
        float_file, int8_file, images, reduce_range=step.reduce_range, method=step.method
    )
    session = OnnxSession(int8_file)
    parity = embedding_parity(model.embed(crops), session.embed(crops))
    bits = "7-bit weights" if report.reduce_range else "8-bit weights"
    embeddings = embed_pairs(session, faces.pairs)
    result = _measure(
        session,
        model,
        f"{name} ({bits})",
        embeddings,
        faces.pairs,
        parity.min_cosine,
        original,
    )
    write_text(folder / RESULT_FILE, json.dumps(result.as_dict(), indent=1) + "\n")
    return _with_groups(result, int8_file, faces, embeddings)


def _with_groups(
    result: StepResult,
    file: Path,
    faces: CompressionFaces,
    embeddings: npt.NDArray[np.float32] | None = None,
) -> StepResult:
    """Add the figures of groups, found anew where the folder has none of these very groups."""
    if faces.groups is None:
        return result
    reports = known_groups(file.parent, faces.groups)
    if reports is None:
        if embeddings is None:
            embeddings = embed_pairs(OnnxSession(file), faces.pairs)
        scores = cosine_scores(embeddings, faces.pairs.first, faces.pairs.second)
        reports = faces.groups.reports(scores)
        kept = StepGroups(digest=faces.groups.digest, reports=reports)
        write_text(file.parent / GROUPS_FILE, json.dumps(asdict(kept), indent=1) + "\n")
    return replace(result, groups=reports)


def _measure(
    session: OnnxSession,
    model: FaceModel,
    name: str,
    embeddings: npt.NDArray[np.float32],
    pairs: PairList,
    cosine: float,
    original: Path,
) -> StepResult:
    verification = verify_embeddings(embeddings, pairs)
    latency = measure_in_turns(session, original / ONNX_FILE)
    cost = model.description.cost
    return StepResult(
        step=name,
        madds=cost.madds,
        params=cost.params,
        size_bytes=session.path.stat().st_size,
        accuracy=verification.accuracy,
        accuracy_std=verification.accuracy_std,
        auc=verification.auc,
        eer=verification.eer,
        latency_ms=latency.latency_ms,
        speedup=1 / latency.ratio,
        cosine=cosine,
    )


def _publish(out: Path, model: FaceModel, recipe: Recipe) -> None:
    """Put the last step's files at the top of `out`."""
    last = out / "steps" / f"{len(recipe.steps)}-{recipe.steps[-1].kind}"
    model.noting(f"compressed by recipe {recipe.name}").save(out)
    for name in (ONNX_FILE, INT8_FILE):
        if (last / name).exists():
            partial = partial_of(out / name)
            shutil.copyfile(last / name, partial)
            os.replace(partial, out / name)
