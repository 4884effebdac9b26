"""Carrying out a compression recipe: every step verified, timed, judged, saved, and taken up
again.

OUT/recipe.json           the recipe and what it was applied to
OUT/steps/N-KIND/         model folder behind every step, with its files, result.json, tries.json
                          and groups.json
OUT/compression.json      the table, and what was tried
OUT/...                   the artefact; see `nas_face.study.compression.artefact`
"""

import json
import logging
import shutil
import time
from dataclasses import replace
from pathlib import Path

from nas_face.deploy import export_onnx
from nas_face.nn import FaceModel
from nas_face.search import derive_seed
from nas_face.study.compression.bench import Bench
from nas_face.study.compression.delivery import Source, deliver
from nas_face.study.compression.distil_step import distil_step
from nas_face.study.compression.floors import Floors, unresolved_floors
from nas_face.study.compression.grouping import with_groups
from nas_face.study.compression.low_bits_step import low_bits_step
from nas_face.study.compression.preflight import require_possible
from nas_face.study.compression.pruning_step import prune_step
from nas_face.study.compression.quantise_step import known_layers, quantise_step
from nas_face.study.compression.recipe import Recipe
from nas_face.study.compression.record import (
    Claim,
    CompressionFaces,
    claimed,
    known_result,
    save_result,
)
from nas_face.study.compression.results import Compression, Runtime, StepResult, Try
from nas_face.study.compression.runtimes import deciding_runtime, write_float
from nas_face.study.compression.state import Epochs, Note, Outcome, PlacedFile, State, Work
from nas_face.study.compression.step_settings import (
    DistilStep,
    LowBitsStep,
    PruneStep,
    QuantiseStep,
    Step,
)
from nas_face.study.compression.trying import TRIES_FOLDER, Tries, known_tries
from nas_face.study.config import DataSettings
from nas_face.study.faces import sample_images
from nas_face.study.files import write_text
from nas_face.study.layout import TEACHERS_FOLDER
from nas_face.train import TrainSettings

_LOG = logging.getLogger(__name__)

