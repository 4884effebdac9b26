"""The search for a recipe: propose, carry out, judge; then publish the best.

OUT/recipe.json              what is searched, and on what
OUT/search.db                Optuna's storage, one trial a recipe
OUT/steps/0-original/        what was given, measured
OUT/steps/HASH-KIND/         a step behind certain others; recipes that begin alike share it
OUT/front.json               all recipes that were tried, and the front
OUT/best_recipe.yaml         the best, to be carried out anywhere
OUT/best-trial-N/            its artefact
"""

import hashlib
import json
import logging
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, final

import optuna
import yaml
from optuna.exceptions import StorageInternalError
from optuna.samplers import RandomSampler
from optuna.study import Study
from optuna.trial import FrozenTrial, Trial, TrialState
from sqlalchemy import URL
from sqlalchemy.exc import SQLAlchemyError

from nas_face.arch.codec import to_data
from nas_face.errors import SearchFailed
from nas_face.nn import FaceModel
from nas_face.search import ParameterDesigns, SpaceExhausted, derive_seed
from nas_face.search.budget import Wall
from nas_face.search.front_gain import Walls
from nas_face.search.proposal import opened, propose_labels
from nas_face.search.record import FAILURE, METRICS, REFUSED, TIMED
from nas_face.search.samplers import make_parameter_sampler
from nas_face.study import storage
from nas_face.study.compression.bench import Bench
from nas_face.study.compression.calibration import calibration_images
from nas_face.study.compression.floors import Floors
from nas_face.study.compression.pruning_step import N_CROPS
from nas_face.study.compression.recipe import Recipe
from nas_face.study.compression.recipe_search.designs import RecipeDesigns
from nas_face.study.compression.recipe_search.results import (
    JUDGED,
    OBJECTIVES,
    RUNTIME,
    STEPS,
    RecipeFront,
    broken,
    recipe_front,
)
from nas_face.study.compression.recipe_search.space import RecipeSpace
from nas_face.study.compression.record import CompressionFaces, claimed, digest_of_faces
from nas_face.study.compression.results import Compression, FileResult, Runtime
from nas_face.study.compression.runtimes import deciding_runtime
from nas_face.study.compression.state import Epochs, Note, State, Work
from nas_face.study.compression.steps import (
    N_PARITY_CROPS,
    ORIGINAL_FOLDER,
    PLAIN_FILE,
    compress,
    original_row,
    step_row,
)
from nas_face.study.config import DataSettings
from nas_face.study.faces import sample_images
from nas_face.study.files import write_text
from nas_face.study.layout import TEACHERS_FOLDER
from nas_face.study.tables import said_steps
from nas_face.train import TrainSettings

STORAGE_FILE = "search.db"
STUDY_NAME = "recipes"
FRONT_FILE = "front.json"
BEST_FILE = "best_recipe.yaml"
PRECISION = "precision"
MAX_FAILURES_IN_A_ROW = 5

_NOT_ITS_FAULT = (OSError, SQLAlchemyError, StorageInternalError)
_LOG = logging.getLogger(__name__)


@final
@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class SearchClaim:
    """What tells one search for a recipe from another; how many trials it has is not part of it.

    Attributes:
        model: what is compressed.
        space: what may be chosen.
        runtime: that decides.
        faces: that serve it.
        training: recipe of distillations.
        seed: of everything.
    """

    model: FaceModel
    space: RecipeSpace
    runtime: Runtime
    faces: CompressionFaces
    training: TrainSettings
    seed: int

    def to_data(self) -> dict[str, Any]:
        """For JSON."""
        space = to_data(self.space)
        space.pop("trials", None)
        record: dict[str, Any] = json.loads(
            json.dumps(
                {
                    "model": self.model.digest,
                    "space": space,
                    "runtime": self.runtime,
                    "training": to_data(self.training),
                    "faces": digest_of_faces(self.faces),
                    "seed": self.seed,
                }
            )
        )
        return record


@final
@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class SearchedRecipe:
    """What a search came to.

    Attributes:
        front: of all recipes that were tried.
        recipe: the best.
        folder: of its artefact.
        compression: what carrying it out came to.
    """

    front: RecipeFront
    recipe: Recipe
    folder: Path
    compression: Compression

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {
            **self.front.as_dict(),
            "recipe": to_data(self.recipe),
            "folder": str(self.folder),
            "compression": self.compression.as_dict(),
        }


