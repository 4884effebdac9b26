"""The search for a recipe: try recipes on one model, then carry the best out.

OUT/recipe.json              what is searched, and on what
OUT/search.db                Optuna's storage, one trial a recipe
OUT/steps/0-original/        what was given, measured
OUT/steps/HASH-KIND/         a step behind certain others; recipes that begin alike share it
OUT/front.json               all recipes that were tried, and the front; written after each
OUT/best_recipe.yaml         the best, to be carried out anywhere
OUT/best-trial-N/            its artefact
OUT/report.html, report/     the front as a page and a picture
"""

import logging
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final, final

import optuna
from optuna.samplers import RandomSampler
from optuna.study import Study
from sqlalchemy import URL

from nas_face.arch.codec import to_data
from nas_face.errors import SearchFailed
from nas_face.nn import FaceModel
from nas_face.search import derive_seed
from nas_face.study import storage
from nas_face.study.compression.bench import Bench
from nas_face.study.compression.calibration import calibration_images
from nas_face.study.compression.floors import unresolved_floors
from nas_face.study.compression.pruning_step import N_CROPS
from nas_face.study.compression.recipe import Recipe
from nas_face.study.compression.recipe_search.claim import SearchClaim
from nas_face.study.compression.recipe_search.designs import RecipeDesigns
from nas_face.study.compression.recipe_search.objectives import OBJECTIVES
from nas_face.study.compression.recipe_search.publishing import write_best, write_front
from nas_face.study.compression.recipe_search.results import RecipeFront, recipe_front
from nas_face.study.compression.recipe_search.shared_steps import SharedSteps
from nas_face.study.compression.recipe_search.space import RecipeSpace
from nas_face.study.compression.recipe_search.trials import RecipeTrials
from nas_face.study.compression.recipe_search.walls import walls_of
from nas_face.study.compression.record import CompressionFaces, claimed
from nas_face.study.compression.results import Compression
from nas_face.study.compression.runtimes import deciding_runtime
from nas_face.study.compression.state import Epochs, Note
from nas_face.study.compression.steps import (
    N_PARITY_CROPS,
    ORIGINAL_FOLDER,
    PLAIN_FILE,
    compress,
    original_row,
)
from nas_face.study.compression.usual_crops import usual_crops
from nas_face.study.config import DataSettings
from nas_face.study.faces import sample_images
from nas_face.study.report.recipes import REPORT_FILE, write_recipes_report
from nas_face.train import TrainSettings

STORAGE_FILE: Final = "search.db"
STUDY_NAME: Final = "recipes"

_LOG = logging.getLogger(__name__)


@final
@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class SearchedRecipe:
    """What a search came to.

    Attributes:
        front: of all recipes that were tried.
        recipe: the best.
        folder: of its artefact.
        compression: what carrying it out came to.
        report: page with the front.
    """

    front: RecipeFront
    recipe: Recipe
    folder: Path
    compression: Compression
    report: Path

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {
            **self.front.as_dict(),
            "recipe": to_data(self.recipe),
            "folder": str(self.folder),
            "report": str(self.report),
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
    are reported are first looked at when the best recipe is carried out. Where nothing keeps the
    walls, the best is what misses them least.

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
        note: told in a line of every recipe, when it begins and when it has ended.

    Raises:
        ConfigError: the space does not fit the model, or `out` holds something else.
        SearchFailed: several recipes in a row failed, or no recipe of the space does anything.
        OSError: the operating system refused something; the search goes on when run again.
    """
    probe = Recipe(name=space.name, runtime=space.runtime, steps=(space.quantise,))
    runtime = deciding_runtime(probe)
    claim = SearchClaim(
        model=model, space=space, runtime=runtime, faces=faces, training=training, seed=seed
    )
    drawn = sample_images(faces.train, N_CROPS, seed=derive_seed(seed, "prune"))
    crops = usual_crops(drawn, model, note)
    drafts = RecipeDesigns(model, space, crops)
    origin = data or DataSettings()

    def require() -> None:
        if "int8" in space.precision:
            step = space.quantise
            calibration_images(step.calibration, step.n_images, faces.train, seed=seed)

    with claimed(out, claim, require=require):
        url = URL.create("sqlite", database=str((out / STORAGE_FILE).absolute()))
        with storage.naming(url):
            front, recipe = _searched(
                claim, out, _study(url), drafts, data=origin, epochs=epochs, note=note
            )
        assert front.best is not None
        folder = out / f"best-trial-{front.best.trial}"
        note(f"carrying out the best, trial {front.best.trial}, on the pairs that are reported")
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
    return SearchedRecipe(
        front=front,
        recipe=recipe,
        folder=folder,
        compression=compression,
        report=out / REPORT_FILE,
    )


def _searched(
    claim: SearchClaim,
    out: Path,
    study: Study,
    drafts: RecipeDesigns,
    *,
    data: DataSettings,
    epochs: Epochs,
    note: Note,
) -> tuple[RecipeFront, Recipe]:
    """All trials, and the best recipe, on record.

    Raises:
        SearchFailed: no recipe could be carried out.
    """
    space, faces = claim.space, claim.faces
    folder = out / "steps" / ORIGINAL_FOLDER
    bench = Bench(
        faces=replace(faces, pairs=faces.judge, groups=None),
        crops=sample_images(faces.train, N_PARITY_CROPS, seed=derive_seed(claim.seed, "parity")),
        plain=folder / PLAIN_FILE,
    )
    row, original = original_row(claim.model, folder, bench, claim.runtime)
    walls = walls_of(space, original.judged)
    if space.floor is not None:
        floor = Recipe(name=space.name, floor=space.floor, steps=(space.quantise,))
        for line in unresolved_floors(floor, original.judged, faces.judge):
            note(line)
    steps = SharedSteps(
        claim=claim,
        folder=folder.parent,
        bench=bench,
        original=original,
        data=data,
        epochs=epochs,
    )

    trials = RecipeTrials(
        study=study,
        drafts=drafts,
        steps=steps,
        plain=row.files[-1],
        given=row.first,
        walls=walls,
        seed=claim.seed,
        note=note,
        publish=lambda: write_front(out, read()),
    )

    def read() -> RecipeFront:
        return recipe_front(study, trials.original_figures(), walls)

    trials.run()
    steps.clear()
    front = read()
    write_front(out, front)
    if front.best is None:
        raise SearchFailed(
            f"none of the {front.n_trials} recipes could be carried out; the last: "
            f"{front.last_failure}"
        )
    recipe = drafts.recipe(study.get_trials(deepcopy=False)[front.best.trial].params)
    write_best(out, recipe, front)
    write_recipes_report(out, front, walls)
    return front, recipe


def _study(url: URL) -> Study:
    return optuna.create_study(
        study_name=STUDY_NAME,
        storage=storage.open_storage(url),
        directions=[each.direction for each in OBJECTIVES],
        sampler=RandomSampler(),  # asked for nothing here
        load_if_exists=True,
    )
