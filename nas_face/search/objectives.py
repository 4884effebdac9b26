"""What a search trades off: names, directions, units, and what is known before training."""

from dataclasses import dataclass
from typing import Literal, final

from nas_face.arch.cost import Cost
from nas_face.errors import ConfigError, near_names

Direction = Literal["maximize", "minimize"]
Origin = Literal["analytic", "timed", "trained"]


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Objective:
    """One axis of the front.

    Attributes:
        name: as in study files, tables and Optuna's dashboard.
        direction: which way is better.
        origin: ``analytic`` (exact, from the architecture alone), ``timed`` (measured on an
            untrained network) or ``trained`` (needs a training).
        title: for the axes of plots, with its unit.
    """

    name: str
    direction: Direction
    origin: Origin
    title: str

    def analytic_value(self, cost: Cost) -> float:
        """Value of an analytic objective.

        Raises:
            ValueError: the objective is not analytic.
        """
        if self.name == "size_bytes":
            return float(cost.size_bytes("fp32"))
        if self.origin != "analytic":
            raise ValueError(f"{self.name} is {self.origin}, not analytic")
        return float(getattr(cost, self.name))


def _analytic(name: str, title: str) -> Objective:
    return Objective(name=name, direction="minimize", origin="analytic", title=title)


def _trained(name: str, title: str, direction: Direction = "maximize") -> Objective:
    return Objective(name=name, direction=direction, origin="trained", title=title)


OBJECTIVES: dict[str, Objective] = {
    objective.name: objective
    for objective in (
        _trained("auc", "area under the ROC on search pairs"),
        _trained("eer", "equal error rate on search pairs", "minimize"),
        _trained("log_tar", "mean TAR over log FAR on search pairs"),
        _trained("worst_group_tar", "TAR of the worst group at one threshold, on search pairs"),
        _analytic("madds", "multiply-adds"),
        _analytic("params", "parameters"),
        _analytic("size_bytes", "weights, bytes (fp32)"),
        _analytic("peak_activations", "peak activations"),
        Objective(
            name="latency_ms",
            direction="minimize",
            origin="timed",
            title="latency, ms (ONNX Runtime, one thread)",
        ),
    )
}


def objective(name: str) -> Objective:
    """The objective of that name.

    Raises:
        ConfigError: there is none.
    """
    if name not in OBJECTIVES:
        raise ConfigError(f"unknown objective {name!r}; {near_names(name, OBJECTIVES)}")
    return OBJECTIVES[name]