def search_recipe(
    model: FaceModel,
    space: RecipeSpace,
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
) -> SearchedRecipe:
    """Try recipes until there are `space.trials`, going on where an earlier sitting stopped, and
    carry the best out.

    Objectives are accuracy on the pairs that decide, latency and bytes of the file. The pairs that
    are reported are first looked at when the best recipe is carried out.

    Args:
        model: what to compress.
        space: what may be chosen, and the walls.
        faces: of the model's input size.
        out: folder of the search; made if it is not there.
        training: as in `compress`, like all that follows.
        seed: of the proposals as well.
        epochs: progress display.
        source: folder of the model.
        trial: of the run that the model is from.
        data: where the training images come from.
        note: told in a line of every recipe.

    Raises:
        ConfigError: the space does not fit the model, or `out` holds something else.
        CompressionError: nothing is within the walls that are known before.
        SearchFailed: several recipes in a row failed.
        OSError: the operating system refused something; the search goes on when run again.
    """
    probe = Recipe(name=space.name, runtime=space.runtime, steps=(space.quantise,))
    runtime = deciding_runtime(probe)
    claim = SearchClaim(
        model=model, space=space, runtime=runtime, faces=faces, training=training, seed=seed
    )
    crops = sample_images(faces.train, N_CROPS, seed=derive_seed(seed, "prune"))

    drafts = RecipeDesigns(model, space, crops)

    def require() -> None:
        drafts.require_reachable()
        if "int8" in space.precision:
            step = space.quantise
            calibration_images(step.calibration, step.n_images, faces.train, seed=seed)

    with claimed(out, claim, require=require):
        url = URL.create("sqlite", database=str((out / STORAGE_FILE).absolute()))
        with storage.naming(url):
            front, recipe = _searched(
                claim, out, url, drafts, epochs=epochs, data=data or DataSettings(), note=note
            )
        folder = out / f"best-trial-{_number(front)}"
        compression = compress(
            model,
            recipe,
            faces,
            folder,
            training=training,
            seed=seed,
            epochs=epochs,
            source=source,
            trial=trial,
            data=data,
            note=note,
        )
    return SearchedRecipe(front=front, recipe=recipe, folder=folder, compression=compression)


def _searched(
    claim: SearchClaim,
    out: Path,
    url: URL,
    drafts: RecipeDesigns,
    *,
    epochs: Epochs,
    data: DataSettings,
    note: Note,
) -> tuple[RecipeFront, Recipe]:
    """All trials, and the best recipe, on record."""
    space, faces = claim.space, claim.faces
    folder = out / "steps" / ORIGINAL_FOLDER
    bench = Bench(
        faces=replace(faces, pairs=faces.judge, groups=None),
        crops=sample_images(faces.train, N_PARITY_CROPS, seed=derive_seed(claim.seed, "parity")),
        plain=folder / PLAIN_FILE,
    )
    row, original = original_row(claim.model, folder, bench, claim.runtime)
    walls = _walls(space, original)

    def work_of(recipe: Recipe) -> Work:
        return Work(
            recipe=replace(recipe, deliver=(claim.runtime,)),
            runtime=claim.runtime,
            bench=bench,
            original=original,
            training=claim.training,
            data=data,
            teachers=out / TEACHERS_FOLDER,
            seed=claim.seed,
            epochs=epochs,
        )

    study = _study(url)
    trials = _Trials(
        study=study,
        drafts=drafts,
        designs=drafts.designs(row.first.size_bytes),
        walls=walls,
        steps=out / "steps",
        original=original,
        plain_ms=row.files[-1].latency_ms,
        work_of=work_of,
        space=space,
        seed=claim.seed,
        note=note,
    )
    trials.run()
    shutil.rmtree(out / TEACHERS_FOLDER, ignore_errors=True)
    figures = trials.figures(original, row.first)
    front = recipe_front(study, figures, walls)
    write_text(out / FRONT_FILE, json.dumps(front.as_dict(), indent=1) + "\n")
    if front.best is None:
        raise SearchFailed(
            f"none of the {front.n_trials} recipes could be carried out; the last: "
            f"{front.last_failure}"
        )
    best = study.get_trials(deepcopy=False)[_number(front)]
    recipe = drafts.recipe(best.params)
    text = yaml.safe_dump(to_data(recipe), sort_keys=False)
    write_text(out / BEST_FILE, text)
    return front, recipe


