"""Before a search under a limit of latency: a handful of designs is timed, and a line through
their figures says how much of the space can be expected to fit."""

import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, final

import numpy as np
from numpy.typing import NDArray

from nas_face.arch.spec import ArchSpec
from nas_face.errors import ArchError, ConfigError
from nas_face.search import Budget
from nas_face.search.budget import figure
from nas_face.space import Label, Screened, SearchSpace, screener_of
from nas_face.space.nearest import nearest
from nas_face.space.space import INPUT_SHAPE
from nas_face.study.preflight.budget import SIDE_STEP, joined, largest_part, percent

N_TIMED = 12
N_EXTRA = 3
"""Designs that are timed on top where none of the first ones fits: those that should."""

N_POOL = 1000
N_DRAWN = 4000
"""Designs within the other walls that the share is of, and most that are drawn for them."""

N_LEAST = 100
N_CHANGES = 2000
"""Designs that are wanted for a spread, and changes that are made for them where few were
drawn."""

LEAST_ERROR = 0.02
"""Relative error of a model at least: repeated timings of one network differ by as much."""


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class TimedDesign:
    """A design that was timed.

    Attributes:
        arch_id: of the architecture.
        choices: its labels, by path.
        madds: multiply-accumulates.
        latency_ms: what was measured.
    """

    arch_id: str
    choices: Mapping[str, Label]
    madds: int
    latency_ms: float


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class LatencySurvey:
    """What a handful of timings says about a space.

    Attributes:
        timed: the designs, in the order in which they were timed.
        error: typical relative error of the model, such as 0.1: of a timing that it was fitted
            without, as the standard deviation of the logarithm.
        share: of the designs within the other walls, how many are expected to fit, 0 to 1.
        low: the same, if the model is wrong by its error throughout, in the worse direction.
        high: in the better direction.
    """

    timed: tuple[TimedDesign, ...]
    error: float
    share: float
    low: float
    high: float

    @property
    def measured(self) -> dict[str, float]:
        """Latency in ms, by `arch_id`."""
        return {each.arch_id: each.latency_ms for each in self.timed}

    def to_data(self) -> dict[str, Any]:
        """Plain data."""
        data = asdict(self)
        data["timed"] = [{**each, "choices": dict(each["choices"])} for each in data["timed"]]
        return data

    @staticmethod
    def of(data: Mapping[str, Any]) -> "LatencySurvey":
        """The survey of plain data that `to_data` made."""
        timed = tuple(TimedDesign(**each) for each in data["timed"])
        return LatencySurvey(**{**data, "timed": timed})

    def __str__(self) -> str:
        values = [each.latency_ms for each in self.timed]
        return (
            f"latency: {len(values)} designs timed, {min(values):.3g} to {max(values):.3g} ms; "
            f"about {percent(self.share)} of what is within the other walls can be expected to "
            f"fit ({percent(self.low)} to {percent(self.high)}; model off by {self.error:.0%})"
        )


def preflight_latency(
    space: SearchSpace,
    budget: Budget,
    time_spec: Callable[[ArchSpec], float],
    *,
    seed: int,
    name: str,
    n_timed: int = N_TIMED,
) -> LatencySurvey:
    """Time designs spread over those within the other walls, the smallest one among them.

    A straight line is fitted by least squares: log latency over log multiply-adds, log number of
    repeats and log peak activations, as many of them as help. Where none of the timed designs
    fits, those that the line expects to come nearest are timed as well.

    Args:
        space: the space; something in it must be within the other walls, see `preflight`.
        budget: the walls.
        time_spec: latency of an untrained network in ms.
        seed: of the draws.
        name: of the space, for messages.
        n_timed: how many designs are timed.

    Raises:
        ConfigError: none of the timed designs fits; the message names the nearest miss.
    """
    pool = _pool(space, budget, seed)
    specs = {design.spec.arch_id: design for design in _spread(pool, n_timed)}
    timed = [_timed(design, time_spec) for design in specs.values()]
    line = _Line([specs[each.arch_id] for each in timed], [each.latency_ms for each in timed])
    if not any(budget.fits_latency(each.latency_ms) for each in timed):
        for design in _expected_nearest(space, budget, line, pool, seed):
            if design.spec.arch_id not in specs:
                specs[design.spec.arch_id] = design
                timed.append(_timed(design, time_spec))
        line = _Line([specs[each.arch_id] for each in timed], [each.latency_ms for each in timed])
        if not any(budget.fits_latency(each.latency_ms) for each in timed):
            raise ConfigError(_nothing_fits(space, budget, timed, specs, line, name))
    low, share, high = _shares(budget, line, pool)
    return LatencySurvey(timed=tuple(timed), error=line.error, share=share, low=low, high=high)


