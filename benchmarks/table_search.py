"""Which sampler finds the front of a table of really trained networks with the fewest trainings?

The table (`benchmarks/trained_table.py`) holds a few hundred designs of a far larger space, so
that what a sampler proposes is hardly ever in it. One rule answers for all samplers: of the rows
that are left, the tenth (at least five) whose multiply-adds are nearest to the proposal's by ratio
are looked at, since what is exact of a design should stay about what it was; the one of them that
is nearest in `SearchSpace.encode` (Euclidean) is taken, and the sampler is told that row's choices
and values, as if it had proposed it. That blurs every sampler alike, and those that know best what
they want lose most by it. So there is a second way for our own sampler, `rows only`: it knows the
rows and chooses among them. Rows at random are what either has to beat.

Values are means over the trainings of a design, where it was trained from several seeds. The
figure is the hypervolume of what was taken as a share of the whole table's, from the worst value
and the most multiply-adds of the table, both axes as they are, mean and deviation over seeds.

    python benchmarks/table_search.py studies/faces_48_networks.csv --quality auc_4
"""

import argparse
import json
import math
import sys
import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, final

import numpy as np
import optuna
import pandas as pd
from numpy.typing import NDArray
from optuna.distributions import BaseDistribution
from optuna.samplers import BaseSampler
from optuna.study import Study
from optuna.trial import create_trial

from nas_face.search import Budget, Objective, derive_seed, objective
from nas_face.search.designs import Candidate, SpaceDesigns
from nas_face.search.front_gain import FrontGainSampler
from nas_face.search.pareto import hypervolume
from nas_face.search.proposal import propose
from nas_face.search.record import ARCH_ID
from nas_face.search.samplers import SAMPLERS, make_sampler
from nas_face.space import Label, SearchSpace, load_space
from nas_face.study.config import load_study

SHARE_LOOKED_AT = 0.1
MIN_LOOKED_AT = 5

N_NEAR = 5
"""Rows that a mutation of a row may lead to."""

DEAR = ("gp",)
"""Samplers that take seconds a proposal, and are run from fewer seeds."""

ROWS_ONLY = "front_gain, rows only"
RANDOM_ROWS = "rows at random"


@final
@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Table:
    """Networks that were trained.

    Attributes:
        space: they are designs of it.
        arch_ids: `(N,)`.
        choices: `(N,)`, labels by path.
        vectors: `(N, n)`, of `SearchSpace.encode`.
        quality: `(N,)`, to be large.
        madds: `(N,)`.
    """

    space: SearchSpace
    arch_ids: tuple[str, ...]
    choices: tuple[dict[str, Label], ...]
    vectors: NDArray[np.float32]
    quality: NDArray[np.float64]
    madds: NDArray[np.float64]

    def share(self, taken: Sequence[int]) -> float:
        """Hypervolume of some rows as a share of that of all."""
        points = np.column_stack([-self.quality, self.madds])
        reference = points.max(axis=0)
        return hypervolume(points[list(taken)], reference) / hypervolume(points, reference)

    def nearest(self, labels: Mapping[str, Label], taken: Sequence[int]) -> int:
        """The row that stands for a design, among those that are left."""
        design = self.space.design(labels)
        left = np.setdiff1d(np.arange(len(self.madds)), taken)
        apart = np.abs(np.log(self.madds[left] / design.spec.cost().madds))
        n_looked_at = max(MIN_LOOKED_AT, math.ceil(SHARE_LOOKED_AT * len(left)))
        alike = left[np.argsort(apart, kind="stable")[:n_looked_at]]
        distances = np.linalg.norm(self.vectors[alike] - self.space.encode(design), axis=1)
        return int(alike[np.argmin(distances)])


def read_table(path: Path, space: SearchSpace, quality: str) -> Table:
    """The table of a CSV file; trainings that failed are left out."""
    frame = pd.read_csv(path).dropna(subset=[quality])
    rows = frame.groupby("arch_id", sort=False).agg(
        quality=(quality, "mean"), madds=("madds", "first"), choices=("choices", "first")
    )
    choices = tuple(json.loads(text) for text in rows["choices"])
    return Table(
        space=space,
        arch_ids=tuple(rows.index),
        choices=choices,
        vectors=np.stack([space.encode(space.design(labels)) for labels in choices]),
        quality=rows["quality"].to_numpy(dtype=np.float64),
        madds=rows["madds"].to_numpy(dtype=np.float64),
    )


