"""What rungs saved, whether they judged rightly, and what they cost in front quality."""

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, final

import numpy as np
from numpy.typing import NDArray
from optuna.trial import FrozenTrial, TrialState
from rich.table import Table

from nas_face.search import Objective, Rungs, objective
from nas_face.search.pareto import hypervolume, hypervolume_gains, pareto_front
from nas_face.search.record import AUDITED, RUNG, STOPPED
from nas_face.study.proxies.kendall import Estimate, tau_b
from nas_face.study.run import Run

ENOUGH_AUDITED = 10
"""With fewer, even if none is on the front, more than a quarter of the stopped might have been."""

_NORMAL_975 = 1.959963985


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class RungFigures:
    """One rung.

    Attributes:
        epoch: after which epoch it lies.
        n_reached: trials that were judged there; without those that an earlier rung would have
            stopped, which pass unjudged.
        n_stopped: of these, stopped.
        n_audited: of these, to be stopped, but trained on.
        n_compared: trials with values at the rung that were trained to the end.
        taus: Kendall's tau-b of the values at the rung with those at the end, over these, by name
            of each trained objective; NaN with too few. Trials that were stopped are missing, so
            that it is lower than over all.
    """

    epoch: int
    n_reached: int
    n_stopped: int
    n_audited: int
    n_compared: int
    taus: dict[str, float]


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class RungReport:
    """Rungs of a run.

    Attributes:
        rungs: the plan.
        epochs: of a full training.
        figures: of each rung.
        epochs_spent: of the trials that were stopped or trained to the end.
        epochs_full: what the same trials would have taken without rungs.
        n_stopped: trials that were stopped at any rung.
        n_audited: trials that would have been, and were trained to the end.
        n_audited_on_front: of these, on the front of all that were trained to the end.
        volume_audited: hypervolume that the audited add to the front of the others, as a share of
            the box from the best to the worst value of each objective.
        members_lost: how many of the stopped would be on the front: the audited's share, with
            Wilson's interval of 95 %; none where nothing was audited.
        volume_lost: hypervolume that they would add, in the same unit: the members lost, each
            adding what an audited member adds alone, or, where none is on the front, what any
            member does. What two of them share is counted twice, so it is rather too high.
    """

    rungs: Rungs
    epochs: int
    figures: tuple[RungFigures, ...]
    epochs_spent: int
    epochs_full: int
    n_stopped: int
    n_audited: int
    n_audited_on_front: int
    volume_audited: float
    members_lost: Estimate | None
    volume_lost: Estimate | None

    @property
    def saving(self) -> float:
        """Share of the epochs that was saved, 0 to 1; 0 before any trial ended."""
        return 1 - self.epochs_spent / self.epochs_full if self.epochs_full else 0.0

    @property
    def is_known(self) -> bool:
        """Whether enough were audited to say what the rungs cost."""
        return self.n_audited >= ENOUGH_AUDITED

    def to_data(self) -> dict[str, Any]:
        """As JSON data; a tau that is not defined is null."""
        data = asdict(self) | {"saving": self.saving, "is_known": self.is_known}
        for each in data["figures"]:
            each["taus"] = {
                name: None if math.isnan(tau) else tau for name, tau in each["taus"].items()
            }
        return data


def rung_report(run: Run) -> RungReport | None:
    """What the rungs of a run did; none where it has no rungs, or no trial has reached one."""
    objectives = [objective(name) for name in run.config.objectives]
    return report_of_trials(
        run.trials(), run.config.rungs, objectives, epochs=run.config.training.epochs
    )


def report_of_trials(
    trials: Sequence[FrozenTrial],
    rungs: Rungs,
    objectives: Sequence[Objective],
    *,
    epochs: int,
) -> RungReport | None:
    """What rungs did to some trials.

    Args:
        trials: of a study.
        rungs: its plan.
        objectives: in the order of the values.
        epochs: of a full training.
    """
    if not any(f"{RUNG}{epoch}" in trial.user_attrs for trial in trials for epoch in rungs.epochs):
        return None
    complete = [trial for trial in trials if trial.state == TrialState.COMPLETE]
    stopped = [trial for trial in trials if STOPPED in trial.user_attrs]
    audited = np.array([AUDITED in trial.user_attrs for trial in complete], dtype=np.bool_)
    points = _in_box(_points(complete, objectives))
    corner = np.ones(len(objectives))
    on_front = pareto_front(points)
    hits = int((audited & on_front).sum())
    members = _extrapolated(hits, int(audited.sum()), len(stopped))
    return RungReport(
        rungs=rungs,
        epochs=epochs,
        figures=tuple(_figures(trials, objectives, epoch) for epoch in rungs.epochs),
        epochs_spent=epochs * len(complete) + sum(each.user_attrs[STOPPED] for each in stopped),
        epochs_full=epochs * (len(complete) + len(stopped)),
        n_stopped=len(stopped),
        n_audited=int(audited.sum()),
        n_audited_on_front=hits,
        volume_audited=hypervolume(points, corner) - hypervolume(points[~audited], corner),
        members_lost=members,
        volume_lost=_volume_of(members, points, on_front & audited if hits else on_front),
    )