N_PARITY_CROPS = 256
ORIGINAL_FOLDER = "0-original"
PLAIN_FILE = "plain.onnx"
TABLE_FILE = "compression.json"
_SCRATCH = (TRIES_FOLDER, "source", "prepared", "aware")


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
    trial: int | None = None,
    data: DataSettings | None = None,
    note: Note = _LOG.info,
) -> Compression:
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
        trial: of the run that the model is from.
        data: where the training images come from, for teachers of another input size.
        note: told in a line of everything that is tried.

    Returns:
        The steps, also written to `compression.json`, and what ships.

    Raises:
        ConfigError: `out` holds the results of something else, or of other faces, or another
            process works there.
        CompressionError: a step cannot be carried out; where that is foreseeable, nothing has been
            written.
        DeployError: an exported file does not agree with its source.
    """
    runtime = deciding_runtime(recipe)
    origin = data or DataSettings()
    claim = Claim(
        model=model, recipe=recipe, runtime=runtime, faces=faces, training=training, seed=seed
    )
    with claimed(
        out,
        claim,
        require=lambda: require_possible(model, recipe, runtime, faces, origin, seed=seed),
    ):
        crops = sample_images(faces.train, N_PARITY_CROPS, seed=derive_seed(seed, "parity"))
        folder = out / "steps" / ORIGINAL_FOLDER
        bench = Bench(faces=faces, crops=crops, plain=folder / PLAIN_FILE)
        first, state = original_row(model, folder, bench, runtime)
        work = Work(
            recipe=recipe,
            runtime=runtime,
            bench=bench,
            original=state,
            training=training,
            data=origin,
            teachers=out / TEACHERS_FOLDER,
            seed=seed,
            epochs=epochs,
            note=note,
        )
        for line in unresolved_floors(recipe, first.first.judged, faces.judge):
            note(line)
        results, states = [first], [state]
        tries: list[Try] = []
        floors = Floors(recipe, state)
        for number, step in enumerate(recipe.steps, start=1):
            place = out / "steps" / f"{number}-{step.kind}"
            result, state = step_row(step, number, place, state, work, floors)
            results.append(result)
            states.append(state)
            tries += known_tries(place)
        compression = deliver(
            out, results, states, tries, work, floors, Source(folder=source, trial=trial)
        )
        text = json.dumps(compression.as_dict(), indent=1) + "\n"
        write_text(out / TABLE_FILE, text)
        shutil.rmtree(out / TEACHERS_FOLDER, ignore_errors=True)
        return compression


def original_row(
    model: FaceModel, folder: Path, bench: Bench, runtime: Runtime
) -> tuple[StepResult, State]:
    """The row of what was given, and where the steps begin.

    Args:
        model: what was given.
        folder: of its files.
        bench: measures them.
        runtime: that decides.

    Raises:
        DeployError: an exported file does not agree with its source.
    """
    known = known_result(folder)
    if known is None:
        began = time.perf_counter()
        folder.mkdir(parents=True, exist_ok=True)
        export_onnx(model, bench.plain, prelu="native")
        path = write_float(model, folder, runtime)
        measured = bench.measure(path, runtime, "fp32", model)
        cost = model.description.cost
        known = StepResult(
            step="original",
            kind="original",
            verdict="kept",
            madds=cost.madds,
            params=cost.params,
            files=(measured, bench.reference(model, measured)),
            seconds=time.perf_counter() - began,
        )
        save_result(known, folder)
    known = with_groups(known, folder, folder / known.first.file, bench.faces)
    file = PlacedFile(path=folder / known.first.file, result=known.first)
    return known, State(model=model, file=file)


def step_row(
    step: Step, number: int, folder: Path, state: State, work: Work, floors: Floors
) -> tuple[StepResult, State]:
    """A step done, or taken as an earlier sitting left it.

    Args:
        step: of `work.recipe`.
        number: of the step there, from 1.
        folder: of the step.
        state: in front of it.
        work: what all steps share.
        floors: of the recipe.

    Returns:
        Its row, and the state behind it.

    Raises:
        CompressionError: it cannot be carried out.
        DeployError: an exported file does not agree with its source.
    """
    known = known_result(folder)
    if known is None:
        name = f"{number} {step.kind}"
        folder.mkdir(parents=True, exist_ok=True)
        tries = Tries(folder, name, floors.least(number - 1, state), work.note)
        outcome = _carried_out(step, state, work, tries)
        cost = outcome.state.model.description.cost
        known = StepResult(
            step=name,
            kind=step.kind,
            verdict=outcome.verdict,
            madds=cost.madds,
            params=cost.params,
            files=tuple(each.result for each in outcome.files),
            seconds=sum(each.seconds for each in outcome.tries),
        )
        save_result(known, folder)
        work.note(f"{name}: {outcome.verdict}")
    for scratch in _SCRATCH:
        shutil.rmtree(folder / scratch, ignore_errors=True)
    after = _state_behind(known, folder, state)
    path = after.file.path if known.rolled_back else folder / known.first.file
    if not path.exists():  # nothing was done, so nothing was written
        path = after.file.path
    return with_groups(known, folder, path, work.bench.faces), after


def _carried_out(step: Step, state: State, work: Work, tries: Tries) -> Outcome:
    match step:
        case PruneStep():
            return prune_step(step, state, work, tries)
        case DistilStep():
            return distil_step(step, state, work, tries)
        case QuantiseStep():
            return quantise_step(step, state, work, tries)
        case LowBitsStep():
            return low_bits_step(step, state, work, tries)


def _state_behind(result: StepResult, folder: Path, state: State) -> State:
    """Where a step that is done left the compression."""
    if result.rolled_back or not (folder / result.first.file).exists():
        return state
    placed = tuple(PlacedFile(path=folder / each.file, result=each) for each in result.files)
    if result.kind in ("quantise", "low_bits"):
        return replace(
            state,
            few_bits=(*state.few_bits, *placed),
            layers=known_layers(folder) or state.layers,
        )
    return State(model=FaceModel.load(folder), file=placed[0])
