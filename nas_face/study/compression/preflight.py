"""What can be known to be impossible before anything is written."""

import tempfile
from pathlib import Path

from nas_face.compress.pruning import BY_GRADIENT
from nas_face.compress.pruning.cutter import Cutter
from nas_face.compress.pruning.stages import stage_counts
from nas_face.compress.pruning.width_cost import Counted
from nas_face.compress.quantisation.layers import weighted_layers
from nas_face.deploy import measure_in_turns
from nas_face.errors import CompressionError
from nas_face.nn import FaceModel
from nas_face.study.compression.calibration import calibration_images
from nas_face.study.compression.float_layers import chosen_layers
from nas_face.study.compression.recipe import Recipe
from nas_face.study.compression.record import CompressionFaces
from nas_face.study.compression.results import Runtime
from nas_face.study.compression.runtimes import runtimes_of, write_float
from nas_face.study.compression.step_settings import (
    ORIGINAL,
    DistilStep,
    LowBitsStep,
    PruneStep,
    QuantiseStep,
)
from nas_face.study.compression.teaching import teacher_of
from nas_face.study.config import DataSettings

TOLERANCE = 0.01
"""How near to a target a pruning comes, as a share of it."""

_N_TIMINGS = 3


def require_possible(
    model: FaceModel,
    recipe: Recipe,
    runtime: Runtime,
    faces: CompressionFaces,
    data: DataSettings,
    *,
    seed: int,
) -> None:
    """Raise if a step of a recipe is known to fail.

    Raises:
        CompressionError: a pruning cannot reach its target, there are too few images to calibrate
            on, or a layer that is to stay in float is not there.
        ConfigError: a runtime or a teacher is missing.
        DataError: the images to calibrate on cannot be read.
    """
    for precision in recipe.precisions:
        runtimes_of(recipe, precision)
    layers = weighted_layers(model.description)
    with tempfile.TemporaryDirectory(prefix="nas-face-compress-") as scratch:
        for step in recipe.steps:
            match step:
                case QuantiseStep():
                    calibration_images(step.calibration, step.n_images, faces.train, seed=seed)
                    chosen_layers(layers, step.keep_float)
                case LowBitsStep():
                    chosen_layers(layers, step.keep_float)
                case DistilStep(teacher=teacher):
                    _require_teacher(teacher, model, faces, data, Path(scratch))
                case PruneStep(recover=DistilStep(teacher=teacher)):
                    _require_teacher(teacher, model, faces, data, Path(scratch))
        _require_reachable(model, recipe, runtime, Path(scratch))


def _require_teacher(
    teacher: str, model: FaceModel, faces: CompressionFaces, data: DataSettings, scratch: Path
) -> None:
    if teacher != ORIGINAL:
        teacher_of(teacher, model, faces.train, data, scratch, note=lambda line: None)


def _require_reachable(model: FaceModel, recipe: Recipe, runtime: Runtime, scratch: Path) -> None:
    """Raise if a recipe prunes below what its network can reach.

    How far a network can be pruned depends on its widths only. So the answer is certain up to the
    first pruning behind a distillation, whose weights, and hence what goes, are not known yet; or
    behind a pruning to a latency, which has to be searched for.
    """
    current = model
    trained = False
    for step in recipe.steps:
        if isinstance(step, PruneStep) and step.stages is not None:
            cutter = _cutter(current, step)
            current = cutter.model(stage_counts(cutter.selection, step.stages))
        elif isinstance(step, PruneStep):
            name, value = step.target
            if name.startswith("latency"):
                _require_fast_enough(current, step, runtime, scratch)
                return
            current = _pruned(current, step, name, value)
            if trained:
                return
        trained = (
            trained
            or isinstance(step, DistilStep)
            or (isinstance(step, PruneStep) and step.recover is not None)
        )


def _pruned(model: FaceModel, step: PruneStep, name: str, value: float) -> FaceModel:
    cost = model.description.cost
    cutter = _cutter(model, step)
    quantity: Counted = "params" if name.startswith("params") else "madds"
    whole = cost.params if quantity == "params" else cost.madds
    budget = int(value * whole) if name.endswith("share") else int(value)
    return cutter.model(cutter.fit(quantity, budget, tolerance=TOLERANCE))


def _cutter(model: FaceModel, step: PruneStep) -> Cutter:
    """By a criterion of the weights alone: which channels go does not change how far it goes."""
    return Cutter(
        model,
        importance="l2" if step.importance in BY_GRADIENT else step.importance,
        scope=step.scope,
        round_to=step.round_to,
        min_keep=step.min_keep,
    )


def _require_fast_enough(
    model: FaceModel, step: PruneStep, runtime: Runtime, scratch: Path
) -> None:
    """Raise if even the narrowest network is slower than a target, whenever it is timed."""
    cutter = _cutter(model, step)
    smallest = write_float(cutter.model(cutter.selection.floors), scratch / "smallest", runtime)
    whole = write_float(model, scratch / "whole", runtime)
    timed = [measure_in_turns(smallest, whole) for _ in range(_N_TIMINGS)]
    latency = min(timed, key=lambda each: each.ratio)
    name, value = step.target
    asked = value if name == "latency_share" else value / latency.reference_ms
    if latency.ratio > asked:
        raise CompressionError(
            f"prune: {name}={value:g} cannot be reached: with min_keep={step.min_keep:g} and "
            f"round_to={step.round_to} the smallest network takes {latency.ratio:.0%} of the "
            f"{latency.reference_ms:.2f} ms that there are; lower min_keep or round_to, or ask "
            "for "
            "less"
        )
