"""The search loop: propose, evaluate, tell. Optuna's storage is the only journal.

The search fills `n_trials` slots, each with one trial that was evaluated. Any number of workers
take slots from one study; see `nas_face.search.claims` for how they keep apart.
"""

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import final

from optuna.samplers import RandomSampler
from optuna.study import Study
from optuna.trial import FrozenTrial, Trial, TrialState

from nas_face.errors import ArchError, SearchFailed, SpaceError
from nas_face.search.attempt import Attempt, TrialLost
from nas_face.search.claims import Alone, Claim, Claims
from nas_face.search.designs import SpaceExhausted
from nas_face.search.ledger import Ledger
from nas_face.search.proposal import opened, propose
from nas_face.search.record import (
    ARCH_ID,
    FAILURE,
    LEDGER,
    REFUSED,
    RETRIED,
    SLOT,
    TIMED,
    WORKER,
)
from nas_face.search.samplers import make_sampler
from nas_face.search.seeds import derive_seed
from nas_face.search.settings import Evaluate, SearchSettings
from nas_face.space import Design, SearchSpace, screener_of

logger = logging.getLogger(__name__)

MAX_FAILURES_IN_A_ROW = 5
MAX_REFUSALS_IN_A_ROW = 50
MAX_REPEATS = 20
WAIT_S = 0.5


def run_search(
    study: Study,
    space: SearchSpace,
    evaluate: Evaluate,
    settings: SearchSettings,
    *,
    claims: Claims | None = None,
    on_trial: Callable[[FrozenTrial], None] = lambda trial: None,
    on_wait: Callable[[int], None] = lambda n_busy: None,
) -> None:
    """Run trials until there are `n_trials`, going on where an earlier sitting stopped.

    A trial that a crash left unfinished is taken up under its own number, from its own seed, so
    that an interrupted search ends as an uninterrupted one. A trial whose worker died while
    others were at work is taken up once by one of them; if that one dies as well, it is marked
    failed. A trial that raises or diverges is marked failed with the reason, and the search goes
    on; a failure of the operating system or of the storage, such as a full disk, ends the sitting
    instead and leaves the trial to the next.

    Args:
        study: Optuna study with the directions of the objectives.
        space: what may be chosen.
        evaluate: trains and measures.
        settings: the rest.
        claims: of this worker, where several share the study; it has the study to itself by
            default.
        on_trial: called with every trial that this worker saw to its end.
        on_wait: called, with their number, when only trials of other workers are left.

    Raises:
        SearchFailed: several trials in a row failed, or many designs were refused; the last
            reason, or the nearest miss, is given.
        OSError: the operating system refused something.
    """
    worker = _Worker(study, space, evaluate, settings, claims or Alone())
    sampler, study.sampler = study.sampler, RandomSampler()  # asked for nothing here
    try:
        failures = 0
        while (slot := worker.next_slot(on_wait)) is not None:
            ended = worker.fill(slot)
            if ended is None:
                continue
            on_trial(ended)
            failures = failures + 1 if ended.state == TrialState.FAIL else 0
            if failures >= MAX_FAILURES_IN_A_ROW:
                reason = ended.user_attrs.get(FAILURE, "unknown")
                raise SearchFailed(f"{failures} trials in a row failed; the last: {reason}")
    finally:
        study.sampler = sampler


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class _Slot:
    """A place that this worker is to fill: with a new trial, or with the one that is open."""

    number: int
    claim: Claim