def _pool(space: SearchSpace, budget: Budget, seed: int) -> list[Screened]:
    """Designs within the walls that need no timing, the smallest that a walk finds among them;
    where hardly any draw is, some that changes of it lead to."""
    screener = screener_of(space)
    drawn = list(itertools.islice(screener.draws(seed), N_DRAWN))
    fitting = [each for each in drawn if budget.fits(each.cost)][:N_POOL]

    def rank(design: Screened) -> tuple[float, ...]:
        return budget.excess(design.cost), design.madds, design.params

    pool = [*fitting, nearest(space, fitting or drawn, rank, seed=seed)]
    rng = np.random.default_rng(seed)
    for _ in range(N_CHANGES):
        if len(pool) >= N_LEAST:
            break
        other = screener.mutated(pool[int(rng.integers(len(pool)))].choices, rng)
        if other is not None and budget.fits(other.cost):
            pool.append(other)
    return pool


def _spread(pool: Sequence[Screened], n: int) -> list[Screened]:
    """As many designs, spread evenly over the order of their multiply-adds, both ends included."""
    ranked = sorted(pool, key=lambda each: (each.madds, each.params))
    places = np.linspace(0, len(ranked) - 1, num=n).round().astype(int)
    return [ranked[place] for place in dict.fromkeys(places.tolist())]


def _timed(design: Screened, time_spec: Callable[[ArchSpec], float]) -> TimedDesign:
    spec = design.spec
    return TimedDesign(
        arch_id=spec.arch_id,
        choices=design.choices,
        madds=design.madds,
        latency_ms=time_spec(spec),
    )


@final
class _Line:
    """Latency of designs, by least squares over logarithms.

    Args:
        designs: that were timed.
        latencies_ms: of each.

    Attributes:
        error: standard deviation of log latency, each timing left out in turn.
    """

    def __init__(self, designs: Sequence[Screened], latencies_ms: Sequence[float]) -> None:
        features, target = _features(designs), np.log(latencies_ms)
        # As many columns as tell most about timings that were left out, and few for few timings.
        most = max(1, min(features.shape[1], len(designs) - 3))
        error, self._weights = min(
            (_fitted(features[:, :n], target) for n in range(1, most + 1)),
            key=lambda each: each[0],
        )
        self.error = max(LEAST_ERROR, error)

    def log_ms(self, designs: Sequence[Screened]) -> NDArray[np.float64]:
        """Logarithms of the expected latencies, `(n,)`."""
        found: NDArray[np.float64] = _features(designs)[:, : len(self._weights)] @ self._weights
        return found


def _fitted(
    features: NDArray[np.float64], target: NDArray[np.float64]
) -> tuple[float, NDArray[np.float64]]:
    """Error, each row left out in turn, and weights of a least-squares fit."""
    inverse = np.linalg.pinv(features)
    weights = inverse @ target
    leverage = np.minimum(np.einsum("ij,ji->i", features, inverse), 0.95)
    left_out = (target - features @ weights) / (1 - leverage)
    return float(np.sqrt(np.mean(left_out**2))), weights


def _features(designs: Sequence[Screened]) -> NDArray[np.float64]:
    """`(n, 4)`, the most telling columns first."""
    return np.array(
        [
            (
                1.0,
                math.log(max(1, each.madds)),
                math.log(1 + _n_repeats(each)),
                math.log(max(1, each.peak_activations)),
            )
            for each in designs
        ]
    )


def _n_repeats(design: Screened) -> int:
    """Blocks that choices of repeats ask for."""
    return sum(
        label
        for part in design.picks
        for path, label in part
        if path.endswith(".repeats") and isinstance(label, int)
    )


