"""How fast are pairs judged, beside the ways in which it is usually done?

Two comparisons, each timed in turns on the same numbers:

- a list of pairs with embeddings: everything that `verify_embeddings` says, against ten-fold
  accuracy and val by trying each threshold on each fold, as InsightFace's evaluation goes about
  it (only those two figures);
- a list of scores: the ROC with AUC, EER, TAR at six FARs and log_tar, against scikit-learn's
  `roc_curve` with the same figures read off it, and with `roc_curve` alone.

Both the best and the median of the repeats are given; the machine should be quiet.

    OMP_NUM_THREADS=1 python benchmarks/verification_speed.py
"""

import argparse
import time
from collections.abc import Callable, Mapping

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table
from sklearn.metrics import roc_curve
from sklearn.model_selection import KFold
from sklearn.preprocessing import normalize

from nas_face.verify import REPORTED_FARS, Resampling, RowPairs, roc, verify_embeddings

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]

ACCURACY_THRESHOLDS = np.arange(0, 4, 0.01)
VAL_THRESHOLDS = np.arange(0, 4, 0.001)
VAL_FAR = 1e-3


def main() -> None:
    """Parse, time in turns, print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--pairs", type=int, default=6_000)
    parser.add_argument("--dims", type=int, default=512)
    parser.add_argument("--scores", type=int, default=10_000_000)
    parser.add_argument("--share-same", type=float, nargs="+", default=[0.5, 0.01])
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    rng = np.random.default_rng(arguments.seed)
    console = Console()
    rows, labels, same = embedded_pairs(rng, arguments.pairs, arguments.dims)
    pairs = RowPairs(same=same)
    ours = verify_embeddings(rows, pairs)
    theirs = by_threshold(rows, same)
    if ours.insightface_val is None or not np.allclose(
        theirs, (ours.accuracy, ours.insightface_val.val), rtol=0, atol=1e-9
    ):
        raise SystemExit(f"the figures differ: {theirs}, {ours}")
    console.print(
        table(
            f"{arguments.pairs:,} pairs, {arguments.dims} dimensions",
            in_turns(
                {
                    "threshold by threshold": lambda: by_threshold(rows, same),
                    "verify_embeddings": lambda: verify_embeddings(rows, pairs),
                    "  with 1,000 resamples": lambda: verify_embeddings(
                        rows, pairs, resampling=Resampling(identities=labels)
                    ),
                },
                arguments.repeats,
            ),
        )
    )
    for share in arguments.share_same:
        for kind in (np.float32, np.float64):
            kinds, scores = scored_pairs(rng, arguments.scores, share)
            scores = scores.astype(kind)
            console.print(
                table(
                    f"{arguments.scores:,} scores of {kind.__name__}, {share:.0%} genuine",
                    in_turns(
                        {
                            "scikit-learn, all figures": lambda s=scores, k=kinds: off_sklearn(
                                s, k
                            ),
                            "scikit-learn, roc_curve": lambda s=scores, k=kinds: roc_curve(k, s),
                            "ours, all figures": lambda s=scores, k=kinds: off_ours(s, k),
                            "ours, roc": lambda s=scores, k=kinds: roc(s, k),
                        },
                        arguments.repeats,
                    ),
                )
            )


def embedded_pairs(
    rng: np.random.Generator, n: int, dims: int
) -> tuple[NDArray[np.float32], NDArray[np.int64], Bools]:
    """Embeddings whose neighbouring rows are pairs, in ten folds of both kinds, and who is who."""
    same = np.arange(n) % (n // 10) < n // 20
    labels = np.arange(2 * n) // 2
    labels[1::2] = np.where(same, labels[0::2], np.roll(labels[0::2], 1))
    centres = rng.normal(size=(n, dims))
    rows = centres[labels] + rng.normal(size=(2 * n, dims)) * 1.6
    return rows.astype(np.float32), labels, same


def scored_pairs(rng: np.random.Generator, n: int, share: float) -> tuple[Bools, Floats]:
    """Kinds and cosines such as a good network gives."""
    same = rng.random(n) < share
    return same, rng.normal(np.where(same, 0.6, 0.0), 0.12)


def by_threshold(rows: NDArray[np.float32], same: Bools) -> tuple[float, float]:
    """Ten-fold accuracy and val at FAR 0.001, by comparing all distances with each threshold."""
    units = normalize(rows.astype(np.float64))
    distances = np.sum(np.square(units[0::2] - units[1::2]), axis=1)
    accuracies, vals = [], []
    for others, held_out in KFold(10).split(distances):
        on_others = [accuracy(distances[others], same[others], at) for at in ACCURACY_THRESHOLDS]
        on_held_out = [
            accuracy(distances[held_out], same[held_out], at) for at in ACCURACY_THRESHOLDS
        ]
        accuracies.append(on_held_out[int(np.argmax(on_others))])
        rates = np.array([far_of(distances[others], same[others], at) for at in VAL_THRESHOLDS])
        threshold = 0.0
        if rates.max() >= VAL_FAR:
            above = int(np.searchsorted(rates, VAL_FAR, side="right"))
            part = (VAL_FAR - rates[above - 1]) / (rates[above] - rates[above - 1])
            steps = VAL_THRESHOLDS[above - 1 : above + 1]
            threshold = float(steps[0] + part * (steps[1] - steps[0]))
        vals.append(np.mean(distances[held_out][same[held_out]] < threshold))
    return float(np.mean(accuracies)), float(np.mean(vals))


def accuracy(distances: Floats, same: Bools, threshold: float) -> float:
    """Share of right decisions, from the four counts of a confusion matrix."""
    accepted = distances < threshold
    n_true_accepts = np.sum(accepted & same)
    n_false_accepts = np.sum(accepted & ~same)
    n_true_rejects = np.sum(~accepted & ~same)
    n_false_rejects = np.sum(~accepted & same)
    n = n_true_accepts + n_false_accepts + n_true_rejects + n_false_rejects
    return float((n_true_accepts + n_true_rejects) / n)


def far_of(distances: Floats, same: Bools, threshold: float) -> float:
    """Share of the impostor pairs that are accepted."""
    accepted = distances < threshold
    return float(np.sum(accepted & ~same) / np.sum(~same))


def off_ours(scores: NDArray[np.floating], same: Bools) -> tuple[float, ...]:
    """All figures of one curve."""
    curve = roc(scores, same)
    tars = [curve.tar_at_far(far) for far in REPORTED_FARS if far * curve.n_different >= 1]
    return curve.auc(), curve.eer(), curve.log_tar(), *tars


def off_sklearn(scores: NDArray[np.floating], same: Bools) -> tuple[float, ...]:
    """The same figures, but for log_tar, of scikit-learn's curve."""
    fars, tars, _ = roc_curve(same, scores, drop_intermediate=False)
    area = float(np.trapezoid(tars, fars))
    equal = float(fars[np.argmin(np.abs(1 - tars - fars))])
    at_fars = [float(tars[np.searchsorted(fars, far, side="right") - 1]) for far in REPORTED_FARS]
    return area, equal, *at_fars


def in_turns(
    calls: Mapping[str, Callable[[], object]], repeats: int
) -> dict[str, tuple[float, float]]:
    """Best and median seconds of each, all taken in turns."""
    seconds: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(repeats):
        for name, call in calls.items():
            start = time.perf_counter()
            call()
            seconds[name].append(time.perf_counter() - start)
    return {name: (min(each), float(np.median(each))) for name, each in seconds.items()}


def table(title: str, seconds: Mapping[str, tuple[float, float]]) -> Table:
    """One line each, as a multiple of the first."""
    shown = Table("", "best, ms", "median, ms", "times as fast as the first", title=title)
    slowest = next(iter(seconds.values()))[0]
    for name, (best, median) in seconds.items():
        shown.add_row(name, f"{best * 1e3:,.1f}", f"{median * 1e3:,.1f}", f"{slowest / best:.1f}")
    return shown


if __name__ == "__main__":
    main()
