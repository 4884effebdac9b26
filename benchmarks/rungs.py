"""What do rungs save, and what do they cost? Replays of really trained networks, or of made-up
ones.

Networks of a table (`benchmarks/trained_table.py`) come in many random orders, one after another,
as a random search would train them; each order is run without rungs and with several plans, and
nothing is trained again. Made-up learning curves come in one order each, the later ones better, as
a search that learns proposes them: early values are noisy, and larger networks learn more slowly.

For each plan: the share of the epochs that all trainings would have taken, the share of the final
hypervolume that was kept, and the epochs until the mean hypervolume is what it is without rungs
after a quarter, half and three quarters of its trainings, as a share of the epochs without rungs.
Hypervolume is taken from 10 % beyond the worst values.

    python benchmarks/rungs.py table.csv --orders 200
    python benchmarks/rungs.py --made-up 100 --axes 3
"""

import argparse
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

from nas_face.search import Rungs
from nas_face.search.pareto import hypervolume, hypervolume_gains, pareto_order

Floats = NDArray[np.float64]
LEVELS = (0.25, 0.5, 0.75)


@dataclass(frozen=True, slots=True, kw_only=True)
class Networks:
    """Networks in the order in which they come.

    Attributes:
        epochs: after which the error is known, rising; the last is the end.
        errors: `(N, E)`.
        costs: `(N, C)`.
    """

    epochs: tuple[int, ...]
    errors: Floats
    costs: Floats

    def points(self, at: int) -> Floats:
        """Values `(N, 1 + C)` after the `at`-th of the epochs, each to be small."""
        return np.column_stack([self.errors[:, at], self.costs])

    def reordered(self, order: NDArray[np.int64]) -> "Networks":
        """The same networks in another order."""
        return Networks(epochs=self.epochs, errors=self.errors[order], costs=self.costs[order])


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """Rungs, and how candidates are ordered at them.

    Attributes:
        name: for the table.
        rungs: where, and how many go on.
        by_crowding: whether ties in rank are broken by crowding distance, not by contribution.
    """

    name: str
    rungs: Rungs
    by_crowding: bool = False

    def promotes(self, values: Sequence[float], others: Sequence[Sequence[float]]) -> bool:
        """Whether a candidate goes on."""
        if not self.by_crowding:
            return self.rungs.promotes(values, others)
        if len(others) < self.rungs.n_warmup:
            return True
        order = pareto_order(np.array([*others, values])).tolist()
        return order.index(len(others)) < math.ceil(self.rungs.keep * len(order))


