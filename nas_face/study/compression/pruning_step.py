"""A pruning step: cut, recover, judge; with a softer target where the floor is broken."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from nas_face.compress.pruning import (
    BY_GRADIENT,
    Target,
    angular_gradients,
    prune_in_rounds,
    prune_stages,
    recalibrate_norms,
    restore_norms,
)
from nas_face.nn import FaceModel
from nas_face.nn.model import MODEL_FILE
from nas_face.search import derive_seed
from nas_face.study.compression.results import Try
from nas_face.study.compression.runtimes import write_float
from nas_face.study.compression.state import Outcome, PlacedFile, State, Work
from nas_face.study.compression.step_settings import DistilStep, PruneStep
from nas_face.study.compression.teaching import distilled
from nas_face.study.compression.trying import Made, Tries
from nas_face.study.compression.usual_crops import usual_crops
from nas_face.study.faces import sample_images

N_CROPS = 256
"""Crops to fit layers on, and for statistics of batch normalisations."""

N_FOR_GRADIENTS = 128
"""Crops that are differentiated, one by one."""

_UNITS = {
    "share": "MAdds",
    "madds": "MAdds",
    "params": "parameters",
    "params_share": "parameters",
    "latency_ms": "latency",
    "latency_share": "latency",
}


def prune_step(step: PruneStep, state: State, work: Work, tries: Tries) -> Outcome:
    """Carry a pruning out.

    Args:
        step: what is asked.
        state: in front of it.
        work: what all steps share.
        tries: of this step.

    Raises:
        CompressionError: the target cannot be reached.
        NasFaceError: a file does not agree with torch, or a training diverged.
    """
    asked = 0.0 if step.stages is not None else _asked(step, state)
    unit = "" if step.stages is not None else _UNITS[step.target[0]]
    if asked >= 1:
        return Outcome(
            state=state,
            verdict=f"kept: the {unit} are below the target as it is",
            tries=(),
            files=(state.file,),
        )
    n = 2 ** (step.max_tries - 1)

    def attempt(position: int) -> Try:
        if step.stages is not None:
            shares = {
                stage: share + (1 - share) * position / n for stage, share in step.stages.items()
            }
            words = "to " + ", ".join(f"{each:.1%} of {stage}" for stage, each in shares.items())
            return tries.attempt(
                words, position, lambda place: _made(step, shares, state, work, place)
            )
        share = asked + (1 - asked) * position / n
        words = f"to {share:.1%} of the {unit}"
        return tries.attempt(words, position, lambda place: _made(step, share, state, work, place))

    chosen = tries.softened(n, attempt)
    if chosen is None:
        return Outcome(
            state=state,
            verdict=f"rolled back: {tries.done[-1].setting} still breaks the floor",
            tries=tries.done,
            files=(state.file,),
        )
    tries.take(chosen)
    placed = PlacedFile(path=tries.folder / chosen.file.file, result=chosen.file)
    return Outcome(
        state=State(model=FaceModel.load(tries.folder), file=placed),
        verdict="kept"
        if chosen.position == 0
        else f"softened: {chosen.setting} instead of "
        + (f"{asked:.1%}" if step.stages is None else tries.done[0].setting.removeprefix("to ")),
        tries=tries.done,
        files=(placed,),
    )


def _asked(step: PruneStep, state: State) -> float:
    """What is asked, as a share of what there is in front of the step; above 1 where that is less
    than what is asked."""
    name, value = step.target
    cost = state.model.description.cost
    match name:
        case "madds":
            return value / cost.madds
        case "params":
            return value / cost.params
        case "latency_ms":
            return value / state.file.result.latency_ms
    return value


def _cut(model: FaceModel, step: PruneStep, target: Target, work: Work, place: Path) -> FaceModel:
    """Prune to a target, with recovery between rounds."""
    work.note(f"pruning to {target.said(target.amount)}, {step.importance}, {step.scope}")
    crops = _crops(model, work)

    def recover(pruned: FaceModel, number: int) -> FaceModel:
        steadied = pruned if step.refit else recalibrate_norms(pruned, crops)
        if not step.recover_epochs:
            return steadied
        teaching = replace(step.recover or DistilStep(), epochs=step.recover_epochs)
        return distilled(steadied, teaching, work, place / "rounds" / str(number))

    results = prune_in_rounds(
        restore_norms(model, crops),  # an imported network has lost its statistics
        target,
        rounds=step.rounds,
        recover=recover,
        importance=step.importance,
        scope=step.scope,
        round_to=step.round_to,
        min_keep=step.min_keep,
        gradients=(lambda each: angular_gradients(each, crops[:N_FOR_GRADIENTS]))
        if step.importance in BY_GRADIENT
        else None,
        refit_on=crops if step.refit else None,
    )
    pruned = results[-1].model
    return pruned if step.refit else recalibrate_norms(pruned, crops)


def _cut_stages(
    model: FaceModel, step: PruneStep, shares: Mapping[str, float], work: Work
) -> FaceModel:
    """Prune every stage to a share of its channels."""
    crops = _crops(model, work)
    model = restore_norms(model, crops)
    pruned = prune_stages(
        model,
        shares,
        importance=step.importance,
        scope=step.scope,
        round_to=step.round_to,
        min_keep=step.min_keep,
        gradients=angular_gradients(model, crops[:N_FOR_GRADIENTS])
        if step.importance in BY_GRADIENT
        else None,
        refit_on=crops if step.refit else None,
    )
    return pruned if step.refit else recalibrate_norms(pruned, crops)


def _crops(model: FaceModel, work: Work) -> NDArray[np.uint8]:
    drawn = sample_images(work.bench.faces.train, N_CROPS, seed=derive_seed(work.seed, "prune"))
    return usual_crops(drawn, model, work.note)


def _made(
    step: PruneStep,
    target: float | Mapping[str, float],
    state: State,
    work: Work,
    place: Path,
) -> Made:
    """What a share of the whole, or one for each stage, leads to."""
    pruned_place = place / "pruned"
    if (pruned_place / MODEL_FILE).exists():
        pruned = FaceModel.load(pruned_place)
    else:
        pruned = (
            _cut(state.model, step, _target(step, target, state, work, place), work, place)
            if isinstance(target, float)
            else _cut_stages(state.model, step, target, work)
        )
        pruned.save(pruned_place)
    if step.recover is None:
        model = pruned
        model.save(place)
    else:
        model = distilled(pruned, step.recover, work, place)
    path = write_float(model, place, work.runtime)
    return Made(model=model, file=work.bench.measure(path, work.runtime, "fp32", model))


def _target(step: PruneStep, share: float, state: State, work: Work, place: Path) -> Target:
    cost = state.model.description.cost
    match _UNITS[step.target[0]]:
        case "MAdds":
            return Target(madds=int(share * cost.madds))
        case "parameters":
            return Target(params=int(share * cost.params))

    def relative(model: FaceModel) -> float:
        path = write_float(model, place, work.runtime)
        return work.bench.relative_latency(path, state.file.path)

    return Target(cost=relative, value=share, unit="of the latency")
