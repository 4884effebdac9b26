"""Recipes carried out one after another; those that begin alike share their first steps."""

import hashlib
import json
import shutil
from dataclasses import dataclass, replace
from pathlib import Path
from typing import final

from nas_face.arch.codec import to_data
from nas_face.study.compression.bench import Bench
from nas_face.study.compression.floors import Floors
from nas_face.study.compression.recipe import Recipe
from nas_face.study.compression.recipe_search.claim import SearchClaim
from nas_face.study.compression.results import FileResult
from nas_face.study.compression.state import Epochs, State, Work
from nas_face.study.compression.steps import step_row
from nas_face.study.config import DataSettings
from nas_face.study.layout import TEACHERS_FOLDER


@final
@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class SharedSteps:
    """Carries out recipes on one model.

    Attributes:
        claim: of the search.
        folder: of the steps.
        bench: measures files.
        original: what was given, measured.
        data: where the training images come from.
        epochs: progress display.
    """

    claim: SearchClaim
    folder: Path
    bench: Bench
    original: State
    data: DataSettings
    epochs: Epochs

    def carry_out(self, recipe: Recipe) -> tuple[State, FileResult]:
        """The state behind the last step, and the file that it is about.

        Raises:
            CompressionError: a step cannot be carried out.
            DeployError: an exported file does not agree with its source.
        """
        work = Work(
            recipe=replace(recipe, deliver=(self.claim.runtime,)),
            runtime=self.claim.runtime,
            bench=self.bench,
            original=self.original,
            training=self.claim.training,
            data=self.data,
            teachers=self._teachers,
            seed=self.claim.seed,
            epochs=self.epochs,
        )
        floors = Floors(recipe, self.original)
        state, done = self.original, ""
        for number, step in enumerate(recipe.steps, start=1):
            done += json.dumps(to_data(step), sort_keys=True)
            name = f"{hashlib.sha256(done.encode()).hexdigest()[:12]}-{step.kind}"
            _, state = step_row(step, number, self.folder / name, state, work, floors)
        return state, (*state.few_bits, state.file)[0].result

    def clear(self) -> None:
        """Delete what only steps under way need."""
        shutil.rmtree(self._teachers, ignore_errors=True)

    @property
    def _teachers(self) -> Path:
        return self.folder.parent / TEACHERS_FOLDER