@final
@dataclass(slots=True)
class _Worker:
    study: Study
    space: SearchSpace
    evaluate: Evaluate
    settings: SearchSettings
    claims: Claims
    exhausted: bool = field(default=False, init=False)

    def next_slot(self, on_wait: Callable[[int], None]) -> _Slot | None:
        """The first slot that nobody fills, waited for while others may still die; none at the
        end."""
        told = False
        while True:
            busy = 0
            for number, trial in self._slots().items():
                if trial is None and self.exhausted:
                    continue
                claim = self.claims.take("slot", str(number))
                if claim is not None:
                    return _Slot(number=number, claim=claim)
                busy += 1
            if busy == 0:
                return None
            if not told:
                on_wait(busy)
                told = True
            time.sleep(WAIT_S)

    def fill(self, slot: _Slot) -> FrozenTrial | None:
        """See a slot's trial to its end, or as far as it goes."""
        open_slots = self._slots()
        if slot.number not in open_slots:
            return None  # its last holder finished it in the meantime
        running = open_slots[slot.number]
        if running is None:
            trial = self._open(slot.number)
            if trial is None:
                return None
        else:
            trial = Trial(self.study, running._trial_id)
            if slot.claim.lost:
                died = running.user_attrs.get(WORKER, "unknown")
                if RETRIED in running.user_attrs:
                    first = running.user_attrs[RETRIED]
                    reason = f"its worker died twice, as {first} and, once more, as {died}"
                    trial.set_user_attr(FAILURE, reason)
                else:
                    trial.set_user_attr(RETRIED, died)
            trial.set_user_attr(WORKER, self.claims.worker)
        attempt = Attempt(
            study=self.study,
            trial=trial,
            spec=self.space.decode(trial.params),
            settings=self.settings,
            evaluate=self.evaluate,
            is_mine=lambda: self.claims.holds("slot", str(slot.number)),
        )
        try:
            return attempt.run()
        except TrialLost:
            logger.warning("trial %d was taken over by another worker", trial.number)
            return None

    def _slots(self) -> dict[int, FrozenTrial | None]:
        """Slots that no ended trial fills, with the trial that is open there."""
        found: dict[int, FrozenTrial | None] = dict.fromkeys(range(self.settings.n_trials))
        for trial in self.study.get_trials(deepcopy=False):
            if ARCH_ID not in trial.user_attrs:
                continue
            slot = trial.user_attrs.get(SLOT, trial.number)
            if not trial.state.is_finished():
                found[slot] = trial
            elif REFUSED not in trial.user_attrs:
                found.pop(slot, None)
        return found

    def _open(self, slot: int) -> Trial | None:
        """A new trial for a slot, or none where no design is left."""
        refused = [
            trial
            for trial in self.study.get_trials(deepcopy=False)
            if trial.user_attrs.get(SLOT) == slot and REFUSED in trial.user_attrs
        ]
        if len(refused) >= MAX_REFUSALS_IN_A_ROW:
            raise SearchFailed(self._nearest_miss(refused))
        ledger, screener = Ledger(), screener_of(self.space)
        n_before = screener.n_screened
        try:
            with ledger.phase("propose"):
                design, asked = self._new_design(slot, len(refused), ledger)
        except SpaceExhausted as nothing_left:
            logger.warning("%s", nothing_left)
            self.exhausted = True
            return None
        ledger.count("screened", screener.n_screened - n_before)
        record = {
            ARCH_ID: design.spec.arch_id,
            SLOT: slot,
            WORKER: self.claims.worker,
            LEDGER: ledger.to_data(),
        }
        storage, study_id = self.study._storage, self.study._study_id
        return Trial(self.study, storage.create_new_trial(study_id, opened(asked, record)))

    def _new_design(self, slot: int, n_refused: int, ledger: Ledger) -> tuple[Design, FrozenTrial]:
        """A design that fits and that no worker has tried or is trying."""
        settings = self.settings
        for turn in range(n_refused, n_refused + MAX_REPEATS):
            purpose = ("propose", slot, turn) if turn else ("propose", slot)
            seed = derive_seed(settings.seed, *purpose)
            sampler = make_sampler(
                settings.sampler,
                self.space,
                settings.budget,
                settings.objectives,
                seed,
                start=settings.start,
                features=settings.features,
            )
            ledger.count("proposed")
            try:
                design, asked = propose(self.study, self.space, sampler)
            except SpaceExhausted:
                raise
            except (ArchError, SpaceError):
                ledger.count("refused")
                continue
            if not settings.budget.fits(design.spec.cost()):
                ledger.count("refused")
            elif not self._is_new(design.spec.arch_id):
                ledger.count("repeated")
            else:
                return design, asked
        raise SpaceExhausted(
            f"{self.space.name}: the sampler {settings.sampler} proposed nothing in "
            f"{MAX_REPEATS} turns that fits {settings.budget} and was not tried; widen the space "
            "or the budget, or choose another sampler"
        )

    def _is_new(self, arch_id: str) -> bool:
        """Whether a design is this worker's to try: claimed first, then looked up, so that of two
        workers that propose it at once only one goes on."""
        if self.claims.take("design", arch_id) is None:
            return False
        trials = self.study.get_trials(deepcopy=False)
        return all(trial.user_attrs.get(ARCH_ID) != arch_id for trial in trials)

    def _nearest_miss(self, refused: list[FrozenTrial]) -> str:
        budget = self.settings.budget
        timed = {trial.number: trial.user_attrs[TIMED]["latency_ms"] for trial in refused}
        number = min(timed, key=lambda each: budget.latency_excess(timed[each]))
        return (
            f"{len(refused)} designs in a row were refused by their measured latency, {budget}; "
            f"the nearest miss is trial {number} at {timed[number]:.4g} ms: relax the limit on "
            "latency, or tighten max_madds so that smaller designs are proposed"
        )
