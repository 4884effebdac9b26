"""What can be proposed: candidates with their exact costs, and where they come from."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, final

import numpy as np
from numpy.typing import NDArray
from optuna.distributions import BaseDistribution

from nas_face.errors import SpaceError
from nas_face.space import Label


class SpaceExhausted(SpaceError):
    """No design is left that fits the budget and was not tried before."""


@final
@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Candidate:
    """A design that may be proposed.

    Attributes:
        key: text of the labels, the same for the same labels.
        params: label of every active choice, as Optuna stores it.
        vector: `(n,)`, from 0 to 1, for predictors; the same `n` for all candidates.
        known: what is exact before any training, by name.
    """

    key: str
    params: Mapping[str, Label]
    vector: NDArray[np.float32]
    known: Mapping[str, float]


class Designs(Protocol):
    """Where candidates come from; all that are drawn or bred are within the walls.

    Equal ones share what is made of them once in a process.
    """

    def __hash__(self) -> int: ...

    @property
    def distributions(self) -> dict[str, BaseDistribution]:
        """Of every parameter, conditional ones included."""

    @property
    def knobs(self) -> NDArray[np.intp]:
        """`(n,)`: which choice each number of `Candidate.vector` belongs to."""

    @property
    def kinds(self) -> NDArray[np.intp]:
        """`(n,)`: numbers that say the same of choices that are offered alike in several places,
        such as the kernel of each stage, are of one kind; each other number is of its own."""

    def draws(self, seed: int) -> Iterator[Candidate]:
        """Candidates at random, without end; ends at once where none can be found."""

    def mutate(self, candidate: Candidate, rng: np.random.Generator) -> Candidate | None:
        """A copy with one choice changed, or none where the change is illegal."""

    def crossover(self, a: Candidate, b: Candidate, rng: np.random.Generator) -> Candidate | None:
        """A child that takes every choice from one parent or the other, or none."""

    def of(self, params: Mapping[str, Any]) -> Candidate | None:
        """The candidate with these labels, within the walls or not; none if they make none."""

    def everything(self, limit: int) -> Sequence[Candidate] | None:
        """All candidates of a small finite space, or none if there are more than `limit`."""

    def fits(self, candidate: Candidate) -> bool:
        """Whether a candidate that `of` made is within the walls."""

    def identity(self, candidate: Candidate) -> str:
        """What two candidates share if they are the same design under different labels."""


def key_of(params: Mapping[str, Label]) -> str:
    """Text of labels, whatever their order; 1, 1.0 and true are different."""
    return ";".join([f"{name}={params[name]!r}" for name in sorted(params)])
