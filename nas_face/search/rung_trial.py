"""`report` and `should_prune` for studies of several objectives, where Optuna's own refuse."""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, final

from optuna.study import StudyDirection
from optuna.trial import Trial, TrialState

from nas_face.search.record import AUDITED, PROMOTED, RUNG, STOPPED
from nas_face.search.rungs import Rungs


@final
@dataclass(frozen=True, slots=True)
class RungTrial:
    """A trial that is compared with the others of its study at rungs.

    Works inside `study.optimize` with any storage and any number of workers: what a trial reports
    is filed with it, and is compared with all other trials of the study that have reached the
    rung, running ones included. Nobody waits.

    >>> def objective(trial):
    ...     watched = RungTrial(trial, Rungs(epochs=(1, 3)))
    ...     for epoch in range(1, 10):
    ...         error = train_one_epoch()
    ...         watched.report([error, madds], step=epoch)
    ...         if watched.should_prune():
    ...             raise optuna.TrialPruned
    ...     return error, madds

    Optuna keeps no values of a pruned trial of several objectives; what was reported is found in
    the trial's user attributes (`nas_face.search.record`).

    Attributes:
        trial: Optuna's.
        rungs: where to compare, and how many go on.
        directions: of the values, ``minimize`` or ``maximize``; the study's by default.
        audit_key: what the design is known by, for the draw of those that are trained on although
            a rung would stop them; the trial's parameters by default.
    """

    trial: Trial
    rungs: Rungs
    directions: Sequence[str | StudyDirection] | None = None
    audit_key: str | None = None

    def report(self, values: Sequence[float], step: int) -> None:
        """File the values at a rung and decide whether the trial goes on.

        A step that is no rung changes nothing. A rung is decided once: reporting again, as a trial
        does that is resumed after a crash, changes neither values nor decision.

        Args:
            values: of all objectives, in the order of the directions; the exact ones among them
                are the same at every rung. One that is not a number counts as infinitely bad.
            step: epochs finished so far.

        Raises:
            ValueError: there are not as many values as directions.
        """
        signed = self._signed(values)
        if step not in self.rungs.epochs:
            return
        noted = self.trial.user_attrs
        key = f"{RUNG}{step}"
        if key in noted:
            signed = noted[key]
        else:
            self.trial.set_user_attr(key, signed)
        if _decided(noted, step):
            return
        if self.rungs.promotes(signed, self._others(step)):
            self.trial.set_user_attr(PROMOTED, step)
        elif self.rungs.audits(self._key()):
            self.trial.set_user_attr(AUDITED, step)
        else:
            self.trial.set_user_attr(STOPPED, step)

    def should_prune(self) -> bool:
        """Whether the last rung that was reported stopped the trial."""
        return STOPPED in self.trial.user_attrs

    def _signed(self, values: Sequence[float]) -> list[float]:
        """Values turned so that each is to be small."""
        directions = self.directions or self.trial.study.directions
        if len(values) != len(directions):
            raise ValueError(
                f"report one value for each of {len(directions)} objectives, got {len(values)}"
            )
        signed = [
            -float(value) if direction in ("maximize", StudyDirection.MAXIMIZE) else float(value)
            for value, direction in zip(values, directions, strict=True)
        ]
        return [math.inf if math.isnan(value) else value for value in signed]

    def _others(self, step: int) -> list[Sequence[float]]:
        """What others had at the rung.

        Without failed trials, which may be run again under another number, and without those that
        an earlier rung would have stopped.
        """
        key = f"{RUNG}{step}"
        return [
            other.user_attrs[key]
            for other in self.trial.study.get_trials(deepcopy=False)
            if key in other.user_attrs
            and other.number != self.trial.number
            and other.state != TrialState.FAIL
            and other.user_attrs.get(AUDITED, step) >= step
        ]

    def _key(self) -> str:
        return self.audit_key or json.dumps(self.trial.params, sort_keys=True, default=str)


def _decided(noted: Mapping[str, Any], step: int) -> bool:
    """Whether an earlier report settled what happens at a rung.

    An audited trial is not asked again.
    """
    return AUDITED in noted or STOPPED in noted or noted.get(PROMOTED, 0) >= step
