"""What proxies are worth: their ranks beside those of multiply-adds alone."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, final

import numpy as np
from numpy.typing import NDArray

from nas_face.errors import ConfigError
from nas_face.proxies import proxy_values
from nas_face.search import Objective
from nas_face.study.proxies.kendall import Comparison, compare

Verdict = Literal[
    "the yardstick", "adds", "adds nothing here", "misleads here", "too few networks to tell"
]

YARDSTICK = "madds"
MIN_NETWORKS = 4
MIN_TO_TELL = 10
"""Below, intervals from resampling are too narrow to be believed."""

NO_USE = 0.2
"""Partial tau under which a proxy orders less than one pair in ten better than a coin would."""


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Worth:
    """What a proxy is worth for an objective.

    Attributes:
        proxy: its name.
        objective: name of the objective.
        n_networks: networks for which the proxy is defined.
        comparison: tau, its gain over that of multiply-adds, and what is left of it where these
            are held fixed; positive where a high score goes with a good objective.
        seconds: mean time for a network, NaN where it is not known.
        verdict: ``adds`` where the partial tau is above zero beyond doubt; ``adds nothing here``
            where it is below 0.2 beyond doubt, or the proxy ranks as multiply-adds do;
            ``misleads here`` where it is below zero beyond doubt: among networks of equal
            multiply-adds the worse ones score higher. A predictor may learn from such a figure, a
            choice by it would be wrong.
    """

    proxy: str
    objective: str
    n_networks: int
    comparison: Comparison
    seconds: float
    verdict: Verdict


def audit(
    names: Sequence[str],
    networks: Sequence[Mapping[str, float]],
    objective: Objective,
    values: NDArray[np.float64],
    *,
    seconds: Mapping[str, float],
) -> list[Worth]:
    """Compare proxies with what came of the trainings.

    Args:
        names: proxies.
        networks: figures of each network, `madds` among them.
        objective: what the networks were trained for.
        values: `(N,)`, its values.
        seconds: mean time of each proxy for a network.

    Returns:
        One for each proxy, in their order.

    Raises:
        ConfigError: there are fewer than 4 networks, or a proxy is unknown.
    """
    if len(networks) < MIN_NETWORKS:
        raise ConfigError(
            f"proxies: at least {MIN_NETWORKS} trained networks are needed to compare ranks, "
            f"there are {len(networks)}; search on, with more --trials"
        )
    truth = values if objective.direction == "maximize" else -values
    yardstick = proxy_values(YARDSTICK, networks)
    found = []
    for name in names:
        scores = proxy_values(name, networks)
        defined = np.isfinite(scores) & np.isfinite(truth)
        comparison = compare(scores[defined], truth[defined], yardstick[defined])
        n = int(defined.sum())
        found.append(
            Worth(
                proxy=name,
                objective=objective.name,
                n_networks=n,
                comparison=comparison,
                seconds=seconds.get(name, math.nan),
                verdict="the yardstick" if name == YARDSTICK else verdict_of(comparison, n),
            )
        )
    return found


def verdict_of(comparison: Comparison, n_networks: int) -> Verdict:
    """Whether a proxy says anything that multiply-adds do not; see `Worth.verdict`."""
    partial = comparison.partial
    if n_networks < MIN_TO_TELL:
        return "too few networks to tell"
    if math.isnan(partial.value):  # all scores equal, or in the order of multiply-adds
        return "adds nothing here"
    if partial.low > 0:
        return "adds"
    if partial.high < 0:
        return "misleads here"
    return "adds nothing here" if partial.high < NO_USE else "too few networks to tell"
