"""Which objective separates networks after a short training?

Trains designs of a study, spread evenly over the logarithm of their multiply-adds, from several
seeds each, and prints for every trained objective the spread over the seeds of one network beside
the spread over networks. `reliability` is the share of the variance of one measurement that is due
to the network (the intraclass correlation, one-way, one measurement): 0 means that the objective
ranks noise, 1 that a second seed would rank the same.

    python benchmarks/objective_spread.py studies/quickstart.yaml --networks 12 --seeds 3
"""

import argparse
import json
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from nas_face.nn import FaceModel
from nas_face.search import OBJECTIVES, derive_seed
from nas_face.space import Design, SearchSpace, load_space
from nas_face.study.config import StudyConfig, load_study
from nas_face.study.evaluate import figures_of, verify_on
from nas_face.study.faces import StudyFaces, load_faces
from nas_face.train import train


def main() -> None:
    """Parse, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("study", type=Path)
    parser.add_argument("--networks", type=int, default=12)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--raw", type=Path, help="also write every measurement, as JSON lines")
    arguments = parser.parse_args()
    config = load_study(arguments.study)
    torch.set_num_threads(config.threads)
    space = load_space(Path(config.space))
    if config.image_size is not None:
        space = space.with_input_size(*config.image_size)
    _, height, width = space.input_shape
    faces = load_faces(config.data, height=height, width=width, seed=config.seed)
    rows = [
        measure(config, faces, design, seed)
        for design in spread_designs(space, config, arguments.networks)
        for seed in range(arguments.seeds)
    ]
    if arguments.raw is not None:
        arguments.raw.write_text("".join(json.dumps(row) + "\n" for row in rows))
    print(table(pd.DataFrame(rows)).to_string(float_format=lambda value: f"{value:.3f}"))


def spread_designs(space: SearchSpace, config: StudyConfig, n: int) -> list[Design]:
    """`n` designs within the budget, one from each of `n` equal steps of log multiply-adds."""
    rng = np.random.default_rng(derive_seed(config.seed, "objective spread"))
    drawn = [space.sample(rng) for _ in range(200 * n)]
    fitting = [each for each in drawn if config.budget.fits(each.spec.cost())]
    logs = np.log([each.spec.cost().madds for each in fitting])
    edges = np.linspace(logs.min(), logs.max(), n + 1)
    found = []
    for low, high in zip(edges[:-1], edges[1:], strict=True):
        inside = np.flatnonzero((logs >= low) & (logs <= high))
        if len(inside):
            found.append(fitting[int(rng.choice(inside))])
    return found


def measure(
    config: StudyConfig, faces: StudyFaces, design: Design, seed: int
) -> dict[str, float | str | int]:
    """Train one design from one seed; figures on search pairs and, with test_, on test pairs."""
    model = FaceModel.fresh(design.spec, seed=seed)
    train(model, faces.split.train, config.training, seed=seed)
    search = figures_of(verify_on(model, faces.search_pairs))
    test = figures_of(verify_on(model, faces.test_pairs))
    return {
        "arch_id": design.spec.arch_id,
        "madds": design.spec.cost().madds,
        "seed": seed,
        **search,
        **{f"test_{name}": value for name, value in test.items()},
    }


def table(rows: pd.DataFrame) -> pd.DataFrame:
    """One line for each trained objective, the most reliable first."""
    lines = []
    names = [each.name for each in OBJECTIVES.values() if each.origin == "trained"]
    for name in names:
        groups = rows.groupby("arch_id")[name]
        n_seeds = groups.size().min()
        within = groups.var(ddof=1).mean()
        between = max(0.0, groups.mean().var(ddof=1) - within / n_seeds)
        means = rows.groupby("arch_id")[[name, f"test_{name}", "madds"]].mean()
        lines.append(
            {
                "objective": name,
                "mean": rows[name].mean(),
                "sd over seeds": within**0.5,
                "sd over networks": between**0.5,
                "reliability": between / (between + within),
                "rank correlation with test": means[name].corr(
                    means[f"test_{name}"], method="spearman"
                ),
                "rank correlation with madds": means[name].corr(means["madds"], method="spearman"),
            }
        )
    return pd.DataFrame(lines).set_index("objective").sort_values("reliability", ascending=False)


if __name__ == "__main__":
    main()
