"""Plain Optuna parameters as designs, for any study."""

import itertools
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Protocol, final

import numpy as np
from numpy.typing import NDArray
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)

from nas_face.errors import ConfigError
from nas_face.search.designs.candidates import Candidate, key_of
from nas_face.search.designs.space_designs import columns_of
from nas_face.space import Choice
from nas_face.space.picks import another

N_MISSES = 2000
"""Draws that may break the walls before none is expected to fit."""

MAX_LABELS = 64
"""Whole numbers of a range that are taken one by one; longer ranges are like real numbers."""

NEARBY = 0.1
"""Standard deviation of a small change of a real number, as a share of its range."""


@final
class ParameterDesigns:
    """Designs of plain Optuna parameters, none of which depends on another.

    Args:
        distributions: of every parameter, by name.
        analytic: what is exact before any training, by name, of the labels of all parameters.
        fits: whether a design is within the walls, of what `analytic` gives.
        identity: what two designs share that are the same under different labels; their labels by
            default.
    """

    def __init__(
        self,
        distributions: Mapping[str, BaseDistribution],
        analytic: Callable[[Mapping[str, Any]], Mapping[str, float]] = lambda params: {},
        fits: Callable[[Mapping[str, float]], bool] = lambda known: True,
        identity: Callable[[Mapping[str, Any]], str] = key_of,
    ) -> None:
        if not distributions:
            raise ConfigError("a sampler needs at least one parameter, got none")
        self._distributions = dict(distributions)
        self._analytic = analytic
        self._fits = fits
        self._identity = identity
        self._axes = [_axis(name, each) for name, each in distributions.items()]
        widths = [axis.width for axis in self._axes]
        self._knobs = np.repeat(np.arange(len(self._axes)), widths)
        offered: dict[Any, int] = {}
        starts = [
            offered.setdefault(tuple(axis.labels) or axis.name, int(start))
            for axis, start in zip(self._axes, np.cumsum([0, *widths]), strict=False)
        ]
        self._kinds = np.concatenate(
            [start + np.arange(width) for start, width in zip(starts, widths, strict=True)]
        )
        self._everything: list[Candidate] | None = None
        self._made: dict[tuple[tuple[str, Any], ...], Candidate | None] = {}

    @property
    def distributions(self) -> dict[str, BaseDistribution]:
        """As given."""
        return self._distributions

    @property
    def knobs(self) -> NDArray[np.intp]:
        """See `Designs`."""
        return self._knobs

    @property
    def kinds(self) -> NDArray[np.intp]:
        """See `Designs`; parameters with the same list of labels are offered alike."""
        return self._kinds

    def draws(self, seed: int) -> Iterator[Candidate]:
        """Every parameter drawn evenly, on the logarithm where its distribution says so."""
        rng = np.random.default_rng(seed)
        n_inside = 0
        for n_drawn in itertools.count(1):
            found = self._inside({axis.name: axis.draw(rng) for axis in self._axes})
            if found is not None:
                n_inside += 1
                yield found
            elif n_inside == 0 and n_drawn > N_MISSES:
                return

    def mutate(self, candidate: Candidate, rng: np.random.Generator) -> Candidate | None:
        """See `Designs`."""
        axis = self._axes[int(rng.integers(len(self._axes)))]
        label = axis.another(candidate.params[axis.name], rng)
        return self._inside({**candidate.params, axis.name: label})

    def crossover(self, a: Candidate, b: Candidate, rng: np.random.Generator) -> Candidate | None:
        """See `Designs`."""
        from_a = rng.random(len(self._axes)) < 0.5
        return self._inside(
            {
                axis.name: (a if mine else b).params[axis.name]
                for axis, mine in zip(self._axes, from_a, strict=True)
            }
        )

    def of(self, params: Mapping[str, Any]) -> Candidate | None:
        """See `Designs`; parameters beside those of the distributions do no harm."""
        key = tuple(params.items())
        if key not in self._made:
            axes = self._axes
            if all(axis.name in params and axis.has(params[axis.name]) for axis in axes):
                own = {axis.name: axis.own(params[axis.name]) for axis in axes}
                self._made[key] = self._candidate(own)
            else:
                self._made[key] = None
        return self._made[key]

    def everything(self, limit: int) -> Sequence[Candidate] | None:
        """See `Designs`."""
        if math.prod(axis.size for axis in self._axes) > limit:
            return None
        if self._everything is None:
            names = [axis.name for axis in self._axes]
            ways = itertools.product(*(axis.labels for axis in self._axes))
            found = (self._inside(dict(zip(names, labels, strict=True))) for labels in ways)
            self._everything = [candidate for candidate in found if candidate is not None]
        return self._everything

    def fits(self, candidate: Candidate) -> bool:
        """See `Designs`."""
        return self._fits(candidate.known)

    def identity(self, candidate: Candidate) -> str:
        """See `Designs`."""
        return self._identity(candidate.params)

    def _inside(self, params: Mapping[str, Any]) -> Candidate | None:
        candidate = self._candidate(params)
        return candidate if self._fits(candidate.known) else None

    def _candidate(self, params: Mapping[str, Any]) -> Candidate:
        columns = [number for axis in self._axes for number in axis.columns(params[axis.name])]
        return Candidate(
            key=key_of(params),
            params=params,
            vector=np.array(columns, dtype=np.float32),
            known=self._analytic(params),
        )


