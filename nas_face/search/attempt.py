"""One attempt at a trial that is open: time, train, measure, file, tell."""

import logging
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, final

from optuna.exceptions import StorageInternalError
from optuna.study import Study
from optuna.trial import FrozenTrial, Trial, TrialState
from sqlalchemy.exc import SQLAlchemyError

from nas_face.arch.spec import ArchSpec
from nas_face.errors import MetricError
from nas_face.search.ledger import Ledger
from nas_face.search.record import FAILURE, LEDGER, METRICS, REFUSED, STOPPED, TIMED
from nas_face.search.rung_trial import RungTrial
from nas_face.search.seeds import derive_seed
from nas_face.search.settings import Evaluate, Report, SearchSettings, TrialStopped, values_of

logger = logging.getLogger(__name__)

NOT_ITS_FAULT = (OSError, SQLAlchemyError, StorageInternalError)
"""A full disk, a database out of reach: the trial stays open for the next sitting."""


class TrialLost(Exception):  # noqa: N818  not an error of the trial
    """Another worker has taken the trial over, since this one was out of reach for long."""


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Attempt:
    """One attempt.

    Attributes:
        study: with the trial.
        trial: open, with all its parameters.
        spec: its architecture.
        settings: of the search.
        evaluate: times, trains and measures.
        is_mine: whether the trial is still this worker's.
    """

    study: Study
    trial: Trial
    spec: ArchSpec
    settings: SearchSettings
    evaluate: Evaluate
    is_mine: Callable[[], bool]

    def run(self) -> FrozenTrial:
        """See the trial to its end, whatever that is.

        What was filed before a crash is not measured again: a trial all of whose figures are on
        record is only told.

        Raises:
            TrialLost: it is another worker's by now.
            OSError, SQLAlchemyError, StorageInternalError: not this trial's fault; it stays open.
        """
        record = self.trial.user_attrs
        if METRICS not in record and FAILURE not in record:
            self._measure(Ledger.of(record.get(LEDGER, {})))
        return self._tell()

    def _measure(self, ledger: Ledger) -> None:
        started = time.monotonic()
        metrics: dict[str, float] = {}
        try:
            try:
                timed = self._timed(ledger)
                metrics.update(timed)
                refusal = self._refusal(timed)
                if refusal is not None:
                    self._file(REFUSED, refusal)
                else:
                    seed = derive_seed(self.settings.seed, self.spec.arch_id)
                    report = self._reporter(metrics, started)
                    measured = self.evaluate(
                        self.spec, seed=seed, report=report, timed=timed, ledger=ledger
                    )
                    metrics.update(measured)
                    values_of(self.settings.objectives, self.spec, metrics)
            except TrialStopped:
                if STOPPED not in self.trial.user_attrs:
                    raise MetricError("stopped, though no rung had said so") from None
        except (TrialLost, *NOT_ITS_FAULT):
            raise
        except Exception as failure:  # any other failure belongs to this trial alone
            logger.info("trial %d failed", self.trial.number, exc_info=True)
            reason = " ".join(str(failure).split()) or type(failure).__name__
            self._file(LEDGER, ledger.to_data())
            self._file(FAILURE, f"{type(failure).__name__}: {reason}"[:500])
        else:
            self._file(LEDGER, ledger.to_data())
            self._file(METRICS, self._figures(metrics, started))

    def _timed(self, ledger: Ledger) -> Mapping[str, float]:
        """Figures of the untrained network: those on record, since others would differ."""
        timed: Mapping[str, float] | None = self.trial.user_attrs.get(TIMED)
        if timed is None:
            with ledger.phase("time"):
                timed = dict(self.evaluate.time(self.spec))
            self._file(TIMED, timed)
        return timed

    def _refusal(self, timed: Mapping[str, float]) -> str | None:
        budget = self.settings.budget
        if not budget.latency_limited:
            return None
        if "latency_ms" not in timed:
            raise MetricError("the budget limits latency_ms, but nothing measures it")
        latency_ms = timed["latency_ms"]
        return None if budget.fits_latency(latency_ms) else f"latency_ms {latency_ms:.4g}"

    def _reporter(self, metrics: dict[str, float], started: float) -> Report:
        """Files the trial's values at each rung and compares them with those of the others."""
        objectives = self.settings.objectives
        watched = RungTrial(
            self.trial,
            self.settings.rungs,
            directions=[objective.direction for objective in objectives],
            audit_key=self.spec.arch_id,
        )

        def report(epochs: int, measured: Mapping[str, float]) -> bool:
            if epochs not in self.settings.rungs.epochs:
                return True
            self._require_mine()
            watched.report(values_of(objectives, self.spec, measured), epochs)
            if not watched.should_prune():
                return True
            metrics.update(measured)
            # At once: what has been trained may be thrown away from here on.
            self._file(METRICS, self._figures(metrics, started))
            return False

        return report

    def _figures(self, metrics: Mapping[str, float], started: float) -> dict[str, Any]:
        cost = self.spec.cost()
        return {
            **metrics,
            "madds": cost.madds,
            "params": cost.params,
            "peak_activations": cost.peak_activations,
            "size_bytes": cost.size_bytes("fp32"),
            "wall_s": round(time.monotonic() - started, 3),
        }

    def _file(self, name: str, value: Any) -> None:
        self._require_mine()
        self.trial.set_user_attr(name, value)

    def _tell(self) -> FrozenTrial:
        self._require_mine()
        record = self.trial.user_attrs
        if FAILURE in record:
            return self.study.tell(self.trial, state=TrialState.FAIL)
        if STOPPED in record or REFUSED in record:
            return self.study.tell(self.trial, state=TrialState.PRUNED)
        values = values_of(self.settings.objectives, self.spec, record[METRICS])
        return self.study.tell(self.trial, values)

    def _require_mine(self) -> None:
        if not self.is_mine():
            raise TrialLost