@final
class TableDesigns:
    """The rows of a table as the only designs that there are (`nas_face.search.designs`)."""

    def __init__(self, table: Table) -> None:
        self._whole = SpaceDesigns(table.space, Budget())
        found = [self._whole.of(labels) for labels in table.choices]
        self._rows = [candidate for candidate in found if candidate is not None]
        self._by_key = {candidate.key: at for at, candidate in enumerate(self._rows)}
        self._vectors = np.stack([candidate.vector for candidate in self._rows])

    @property
    def distributions(self) -> dict[str, BaseDistribution]:
        """Of every choice of the space."""
        return self._whole.distributions

    @property
    def knobs(self) -> NDArray[np.intp]:
        """Of the space."""
        return self._whole.knobs

    @property
    def kinds(self) -> NDArray[np.intp]:
        """Of the space."""
        return self._whole.kinds

    def draws(self, seed: int) -> Iterator[Candidate]:
        """Rows in random order, over and over."""
        rng = np.random.default_rng(seed)
        while True:
            for at in rng.permutation(len(self._rows)):
                yield self._rows[at]

    def mutate(self, candidate: Candidate, rng: np.random.Generator) -> Candidate | None:
        """One of the nearest rows."""
        return self._near(candidate.vector, [candidate], rng)

    def crossover(self, a: Candidate, b: Candidate, rng: np.random.Generator) -> Candidate | None:
        """One of the rows nearest to the middle of two."""
        return self._near((a.vector + b.vector) / 2, [a, b], rng)

    def of(self, params: Mapping[str, Any]) -> Candidate | None:
        """The row with these labels."""
        found = self._whole.of(params)
        return None if found is None or found.key not in self._by_key else found

    def everything(self, limit: int) -> Sequence[Candidate] | None:
        """All rows."""
        return self._rows if len(self._rows) <= limit else None

    def fits(self, candidate: Candidate) -> bool:
        """Whether it is a row."""
        return candidate.key in self._by_key

    def identity(self, candidate: Candidate) -> str:
        """The `arch_id`."""
        return self._whole.identity(candidate)

    def _near(
        self, vector: NDArray[np.float32], parents: Sequence[Candidate], rng: np.random.Generator
    ) -> Candidate | None:
        distances = np.linalg.norm(self._vectors - vector, axis=1)
        distances[[self._by_key[each.key] for each in parents]] = np.inf
        near = np.argsort(distances, kind="stable")[:N_NEAR]
        return self._rows[int(near[rng.integers(len(near))])]


def search(table: Table, axes: tuple[Objective, ...], sampler_of: Callable[[int], BaseSampler],
           n_trainings: int) -> list[int]:  # fmt: skip
    """The rows that a sampler takes, in order."""
    study = optuna.create_study(directions=[axis.direction for axis in axes])
    taken: list[int] = []
    for number in range(n_trainings):
        design, asked = propose(study, table.space, sampler_of(number))
        row = table.nearest(design.choices, taken)
        taken.append(row)
        _tell(study, table, row, asked.system_attrs)
    return taken


def _tell(study: Study, table: Table, row: int, system_attrs: Mapping[str, Any]) -> None:
    """File a row as a finished trial; with what the sampler noted down of its generation."""
    choices = table.choices[row]
    distributions = SpaceDesigns(table.space, Budget()).distributions
    study.add_trial(
        create_trial(
            values=[float(table.quality[row]), float(table.madds[row])],
            params=choices,
            distributions={path: distributions[path] for path in choices},
            user_attrs={ARCH_ID: table.arch_ids[row]},
            system_attrs=dict(system_attrs),
        )
    )


def taken_by(
    name: str, table: Table, budget: Budget, axes: tuple[Objective, ...], seed: int, n: int
) -> list[int]:
    """Rows that the sampler of that name takes, from a seed."""
    if name == RANDOM_ROWS:
        return list(np.random.default_rng(seed).permutation(len(table.madds))[:n])
    if name == ROWS_ONLY:
        designs = TableDesigns(table)
        known = [each.name if each.origin == "analytic" else None for each in axes]
        return search(
            table,
            axes,
            lambda number: FrontGainSampler(
                designs, known=known, seed=derive_seed(seed, "propose", number)
            ),
            n,
        )
    return search(
        table,
        axes,
        lambda number: make_sampler(
            name, table.space, budget, axes, derive_seed(seed, "propose", number)
        ),
        n,
    )


def main() -> None:
    """Parse, search, print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("table", type=Path)
    parser.add_argument("--study", type=Path, default=Path("studies/faces_48.yaml"))
    parser.add_argument("--quality", default="log_tar_4", help="column, such as auc_4")
    parser.add_argument("--at", type=int, nargs="+", default=[10, 20, 30, 50])
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--dear-seeds", type=int, default=2, help="of " + ", ".join(DEAR))
    known = [ROWS_ONLY, *SAMPLERS, RANDOM_ROWS]
    parser.add_argument("--samplers", nargs="+", choices=known, default=known)
    arguments = parser.parse_args()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
    config = load_study(arguments.study)
    space = load_space(Path(config.space))
    if config.image_size is not None:
        space = space.with_input_size(*config.image_size)
    table = read_table(arguments.table, space, arguments.quality)
    axes = (objective(arguments.quality.rpartition("_")[0]), objective("madds"))
    at = [n for n in arguments.at if n <= len(table.madds)]
    rows = []
    for name in arguments.samplers:
        began = time.process_time()
        n_seeds = arguments.dear_seeds if name in DEAR else arguments.seeds
        shares = np.array(
            [
                [table.share(taken[:n]) for n in at]
                for taken in (
                    taken_by(name, table, config.budget, axes, seed, max(at))
                    for seed in range(n_seeds)
                )
            ]
        )
        cpu_s = (time.process_time() - began) / (n_seeds * max(at))
        row = {"sampler": name, "seeds": n_seeds}
        for n, column in zip(at, shares.T, strict=True):
            row[str(n)] = f"{column.mean():.3f} ± {column.std():.3f}"
        rows.append({**row, "cpu ms": f"{1000 * cpu_s:.0f}"})
        print(name, rows[-1], file=sys.stderr)
    print(f"{len(table.madds)} networks, {arguments.quality} against multiply-adds, by trainings:")
    print(pd.DataFrame(rows).to_string(index=False))


if __name__ == "__main__":
    main()