@final
@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Trials:
    study: Study
    drafts: RecipeDesigns
    designs: ParameterDesigns
    walls: tuple[Wall, ...]
    steps: Path
    original: State
    plain_ms: float
    work_of: Callable[[Recipe], Work]
    space: RecipeSpace
    seed: int
    note: Note

    def run(self) -> None:
        """Fill the number of trials; one that a crash left open is taken up under its number."""
        failures = 0
        while (trial := self._next()) is not None:
            ended = self._ended(trial)
            self.note(_line(ended, self.space.trials))
            failures = failures + 1 if ended.state == TrialState.FAIL else 0
            if failures >= MAX_FAILURES_IN_A_ROW:
                raise SearchFailed(
                    f"{failures} recipes in a row failed; the last: {ended.user_attrs[FAILURE]}"
                )

    def figures(self, state: State, file: FileResult) -> dict[str, float]:
        """Everything that is kept of a file."""
        cost = state.model.description.cost
        return {
            JUDGED: file.judged,
            "latency_ms": self.plain_ms / file.speedup,
            "size_bytes": float(file.size_bytes),
            "madds": float(cost.madds),
            "params": float(cost.params),
            "speedup": file.speedup,
        }

    def _next(self) -> Trial | None:
        past = self.study.get_trials(deepcopy=False)
        if sum(each.state.is_finished() for each in past) >= self.space.trials:
            return None
        for each in past:
            if not each.state.is_finished():
                return Trial(self.study, each._trial_id)
        sampler = make_parameter_sampler(
            self.space.sampler,
            self.designs,
            [None, None, "size_bytes"],
            derive_seed(self.seed, "recipe", len(past)),
            walls=_limits(self.walls),
            timed=[each.name for each in OBJECTIVES],
        )
        try:
            asked = propose_labels(self.study, self.drafts.distributions, sampler)
        except SpaceExhausted as nothing_left:
            self.note(str(nothing_left))
            return None
        record = {STEPS: to_data(self.drafts.recipe(asked.params))["steps"]}
        kept, study_id = self.study._storage, self.study._study_id
        return Trial(self.study, kept.create_new_trial(study_id, opened(asked, record)))

    def _ended(self, trial: Trial) -> FrozenTrial:
        if METRICS not in trial.user_attrs and FAILURE not in trial.user_attrs:
            self._measure(trial)
        record = trial.user_attrs
        if FAILURE in record:
            return self.study.tell(trial, state=TrialState.FAIL)
        figures: Mapping[str, float] = record[METRICS]
        if REFUSED in record:
            return self.study.tell(trial, state=TrialState.PRUNED)
        return self.study.tell(trial, [figures[each.name] for each in OBJECTIVES])

    def _measure(self, trial: Trial) -> None:
        try:
            state, file = self._carried_out(self.drafts.recipe(trial.params))
        except _NOT_ITS_FAULT:
            raise
        except Exception as failure:  # any other failure belongs to this recipe alone
            _LOG.info("trial %d failed", trial.number, exc_info=True)
            reason = " ".join(str(failure).split())
            trial.set_user_attr(FAILURE, f"{type(failure).__name__}: {reason}"[:500])
            return
        figures = self.figures(state, file)
        trial.set_user_attr(PRECISION, file.precision)
        trial.set_user_attr(RUNTIME, file.runtime)
        trial.set_user_attr(TIMED, {each.name: figures[each.name] for each in OBJECTIVES})
        over = broken(self.walls, figures)
        if over:
            trial.set_user_attr(REFUSED, over)
        trial.set_user_attr(METRICS, figures)  # last: a trial that has it is complete

    def _carried_out(self, recipe: Recipe) -> tuple[State, FileResult]:
        """The state behind the last step, and the file that it is about."""
        work = self.work_of(recipe)
        floors = Floors(recipe, self.original)
        state, done = self.original, ""
        for number, step in enumerate(recipe.steps, start=1):
            done += json.dumps(to_data(step), sort_keys=True)
            name = f"{hashlib.sha256(done.encode()).hexdigest()[:12]}-{step.kind}"
            _, state = step_row(step, number, self.steps / name, state, work, floors)
        return state, (*state.few_bits, state.file)[0].result


def _walls(space: RecipeSpace, original: State) -> tuple[Wall, ...]:
    """All that a recipe is held against once it is measured."""
    walls = space.budget.walls
    if space.floor is None:
        return walls
    least = original.judged + space.floor / 100
    return (*walls, Wall(name="floor", quantity=JUDGED, limit=least, is_upper=False))


def _limits(walls: tuple[Wall, ...]) -> Walls:
    """Lower and upper limit of each quantity."""
    found: dict[str, tuple[float | None, float | None]] = {}
    for wall in walls:
        low, high = found.get(wall.quantity, (None, None))
        found[wall.quantity] = (low, wall.limit) if wall.is_upper else (wall.limit, high)
    return found


def _study(url: URL) -> Study:
    return optuna.create_study(
        study_name=STUDY_NAME,
        storage=storage.open_storage(url),
        directions=[each.direction for each in OBJECTIVES],
        sampler=RandomSampler(),  # asked for nothing here
        load_if_exists=True,
    )


def _number(front: RecipeFront) -> int:
    assert front.best is not None
    return front.best.trial


def _line(trial: FrozenTrial, n_trials: int) -> str:
    """Of a recipe that was tried."""
    head = f"recipe {trial.number + 1} of {n_trials}: {said_steps(trial.user_attrs[STEPS])}: "
    if FAILURE in trial.user_attrs:
        return f"{head}failed: {trial.user_attrs[FAILURE]}"
    figures = trial.user_attrs[METRICS]
    text = (
        f"{head}{figures['latency_ms']:.2f} ms ({figures['speedup']:.2f} x), "
        f"{figures['size_bytes']:,.0f} bytes, judged {figures[JUDGED]:.2%}"
    )
    over = trial.user_attrs.get(REFUSED)
    return f"{text}; over {over}" if over else text
