"""How long do Pareto fronts and hypervolumes take, against Optuna's own functions?

Point sets of several shapes; every figure is the median of processor milliseconds of this process
on one thread. Results are compared before they are timed. Optuna's functions are private, so that
a later version may have others.

    OMP_NUM_THREADS=1 python benchmarks/pareto_speed.py --points 2000 --axes 3
"""

import argparse
import statistics
import time
from collections.abc import Callable, Iterator

import numpy as np
from numpy.typing import NDArray
from optuna._hypervolume import compute_hypervolume
from optuna.study._multi_objective import _fast_non_domination_rank, _is_pareto_front
from rich.console import Console
from rich.table import Table

from nas_face.search.pareto import hypervolume, pareto_front, pareto_ranks

Points = NDArray[np.float64]


def main() -> None:
    """Parse, compare, time, print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--points", type=int, default=2000)
    parser.add_argument("--axes", type=int, default=3)
    parser.add_argument("--repeats", type=int, default=15)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    table = Table(title=f"{arguments.points} x {arguments.axes}, processor ms (Optuna's)")
    table.add_column("points")
    for heading in ("on the front", "front", "hypervolume", "both", "ranks"):
        table.add_column(heading, justify="right")
    rng = np.random.default_rng(arguments.seed)
    for name, points in shapes(rng, arguments.points, arguments.axes):
        corner = points.max(axis=0) + 0.1
        theirs = {
            "front": lambda points=points: _is_pareto_front(points, assume_unique_lexsorted=False),
            "volume": lambda points=points, corner=corner: compute_hypervolume(points, corner),
            "ranks": lambda points=points: _fast_non_domination_rank(points),
        }
        ours: dict[str, Callable[[], object]] = {
            "front": lambda points=points: pareto_front(points),
            "volume": lambda points=points, corner=corner: hypervolume(points, corner),
            "ranks": lambda points=points: pareto_ranks(points),
        }
        require_equal(points, corner)
        mine = {key: median_ms(call, arguments.repeats) for key, call in ours.items()}
        other = {key: median_ms(call, arguments.repeats) for key, call in theirs.items()}
        for each in (mine, other):
            each["both"] = each["front"] + each["volume"]
        cells = [
            f"{mine[key]:.2f} ({other[key]:.2f})" for key in ("front", "volume", "both", "ranks")
        ]
        table.add_row(name, f"{pareto_front(points).sum():,}", *cells)
    Console(width=100).print(table)


def shapes(rng: np.random.Generator, n: int, n_axes: int) -> Iterator[tuple[str, Points]]:
    """Names and points `(n, n_axes)`."""
    yield "even in a cube", rng.random((n, n_axes))
    yield "on a simplex", rng.dirichlet(np.ones(n_axes), n)
    sphere = np.abs(rng.standard_normal((n, n_axes)))
    sphere /= np.linalg.norm(sphere, axis=1)[:, None]
    yield "on a sphere, bulging out", sphere
    yield "on a sphere, bulging in", 1 - sphere
    yield "a chain", np.repeat(np.arange(n, dtype=np.float64)[:, None] / n, n_axes, axis=1)
    yield "on a grid, with ties", rng.integers(0, 12, (n, n_axes)).astype(np.float64)


def require_equal(points: Points, corner: Points) -> None:
    """Ours and Optuna's agree."""
    front = _is_pareto_front(points, assume_unique_lexsorted=False)
    assert (pareto_front(points) == front).all()
    assert (pareto_ranks(points) == _fast_non_domination_rank(points)).all()
    assert np.isclose(hypervolume(points, corner), compute_hypervolume(points, corner))


def median_ms(call: Callable[[], object], repeats: int) -> float:
    """Median processor time of a call."""
    times = []
    for _ in range(repeats):
        start = time.process_time()
        call()
        times.append(time.process_time() - start)
    return 1e3 * statistics.median(times)


if __name__ == "__main__":
    main()