class _Axis(Protocol):
    """One parameter: its columns of the vector, and how it is drawn and changed."""

    name: str
    width: int
    size: float
    labels: Sequence[Any]

    def columns(self, label: Any) -> Sequence[float]: ...

    def has(self, label: Any) -> bool: ...

    def own(self, label: Any) -> Any:
        """The label as the distribution has it: 1 where 1.0 is given."""

    def draw(self, rng: np.random.Generator) -> Any: ...

    def another(self, label: Any, rng: np.random.Generator) -> Any: ...


@final
class _Labels:
    """A parameter with a list of labels."""

    def __init__(self, name: str, labels: Sequence[Any]) -> None:
        self.name = name
        self.labels = labels
        self.size: float = len(labels)
        self._choice = Choice(options={label: label for label in labels})
        self._columns = columns_of(self._choice, conditional=False)
        self.width = len(self._columns[labels[0]])
        self._own = {label: label for label in labels}

    def columns(self, label: Any) -> Sequence[float]:
        return self._columns[label]

    def has(self, label: Any) -> bool:
        return label in self._own

    def own(self, label: Any) -> Any:
        return self._own[label]

    def draw(self, rng: np.random.Generator) -> Any:
        return self.labels[int(rng.integers(len(self.labels)))]

    def another(self, label: Any, rng: np.random.Generator) -> Any:
        return label if len(self.labels) == 1 else another(label, self._choice, rng)


@final
class _Numbers:
    """A parameter with a range of numbers."""

    width = 1
    labels: Sequence[Any] = ()
    size = math.inf

    def __init__(self, name: str, distribution: FloatDistribution | IntDistribution) -> None:
        self.name = name
        self._distribution = distribution
        self._turn = math.log if distribution.log else float
        self._back = math.exp if distribution.log else float
        self._low = self._turn(distribution.low)
        self._extent = self._turn(distribution.high) - self._low or 1.0

    def columns(self, label: Any) -> Sequence[float]:
        return ((self._turn(label) - self._low) / self._extent,)

    def has(self, label: Any) -> bool:
        is_number = isinstance(label, int | float) and not isinstance(label, bool)
        return is_number and self._distribution.low <= label <= self._distribution.high

    def own(self, label: Any) -> Any:
        return int(label) if isinstance(self._distribution, IntDistribution) else float(label)

    def draw(self, rng: np.random.Generator) -> Any:
        return self._at(float(rng.random()))

    def another(self, label: Any, rng: np.random.Generator) -> Any:
        if rng.random() < 0.5:
            return self.draw(rng)
        return self._at(float(np.clip(rng.normal(self.columns(label)[0], NEARBY), 0.0, 1.0)))

    def _at(self, place: float) -> Any:
        """The number that lies so far between the ends."""
        low, high = self._distribution.low, self._distribution.high
        number = min(max(self._back(self._low + place * self._extent), low), high)
        if self._distribution.step is not None:
            number = low + round((number - low) / self._distribution.step) * (
                self._distribution.step
            )
        return int(number) if isinstance(self._distribution, IntDistribution) else float(number)


def _axis(name: str, distribution: BaseDistribution) -> _Axis:
    match distribution:
        case CategoricalDistribution():
            return _Labels(name, distribution.choices)
        case IntDistribution() if distribution.high - distribution.low < (
            MAX_LABELS * distribution.step
        ):
            last = distribution.high + 1
            return _Labels(name, range(distribution.low, last, distribution.step))
        case FloatDistribution() | IntDistribution():
            return _Numbers(name, distribution)
        case _:
            raise ConfigError(f"{name}: no sampler for a {type(distribution).__name__}")