def main() -> None:
    """Parse, replay, print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("table", type=Path, nargs="?", help="CSV of trained networks")
    parser.add_argument("--objective", default="log_tar", help="trained, and to be large")
    parser.add_argument("--costs", nargs="+", default=["madds"])
    parser.add_argument("--made-up", type=int, help="networks with made-up curves, no table")
    parser.add_argument("--axes", type=int, default=2, help="objectives of made-up networks")
    parser.add_argument("--orders", type=int, default=100)
    arguments = parser.parse_args()
    if (arguments.table is None) == (arguments.made_up is None):
        parser.error("give a table or --made-up")
    if arguments.made_up is not None:
        n, n_axes = arguments.made_up, arguments.axes
        replays = [made_up(n, n_axes, seed) for seed in range(arguments.orders)]
        title = f"{n} made-up networks, {n_axes} objectives"
    else:
        table = read(arguments.table, arguments.objective, arguments.costs)
        rngs = [np.random.default_rng(seed) for seed in range(arguments.orders)]
        replays = [table.reordered(rng.permutation(len(table.errors))) for rng in rngs]
        axes = ", ".join([arguments.objective, *arguments.costs])
        title = f"{len(table.errors)} networks of {arguments.table.name}: {axes}"
    Console(width=110).print(compared(replays, f"{title}; mean of {len(replays)} orders"))


def read(path: Path, objective: str, costs: Sequence[str]) -> Networks:
    """Networks of a table, each once; those whose training failed are left out."""
    rows = pd.read_csv(path)
    rows = rows[rows["seed"] == 0]
    prefix = f"{objective}_"
    names = [name for name in rows.columns if name.removeprefix(prefix).isdigit()]
    names.sort(key=lambda name: int(name.removeprefix(prefix)))
    rows = rows.dropna(subset=names)
    return Networks(
        epochs=tuple(int(name.removeprefix(prefix)) for name in names),
        errors=-rows[names].to_numpy(np.float64),
        costs=rows[list(costs)].to_numpy(np.float64),
    )


def made_up(n: int, n_axes: int, seed: int) -> Networks:
    """Error falls with cost and differs by design; the later networks are the better designs."""
    rng = np.random.default_rng(seed)
    costs = rng.random((n, n_axes - 1))
    badness = 0.25 * rng.gamma(2.0, 0.5, n)
    final = np.exp(-costs[:, 0]) + badness
    slow = 0.25 * costs[:, 0]
    noise = final.std() * rng.standard_normal((n, 2)) * [0.6, 0.35]
    errors = np.column_stack([final + 2 * slow + noise[:, 0], final + slow + noise[:, 1], final])
    late = -np.argsort(np.argsort(badness)) / n + rng.normal(0, 0.25, n)
    late[: n // 4] = -np.inf  # the first quarter is drawn at random
    order = np.argsort(late, kind="stable")
    return Networks(epochs=(1, 2, 4), errors=errors, costs=costs).reordered(order)


def plans(epochs: tuple[int, ...]) -> Iterator[Plan]:
    """What is compared: where the rungs lie, how many go on, the tie-break, the audit."""
    early = epochs[:-1]
    for keep in (0.33, 0.5, 0.67):
        for by_crowding in (False, True):
            name = "crowding" if by_crowding else "volume"
            rungs = Rungs(epochs=early, keep=keep, audit=0.0)
            yield Plan(name=name, rungs=rungs, by_crowding=by_crowding)
    for epoch in early:
        yield Plan(name="volume", rungs=Rungs(epochs=(epoch,), audit=0.0))
    yield Plan(name="volume", rungs=Rungs(epochs=early, n_warmup=10, audit=0.0))
    yield Plan(name="volume", rungs=Rungs(epochs=early))


def compared(replays: Sequence[Networks], title: str) -> Table:
    """Plans beside no rungs."""
    table = Table(title=title)
    for heading in ("rungs", "keep", "warm-up", "audit", "ties by"):
        table.add_column(heading)
    for heading in ("epochs", "volume", *(f"same as at {level:.0%}" for level in LEVELS)):
        table.add_column(heading, justify="right")
    plain = mean_curve(replays, Plan(name="", rungs=Rungs()))[0]
    for plan in plans(replays[0].epochs):
        mean, spent = mean_curve(replays, plan)
        cells = []
        for level in LEVELS:
            epochs = round(level * (len(plain) - 1))
            reached = np.flatnonzero(mean >= plain[epochs])
            cells.append(f"{reached[0] / epochs:.2f}" if len(reached) else "never")
        rungs = plan.rungs
        table.add_row(
            " ".join(map(str, rungs.epochs)),
            f"{rungs.keep}",
            f"{rungs.n_warmup}",
            f"{rungs.audit}",
            plan.name,
            f"{spent / (len(plain) - 1):.2f}",
            f"{mean[-1] / plain[-1]:.3f}",
            *cells,
        )
    return table


def mean_curve(replays: Sequence[Networks], plan: Plan) -> tuple[Floats, float]:
    """Hypervolume after so many epochs, `(1 + all epochs,)`, and epochs spent; both means."""
    curves, spent = zip(
        *(curve(networks, plan, str(turn)) for turn, networks in enumerate(replays)), strict=True
    )
    return np.mean(curves, axis=0), float(np.mean(spent))


def curve(networks: Networks, plan: Plan, key: str) -> tuple[Floats, int]:
    """Hypervolume after so many epochs, and epochs spent; `key` varies whom the audit draws.

    Volumes are shares of that of all networks. What is left of the epochs changes nothing more.
    """
    final = networks.points(-1)
    worst = final.max(axis=0)
    corner = worst + 0.1 * (worst - final.min(axis=0))
    whole = hypervolume(final, corner)
    n_epochs = networks.epochs[-1] * len(final)
    found = np.zeros(1 + n_epochs)
    spent, trained = 0, np.empty((0, final.shape[1]))
    for at, used in enumerate(epochs_used(networks, plan, key)):
        spent += used
        if used == networks.epochs[-1]:
            gain = hypervolume_gains(final[[at]], trained, corner)[0] / whole
            trained = np.vstack([trained, final[at]])
            found[spent:] += gain
    return found, spent


def epochs_used(networks: Networks, plan: Plan, key: str) -> Iterator[int]:
    """How far each network was trained, in their order."""
    reached: dict[int, list[Sequence[float]]] = {epoch: [] for epoch in plan.rungs.epochs}
    rungs = [
        (epoch, networks.points(at))
        for at, epoch in enumerate(networks.epochs)
        if epoch in reached
    ]
    for at in range(len(networks.errors)):
        used = networks.epochs[-1]
        for epoch, points in rungs:
            values = points[at].tolist()
            goes_on = plan.promotes(values, reached[epoch])
            reached[epoch].append(values)
            if not goes_on:
                used = used if plan.rungs.audits(f"{key} {at}") else epoch
                break
        yield used


if __name__ == "__main__":
    main()