def _shares(budget: Budget, line: _Line, pool: Sequence[Screened]) -> tuple[float, float, float]:
    """Expected share of the designs that fit: if all take longer, as the line says, if all take
    less; the smallest share first and the largest last."""
    log_ms = line.log_ms(pool)
    upper = math.inf if budget.max_latency_ms is None else math.log(budget.max_latency_ms)
    lower = -math.inf if budget.min_latency_ms is None else math.log(budget.min_latency_ms)

    def share(shift: float) -> float:
        return float(
            np.mean(
                [
                    _normal((upper - each - shift) / line.error)
                    - _normal((lower - each - shift) / line.error)
                    for each in log_ms
                ]
            )
        )

    expected, *others = (share(shift) for shift in (0.0, line.error, -line.error))
    return min(expected, *others), expected, max(expected, *others)


def _normal(x: float) -> float:
    """Share of a normal distribution below a number of standard deviations."""
    return 0.5 * (1 + math.erf(x / math.sqrt(2)))


def _expected_nearest(
    space: SearchSpace, budget: Budget, line: _Line, pool: Sequence[Screened], seed: int
) -> list[Screened]:
    """Designs within the other walls whose expected latency comes nearest to its own."""

    def rank(design: Screened) -> tuple[float, ...]:
        expected_ms = math.exp(float(line.log_ms([design])[0]))
        return budget.excess(design.cost), budget.latency_excess(expected_ms)

    best = nearest(space, pool, rank, seed=seed)
    return [best, *sorted(pool, key=rank)[: N_EXTRA - 1]]


def _nothing_fits(
    space: SearchSpace,
    budget: Budget,
    timed: Sequence[TimedDesign],
    designs: Mapping[str, Screened],
    line: _Line,
    name: str,
) -> str:
    near = min(timed, key=lambda each: budget.latency_excess(each.latency_ms))
    missed = next(
        wall
        for wall in budget.walls
        if wall.quantity == "latency_ms" and wall.excess(near.latency_ms)
    )
    spec = designs[near.arch_id].spec
    part = largest_part(spec, "latency_ms")
    verb, who = ("raise", "fastest") if missed.is_upper else ("lower", "slowest")
    ends = math.ceil if missed.is_upper else math.floor
    limit = ends(near.latency_ms * 100) / 100
    remedies = [f"{verb} {missed.name} to {figure(limit)}"]
    side = _fitting_side(space, budget, near, line) if missed.is_upper else None
    if side is not None:
        remedies.append(f"lower input_size from {space.input_shape[1]} to about {side}")
    remedies.append(part.remedy(larger=not missed.is_upper))
    return (
        f"budget.{missed.name}: nothing in {name} is expected to fit {figure(missed.limit)} ms; "
        f"the {who} of {len(timed)} designs timed takes {near.latency_ms:.3g} ms "
        f"({near.latency_ms / missed.limit:.2f} times the limit), {part}: "
        f"{joined(remedies, 'or')}"
    )


def _fitting_side(
    space: SearchSpace, budget: Budget, near: TimedDesign, line: _Line
) -> int | None:
    """The largest smaller input size at which a design is expected to fit."""
    height, width = space.input_shape[1:]
    if height != width or INPUT_SHAPE in space.template:
        return None
    [here] = line.log_ms([_screened(space, near)])
    for side in range(height - 1 - (height - 1) % SIDE_STEP, 0, -SIDE_STEP):
        try:
            smaller = _screened(space.with_input_size(side), near)
        except ArchError:
            continue
        [there] = line.log_ms([smaller])
        expected_ms = near.latency_ms * math.exp(float(there - here))
        if budget.fits(smaller.cost) and budget.fits_latency(expected_ms):
            return side
    return None


def _screened(space: SearchSpace, design: TimedDesign) -> Screened:
    """The design at the input size of a space.

    Raises:
        ArchError: it does not work there.
    """
    found = screener_of(space).screened(design.choices)
    if found is None:
        raise ArchError(f"{design.arch_id} does not work at {space.input_shape}")
    return found
