"""What the Pareto front would gain from a candidate: known objectives, models of the others."""

from collections.abc import Callable, Sequence
from typing import final

import numpy as np
from numpy.typing import NDArray

from nas_face.search.designs import Candidate, Designs
from nas_face.search.front_gain.encoded import encoder_of, stacked
from nas_face.search.front_gain.gain import expected_gains
from nas_face.search.front_gain.history import MIN_RUNG_NOISE, History
from nas_face.search.front_gain.predictor import Floats, Inputs, Predictor, Warp
from nas_face.search.pareto import pareto_front

MARGIN = 0.01
"""How far the reference point lies beyond the worst that was met, as a share of the range."""


@final
class FrontModel:
    """Models of the measured objectives, and the front as they see it.

    Measured objectives are bent (`Warp`) and hypervolume is taken of the bent ones, so that
    neither a network that learnt nothing nor the unit of an objective decides where to look. The
    front consists of the models' means at what was measured, which a lucky value does not move
    far, and of what is predicted of the running trials.

    Args:
        designs: where candidates come from.
        known: for each objective, its name in `Candidate.known`, or none.
        history: at least one finished trial.
        pool: candidates that say what known objectives can be.
        features: further numbers of a candidate.
        timed: for each objective, the name of what it is among the figures that were measured
            before training, or none; empty where none is.

    Raises:
        LookupError: features of a candidate of the history are missing.
    """

    def __init__(
        self,
        designs: Designs,
        known: Sequence[str | None],
        history: History,
        pool: Sequence[Candidate],
        *,
        features: Callable[[Candidate], NDArray[np.float32] | None] | None = None,
        timed: Sequence[str | None] = (),
    ) -> None:
        self._known = tuple(known)
        self._timed = tuple(timed) or (None,) * len(self._known)
        names = tuple(dict.fromkeys(name for name in known if name is not None))
        self._encoder = encoder_of(designs, names)
        self._features = features
        finished = [past.candidate for past in history.finished]
        if features is not None:
            rows = self._rows(finished)
            self._feature_mean = rows.mean(axis=0)
            self._feature_sd = np.where(rows.std(axis=0) > 0.0, rows.std(axis=0), 1.0)
        running = list(history.running)
        inputs, at_work = self._inputs(finished), None
        if running:
            at_work = self._inputs(running)
        values = history.values()
        self._predictors: dict[int, Predictor] = {}
        reached = np.zeros((len(finished) + len(running), len(known)))
        reference = np.zeros(len(known))
        for column, name in enumerate(known):
            if name is None:
                means = self._learn(column, history, inputs, values[:, column], at_work)
                reached[:, column] = means
                reference[column] = _beyond(means)
            else:
                reached[:, column] = [each.known[name] for each in [*finished, *running]]
                offered = [each.known[name] for each in pool]
                reference[column] = _beyond(np.array([*reached[:, column], *offered]))
        self._reached, self._reference = reached, reference
        on_front = pareto_front(reached)
        self.front = [
            each for each, best in zip([*finished, *running], on_front, strict=True) if best
        ]

    def gains(self, candidates: Sequence[Candidate], *, alone: int | None = None) -> Floats:
        """Expected gain of each candidate, `(K,)`.

        Args:
            candidates: not trained yet.
            alone: column of an objective, if that one only is to be improved.
        """
        if not candidates:
            return np.zeros(0)
        inputs = self._inputs(candidates)
        means = np.zeros((len(candidates), len(self._known)))
        deviations = np.zeros_like(means)
        for column, name in enumerate(self._known):
            if name is None:
                predictor = self._predictors[column]
                means[:, column], deviations[:, column] = predictor.predict(inputs)
            else:
                means[:, column] = [each.known[name] for each in candidates]
        axes = slice(None) if alone is None else slice(alone, alone + 1)
        return expected_gains(
            means[:, axes], deviations[:, axes], self._reached[:, axes], self._reference[axes]
        )

    def _learn(
        self,
        column: int,
        history: History,
        inputs: Inputs,
        values: Floats,
        at_work: Inputs | None,
    ) -> Floats:
        """Model one objective; its means at what is finished and at what is running."""
        warp = Warp.of(values)
        bent = warp(values)
        noise = np.zeros(len(bent))
        n_finished = len(bent)
        learnt = inputs
        name = self._timed[column]
        if name is not None:
            more, expected = history.timed_only(column, name, self._has_inputs)
            variances = np.zeros(len(more))
        else:
            more, expected, deviations = history.early(column)
            around = warp(expected + deviations) - warp(expected)
            variances = np.maximum(around**2, MIN_RUNG_NOISE)
        if more:
            learnt = inputs.joined(self._inputs(more))
            bent = np.concatenate([bent, warp(expected)])
            noise = np.concatenate([noise, variances])
        predictor = Predictor(learnt, bent, noise)
        means, _ = predictor.predict(inputs)
        if at_work is not None:
            believed, _ = predictor.predict(at_work)
            predictor = Predictor(
                learnt.joined(at_work),
                np.concatenate([bent, believed]),
                np.concatenate([noise, np.zeros(len(believed))]),
                tuned=predictor.tuned,
            )
            means = np.concatenate([means, believed])
        self._predictors[column] = predictor
        return means[: n_finished + (0 if at_work is None else len(at_work))]

    def _inputs(self, candidates: Sequence[Candidate]) -> Inputs:
        inputs = self._encoder.inputs(candidates)
        if self._features is None:
            return inputs
        rows = (self._rows(candidates) - self._feature_mean) / self._feature_sd
        return stacked(inputs, rows / np.sqrt(rows.shape[1]))

    def _has_inputs(self, candidate: Candidate) -> bool:
        return self._features is None or self._features(candidate) is not None

    def _rows(self, candidates: Sequence[Candidate]) -> Floats:
        """Features of all of them."""
        assert self._features is not None
        found = [self._features(each) for each in candidates]
        if any(each is None for each in found):
            raise LookupError("a candidate has no features")
        return np.array(found, dtype=np.float64)


def _beyond(values: Floats) -> float:
    """A little more than the worst value."""
    worst, best = float(values.max()), float(values.min())
    return worst + (MARGIN * (worst - best) or 1.0)
