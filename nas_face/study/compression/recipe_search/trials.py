"""The trials of a search for a recipe: propose one, carry it out, file what it came to."""

import logging
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, final

from optuna.exceptions import StorageInternalError
from optuna.study import Study
from optuna.trial import FrozenTrial, Trial, TrialState, create_trial
from sqlalchemy.exc import SQLAlchemyError

from nas_face.arch.codec import to_data
from nas_face.errors import SearchFailed
from nas_face.search import SpaceExhausted, derive_seed
from nas_face.search.budget import Wall
from nas_face.search.proposal import opened, propose_labels
from nas_face.search.record import FAILURE, METRICS, REFUSED, TIMED
from nas_face.search.samplers import make_parameter_sampler
from nas_face.study.compression.recipe_search.designs import RecipeDesigns
from nas_face.study.compression.recipe_search.objectives import JUDGED, LATENCY, OBJECTIVES, SIZE
from nas_face.study.compression.recipe_search.reach import (
    nearest_recipe,
    out_of_reach,
    plain_recipes,
)
from nas_face.study.compression.recipe_search.results import PRECISION, RUNTIME, STEPS
from nas_face.study.compression.recipe_search.shared_steps import SharedSteps
from nas_face.study.compression.recipe_search.walls import broken, constraints_of, limits_of
from nas_face.study.compression.recipe_search.wording import (
    begun_line,
    ended_line,
    going_on_line,
    original_line,
)
from nas_face.study.compression.results import FileResult
from nas_face.study.compression.state import Note, State

MAX_FAILURES_IN_A_ROW: Final = 5

_NOT_ITS_FAULT = (OSError, SQLAlchemyError, StorageInternalError)
_LOG = logging.getLogger(__name__)


@final
@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class RecipeTrials:
    """Trials of a study, one a recipe.

    A recipe that breaks a wall is a complete trial with Optuna's constraints, from which Optuna's
    own samplers learn; `front_gain` looks at what was measured itself.

    Attributes:
        study: that keeps them.
        drafts: of labels to recipes.
        steps: carry recipes out.
        plain: the plain original, as it was timed when the search began.
        given: the file of what was given, on the runtime that decides.
        walls: on what is measured.
        seed: of the proposals.
        note: told in a line what comes to pass.
        publish: called after every trial.
    """

    study: Study
    drafts: RecipeDesigns
    steps: SharedSteps
    plain: FileResult
    given: FileResult
    walls: tuple[Wall, ...]
    seed: int
    note: Note
    publish: Callable[[], None]
    _seconds: list[float] = field(default_factory=list)

    def run(self) -> None:
        """Fill the number of trials; one that a crash left open is taken up under its number.

        Raises:
            SearchFailed: several recipes in a row failed.
            OSError: the operating system refused something.
        """
        n_trials, failures = self.drafts.space.trials, 0
        self.note(original_line(self.given, self.original_figures()))
        n_done = self._n_done()
        if n_done:
            self.note(going_on_line(n_done, n_trials))
        while (trial := self._next()) is not None:
            self.note(begun_line(trial.number, n_trials, trial.user_attrs[STEPS]))
            began = time.perf_counter()
            ended = self._ended(trial)
            self._seconds.append(time.perf_counter() - began)
            self.note(ended_line(ended, self._seconds, n_trials - self._n_done()))
            self.publish()
            failures = failures + 1 if ended.state == TrialState.FAIL else 0
            if failures >= MAX_FAILURES_IN_A_ROW:
                raise SearchFailed(
                    f"{failures} recipes in a row failed; the last: {ended.user_attrs[FAILURE]}"
                )

    def original_figures(self) -> dict[str, float]:
        """Everything that is kept of what was given."""
        return self._figures(self.steps.original, self.given)

    def _figures(self, state: State, file: FileResult) -> dict[str, float]:
        cost = state.model.description.cost
        return {
            JUDGED: file.judged,
            LATENCY: self.plain.latency_ms / file.speedup,
            SIZE: float(file.size_bytes),
            "madds": float(cost.madds),
            "params": float(cost.params),
            "speedup": file.speedup,
        }

    def _n_done(self) -> int:
        return sum(each.state.is_finished() for each in self.study.get_trials(deepcopy=False))

    def _next(self) -> Trial | None:
        past = self.study.get_trials(deepcopy=False)
        if self._n_done() >= self.drafts.space.trials:
            return None
        for each in past:
            if not each.state.is_finished():
                return Trial(self.study, each._trial_id)
        sampler = make_parameter_sampler(
            self.drafts.space.sampler,
            self.drafts.designs(self.given.size_bytes),
            [None, None, SIZE],
            derive_seed(self.seed, "recipe", len(past)),
            start=plain_recipes(self.drafts),
            walls=limits_of(self.walls),
            timed=[each.name for each in OBJECTIVES],
        )
        try:
            asked = propose_labels(self.study, self.drafts.distributions, sampler)
        except SpaceExhausted as nothing_left:
            if any(METRICS in each.user_attrs for each in past):
                self.note(str(nothing_left))
                return None
            return self._nearest(past)
        return self._opened(asked)

    def _nearest(self, past: Sequence[FrozenTrial]) -> Trial | None:
        """The one recipe that is tried where nothing is within the walls that are known before;
        another one where that failed.

        Raises:
            SearchFailed: there is none.
        """
        size = self.given.size_bytes
        labels = nearest_recipe(self.drafts, size, [each.params for each in past])
        if labels is None and past:
            return None
        if labels is None:
            raise SearchFailed(
                "no recipe of the space does anything to this network; give shares below 1, a "
                "lower min_keep or round_to, or a precision of few bits"
            )
        why = out_of_reach(self.drafts, size) or (
            f"nothing is within the budget ({self.drafts.space.budget})"
        )
        self.note(f"{why}; the nearest is carried out")
        return self._opened(
            create_trial(
                state=TrialState.RUNNING,
                params=dict(labels),
                distributions=dict(self.drafts.distributions),
            )
        )

    def _opened(self, asked: FrozenTrial) -> Trial:
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
        kept = self.study._storage.get_trial(trial._trial_id).constraints
        for name, value in constraints_of(self.walls, figures).items():
            if name not in kept:  # a sitting may have ended between this and the next line
                trial.set_constraint(name, value)
        return self.study.tell(trial, [figures[each.name] for each in OBJECTIVES])

    def _measure(self, trial: Trial) -> None:
        try:
            state, file = self.steps.carry_out(self.drafts.recipe(trial.params))
        except _NOT_ITS_FAULT:
            raise
        except Exception as failure:  # any other failure belongs to this recipe alone
            _LOG.info("trial %d failed", trial.number, exc_info=True)
            reason = " ".join(str(failure).split())
            trial.set_user_attr(FAILURE, f"{type(failure).__name__}: {reason}"[:500])
            return
        figures = self._figures(state, file)
        trial.set_user_attr(PRECISION, file.precision)
        trial.set_user_attr(RUNTIME, file.runtime)
        trial.set_user_attr(TIMED, {each.name: figures[each.name] for each in OBJECTIVES})
        over = broken(self.walls, figures)
        if over:
            trial.set_user_attr(REFUSED, over)
        trial.set_user_attr(METRICS, figures)  # last: a trial that has it is complete
