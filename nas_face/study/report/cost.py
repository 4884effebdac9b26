"""What a search cost: seconds by phase, networks by what became of them, epochs trained."""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import Any, final

from optuna.trial import FrozenTrial, TrialState

from nas_face.search.ledger import PHASES, Ledger, Seconds
from nas_face.search.record import ARCH_ID, LEDGER, METRICS, REFUSED, STOPPED
from nas_face.study.run import Run


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class SearchCost:
    """What a run cost, all its sittings and workers together.

    Attributes:
        phases: seconds by phase, in the order of a trial.
        undivided_wall_s: wall seconds of trials of which nothing else is on record; runs made
            before there were ledgers have them.
        n_screened: designs whose cost was looked at; none where it is not on record.
        n_proposed: designs that the sampler proposed.
        n_outside: of these, outside the budget, or against a rule of the space.
        n_repeated: proposed before, by this worker or another; not trained again.
        n_refused: over a wall on latency when they were timed; not trained.
        n_trained: trained to the end.
        n_stopped: stopped early at a rung.
        n_failed: failed.
        n_open: under way, or left by a sitting that was interrupted.
        epochs: epochs trained, those included that an interruption made necessary twice.
        full_epochs: what the networks that were trained at all would have taken to the end.
    """

    phases: Mapping[str, Seconds]
    undivided_wall_s: float
    n_screened: int | None
    n_proposed: int
    n_outside: int
    n_repeated: int
    n_refused: int
    n_trained: int
    n_stopped: int
    n_failed: int
    n_open: int
    epochs: int
    full_epochs: int

    @property
    def total(self) -> Seconds:
        """Over the phases and what is not divided into them."""
        return sum(self.phases.values(), Seconds(wall_s=self.undivided_wall_s))

    @property
    def epoch_share(self) -> float | None:
        """Share of the epochs of full trainings that were spent; none before any."""
        return self.epochs / self.full_epochs if self.full_epochs else None

    def to_data(self) -> dict[str, Any]:
        """As JSON data."""
        return {
            "seconds": {phase: asdict(spent) for phase, spent in self.phases.items()},
            "undivided_wall_s": self.undivided_wall_s,
            "total": asdict(self.total),
            "networks": {
                "screened": self.n_screened,
                "proposed": self.n_proposed,
                "outside": self.n_outside,
                "repeated": self.n_repeated,
                "refused": self.n_refused,
                "trained": self.n_trained,
                "stopped": self.n_stopped,
                "failed": self.n_failed,
                "open": self.n_open,
            },
            "epochs": {"spent": self.epochs, "full": self.full_epochs, "share": self.epoch_share},
        }


def search_cost(run: Run) -> SearchCost:
    """Add up what the trials of a run cost."""
    return cost_of_trials(run.trials(), epochs=run.config.training.epochs)


def cost_of_trials(trials: Iterable[FrozenTrial], *, epochs: int) -> SearchCost:
    """Add up what trials cost.

    Args:
        trials: of a search; those without a ledger count with what else is on their record.
        epochs: of a full training.
    """
    total = Ledger()
    ends: Counter[str] = Counter()
    undivided_wall_s, n_proposed, spent_epochs, n_begun = 0.0, 0, 0, 0
    for trial in trials:
        ledger = Ledger.of(trial.user_attrs.get(LEDGER, {}))
        total.add(ledger)
        if ARCH_ID not in trial.user_attrs:
            continue
        end = _end(trial)
        ends[end] += 1
        n_proposed += ledger.counts.get("proposed", 1)
        if LEDGER not in trial.user_attrs:
            undivided_wall_s += trial.user_attrs.get(METRICS, {}).get("wall_s", 0.0)
        own = ledger.counts.get("epochs", _implied_epochs(trial, end, epochs))
        spent_epochs += own
        n_begun += own > 0
    seconds, counts = total.seconds, total.counts
    order = [*PHASES, *sorted(seconds.keys() - set(PHASES))]
    return SearchCost(
        phases={name: seconds[name] for name in order if name in seconds},
        undivided_wall_s=undivided_wall_s,
        n_screened=counts.get("screened"),
        n_proposed=n_proposed,
        n_outside=counts.get("refused", 0),
        n_repeated=counts.get("repeated", 0),
        n_refused=ends["refused"],
        n_trained=ends["trained"],
        n_stopped=ends["stopped"],
        n_failed=ends["failed"],
        n_open=ends["open"],
        epochs=spent_epochs,
        full_epochs=n_begun * epochs,
    )


def _end(trial: FrozenTrial) -> str:
    """What became of a trial."""
    match trial.state:
        case TrialState.COMPLETE:
            return "trained"
        case TrialState.PRUNED:
            return "refused" if REFUSED in trial.user_attrs else "stopped"
        case TrialState.FAIL:
            return "failed"
        case _:
            return "open"


def _implied_epochs(trial: FrozenTrial, end: str, full: int) -> int:
    """Epochs of a trial whose ledger does not count them."""
    return full if end == "trained" else int(trial.user_attrs.get(STOPPED, 0))