def rung_table(report: RungReport) -> Table:
    """One row a rung; below it, what the rungs saved and what they cost."""
    rungs = report.rungs
    table = Table(title=f"Rungs: the better {rungs.keep:.0%} go on")
    names = list(report.figures[0].taus)
    for heading in ("after epoch", "reached", "stopped", "audited"):
        table.add_column(heading, justify="right")
    for name in names:
        table.add_column(f"tau of {name}", justify="right")
    for each in report.figures:
        taus = ["" if math.isnan(tau) else f"{tau:.2f}" for tau in each.taus.values()]
        counts = (each.epoch, each.n_reached, each.n_stopped, each.n_audited)
        table.add_row(*(f"{count:,}" for count in counts), *taus)
    table.caption = (
        f"audited: to be stopped, but trained on ({rungs.audit:.0%}, drawn); tau: Kendall's, of "
        f"the rung with the end, over the trials that reached both\n"
        f"epochs: {report.epochs_spent:,} of {report.epochs_full:,} without rungs, "
        f"{report.saving:.0%} saved\n{_price(report)}"
    )
    table.caption_justify = "left"
    return table


def _price(report: RungReport) -> str:
    """What the rungs cost, in words."""
    members, volume = report.members_lost, report.volume_lost
    if not report.n_stopped:
        return "nothing was stopped, so nothing was lost"
    if members is None or volume is None:
        why = "" if report.rungs.audit else " (rungs.audit is 0)"
        return f"what they cost is not known: none was audited to the end{why}"
    seen = (
        f"of {report.n_audited} audited, {report.n_audited_on_front} on the front, adding "
        f"{report.volume_audited:.2%} of hypervolume"
    )
    if not report.is_known:
        return f"{seen}; too few to know what the {report.n_stopped} stopped would have added"
    return (
        f"{seen}; so of the {report.n_stopped} stopped, about {members.value:.1f} "
        f"({members.low:.1f} to {members.high:.1f}) would be on the front, adding "
        f"{volume.value:.2%} ({volume.low:.2%} to {volume.high:.2%}) at most"
    )


def _figures(
    trials: Sequence[FrozenTrial], objectives: Sequence[Objective], epoch: int
) -> RungFigures:
    key = f"{RUNG}{epoch}"
    reached = [trial for trial in trials if key in trial.user_attrs]
    ended = [trial for trial in reached if trial.state == TrialState.COMPLETE]
    early = np.array([trial.user_attrs[key] for trial in ended]).reshape(-1, len(objectives))
    late = _points(ended, objectives)
    return RungFigures(
        epoch=epoch,
        n_reached=sum(trial.user_attrs.get(AUDITED, epoch) >= epoch for trial in reached),
        n_stopped=sum(trial.user_attrs.get(STOPPED) == epoch for trial in reached),
        n_audited=sum(trial.user_attrs.get(AUDITED) == epoch for trial in reached),
        n_compared=len(ended),
        taus={
            each.name: tau_b(early[:, at], late[:, at])
            for at, each in enumerate(objectives)
            if each.origin == "trained"
        },
    )


def _points(
    complete: Sequence[FrozenTrial], objectives: Sequence[Objective]
) -> NDArray[np.float64]:
    """Final values `(N, M)`, turned so that each is to be small."""
    signs = [-1.0 if each.direction == "maximize" else 1.0 for each in objectives]
    values = [trial.values for trial in complete]
    return np.array(values, dtype=np.float64).reshape(-1, len(signs)) * signs


def _extrapolated(hits: int, n: int, n_stopped: int) -> Estimate | None:
    """How many of the stopped are hits, of a sample (Wilson, 1927)."""
    if n == 0:
        return None
    share, square = hits / n, _NORMAL_975**2
    middle = (share + square / (2 * n)) / (1 + square / n)
    half = _NORMAL_975 * math.sqrt(share * (1 - share) / n + square / (4 * n**2))
    half /= 1 + square / n
    return Estimate(
        value=n_stopped * share,
        low=n_stopped * max(0.0, middle - half),
        high=n_stopped * min(1.0, middle + half),
    )


def _in_box(points: NDArray[np.float64]) -> NDArray[np.float64]:
    """Scaled so that the best value of each axis is 0 and the worst 1; 0 where all are equal."""
    if len(points) == 0:
        return points
    low, high = points.min(axis=0), points.max(axis=0)
    return np.asarray((points - low) / np.where(high > low, high - low, 1.0))


def _volume_of(
    members: Estimate | None, boxed: NDArray[np.float64], like: NDArray[np.bool_]
) -> Estimate | None:
    """Hypervolume of so many members of the front, each adding what some that are there do."""
    if members is None:
        return None
    corner = np.ones(boxed.shape[1])
    gains = [
        float(hypervolume_gains(boxed[[at]], np.delete(boxed, at, axis=0), corner)[0])
        for at in np.flatnonzero(like)
    ]
    each = float(np.mean(gains))
    return Estimate(value=members.value * each, low=members.low * each, high=members.high * each)
