"""Zero-cost proxies against a table of really trained networks.

The table is that of `benchmarks/trained_table.py join`: labels of each network, seed, what its
training came to. Every proxy is measured once for each network, on faces that the networks were
trained with; figures are kept in a file beside the table, so that a run that was interrupted
goes on:

    python benchmarks/proxies.py table.csv --data FACES

Printed for each outcome: Kendall's tau of each proxy beside that of multiply-adds and parameters,
with 95 % intervals, and, where networks were trained from several seeds, the tau between seeds,
which no predictor can be expected to pass.
"""

import argparse
import itertools
import json
import math
import time
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from nas_face.arch.spec import ArchSpec
from nas_face.search import Objective
from nas_face.space import load_space
from nas_face.study.config import StudyConfig, load_study
from nas_face.study.faces import load_faces
from nas_face.study.proxies.audit import audit
from nas_face.study.proxies.kendall import Estimate, compare, tau_b
from nas_face.study.proxies.scorer import ProxyScorer
from nas_face.study.proxies.settings import PROXY_NAMES

OUTCOMES = ("log_tar_4", "auc_4")


def main() -> None:
    """Measure what is not measured yet, then print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("table", type=Path)
    parser.add_argument("--study", type=Path, default=Path("studies/faces_48.yaml"))
    parser.add_argument("--data", help="folder with one folder for each identity")
    parser.add_argument("--outcomes", default=",".join(OUTCOMES))
    parser.add_argument("--names", default=",".join(PROXY_NAMES))
    parser.add_argument("--images", type=int, default=32)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--cache", type=Path, help="TABLE.proxies.json if not given")
    arguments = parser.parse_args()
    given = {} if arguments.data is None else {"data.source": arguments.data}
    config = load_study(arguments.study, given)
    table = pd.read_csv(arguments.table)
    specs = specs_of(config, table)
    names = arguments.names.split(",")
    scorer = ProxyScorer(
        lambda size: (
            load_faces(config.data, height=size[0], width=size[1], seed=config.seed).split.train
        ),
        config.training,
        n_images=arguments.images,
        seed=arguments.seed,
        path=arguments.cache or arguments.table.with_suffix(".proxies.json"),
    )
    torch.set_num_threads(config.threads)
    began = time.monotonic()
    scores = {arch_id: scorer(spec, ("madds", *names)) for arch_id, spec in specs.items()}
    print(f"{len(scores)} networks, {time.monotonic() - began:.0f} s to measure what was missing")
    seconds = {
        name: float(np.mean([each.seconds[name] for each in scores.values()])) for name in names
    }
    figures = {arch_id: each.figures for arch_id, each in scores.items()}
    for outcome in arguments.outcomes.split(","):
        if outcome in table:
            report(outcome, table, figures, names, seconds)


def specs_of(config: StudyConfig, table: pd.DataFrame) -> dict[str, ArchSpec]:
    """Architecture of every row, by its identity; rows that are not what they say are refused."""
    space = load_space(Path(config.space))
    if config.image_size is not None:
        space = space.with_input_size(*config.image_size)
    specs = {}
    for row in table.drop_duplicates("arch_id").itertuples():
        spec = space.decode(json.loads(str(row.choices)))
        if spec.arch_id != row.arch_id:
            raise SystemExit(f"{row.arch_id}: its labels make {spec.arch_id} in {config.space}")
        specs[spec.arch_id] = spec
    return specs


def report(
    outcome: str,
    table: pd.DataFrame,
    figures: Mapping[str, Mapping[str, float]],
    names: list[str],
    seconds: Mapping[str, float],
) -> None:
    """One table: proxies against an outcome, on the first seed of every network."""
    trained = table.dropna(subset=[outcome]).sort_values("seed")
    first = trained.drop_duplicates("arch_id")
    values = first[outcome].to_numpy(dtype=np.float64)
    networks = [figures[arch_id] for arch_id in first["arch_id"]]
    aim = Objective(name=outcome, direction="maximize", origin="trained", title=outcome)
    print(f"\n{outcome}, {len(first)} networks, tau-b [95 % interval]")
    header = ("proxy", "tau", "less that of madds", "partial, madds fixed", "n", "s/network")
    print("| " + " | ".join((*header, "beyond madds")) + " |")
    print("|" + "---|" * (len(header) + 1))
    for each in audit(names, networks, aim, values, seconds=seconds):
        found = each.comparison
        cells = (text(found.tau), text(found.gain), text(found.partial))
        time_s = f"{each.seconds:.3f}"
        print(f"| {each.proxy} | {' | '.join(cells)} | {each.n_networks} | {time_s} | ", end="")
        print(f"{each.verdict} |")
    for line in ceiling(outcome, trained):
        print(line)


def ceiling(outcome: str, trained: pd.DataFrame) -> list[str]:
    """Tau between two trainings of the same networks from two seeds, for every two seeds."""
    wide = trained.pivot_table(index="arch_id", columns="seed", values=outcome)
    lines = []
    for a, b in itertools.combinations(wide.columns, 2):
        both = wide[[a, b]].dropna().to_numpy(dtype=np.float64)
        if len(both) >= 4 and math.isfinite(tau_b(both[:, 0], both[:, 1])):
            found = compare(both[:, 0], both[:, 1], both[:, 0]).tau
            lines.append(f"seed {a} against seed {b}: {text(found)}, {len(both)} networks")
    return lines


def text(found: Estimate) -> str:
    """A figure with its interval."""
    if math.isnan(found.value):
        return "-"
    return f"{found.value:+.3f} [{found.low:+.3f}, {found.high:+.3f}]"


if __name__ == "__main__":
    main()
